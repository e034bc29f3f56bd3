//! A server over the fakes, with a key for each role, and requests in few words.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use rag_core::kb::KbName;
use rag_core::ports::{Catalog as _, Keys as _, Role};
use rag_core::rag::Rag;
use serde_json::Value;
use tower::ServiceExt as _;

use super::fakes::{Blobs, Fake, Models, Plugins};
use crate::{AppState, Settings, app};

pub(crate) const ADMIN: &str = "secret-admin";
pub(crate) const EDITOR: &str = "secret-editor";
pub(crate) const READER: &str = "secret-reader";
/// An editor of the knowledge base `other` alone, and an administrator of it.
pub(crate) const SCOPED: &str = "secret-scoped";
pub(crate) const SCOPED_ADMIN: &str = "secret-scoped-admin";

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) rag: Arc<Rag>,
    pub(crate) state: AppState,
    pub(crate) router: Router,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of an error in our shape.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// Knowledge bases `initial` and `other`, one key a role.
    pub(crate) async fn with(settings: Settings) -> Self {
        let fake = Arc::new(Fake::default());
        let rag = Arc::new(Rag {
            catalog: fake.clone(),
            blobs: Arc::new(Blobs(fake.clone())),
            bindings: Arc::new(Plugins(fake.clone())),
            embedder: Arc::new(Models(fake.clone())),
            reranker: Arc::new(Models(fake.clone())),
            generator: Arc::new(Models(fake.clone())),
            keys: fake.clone(),
            records: fake.clone(),
            outside: rag_core::ports::Outside::none(),
            archives: Arc::new(rag_core::ports::NoUnpack),
            bundles: Arc::new(rag_core::ports::NoBundles),
            models: fake.clone(),
            strikes: rag_core::generations::Strikes::default(),
            wake_jobs: Box::new(|| {}),
            pause: Box::new(|_| Box::pin(async {})),
        });
        let other = KbName::parse("other").unwrap();
        for name in [KbName::parse("initial").unwrap(), other.clone()] {
            fake.create_kb(&name, &Default::default()).await.unwrap();
        }
        let keys: [(&str, Role, Option<&[KbName]>); 5] = [
            ("admin", Role::Admin, None),
            ("editor", Role::Editor, None),
            ("reader", Role::Reader, None),
            ("scoped", Role::Editor, Some(std::slice::from_ref(&other))),
            ("scoped-admin", Role::Admin, Some(std::slice::from_ref(&other))),
        ];
        for (name, role, kbs) in keys {
            fake.create(name, role, kbs).await.unwrap();
        }
        let state = AppState::new(rag.clone(), settings);
        World { fake, rag, router: app(state.clone()), state }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Got {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// The answer with its body unread.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Got {
        self.send(request("GET", key, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn delete(&self, key: &str, path: &str) -> Got {
        self.send(request("DELETE", key, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn json(&self, method: &str, key: &str, path: &str, body: Value) -> Got {
        self.send(json_request(method, key, path, &body)).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Got {
        self.json("POST", key, path, body).await
    }

    /// Ingests a text to the end; returns its document's id.
    pub(crate) async fn ingest(&self, kb: &str, name: &str, text: &str) -> String {
        let path = format!("/api/v1/kbs/{kb}/texts");
        let job =
            self.post(ADMIN, &path, serde_json::json!({"name": name, "text": text})).await.is(202).json();
        self.run_jobs().await;
        let id = job["jobs"][0]["id"].as_str().unwrap();
        let job = self.get(ADMIN, &format!("/api/v1/jobs/{id}")).await.is(200).json();
        job["document"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned()
    }

    pub(crate) async fn run_jobs(&self) {
        while rag_core::jobs::run_next(&self.rag).await.unwrap() {}
    }
}

/// A request for a server on loopback; an empty key sends none.
pub(crate) fn request(method: &str, key: &str, path: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path).header("host", "localhost:7780");
    if key.is_empty() { request } else { request.header("authorization", format!("Bearer {key}")) }
}

pub(crate) fn json_request(method: &str, key: &str, path: &str, body: &Value) -> Request<Body> {
    let request = request(method, key, path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

/// The next piece of a body, as text.
pub(crate) async fn piece(body: &mut axum::body::BodyDataStream) -> Option<String> {
    let bytes = body.next().await?.unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}
