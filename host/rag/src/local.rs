//! The API without a socket: commands on a data folder go through the same routes as those on a host.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rag_core::kb::KbName;
use rag_core::ports::{Keys, Principal, Rights, Role};
use rag_http::{AppState, Settings};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::assemble;
use crate::config::Config;
use crate::roles;

/// Key id of whoever runs commands on the data folder.
pub(crate) const LOCAL_KEY_ID: &str = "local";

/// Status and body of an answer.
type LocalReply = (u16, Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>);

/// The system in this process, with its job queue running.
pub(crate) struct Local {
    state: AppState,
    secret: String,
    jobs: JoinHandle<()>,
}

impl Local {
    /// Opens the data folder; `Conflict` while another process holds it.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let mut parts = assemble::build(config, roles::local(config)?).await?;
        let secret = process_secret();
        let keys = Arc::new(LocalKeys { inner: parts.rag.keys.clone(), secret: secret.clone() });
        if let Some(rag) = Arc::get_mut(&mut parts.rag) {
            rag.keys = keys;
        }
        let settings = Settings { document_bytes_max: config.data.document_bytes_max, ..Settings::default() };
        let jobs = tokio::spawn(assemble::run_jobs(parts.rag.clone(), parts.wake.clone()));
        let state = AppState::new(parts.rag, settings);
        let state = match assemble::tuner(config) {
            Ok(tuner) => state.with_tune(tuner),
            // Commands that do not tune need no base model.
            Err(_) => state,
        };
        Ok(Local { state, secret, jobs })
    }

    /// Sends one request through the router.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        types: Option<(&str, &str)>,
        body: reqwest::Body,
    ) -> Result<LocalReply> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.secret));
        if let Some((content, accept)) = types {
            request = request.header("content-type", content).header("accept", accept);
        }
        let response = rag_http::app(self.state.clone()).oneshot(request.body(body)?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().into_data_stream().map(|chunk| chunk.map_err(anyhow::Error::new));
        Ok((status, Box::pin(body)))
    }

    /// Stops the job queue; what runs is taken up again by the next process.
    pub(crate) fn close(&self) {
        self.jobs.abort();
    }
}

/// Lets this process in beside the stored keys.
struct LocalKeys {
    inner: Arc<dyn Keys>,
    secret: String,
}

impl LocalKeys {
    fn principal() -> Principal {
        Principal {
            key_id: LOCAL_KEY_ID.to_owned(),
            name: LOCAL_KEY_ID.to_owned(),
            rights: Rights { role: Role::Admin, kbs: None, of_kbs: Vec::new() },
            created_ms: 0,
        }
    }
}

#[async_trait]
impl Keys for LocalKeys {
    async fn create(
        &self,
        name: &str,
        role: Role,
        kbs: Option<&[KbName]>,
    ) -> rag_core::Result<(String, Principal)> {
        self.inner.create(name, role, kbs).await
    }

    async fn verify(&self, secret: &str) -> rag_core::Result<Option<Principal>> {
        // Nothing outside this process can send a request here.
        if secret == self.secret {
            return Ok(Some(Self::principal()));
        }
        self.inner.verify(secret).await
    }

    async fn list(&self) -> rag_core::Result<Vec<Principal>> {
        let mut keys = self.inner.list().await?;
        keys.push(Self::principal());
        Ok(keys)
    }

    async fn revoke(&self, key_id: &str) -> rag_core::Result<()> {
        self.inner.revoke(key_id).await
    }
}

/// A word that only this process knows; it never leaves it.
fn process_secret() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{}-{:?}-{:p}", std::process::id(), now, &now);
    Sha256::digest(seed).iter().map(|byte| format!("{byte:02x}")).collect()
}
