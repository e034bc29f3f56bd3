//! The command line against a running host: ingest, search, ask, export, import.

use serde_json::Value;

use crate::host::{Data, Host, root, run};

/// Runs a command that must succeed; its output as JSON.
fn told(host: &Host, arguments: &[&str]) -> Value {
    let all = [&["--url", &host.url, "--key", &host.key, "--json"], arguments].concat();
    let output = run(&all);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_moves_by_export_and_import() {
    let mut data = Data::new();
    let host = data.start();
    let fixtures = root().join("tests/e2e/fixtures");
    let exported = data.dir.path().join("exported");
    let exported = exported.to_str().unwrap();
    told(&host, &["kb", "create", "manuals"]);
    told(&host, &["ingest", "--kb", "manuals", fixtures.join("sailing.md").to_str().unwrap()]);
    told(&host, &["kb", "export", "manuals", exported]);
    told(&host, &["kb", "import", exported, "--name", "manuals2"]);
    told(&host, &["kb", "delete", "manuals", "--yes"]);

    let question = "How long should the anchor chain be?";
    let found = told(&host, &["search", "--kb", "manuals2", question]);
    assert!(found["hits"][0]["text"].as_str().unwrap().contains("five times the depth"), "{found}");
    let answered = told(&host, &["ask", "--kb", "manuals2", question]);
    assert_eq!(answered["citations"][0]["document"], "sailing.md", "{answered}");
    assert!(!run(&["--url", &host.url, "--key", &host.key, "kb", "show", "manuals"]).status.success());
}
