//! The page: files that are part of the binary, nothing from elsewhere.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// A file of the built page.
struct File {
    path: &'static str,
    plain: &'static [u8],
    /// The same, compressed, where that is worth it.
    gzip: Option<&'static [u8]>,
}

/// What `cargo xtask ui` built when this was compiled; empty when it had not. In the order of their paths.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Says how to build the page.
static UNBUILT: File = File { path: "/index.html", plain: include_bytes!("ui/unbuilt.html"), gzip: None };

/// Asked for again on each visit, so that a new version shows at once.
const FRESH: HeaderValue = HeaderValue::from_static("no-cache");
/// Under `/ui/` a name changes with its content, or the content does not change.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The page and its files.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| serve("/index.html", &headers)))
        .route("/icon.svg", get(async |headers: HeaderMap| serve("/icon.svg", &headers)))
        .route(
            "/ui/{*name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| serve(&format!("/ui/{name}"), &headers)),
        )
}

fn serve(path: &str, headers: &HeaderMap) -> ApiResult<Response> {
    let found = FILES.binary_search_by(|file| file.path.cmp(path)).ok().and_then(|at| FILES.get(at));
    let unbuilt = || Some(&UNBUILT).filter(|file| file.path == path);
    let file = found.or_else(unbuilt).ok_or_else(|| ApiError::of_status(StatusCode::NOT_FOUND))?;
    let kept = if path.starts_with("/ui/") { KEPT } else { FRESH };
    let about = [(CONTENT_TYPE, HeaderValue::from_static(media_type(path))), (CACHE_CONTROL, kept)];
    let varies = [(VARY, HeaderValue::from_static("accept-encoding"))];
    Ok(match file.gzip.filter(|_| takes_gzip(headers)) {
        Some(packed) => {
            let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (about, varies, encoding, packed).into_response()
        }
        None => (about, varies, file.plain).into_response(),
    })
}

/// Browsers name it without a weight; a weight of 0 refuses it.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00")
    })
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Every path that the page is made of, for tests.
#[cfg(test)]
pub(crate) fn paths() -> Vec<&'static str> {
    FILES.iter().map(|file| file.path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_only_to_those_who_take_it() {
        let check = |accept: &str, want: bool| {
            let headers = [(ACCEPT_ENCODING, accept.parse().unwrap())].into_iter().collect();
            assert_eq!(takes_gzip(&headers), want, "{accept}");
        };
        check("gzip, deflate, br, zstd", true);
        check("br;q=1.0, GZIP;q=0.5", true);
        check("identity", false);
        check("gzip;q=0, br", false);
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn files_are_in_order_so_that_each_is_found() {
        assert!(FILES.is_sorted_by_key(|file| file.path));
    }
}
