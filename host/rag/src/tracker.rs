//! Follows trainings in Weights & Biases while they go: what its own client sends for a run, and nothing else.
//!
//! A run is made or found by GraphQL (`upsertBucket`); its curves are lines that are appended by `file_stream`. What
//! cannot be sent is tried again while the training goes on; the job's own folder has everything, for `wandb sync`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rag_core::ports::{Http, HttpGrant, HttpMethod, HttpRequest, TuneJob, TunePoint};
use rag_core::{Error, Result};
use rag_tune::tracker::{End, Tracker, config, values};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::egress::{self, Egress};

/// What the training has told and was not taken yet; more is dropped, and said so.
const TOLD_MAX: usize = 4_096;
/// Updates that wait for a server which does not answer; the oldest go first.
const WAITING_MAX: usize = 20_000;
/// Updates of one request.
const LINES_MAX: usize = 1_000;
/// Between two requests of a run.
const PERIOD: Duration = Duration::from_secs(5);
/// Requests for the end of a run before it is left to `wandb sync`.
const END_TRIES: u32 = 5;

const UPSERT: &str = "mutation UpsertBucket($name: String, $project: String, $displayName: String, $config: JSONString) { \
    upsertBucket(input: {name: $name, modelName: $project, displayName: $displayName, config: $config}) { \
    bucket { name historyLineCount project { name entity { name } } } } }";

/// Told of trainings, sends from a task of its own.
#[derive(Debug)]
pub(crate) struct Wandb {
    told: mpsc::Sender<Told>,
}

#[derive(Debug)]
enum Told {
    Begin(Box<TuneJob>),
    Point(String, TunePoint),
    End(String, End),
}

impl Wandb {
    /// Sends to the server at `url`, whose key is `key`, as long as the runtime runs that this is called in.
    pub(crate) fn start(egress: &Egress, url: &str, project: &str, key: &str) -> Result<Self> {
        Self::every(PERIOD, egress, url, project, key)
    }

    fn every(period: Duration, egress: &Egress, url: &str, project: &str, key: &str) -> Result<Self> {
        let url = egress::parse(url)?;
        let grant = HttpGrant {
            origin: url.origin().ascii_serialization(),
            path: String::new(),
            methods: vec![HttpMethod::Post],
            // The operator named it, and may run its own.
            private: true,
            headers: vec![(
                "authorization".to_owned(),
                format!("Basic {}", BASE64.encode(format!("api:{key}"))),
            )],
        };
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::internal("the tracker of trainings needs a runtime"))?;
        let (told, queue) = mpsc::channel(TOLD_MAX);
        let sender = Sender {
            http: egress.granted("the tracker of trainings", vec![grant])?,
            base: url.as_str().trim_end_matches('/').to_owned(),
            project: project.to_owned(),
            runs: BTreeMap::new(),
        };
        runtime.spawn(sender.work(queue, period));
        Ok(Wandb { told })
    }

    fn tell(&self, told: Told) {
        if self.told.try_send(told).is_err() {
            tracing::warn!("an update was not sent to the tracker of trainings: too many wait");
        }
    }
}

impl Tracker for Wandb {
    fn begin(&self, job: &TuneJob) {
        self.tell(Told::Begin(Box::new(job.clone())));
    }

    fn point(&self, job: &str, point: &TunePoint) {
        self.tell(Told::Point(job.to_owned(), *point));
    }

    fn end(&self, job: &str, end: End) {
        self.tell(Told::End(job.to_owned(), end));
    }
}

struct Sender {
    http: Arc<dyn Http>,
    base: String,
    project: String,
    runs: BTreeMap<String, Run>,
}

struct Run {
    job: Box<TuneJob>,
    start_ms: i64,
    /// Path of its stream and the lines that it has, once the server knows the run.
    stream: Option<(String, u64)>,
    waiting: VecDeque<String>,
    last: Option<String>,
    end: Option<End>,
    /// Requests in a row that failed after the end.
    tries: u32,
    warned: bool,
}

