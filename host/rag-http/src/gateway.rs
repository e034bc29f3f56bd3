//! A server without knowledge bases of its own: it checks the Host header, bounds what it holds, and passes every request
//! on to the site that answers, whose words then stream back.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rag_core::ports::{Site, SiteBody, SiteHead, SiteRequest};
use rag_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::auth::{Peer, peer_of};
use crate::error::ApiError;
use crate::frame::{check_host, permit};
use crate::router::app;
use crate::serve::serve_router;
use crate::settings::Settings;
use crate::state::AppState;

/// Bytes of one request's body: it travels in one frame. Larger documents come in pieces (`/api/v1/kbs/{kb}/uploads`).
pub const BODY_BYTES_MAX: usize = 60 << 20;
/// Headers that concern one connection only.
const OF_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"];

/// What every request of a gateway shares.
#[derive(Clone)]
struct Gateway {
    site: Arc<dyn Site>,
    settings: Arc<Settings>,
    requests: Arc<Semaphore>,
}

/// Serves a site that answers elsewhere, until `shutdown` resolves.
///
/// # Errors
/// As `serve`.
pub async fn serve_site(
    listener: TcpListener,
    site: Arc<dyn Site>,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    serve_router(listener, gateway(site, settings.clone()), &settings, shutdown).await
}

fn gateway(site: Arc<dyn Site>, settings: Settings) -> Router {
    let requests = Arc::new(Semaphore::new(settings.requests_max));
    Router::new().fallback(pass).with_state(Gateway { site, settings: Arc::new(settings), requests })
}

async fn pass(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match answered(gateway, request).await {
        Ok(response) => response,
        Err(error) => error.render(&path, ""),
    }
}

async fn answered(gateway: Gateway, request: Request) -> Result<Response, ApiError> {
    check_host(&gateway.settings.allowed_hosts, request.uri(), request.headers())?;
    let permit = permit(&gateway.requests, gateway.settings.requests_max)?;
    let peer = peer_of(request.extensions());
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE))?;
    let headers = passed(&parts.headers);
    let request = SiteRequest { method: parts.method.to_string(), target, headers, body, peer };
    let (head, body) = gateway.site.answer(request).await.map_err(ApiError::from)?;
    // The request counts until its last byte.
    let body = body.map(move |piece| {
        let _ = &permit;
        piece
    });
    Ok(response(&head, Body::from_stream(body)))
}

fn passed(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let kept = headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(&name.as_str()));
    kept.map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// What makes no header is left out.
fn set(headers: &mut HeaderMap, given: &[(String, Bytes)]) {
    for (name, value) in given {
        let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = header
            && !OF_CONNECTION.contains(&name.as_str())
        {
            headers.append(name, value);
        }
    }
}

fn response(head: &SiteHead, body: Body) -> Response {
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().clear();
    set(response.headers_mut(), &head.headers);
    response
}

/// The whole server of this process, as another process's gateway asks it.
#[derive(Clone)]
pub struct LocalSite(Router);

impl std::fmt::Debug for LocalSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSite").finish_non_exhaustive()
    }
}

impl LocalSite {
    pub fn new(state: AppState) -> Self {
        LocalSite(app(state))
    }
}

#[async_trait]
impl Site for LocalSite {
    async fn answer(&self, request: SiteRequest) -> Result<(SiteHead, SiteBody)> {
        let wrong = || Error::invalid("this is no HTTP request");
        let mut asked = Request::new(Body::from(request.body));
        *asked.method_mut() = Method::from_bytes(request.method.as_bytes()).map_err(|_| wrong())?;
        *asked.uri_mut() = request.target.parse().map_err(|_| wrong())?;
        set(asked.headers_mut(), &request.headers);
        asked.extensions_mut().insert(Peer(request.peer));
        let Ok(response) = self.0.clone().oneshot(asked).await;
        let (parts, body) = response.into_parts();
        let head = SiteHead { status: parts.status.as_u16(), headers: passed(&parts.headers) };
        let broken = |error: axum::Error| Error::Unavailable { message: error.to_string() };
        Ok((head, Box::pin(body.into_data_stream().map_err(broken))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it was asked.
    struct Echo;

    #[async_trait]
    impl Site for Echo {
        async fn answer(&self, request: SiteRequest) -> Result<(SiteHead, SiteBody)> {
            if request.target == "/gone" {
                return Err(Error::Unavailable { message: "nobody is there".to_owned() });
            }
            let said = format!("{} {} {}", request.method, request.target, request.peer);
            let pieces = [Ok(said.into()), Ok(request.body)];
            let head = SiteHead { status: 207, headers: request.headers };
            Ok((head, Box::pin(futures_util::stream::iter(pieces))))
        }
    }

    async fn ask(target: &str, host: &str, body: Vec<u8>) -> (StatusCode, HeaderMap, String) {
        let request = Request::post(target)
            .header("host", host)
            .header("x-kept", "知")
            .header("te", "trailers")
            .body(Body::from(body))
            .unwrap();
        let answer = gateway(Arc::new(Echo), Settings::default()).oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let text = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8_lossy(&text).into_owned())
    }

    #[tokio::test]
    async fn requests_pass_as_they_are_and_strange_names_do_not() {
        let (status, headers, text) = ask("/a/b?c=%20", "localhost:1", b"!".to_vec()).await;
        assert_eq!((status.as_u16(), text.as_str()), (207, "POST /a/b?c=%20 0.0.0.0!"));
        assert_eq!(headers.get("x-kept").unwrap().as_bytes(), "知".as_bytes());
        assert!(headers.get("te").is_none());
        assert_eq!(ask("/", "evil.example", Vec::new()).await.0, StatusCode::FORBIDDEN);
        let (status, _, text) = ask("/gone", "localhost", Vec::new()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("nobody is there"), "{text}");
        let large = vec![0; BODY_BYTES_MAX + 1];
        assert_eq!(ask("/", "localhost", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
