//! What surrounds every request: an id, the Host check, a limit on how many run, errors rendered, safe headers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::metrics::Labels;
use crate::state::AppState;

/// Identifies a request in its answer and in the log.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// No script, style or connection but our own; nothing may frame us.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
    (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The outermost layer.
pub(crate) async fn frame(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = new_request_id();
    let path = request.uri().path().to_owned();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(RequestId(id.clone()));

    let span = tracing::info_span!("request", id, method, route);
    let answered = async {
        check_host(&state.settings.allowed_hosts, request.uri(), request.headers())?;
        // Health checks must answer even when everything is taken.
        let permit = match route.as_str() {
            "/healthz" | "/readyz" => None,
            _ => Some(permit(&state.requests, state.settings.requests_max)?),
        };
        Ok::<_, ApiError>((next.run(request).await, permit))
    };
    let (response, permit) = match answered.instrument(span).await {
        Ok((response, permit)) => (render_error(response, &path, &id), permit),
        Err(error) => (error.render(&path, &id), None),
    };

    let labels = Labels { method, route, status: response.status().as_u16() };
    let held = Held { state, labels, started, _permit: permit };
    let mut response = response.map(|body| Body::new(HeldBody { body, _held: held }));
    let headers = response.headers_mut();
    // A stricter policy of one answer stands.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(CSP));
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    response
}

/// Turns every error answer into our shape, whoever made it.
fn render_error(mut response: Response, path: &str, id: &str) -> Response {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        return error.render(path, id);
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let allow = response.headers_mut().remove("allow");
    let mut rendered = ApiError::of_status(status).render(path, id);
    if let Some(allow) = allow {
        rendered.headers_mut().insert("allow", allow);
    }
    rendered
}

/// Both the header and an absolute request target must name us.
pub(crate) fn check_host(allowed: &[String], uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if allowed.is_empty() {
        return Ok(());
    }
    let mut named = headers
        .get_all(HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or_default())
        .chain(uri.authority().map(|a| a.as_str()))
        .peekable();
    let known = |name: &str| {
        let host = without_port(name);
        allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    };
    if named.peek().is_some() && named.all(known) {
        return Ok(());
    }
    Err(ApiError::denied(
        "this server does not answer under that name; add it to the setting server.allowed_hosts if it should",
    ))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => host,
        _ => authority,
    }
}

/// A place among the requests in work; none waits for one.
pub(crate) fn permit(requests: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let busy = |_| ApiError::too_many(format!("{limit} requests are in work, which is the limit"), 1);
    requests.clone().try_acquire_owned().map_err(busy)
}

fn new_request_id() -> String {
    let mut bytes = [0_u8; 8];
    // An id that repeats is a nuisance in the log, no hole: the request goes on without randomness.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// Lives as long as an answer's body: the request counts as running until its last byte.
struct Held {
    state: AppState,
    labels: Labels,
    started: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.metrics.record(self.labels.clone(), self.started.elapsed());
    }
}

struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_and_addresses_are_not() {
        let check = |authority: &str, want: &str| assert_eq!(without_port(authority), want);
        check("localhost:8080", "localhost");
        check("localhost", "localhost");
        check("[::1]:80", "[::1]");
        check("[::1]", "[::1]");
        check("evil.example:80:80", "evil.example:80");
        check(":80", ":80");
    }
}
