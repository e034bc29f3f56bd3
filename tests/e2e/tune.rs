//! Tuning from the command line: training data, a job from its start to what it makes, and the ways that it ends.

use serde_json::Value;

use crate::host::{Data, root, run};

/// Three documents that the tiny settings below read in a moment.
const EXAMPLES: &str = r#"{"text": "User: 锚链应该多长？\n\nAssistant: 水深的五倍。"}
{"text": "User: How long should the chain be?\n\nAssistant: Five times the depth."}
{"text": "User: hi\n\nAssistant: hello"}
"#;
const SMALL: [&str; 8] =
    ["--set", "context_tokens=16", "--set", "micro_batch=1", "--set", "epochs=1", "--set", "epoch_steps=2"];

/// (whether it succeeded, what it told, what it complained of)
fn told(arguments: &[&str]) -> (bool, String, String) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_tuned_from_the_command_line() {
    let mut data = Data::new();
    let host = data.start();
    let file = data.dir.path().join("问答.jsonl");
    fs_err::write(&file, EXAMPLES).unwrap();
    let file = file.to_str().unwrap();
    let at = ["--url", &host.url, "--key", &host.key, "--json", "tune"];
    let tune = |arguments: &[&str]| told(&[&at[..], arguments].concat());

    let (fine, estimate, complaint) = tune(&[&["start", file, "--estimate"], &SMALL[..]].concat());
    assert!(fine, "{complaint}");
    assert_eq!(serde_json::from_str::<Value>(&estimate).unwrap()["steps"], 2);

    let (fine, events, complaint) = tune(&[&["start", file, "--method", "state"], &SMALL[..]].concat());
    assert!(fine, "{complaint}");
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let points = events.iter().filter(|event| event["event"] == "points");
    let steps: Vec<&Value> = points
        .flat_map(|event| event["data"]["points"].as_array().unwrap())
        .map(|point| &point["step"])
        .collect();
    assert_eq!(steps, [1, 2]);
    let end = &events.last().unwrap()["data"];
    assert_eq!((&end["state"], &end["files"][0]), (&"done".into(), &"rwkv-1.pth".into()), "{end}");
    let id = end["id"].as_str().unwrap();

    let jobs = tune(&["list"]).1;
    assert_eq!(serde_json::from_str::<Value>(&jobs).unwrap()["jobs"][0]["id"], id);
    // The shipped model keeps the rows of its vocabulary that it was trained on, and says what to do instead.
    let (fine, _, complaint) = tune(&["merge", id]);
    assert!(!fine && complaint.contains("use the result beside it"), "{complaint}");
    let (fine, _, complaint) = tune(&["resume", id]);
    assert!(!fine && complaint.contains("only a stopped or failed job"), "{complaint}");
    assert!(tune(&["delete", id]).0);
    assert!(!tune(&["watch", id]).0);
}

#[test]
fn training_data_is_prepared_and_bad_lines_are_all_named() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.jsonl"), dir.path().join("bad.jsonl"));
    fs_err::write(&good, EXAMPLES).unwrap();
    fs_err::write(&bad, "{\"text\": 1}\n{\"text\": \"fine\"}\nno json\n").unwrap();
    let models = root().join("models");
    let config = dir.path().join("rag.toml");
    fs_err::write(&config, format!("[models]\ndir = {:?}\n", models.to_str().unwrap())).unwrap();
    let prepare = |file: &std::path::Path| {
        let out = dir.path().join("pair");
        let [config, file, out] = [&config, file, &out].map(|path| path.to_str().unwrap().to_owned());
        told(&[
            "--config",
            &config,
            "tune",
            "prepare",
            &file,
            "--epochs",
            "2",
            "--context",
            "8",
            "--out",
            &out,
        ])
    };
    let (fine, said, complaint) = prepare(&good);
    assert!(fine && !said.is_empty(), "{complaint}");
    for ending in ["bin", "idx"] {
        assert!(fs_err::metadata(dir.path().join(format!("pair.{ending}"))).unwrap().len() > 0);
    }
    let (fine, _, complaint) = prepare(&bad);
    assert!(!fine && complaint.contains("line 1") && complaint.contains("line 3"), "{complaint}");
    assert!(!complaint.contains("line 2"), "{complaint}");
}
