//! The page in Chromium, by the scripts beside this file: each page's main path, print, hostile content, breaks, sizes.

use std::path::Path;
use std::process::Command;

use crate::host::{Data, Host, binary, fixture, root, small_models};

/// Runs a script with Node to its end; it prints `ok` when all held.
async fn script(name: &'static str, settings: Vec<(&'static str, String)>) {
    let folder = root().join("tests/e2e/browser");
    assert!(
        folder.join("node_modules/playwright-core").is_dir(),
        "the driver is not installed: `cargo xtask test browser` installs it"
    );
    let mut command = Command::new("node");
    command.arg(folder.join(name)).current_dir(&folder).envs(settings);
    command.env("RAG_FIXTURES", root().join("tests/e2e/fixtures"));
    command.env("RAG_SCREENS", root().join("target/ui/screens"));
    let ran =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("Node is installed");
    let said = String::from_utf8_lossy(&ran.stdout);
    println!("{said}");
    assert!(ran.status.success(), "{name}\n{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.ends_with("ok\n"), "{name}: {said}");
}

fn of(host: &Host) -> Vec<(&'static str, String)> {
    vec![("RAG_URL", host.url.clone()), ("RAG_KEY", host.key.clone())]
}

#[tokio::test]
async fn a_person_takes_every_pages_main_path_in_both_languages_wide_and_narrow() {
    let mut data = Data::new();
    let host = data.start();
    script("walk.mjs", of(&host)).await;
    host.stop();
}

#[tokio::test]
async fn an_administrator_fetches_swaps_registers_and_tunes() {
    // A site for the script to play, and an engine that finds its pages.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = format!("http://127.0.0.1:{port}");
    let engine = format!(
        "[{{ name = \"site\", plugin = \"connector-web\", origins = [\"{origin}\"], private = true, \
         settings = '{{\"engine\": \"searxng\", \"url\": \"{origin}\"}}' }}]"
    );
    let models = tempfile::tempdir().unwrap();
    let folder = models.path().to_str().unwrap().to_owned();
    let mut data = Data::new()
        .set("WEB", "ENGINES", engine)
        .set("WEB", "PRIVATE_ORIGINS", format!("[\"{origin}\"]"))
        .set("WEB", "DELAY_MS", 0)
        .set("MODELS", "HUB", &origin)
        .set("MODELS", "ROOTS", format!("[\"{folder}\"]"));
    let host = data.start();
    let mut settings = of(&host);
    settings.extend([("RAG_SITE", port.to_string()), ("RAG_MODELS", folder)]);
    settings.push(("RAG_ROOT", root().to_str().unwrap().to_owned()));
    script("manage.mjs", settings).await;
    host.stop();
}

#[tokio::test]
async fn an_administrator_gives_models_keeps_a_folder_in_step_and_moves_a_knowledge_base() {
    let more = tempfile::tempdir().unwrap();
    let (folder, models) = (more.path().join("shelf"), more.path().join("models"));
    fs_err::create_dir(&folder).unwrap();
    small_models(&models);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut data = Data::new().set("DATA", "INGEST_ROOTS", format!("[{:?}]", text(&folder))).set(
        "MODELS",
        "ROOTS",
        format!("[{:?}]", text(&models)),
    );
    let host = data.start();
    let mut settings = of(&host);
    settings.extend([("RAG_FOLDER", text(&folder)), ("RAG_MODELS", text(&models))]);
    script("moves.mjs", settings).await;
    host.stop();
}

#[tokio::test]
async fn no_document_and_no_model_becomes_part_of_the_page() {
    let mut data = Data::new();
    let host = data.start();
    script("hostile.mjs", of(&host)).await;
    host.stop();
}

#[tokio::test]
async fn a_citation_opens_the_printed_page_with_its_words_marked() {
    let mut data = Data::new();
    let host = data.start();
    script("printed.mjs", of(&host)).await;
    host.stop();
}

#[tokio::test]
async fn ten_thousand_chunks_and_two_thousand_messages_are_no_burden() {
    let mut data = Data::new();
    let host = data.start();
    script("large.mjs", of(&host)).await;
    host.stop();
}

#[tokio::test]
async fn the_page_goes_on_after_a_break() {
    let mut data = Data::new();
    let host = data.start();
    assert_eq!(host.ingest("initial", "sailing.md", fixture("sailing.md")).await["state"], "done");
    let key = host.key.clone();
    host.stop();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let settings = vec![
        ("RAG_KEY", key),
        ("RAG_BINARY", text(&binary())),
        ("RAG_DATA", text(&data.dir.path().join("data"))),
        ("RAG_ROOT", text(&root())),
    ];
    script("breaks.mjs", settings).await;
}
