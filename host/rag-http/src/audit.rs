//! Who changed what: every request that may change something leaves an entry, whatever came of it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::MatchedPath;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use rag_core::ports::{AuditEntry, Principal};

use crate::auth::peer_of;
use crate::frame::RequestId;
use crate::state::AppState;

/// Status of a request whose client left before the answer.
const LEFT: u16 = 499;

/// Routes that read although their method could change something, or that come in pieces whose first is noted.
const UNCHANGING: [&str; 5] = [
    "/api/v1/kbs/{kb}/search",
    "/api/v1/kbs/{kb}/ask",
    "/api/v1/kbs/{kb}/uploads/{id}",
    "/api/v1/kbs/{kb}/web/search",
    "/api/v1/kbs/{kb}/web/preview",
];

/// An entry that is written when its request ends, or when its client leaves.
pub(crate) struct Audited {
    state: AppState,
    entry: Option<AuditEntry>,
}

impl Audited {
    /// None for requests that change nothing.
    pub(crate) fn begin(state: &AppState, request: &Parts, principal: &Principal) -> Option<Self> {
        let route = request.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        let reads = request.method.is_safe() || route.starts_with("/v1/");
        if reads || (UNCHANGING.contains(&route) && request.method != Method::DELETE) {
            return None;
        }
        Some(Audited { state: state.clone(), entry: Some(entry(request, route, principal)) })
    }

    pub(crate) async fn end(mut self, status: StatusCode) {
        if let Some(mut entry) = self.entry.take() {
            entry.status = status.as_u16();
            write(&self.state, &entry).await;
        }
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        if let (Some(entry), Ok(runtime)) = (self.entry.take(), tokio::runtime::Handle::try_current()) {
            let state = self.state.clone();
            runtime.spawn(async move { write(&state, &entry).await });
        }
    }
}

fn entry(request: &Parts, route: &str, principal: &Principal) -> AuditEntry {
    AuditEntry {
        at_ms: now_ms(),
        actor: principal.key_id.clone(),
        actor_name: principal.name.clone(),
        action: format!("{} {route}", request.method),
        target: request.uri.path().to_owned(),
        status: LEFT,
        peer: peer_of(&request.extensions).to_string(),
        request_id: request.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
    }
}

/// A log that cannot be written stops nobody from working, but the operator hears of it.
pub(crate) async fn write(state: &AppState, entry: &AuditEntry) {
    if let Err(error) = state.rag.records.audit(entry).await {
        tracing::error!(%error, action = entry.action, actor = entry.actor, "the audit log could not be written");
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
