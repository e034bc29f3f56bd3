//! The tuning service: training data and training, as RWKV-RAG's clients ask for them.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::{Error, Result};

use super::{flag, optional_text, text, unsupported, whole};
use crate::envelope::Hello;
use crate::value::Value;
use crate::wire::Request;
use crate::worker::{Service, Sink};

/// Copies of the data at most; RWKV-RAG's page offers 10.
const COPIES_MAX: u32 = 100;
const CONTEXT_MAX: u32 = 1 << 20;

/// What wandb's commands say: progress is kept by this system itself.
const NO_WANDB: &str = "失败：本系统不使用 wandb，训练指标由本系统保存 / failed: this system keeps the metrics of its trainings itself and does not use wandb";

/// jsonl texts to turn into a binidx pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeData {
    pub source: Source,
    /// Folder of the pair; none takes the service's own.
    pub output: Option<String>,
    pub copies: u32,
    pub context_tokens: u32,
}

/// Where the texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    File(String),
    /// The lines themselves.
    Lines(String),
}

/// How a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    State,
    Lora,
    Pissa,
}

/// What makes data sets and trains. Paths of requests are the implementation's to judge.
#[async_trait]
pub trait Tuning: Send + Sync {
    /// Returns the path of the pair without its suffixes.
    async fn make_data(&self, request: MakeData) -> Result<String>;

    /// `fields` are the command's, as the client sent them.
    async fn train(&self, method: Method, fields: &Request) -> Result<Value>;

    /// For `TUNING_CONFIG`; nothing secret.
    fn config(&self) -> Value;
}

/// Answers from what trains in this process.
#[expect(missing_debug_implementations, reason = "its parts are other crates")]
pub struct TuningService {
    pub name: String,
    /// Requests taken at once.
    pub capacity: u32,
    pub tuning: Arc<dyn Tuning>,
}

#[async_trait]
impl Service for TuningService {
    fn hello(&self) -> Hello {
        Hello { service: "tuning".to_owned(), capacity: self.capacity, name: self.name.clone() }
    }

    async fn legacy(&self, request: Request) -> Result<Value> {
        match request.cmd.as_str() {
            "TUNING_CONFIG" => Ok(self.tuning.config()),
            "MAKE_DATA" => Ok(self.tuning.make_data(make_data(&request)?).await?.into()),
            "STATE_TUNING" => self.tuning.train(Method::State, &request).await,
            "LORA" => self.tuning.train(Method::Lora, &request).await,
            "PISSA" => self.tuning.train(Method::Pissa, &request).await,
            // Nobody is logged in, and there are no projects.
            "WANDB" => Ok("".into()),
            "WANDB_LIST_PROJECT" => Ok(Value::Array(Vec::new())),
            // RWKV-RAG tells success and failure alike as a text.
            "WANDB_LOGIN" => text(&request, "api_key").map(|_| NO_WANDB.into()),
            "WANDB_ADD_PROJECT" => text(&request, "project_name").map(|_| NO_WANDB.into()),
            _ => Err(unsupported()),
        }
    }

    async fn call(&self, operation: &str, _: &Value, _: &mut Sink) -> Result<Value> {
        Err(Error::Unsupported { message: format!("the tuning service has no operation '{operation}'") })
    }
}

fn make_data(request: &Request) -> Result<MakeData> {
    let source = match request.field("jsonl_file").and_then(Value::as_str) {
        // Not `text`: lines may be longer than one text of the other commands.
        Some(lines) if flag(request, "is_str")? => Source::Lines(lines.to_owned()),
        _ => Source::File(text(request, "jsonl_file")?.to_owned()),
    };
    Ok(MakeData {
        source,
        output: optional_text(request, "output_path")?.map(str::to_owned),
        copies: whole(request, "n_epoch", 3, 1..=COPIES_MAX)?,
        context_tokens: whole(request, "context_len", 1024, 1..=CONTEXT_MAX)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_asked_for_with_rwkv_rags_defaults() {
        let file = make_data(&Request::new("make_data").with("jsonl_file", "a.jsonl".into())).unwrap();
        let expected = MakeData {
            source: Source::File("a.jsonl".into()),
            output: None,
            copies: 3,
            context_tokens: 1024,
        };
        assert_eq!(file, expected);
        let lines = Request::new("make_data")
            .with("jsonl_file", "{}".into())
            .with("is_str", true.into())
            .with("n_epoch", Value::Int(1));
        let expected = MakeData { source: Source::Lines("{}".into()), copies: 1, ..expected };
        assert_eq!(make_data(&lines).unwrap(), expected);
        assert!(make_data(&Request::new("make_data")).is_err());
        assert!(make_data(&lines.with("n_epoch", Value::Int(0))).is_err());
    }
}
