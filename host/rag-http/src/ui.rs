//! The page: a few files that are part of the binary, nothing from elsewhere.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;

use crate::state::AppState;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// Path, media type, text.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("ui/index.html")),
    ("/ui/app.js", SCRIPT, include_str!("ui/app.js")),
    ("/ui/api.js", SCRIPT, include_str!("ui/api.js")),
    ("/ui/ask.js", SCRIPT, include_str!("ui/ask.js")),
    ("/ui/documents.js", SCRIPT, include_str!("ui/documents.js")),
    ("/ui/dom.js", SCRIPT, include_str!("ui/dom.js")),
    ("/ui/words.js", SCRIPT, include_str!("ui/words.js")),
    ("/ui/style.css", STYLE, include_str!("ui/style.css")),
    ("/ui/icon.svg", ICON, include_str!("ui/icon.svg")),
];

/// The page and its files.
pub(crate) fn routes() -> Router<AppState> {
    FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
        router.route(path, get(move || async move { file(kind, text) }))
    })
}

/// Asked for again on each visit, so that a new version shows at once.
fn file(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 2], &'static str) {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}
