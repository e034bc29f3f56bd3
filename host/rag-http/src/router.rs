//! Every path of the server, and the layers around them.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::any::Any;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{
    ask, bundle, conversations, curate, documents, folders, generations, jobs, kbs, keys, login, models,
    overview, plugins, pulls, questions, resumable, search, status, tuning, upload, users, web,
};
use crate::auth::require_key;
use crate::error::ApiError;
use crate::frame::frame;
use crate::openai::{self, chat, completions, embeddings, rerank};
use crate::state::AppState;
use crate::ui;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "RWKV-RAG",
        description = "Documents become knowledge bases, questions get answers with citations. Every path but the page, the login and the health checks needs a key: `Authorization: Bearer KEY`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    modifiers(&BearerKey)
)]
struct Document;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("key", scheme);
        openapi.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    }
}

/// The whole server as one service.
pub fn app(state: AppState) -> Router {
    let (keyed, mut openapi) = keyed().split_for_parts();
    let (open, open_document) = open().split_for_parts();
    openapi.merge(open_document);
    let json = openapi.to_json().unwrap_or_default();
    let document = move || async move { ([(CONTENT_TYPE, "application/json")], json.clone()) };

    let body_idle = Duration::from_millis(state.settings.body_idle_timeout_ms);
    Router::new()
        .merge(keyed.route_layer(from_fn_with_state(state.clone(), require_key)))
        .merge(open)
        .merge(ui::routes())
        .route("/api/v1/openapi.json", get(document))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(state.settings.json_bytes_max))
        .layer(RequestBodyTimeoutLayer::new(body_idle))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), frame))
        .with_state(state)
}

/// The OpenAPI document, for tools and tests.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = keyed().into_openapi();
    document.merge(open().into_openapi());
    document
}

/// What needs a key.
fn keyed() -> OpenApiRouter<AppState> {
    let uploads = OpenApiRouter::new()
        .routes(routes!(documents::list, upload::upload))
        .routes(routes!(resumable::get, resumable::send, resumable::drop_upload))
        .routes(routes!(bundle::import))
        // Counted piece by piece instead, so that a document is never held in memory.
        .layer(DefaultBodyLimit::disable());
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(kbs::list, kbs::create))
        .routes(routes!(kbs::get, kbs::update, kbs::delete))
        .routes(routes!(bundle::export))
        .merge(uploads)
        .routes(routes!(upload::text))
        .routes(routes!(resumable::begin))
        .routes(routes!(curate::batch))
        .routes(routes!(documents::get, documents::delete, curate::document))
        .routes(routes!(curate::rechunk))
        .routes(routes!(documents::text))
        .routes(routes!(documents::original))
        .routes(routes!(documents::chunks))
        .routes(routes!(documents::chunk, documents::delete_chunk, curate::chunk))
        .routes(routes!(folders::list))
        .routes(routes!(folders::add))
        .merge(web_routes())
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::change))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(search::search))
        .routes(routes!(ask::ask))
        .merge(conversation_routes())
        .merge(question_routes())
        .merge(tuning_routes())
        .merge(plugin_routes())
        .merge(model_routes())
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::change, users::delete))
        .routes(routes!(users::audit))
        .routes(routes!(status::models))
        .routes(routes!(status::status))
        .routes(routes!(status::metrics))
        .routes(routes!(overview::services))
        .routes(routes!(overview::logs))
        .routes(routes!(login::who, login::logout))
        .routes(routes!(login::password))
        .routes(routes!(chat::chat))
        .routes(routes!(completions::completions))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(openai::models::list))
        .routes(routes!(openai::models::get))
        .routes(routes!(rerank::rerank))
}

fn web_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(web::add))
        .routes(routes!(web::search))
        .routes(routes!(web::preview))
        .routes(routes!(web::engines))
}

fn conversation_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::get, conversations::rename, conversations::delete))
        .routes(routes!(conversations::mark))
        .routes(routes!(conversations::marked))
}

fn question_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(questions::list, questions::create))
        .routes(routes!(questions::get, questions::replace, questions::delete))
        .routes(routes!(questions::export))
        .routes(routes!(questions::runs, questions::start))
        .routes(routes!(questions::run, questions::delete_run))
}

fn tuning_routes() -> OpenApiRouter<AppState> {
    let datasets = OpenApiRouter::new()
        .routes(routes!(tuning::put_dataset, tuning::preview, tuning::delete_dataset))
        .layer(DefaultBodyLimit::max(tuning::DATASET_BYTES_MAX));
    OpenApiRouter::new()
        .merge(datasets)
        .routes(routes!(tuning::datasets))
        .routes(routes!(tuning::convert))
        .routes(routes!(tuning::collect))
        .routes(routes!(tuning::defaults))
        .routes(routes!(tuning::estimate))
        .routes(routes!(tuning::list, tuning::start))
        .routes(routes!(tuning::get, tuning::delete))
        .routes(routes!(tuning::stop))
        .routes(routes!(tuning::resume))
        .routes(routes!(tuning::merge))
        .routes(routes!(tuning::offer))
        .routes(routes!(tuning::points))
        .routes(routes!(tuning::events))
        .routes(routes!(tuning::file))
}

fn plugin_routes() -> OpenApiRouter<AppState> {
    let components = OpenApiRouter::new()
        .routes(routes!(plugins::list, generations::install))
        .layer(DefaultBodyLimit::max(generations::COMPONENT_BYTES_MAX));
    OpenApiRouter::new()
        .merge(components)
        .routes(routes!(plugins::grants, plugins::grant))
        .routes(routes!(generations::remove))
        .routes(routes!(generations::bound))
        .routes(routes!(generations::swap))
        .routes(routes!(generations::roll_back))
        .routes(routes!(generations::list))
        .routes(routes!(generations::get, generations::abandon))
        .routes(routes!(generations::publish))
}

fn model_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models::list, models::add))
        .routes(routes!(models::change, models::remove))
        .routes(routes!(models::choose))
        .routes(routes!(models::restart))
        .routes(routes!(pulls::list, pulls::start))
        .routes(routes!(pulls::get, pulls::stop))
}

/// What anyone may reach.
fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login::login))
        .routes(routes!(status::health))
        .routes(routes!(status::ready))
}

async fn nothing_here() -> ApiError {
    ApiError::of_status(StatusCode::NOT_FOUND)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "a handler panicked");
    ApiError::internal().into_response()
}
