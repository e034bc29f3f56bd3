//! The web: pages become documents, one or a small crawl; engines find them, a look before anything is kept.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use rag_core::ports::{CrawlOrder, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::JobView;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{InPath, Json};
use crate::state::AppState;

/// Results that are asked for when nothing else is said.
const RESULTS_DEFAULT: u32 = 10;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCrawl {
    /// `http` or `https`.
    url: String,
    /// Links followed one after the other, 0 to 5; 0, the default, reads the one page.
    #[serde(default)]
    depth: u32,
    /// Pages saved at most, 1 to 1000; 1 when left out and `depth` is 0, else 20.
    pages_max: Option<u32>,
    /// Whether it stays on the server of the first page; true when left out.
    same_host: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EngineList {
    /// The first is the default.
    engines: Vec<EngineView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EngineView {
    name: String,
    /// The connector that speaks to it.
    plugin: String,
    /// Servers that it asks.
    origins: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebQuery {
    /// What to find.
    query: String,
    /// Name of an engine; the first when left out.
    engine: Option<String>,
    /// Results at most, 1 to 50; 10 when left out.
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebResults {
    engine: String,
    results: Vec<WebResult>,
}

/// A page that an engine found. Give its `url` to `preview` or to `web`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebResult {
    title: String,
    url: String,
    /// Some words of it, plain text.
    summary: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebAddress {
    url: String,
}

/// How a page would be read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebPreview {
    /// Redirects followed.
    url: String,
    /// Name of the document that it would become.
    name: String,
    media_type: String,
    title: Option<String>,
    /// The beginning of its text.
    text: String,
    /// Whether there is more.
    truncated: bool,
}

/// Ingest a page of the web, or a small crawl. The job reads; each page that it saves is a job of its own.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/web", tag = "web", operation_id = "add_web",
    params(("kb" = String, Path,)), request_body = NewCrawl,
    responses((status = 202, body = JobView), (status = "default", body = ErrorBody)))]
pub(crate) async fn add(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(new): Json<NewCrawl>,
) -> ApiResult<(StatusCode, Answer<JobView>)> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let order = CrawlOrder {
        url: new.url,
        depth: new.depth,
        pages_max: new.pages_max.unwrap_or(if new.depth == 0 { 1 } else { 20 }),
        same_host: new.same_host.unwrap_or(true),
    };
    let job = state.rag.start_crawl(kb.as_str(), order).await?;
    Ok((StatusCode::ACCEPTED, Answer(job.into())))
}

/// Find pages with a configured engine.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/web/search", tag = "web", operation_id = "search_web",
    params(("kb" = String, Path,)), request_body = WebQuery,
    responses((status = 200, body = WebResults), (status = "default", body = ErrorBody)))]
pub(crate) async fn search(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(asked): Json<WebQuery>,
) -> ApiResult<Answer<WebResults>> {
    let kb = caller.kb(Role::Editor, &kb)?;
    state.rag.kb(kb.as_str()).await?;
    let engines = &state.rag.outside.engines;
    let engine = asked.engine.or_else(|| engines.list().into_iter().next().map(|engine| engine.name));
    let engine =
        engine.ok_or_else(|| ApiError::invalid("no search engine is configured (setting web.engines)"))?;
    let found = engines.engine(&engine)?.search(&asked.query, asked.limit.unwrap_or(RESULTS_DEFAULT)).await?;
    let results = found.into_iter().map(|found| WebResult {
        title: found.title,
        url: found.url,
        summary: found.summary,
    });
    Ok(Answer(WebResults { engine, results: results.collect() }))
}

/// Look at a page as an ingest would read it; nothing is kept.
#[utoipa::path(post, path = "/api/v1/kbs/{kb}/web/preview", tag = "web", operation_id = "preview_web",
    params(("kb" = String, Path,)), request_body = WebAddress,
    responses((status = 200, body = WebPreview), (status = "default", body = ErrorBody)))]
pub(crate) async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    InPath(kb): InPath<String>,
    Json(asked): Json<WebAddress>,
) -> ApiResult<Answer<WebPreview>> {
    let kb = caller.kb(Role::Editor, &kb)?;
    let page = state.rag.preview(kb.as_str(), &asked.url).await?;
    Ok(Answer(WebPreview {
        url: page.url,
        name: page.name,
        media_type: page.media_type,
        title: page.title,
        text: page.text,
        truncated: page.truncated,
    }))
}

/// Configured search engines.
#[utoipa::path(get, path = "/api/v1/web/engines", tag = "web", operation_id = "list_engines",
    responses((status = 200, body = EngineList), (status = "default", body = ErrorBody)))]
pub(crate) async fn engines(State(state): State<AppState>, caller: Caller) -> ApiResult<Answer<EngineList>> {
    caller.need_anywhere(Role::Editor)?;
    let engines = state.rag.outside.engines.list().into_iter().map(|engine| EngineView {
        name: engine.name,
        plugin: engine.plugin,
        origins: engine.origins,
    });
    Ok(Answer(EngineList { engines: engines.collect() }))
}