impl Sender {
    async fn work(mut self, mut queue: mpsc::Receiver<Told>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = queue.recv() => match told {
                    Some(told) => self.take(told),
                    None => return,
                },
                _ = ticks.tick() => self.send().await,
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Begin(job) => {
                let start_ms = job.updated_ms;
                let run = Run {
                    job,
                    start_ms,
                    stream: None,
                    waiting: VecDeque::new(),
                    last: None,
                    end: None,
                    tries: 0,
                    warned: false,
                };
                self.runs.insert(run.job.id.clone(), run);
            }
            Told::Point(job, point) => {
                if let Some(run) = self.runs.get_mut(&job) {
                    let line = values(&point, run.start_ms).map(|(name, value)| (name.to_owned(), value));
                    let line = Value::Object(Map::from_iter(line)).to_string();
                    run.last = Some(line.clone());
                    run.waiting.push_back(line);
                    if run.waiting.len() > WAITING_MAX {
                        run.waiting.pop_front();
                    }
                }
            }
            Told::End(job, end) => {
                if let Some(run) = self.runs.get_mut(&job) {
                    run.end = Some(end);
                }
            }
        }
    }

    /// One request or two for each run that has something to say; ended ones that are told, or cannot be, go.
    async fn send(&mut self) {
        for (id, mut run) in std::mem::take(&mut self.runs) {
            match self.send_run(&mut run).await {
                Ok(true) => continue,
                Ok(false) => {}
                // No other try will be answered otherwise.
                Err(error @ (Error::Denied { .. } | Error::InvalidInput { .. })) => {
                    tracing::warn!(job = id, %error, "a training is not followed in wandb; `wandb sync` of its folder can do it later");
                    continue;
                }
                Err(error) => {
                    if !std::mem::replace(&mut run.warned, true) {
                        tracing::warn!(job = id, %error, "wandb does not answer; the training's updates wait");
                    }
                    run.tries += u32::from(run.end.is_some());
                    if run.tries >= END_TRIES {
                        tracing::warn!(
                            job = id,
                            "the end of a training was not sent to wandb; `wandb sync` of its folder can do it"
                        );
                        continue;
                    }
                }
            }
            self.runs.insert(id, run);
        }
    }

    /// Whether nothing is left to say.
    async fn send_run(&self, run: &mut Run) -> Result<bool> {
        let (path, sent) = match &run.stream {
            Some(stream) => stream.clone(),
            None => run.stream.insert(self.upsert(&run.job).await?).clone(),
        };
        let lines: Vec<&String> = run.waiting.iter().take(LINES_MAX).collect();
        let ending = run.end.filter(|_| lines.len() == run.waiting.len());
        if lines.is_empty() && ending.is_none() {
            return Ok(false);
        }
        let mut files = json!({});
        let count = lines.len();
        if count > 0 {
            files["wandb-history.jsonl"] = json!({"offset": sent, "content": lines});
        }
        if let Some(last) = &run.last {
            files["wandb-summary.json"] = json!({"offset": 0, "content": [last]});
        }
        let mut body = json!({"files": files});
        if let Some(end) = ending {
            body["complete"] = true.into();
            body["exitcode"] = end.exit_code().into();
        }
        self.post(&path, &body).await?;
        run.waiting.drain(..count);
        run.stream = Some((path, sent + count as u64));
        run.warned = false;
        Ok(ending.is_some())
    }

    /// Makes or finds the run; returns its stream and how many lines it has.
    async fn upsert(&self, job: &TuneJob) -> Result<(String, u64)> {
        let settings: Map<String, Value> =
            config(job).into_iter().map(|(name, value)| (name, json!({"value": value}))).collect();
        let variables = json!({
            "name": job.id,
            "project": self.project,
            "displayName": job.request.name,
            "config": Value::Object(settings).to_string(),
        });
        let answer = self.ask(UPSERT, &variables).await?;
        let bucket = &answer["upsertBucket"]["bucket"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let names = (
            text(&bucket["project"]["entity"]["name"]),
            text(&bucket["project"]["name"]),
            text(&bucket["name"]),
        );
        let (Some(entity), Some(project), Some(name)) = names else {
            return Err(Error::invalid(
                "the tracker's server does not answer as wandb's (tuning.tracker_url)",
            ));
        };
        let lines = bucket["historyLineCount"].as_u64().unwrap_or(0);
        let [entity, project, name] = [entity, project, name].map(|part| crate::commands::escape(&part));
        Ok((format!("/files/{entity}/{project}/{name}/file_stream"), lines))
    }

    async fn ask(&self, query: &str, variables: &Value) -> Result<Value> {
        let answer = self.post("/graphql", &json!({"query": query, "variables": variables})).await?;
        match &answer["errors"][0]["message"] {
            Value::String(message) => Err(Error::invalid(format!("wandb refuses: {message}"))),
            _ => Ok(answer["data"].clone()),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = HttpRequest {
            method: HttpMethod::Post,
            url: format!("{}{path}", self.base),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Some(body.to_string().into_bytes()),
        };
        let answer = self.http.fetch(request).await?;
        let message = || format!("wandb answers with status {}", answer.status);
        match answer.status {
            200..300 => Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null)),
            401 | 403 => Err(Error::Denied {
                message: format!("{}: is the key in tuning.tracker_key_file right?", message()),
            }),
            408 | 429 | 500.. => Err(Error::Unavailable { message: message() }),
            _ => Err(Error::invalid(message())),
        }
    }
}
