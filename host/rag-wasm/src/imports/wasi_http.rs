//! `wasi:http`, for components whose language brings a client for it: every request goes the way of `ragkit:host/http`.
//!
//! The types are wasmtime's; `outgoing-handler` is linked here, because each request counts as a call of a host function
//! and a guest that goes on asking for what it is not granted is stopped. A request is handed to the port `Http` whole
//! and its response comes back whole, so the bounds of `ragkit:host/http` hold. Timeouts are the operator's alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use rag_core::Error;
use rag_core::ports::{Http, HttpMethod, HttpRequest, HttpResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use crate::state::State;

/// What such a component imports beside the interfaces of WASI that everybody may import.
pub(crate) const INTERFACES: [&str; 2] = ["wasi:http/types", "wasi:http/outgoing-handler"];
/// Of one instance: requests under way and responses that it has not let go of, each with a body in our memory.
const AT_ONCE_MAX: usize = 8;
/// Bytes of one set of headers in memory, what the map itself takes included.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Requests of one instance. Made with its first use of `wasi:http`.
pub(crate) struct Outgoing {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    http: Option<Arc<dyn Http>>,
    body_bytes_max: usize,
    permits: Arc<Semaphore>,
    /// Refusals for want of a grant that are not counted yet: they come when the guest is elsewhere.
    refused: Arc<AtomicU64>,
}

impl Outgoing {
    /// `body_bytes_max` bounds what is gathered of one request before the port sees it, with bounds of its own.
    fn new(http: Option<Arc<dyn Http>>, body_bytes_max: usize) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_BYTES_MAX);
        let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
        Outgoing { context, hooks: Hooks { http, body_bytes_max, permits, refused: Arc::default() } }
    }

    /// Renews what is counted for each exported function.
    pub(crate) fn begin_call(&self) {
        self.hooks.refused.store(0, Relaxed);
    }

    /// Whether nothing is under way and no response is held.
    pub(crate) fn idle(&self) -> bool {
        self.hooks.permits.available_permits() == AT_ONCE_MAX
    }
}

/// What the guest's call of `handle` hands over and gets.
type Asked = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
type Answered = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, WasiHttp>(linker, &LinkOptions::default().into(), State::http)?;
    // Any 0.2 of a component finds this one.
    let mut instance = linker.instance("wasi:http/outgoing-handler@0.2.12")?;
    instance.func_wrap("handle", |mut store: StoreContextMut<'_, State>, asked: Asked| {
        Ok((handle(store.data_mut(), asked)?,))
    })
}

/// Begins a request; the error ends the guest.
fn handle(state: &mut State, (request, options): Asked) -> wasmtime::Result<Answered> {
    if let Err(quota) = state.count_call()? {
        return Ok(Err(ErrorCode::InternalError(Some(quota.message))));
    }
    let refused = state.outgoing.as_ref().map_or(0, |outgoing| outgoing.hooks.refused.swap(0, Relaxed));
    for _ in 0..refused {
        state.count_denial()?;
    }
    match state.http().handle(request, options) {
        Ok(future) => Ok(Ok(future)),
        Err(refused) => refused.downcast().map(Err),
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Outgoing { context, hooks } = self
            .outgoing
            .get_or_insert_with(|| Outgoing::new(self.grants.http.clone(), self.limits.crossing_bytes_max));
        WasiHttpCtxView { hooks, table: &mut self.table, ctx: context }
    }
}

/// What else of an exchange has to be waited for, which is nothing here.
type Done = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Done,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Done), HttpError>> + Send> {
        let (http, limit) = (self.http.clone(), self.body_bytes_max);
        let (permit, refused) = (Arc::clone(&self.permits).try_acquire_owned(), Arc::clone(&self.refused));
        Box::new(async move {
            let Some(http) = http else {
                refused.fetch_add(1, Relaxed);
                return Err(HttpError::HttpRequestDenied);
            };
            let permit = permit.map_err(|_| HttpError::ConnectionLimitReached)?;
            let response = http.fetch(gathered(request, limit).await?).await.map_err(|error| {
                refused.fetch_add(u64::from(matches!(error, Error::Denied { .. })), Relaxed);
                told(error)
            })?;
            Ok((given(response, permit)?, Box::new(async { Ok(()) }) as Done))
        })
    }
}

/// A request in the port's terms, its body whole. What its address is worth, who sends it decides.
async fn gathered(request: http::Request<WasiBody>, limit: usize) -> Result<HttpRequest, HttpError> {
    let (head, body) = request.into_parts();
    let named = |method: &HttpMethod| method.name() == head.method.as_str();
    let method = HttpMethod::ALL.into_iter().find(named).ok_or(HttpError::HttpRequestMethodInvalid)?;
    let mut headers = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| HttpError::HttpProtocolError)?;
        headers.push((name.to_string(), value.to_owned()));
    }
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return HttpError::HttpRequestBodySize(Some(limit as u64));
        }
        error.downcast::<HttpError>().map_or(HttpError::HttpProtocolError, |error| *error)
    })?;
    let body = body.to_bytes();
    let body = (!body.is_empty()).then(|| body.to_vec());
    Ok(HttpRequest { method, url: head.uri.to_string(), headers, body })
}

/// A body that counts as held until the guest let go of every part of it.
struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What came back, as the guest reads it.
fn given(
    response: HttpResponse,
    permit: OwnedSemaphorePermit,
) -> Result<http::Response<WasiBody>, HttpError> {
    let mut built = http::Response::builder().status(response.status);
    for (name, value) in response.headers {
        built = built.header(name, value);
    }
    let bytes = Bytes::from_owner(Held { bytes: response.body, _permit: permit });
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    built.body(body).map_err(|_| HttpError::HttpProtocolError)
}

/// An error of the port in the words of `wasi:http`.
fn told(error: Error) -> HttpError {
    match error {
        Error::Denied { .. } => HttpError::HttpRequestDenied,
        Error::InvalidInput { .. } => HttpError::HttpRequestUriInvalid,
        Error::Timeout { .. } => HttpError::HttpResponseTimeout,
        Error::TooLarge { limit, setting: "egress.request_bytes_max", .. } => {
            HttpError::HttpRequestBodySize(Some(limit))
        }
        Error::TooLarge { limit, .. } => HttpError::HttpResponseBodySize(Some(limit)),
        Error::Unavailable { .. } => HttpError::DestinationUnavailable,
        other => HttpError::InternalError(Some(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_any_grant_nothing_is_sent_and_the_refusal_counts() {
        let mut outgoing = Outgoing::new(None, 1);
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::get("http://a.example/").body(body).unwrap();
        let sent = outgoing.hooks.send_request(request, None, Box::new(async { Ok(()) }));
        assert!(!outgoing.idle(), "it is under way");
        assert!(matches!(Box::into_pin(sent).await, Err(HttpError::HttpRequestDenied)));
        assert_eq!(outgoing.hooks.refused.load(Relaxed), 1);
        assert!(outgoing.idle());
    }
}
