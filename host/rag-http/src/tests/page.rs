//! The page: served whole, from here alone, compressed for those who take it; without its files, a notice.

use axum::body::Body;

use super::world::{World, request};
use crate::ui;

#[tokio::test]
async fn the_page_and_all_that_it_names_is_served() {
    let world = World::new().await;
    let index = world.get("", "/").await.is(200);
    assert_eq!(index.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(index.header("cache-control"), "no-cache");
    let named = index.text().split('"').filter(|part| part.starts_with("/ui/") || *part == "/icon.svg");
    for path in named {
        world.get("", path).await.is(200);
    }
    if ui::paths().is_empty() {
        assert!(index.text().contains("cargo xtask ui"), "a page that was not built says how to build it");
    }
}

#[tokio::test]
async fn every_file_has_its_kind_and_is_kept() {
    let world = World::new().await;
    for path in ui::paths().into_iter().filter(|path| path.starts_with("/ui/")) {
        let got = world.get("", path).await.is(200);
        let kind = match path.rsplit('.').next() {
            Some("js" | "mjs") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "application/octet-stream",
        };
        assert_eq!(got.header("content-type"), kind, "{path}");
        assert!(got.header("cache-control").contains("immutable"), "{path}");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
    }
    for missing in ["/ui/", "/ui/none.js", "/ui/../index.html", "/ui/index.html", "/index.html"] {
        world.get("", missing).await.is(404);
    }
}

#[tokio::test]
async fn compressed_for_those_who_take_it() {
    let world = World::new().await;
    for path in ui::paths().into_iter().filter(|path| path.ends_with(".js")) {
        let packed = request("GET", "", path).header("accept-encoding", "gzip, br");
        let packed = world.send(packed.body(Body::empty()).unwrap()).await.is(200);
        let plain = world.get("", path).await.is(200);
        assert_eq!(packed.header("vary"), "accept-encoding");
        assert_eq!(plain.header("content-encoding"), "");
        if packed.header("content-encoding") == "gzip" {
            assert!(packed.body.len() < plain.body.len(), "{path}");
        }
    }
}

#[tokio::test]
async fn nothing_inline_and_nothing_from_elsewhere() {
    let world = World::new().await;
    let index = world.get("", "/").await.is(200);
    for bad in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
        assert!(!index.text().contains(bad), "{bad}");
    }
    let scripts = index.text().matches("<script").count();
    assert_eq!(scripts, index.text().matches("src=\"/ui/").count(), "every script is a file of ours");
}
