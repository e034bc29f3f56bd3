//! The OpenAI client and an OpenAPI validator from PyPI, run as scripts against a real host.

use std::path::PathBuf;
use std::process::Command;

use crate::host::{Data, fixture, root};

/// The interpreter that has `tests/requirements.txt`: RAG_PYTHON, else the one that `cargo xtask test` prepares.
fn python() -> PathBuf {
    let given = std::env::var_os("RAG_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join("target/python/bin/python"));
    assert!(python.is_file(), "{} is not there: `cargo xtask test browser` makes it", python.display());
    python
}

#[tokio::test]
async fn the_clients_of_others_work() {
    let mut data = Data::new();
    let host = data.start();
    for name in ["apt-手册.md", "sailing.md"] {
        assert_eq!(host.ingest("initial", name, fixture(name)).await["state"], "done");
    }
    for script in ["openai_client.py", "openapi_document.py"] {
        let mut command = Command::new(python());
        command.arg(root().join("tests/e2e/browser").join(script));
        command.env("RAG_URL", &host.url).env("RAG_KEY", &host.key);
        let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&ran.stderr));
        assert!(said.ends_with("ok\n"), "{script}: {said}");
    }
    host.stop();
}
