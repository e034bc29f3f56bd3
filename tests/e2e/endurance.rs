//! Swap after swap under questions and ingests: nobody is refused, and no answer comes from two generations.

use std::process::Command;

use serde_json::Value;

use crate::host::{binary, root};

/// The plugins that the benchmark binds.
const PLUGINS: [&str; 6] =
    ["chunk-fixed", "chunk-sentence", "parse-text", "retrieve-dense", "retrieve-hybrid", "store-local"];

#[test]
fn twenty_swaps_under_questions_and_ingests() {
    let folder = tempfile::tempdir().unwrap();
    for id in PLUGINS {
        for file in [format!("{id}.wasm"), format!("{id}.toml")] {
            let _ = fs_err::copy(root().join("plugins/dist").join(&file), folder.path().join(&file));
        }
    }
    let mut command = Command::new(binary());
    command.current_dir(root()).env("RWKV_RAG__PLUGINS__DIR", folder.path());
    // The long one: --swaps 10000 --asks 64, which keeps two cores busy for an hour where other work runs too.
    let output = command.args(["bench", "swaps", "--swaps", "20", "--asks", "2", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |name: &str| {
        let found = told["results"].as_array().unwrap().iter().find(|result| result["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {told}"))["value"].as_f64().unwrap()
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(value("failed requests"), 0.0, "{complaints}");
    assert_eq!(value("answers from two generations"), 0.0, "{told}");
    assert_eq!(value("swaps"), 20.0);
    assert_eq!(value("of them with a second index"), 2.0);
    assert!(value("answers meanwhile") > 0.0 && value("ingests meanwhile") > 0.0, "{told}");
}
