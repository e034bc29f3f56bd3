//! How the host is, for those who run it: each service, and the end of the log.

use axum::Json as Answer;
use axum::extract::State;
use rag_core::ports::{LogLine, ServiceState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::error::{ApiResult, ErrorBody};
use crate::extract::InQuery;
use crate::state::AppState;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceList {
    services: Vec<ServiceView>,
}

/// A service as this host sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceView {
    /// `web`, `llm`, `index` or `tuning`.
    name: String,
    /// Where it is asked; none for this process itself.
    address: Option<String>,
    healthy: bool,
    /// What serves, or why nothing does.
    detail: String,
    proxy: Option<ProxyView>,
}

/// What the proxy in front of a service counted since it started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProxyView {
    workers: u64,
    /// Requests under way, those that wait included.
    open: u64,
    waiting: u64,
    answered: u64,
    refused: u64,
    /// Requests whose worker died.
    lost: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogList {
    /// Oldest first.
    lines: Vec<LogLineView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLineView {
    /// Counts up from 1: ask for those after it.
    number: u64,
    /// Milliseconds since 1970 (UTC).
    at_ms: i64,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    level: &'static str,
    text: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// Number of the last line known.
    after: Option<u64>,
}

/// Every service of the system as this host sees it. One elsewhere that does not answer costs some seconds.
#[utoipa::path(get, path = "/api/v1/services", tag = "system", operation_id = "list_services",
    responses((status = 200, body = ServiceList), (status = "default", body = ErrorBody)))]
pub(crate) async fn services(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<Answer<ServiceList>> {
    caller.need_unscoped_admin()?;
    let services = match &state.overview {
        Some(overview) => overview.services().await,
        None => Vec::new(),
    };
    Ok(Answer(ServiceList { services: services.into_iter().map(ServiceView::from).collect() }))
}

/// The end of the log.
#[utoipa::path(get, path = "/api/v1/logs", tag = "system", operation_id = "list_logs", params(LogQuery),
    responses((status = 200, body = LogList), (status = "default", body = ErrorBody)))]
pub(crate) async fn logs(
    State(state): State<AppState>,
    caller: Caller,
    InQuery(query): InQuery<LogQuery>,
) -> ApiResult<Answer<LogList>> {
    caller.need_unscoped_admin()?;
    let lines = state.overview.as_ref().map(|overview| overview.log(query.after.unwrap_or(0)));
    Ok(Answer(LogList { lines: lines.into_iter().flatten().map(LogLineView::from).collect() }))
}

impl From<ServiceState> for ServiceView {
    fn from(service: ServiceState) -> Self {
        let healthy = service.state.is_ok();
        let (Ok(detail) | Err(detail)) = service.state;
        let proxy = service.proxy.map(|proxy| ProxyView {
            workers: proxy.workers,
            open: proxy.open,
            waiting: proxy.waiting,
            answered: proxy.answered,
            refused: proxy.refused,
            lost: proxy.lost,
        });
        ServiceView { name: service.name, address: service.address, healthy, detail, proxy }
    }
}

impl From<LogLine> for LogLineView {
    fn from(line: LogLine) -> Self {
        LogLineView { number: line.number, at_ms: line.at_ms, level: line.level, text: line.text }
    }
}
