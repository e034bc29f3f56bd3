//! What a server of wandb's gets to hear, when it answers, breaks off, and refuses.

use std::sync::Mutex;

use async_trait::async_trait;
use rag_core::ports::{HttpResponse, TuneEstimate, TuneMethod, TuneRequest, TuneSettings, TuneState};

use super::*;

/// Answers with statuses in their order, then with 200; keeps what was sent.
#[derive(Default)]
struct Server {
    statuses: Mutex<VecDeque<u16>>,
    heard: Mutex<Vec<(String, Value)>>,
    /// Lines that the run already has.
    lines: u64,
    graphql_error: bool,
}

#[async_trait]
impl Http for Server {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        let status = self.statuses.lock().unwrap().pop_front().unwrap_or(200);
        let body: Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        let path = request.url.strip_prefix("http://wandb.test").unwrap().to_owned();
        let bucket = json!({"name": body["variables"]["name"], "historyLineCount": self.lines,
            "project": {"name": "p q", "entity": {"name": "我"}}});
        let answer = match (path.as_str(), self.graphql_error) {
            ("/graphql", true) => json!({"errors": [{"message": "no such project"}]}),
            ("/graphql", false) => json!({"data": {"upsertBucket": {"bucket": bucket}}}),
            _ => json!({}),
        };
        if status == 200 {
            self.heard.lock().unwrap().push((path, body));
        }
        Ok(HttpResponse { status, headers: Vec::new(), body: answer.to_string().into_bytes() })
    }
}

fn sender(server: &Arc<Server>) -> Sender {
    let base = "http://wandb.test".to_owned();
    Sender { http: server.clone(), base, project: "p q".to_owned(), runs: BTreeMap::new() }
}

fn job() -> Box<TuneJob> {
    let settings = TuneSettings {
        method: TuneMethod::Lora,
        precision: "f32".to_owned(),
        context_tokens: 64,
        chunk_tokens: 0,
        micro_batch: 1,
        accumulate: 1,
        epochs: 1,
        epoch_steps: 0,
        lr: 0.5,
        lr_final: 0.1,
        warmup_steps: 0,
        schedule: "cosine".to_owned(),
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip: 1.0,
        checkpointing: false,
        l2wrap: true,
        mask: "all".to_owned(),
        sampling: "pad".to_owned(),
        seed: 0,
        rank: 4,
        alpha: 8.0,
        dropout: 0.0,
        svd_iterations: 0,
        train_mixes: true,
        checkpoint_steps: 10,
        format: "pth".to_owned(),
    };
    Box::new(TuneJob {
        id: "tune-1".to_owned(),
        request: TuneRequest { name: "我的".into(), base: None, dataset: "d".into(), settings },
        state: TuneState::Running,
        step: 0,
        steps: 3,
        last: None,
        estimate: TuneEstimate { memory_bytes: 1, available_bytes: None, trained_values: 8, steps: 3 },
        outputs: Vec::new(),
        created_ms: 0,
        updated_ms: 1_000,
    })
}

fn point(step: u64) -> Told {
    let point = TunePoint {
        step,
        loss: 1.0 / step as f64,
        lr: 0.5,
        gradient_norm: 1.0,
        tokens: 64 * step,
        tokens_per_s: 10.0,
        memory_bytes: 4_096,
        time_ms: 1_000 + 500 * step as i64,
    };
    Told::Point("tune-1".to_owned(), point)
}

fn end(end: End) -> Told {
    Told::End("tune-1".to_owned(), end)
}

const STREAM: &str = "/files/%E6%88%91/p%20q/tune-1/file_stream";

#[tokio::test]
async fn a_run_is_made_its_updates_are_appended_and_its_end_is_told() {
    let server = Arc::new(Server { lines: 7, ..Server::default() });
    let mut sender = sender(&server);
    sender.take(Told::Begin(job()));
    sender.take(point(1));
    sender.take(point(2));
    sender.send().await;
    // Nothing new: nothing is sent.
    sender.send().await;
    sender.take(point(3));
    sender.take(end(End::Done));
    sender.send().await;
    assert!(sender.runs.is_empty());
    let heard = server.heard.lock().unwrap();
    let paths: Vec<&str> = heard.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/graphql", STREAM, STREAM]);
    let variables = &heard[0].1["variables"];
    assert_eq!((&variables["name"], &variables["displayName"]), (&json!("tune-1"), &json!("我的")));
    let settings: Value = serde_json::from_str(variables["config"].as_str().unwrap()).unwrap();
    assert_eq!((&settings["method"]["value"], &settings["rank"]["value"]), (&json!("lora"), &json!(4)));
    let history = |at: usize| heard[at].1["files"]["wandb-history.jsonl"].clone();
    assert_eq!((&history(1)["offset"], &history(2)["offset"]), (&json!(7), &json!(9)));
    let line: Value = serde_json::from_str(history(1)["content"][1].as_str().unwrap()).unwrap();
    assert_eq!((&line["_step"], &line["loss"], &line["_runtime"]), (&json!(2), &json!(0.5), &json!(1.0)));
    assert_eq!((&heard[1].1["complete"], &heard[2].1["complete"]), (&Value::Null, &json!(true)));
    assert_eq!(heard[2].1["exitcode"], 0);
}

#[tokio::test]
async fn what_a_busy_server_did_not_take_comes_with_the_next_request() {
    let server = Arc::new(Server::default());
    server.statuses.lock().unwrap().extend([503, 200, 429]);
    let mut sender = sender(&server);
    sender.take(Told::Begin(job()));
    sender.take(point(1));
    sender.send().await;
    sender.send().await;
    sender.take(point(2));
    sender.send().await;
    let heard = server.heard.lock().unwrap();
    let lines = heard.last().unwrap().1["files"]["wandb-history.jsonl"]["content"].as_array().unwrap().len();
    assert_eq!((heard.len(), lines), (2, 2));
}

#[tokio::test]
async fn a_wrong_key_or_a_strange_server_ends_the_following_and_a_silent_one_is_not_waited_for_for_ever() {
    let refuse = |server: &Server| server.statuses.lock().unwrap().push_back(401);
    let servers =
        [Arc::new(Server::default()), Arc::new(Server { graphql_error: true, ..Server::default() })];
    refuse(&servers[0]);
    for server in servers {
        let mut sender = sender(&server);
        sender.take(Told::Begin(job()));
        sender.take(point(1));
        sender.send().await;
        assert!(sender.runs.is_empty());
    }
    let server = Arc::new(Server::default());
    server.statuses.lock().unwrap().extend([500; 100]);
    let mut sender = sender(&server);
    sender.take(Told::Begin(job()));
    sender.take(end(End::Failed));
    for _ in 0..END_TRIES {
        assert_eq!(sender.runs.len(), 1);
        sender.send().await;
    }
    assert!(sender.runs.is_empty());
}

#[tokio::test]
async fn updates_that_wait_are_bounded() {
    let server = Arc::new(Server::default());
    let mut sender = sender(&server);
    sender.take(Told::Begin(job()));
    (1..=WAITING_MAX as u64 + 5).for_each(|step| sender.take(point(step)));
    let run = &sender.runs["tune-1"];
    assert_eq!(run.waiting.len(), WAITING_MAX);
    assert!(run.waiting[0].contains("\"_step\":6,"));
}
