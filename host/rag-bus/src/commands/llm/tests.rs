//! RWKV-RAG's llm commands over fake engines that tell what they were asked.

use std::sync::Mutex;

use rag_core::document::Vectors;
use rag_core::ports::{FinishReason, GenerationEvent, GenerationStream, Usage};

use super::*;

/// Remembers; its vectors and scores are lengths of texts.
#[derive(Default)]
struct Fake {
    generated: Mutex<Vec<GenerateRequest>>,
    embedded: Mutex<Vec<Purpose>>,
}

struct Engines(Arc<Fake>);

#[async_trait]
impl Embed for Engines {
    fn identity(&self) -> &str {
        "fake"
    }
    fn dim(&self) -> usize {
        1
    }
    fn tokens_max(&self) -> usize {
        8
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| text.len() as u32).collect()
    }
    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        self.0.embedded.lock().unwrap().push(purpose);
        Ok(Vectors { dim: 1, data: texts.iter().map(|text| text.len() as f32).collect() })
    }
}

#[async_trait]
impl Rerank for Engines {
    fn identity(&self) -> &str {
        "fake"
    }
    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        Ok(passages.iter().map(|passage| (100 * query.len() + passage.len()) as f32).collect())
    }
}

/// One further encoder, `more`, and one further reranker of that name.
#[async_trait]
impl Encoders for Engines {
    async fn encoder(&self, name: Option<&str>) -> Result<Arc<dyn Embed>> {
        match name {
            Some("more") => Ok(Arc::new(More)),
            other => Err(Error::NotFound { what: "encoder", name: other.unwrap_or_default().to_owned() }),
        }
    }
    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>> {
        Ok((identity == "more@1").then(|| Arc::new(More) as Arc<dyn Embed>))
    }
    async fn reranker(&self, name: Option<&str>) -> Result<Arc<dyn Rerank>> {
        match name {
            Some("more") => Ok(Arc::new(More)),
            other => Err(Error::NotFound { what: "reranker", name: other.unwrap_or_default().to_owned() }),
        }
    }
}

struct More;

#[async_trait]
impl Embed for More {
    fn identity(&self) -> &str {
        "more@1"
    }
    fn dim(&self) -> usize {
        2
    }
    fn tokens_max(&self) -> usize {
        9
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        vec![0; texts.len()]
    }
    async fn embed(&self, texts: Vec<String>, _: Purpose) -> Result<Vectors> {
        Ok(Vectors { dim: 2, data: vec![0.5; 2 * texts.len()] })
    }
}

#[async_trait]
impl Rerank for More {
    fn identity(&self) -> &str {
        "cross:more@1"
    }
    async fn rerank(&self, _: &str, passages: &[String]) -> Result<Vec<f32>> {
        Ok(vec![0.25; passages.len()])
    }
}

struct Answer(Option<GenerationEvent>);

impl futures_core::Stream for Answer {
    type Item = Result<GenerationEvent>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let done = GenerationEvent::Done { reason: FinishReason::Stop, usage: Usage::default() };
        let next = self.0.take();
        if matches!(next, Some(GenerationEvent::Text(_))) {
            self.0 = Some(done);
        }
        std::task::Poll::Ready(next.map(Ok))
    }
}

#[async_trait]
impl Generate for Engines {
    fn identity(&self) -> String {
        "fake".to_owned()
    }
    fn demonstration(&self) -> bool {
        true
    }
    fn count_tokens(&self, text: &str) -> u32 {
        text.len() as u32
    }
    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        self.0.generated.lock().unwrap().push(request);
        Ok(Box::pin(Answer(Some(GenerationEvent::Text("答".into())))))
    }
}

#[async_trait]
impl Models for Engines {
    async fn language(&self, variant: Variant<'_>) -> Result<Arc<dyn Generate>> {
        match variant.state.or(variant.adapter) {
            None | Some("qa") => Ok(Arc::new(Engines(self.0.clone()))),
            Some(other) => Err(Error::NotFound { what: "model", name: other.to_owned() }),
        }
    }
    async fn select(&self, name_or_path: &str) -> Result<()> {
        if name_or_path == "known" { Ok(()) } else { Err(Error::invalid("register it first")) }
    }
    fn check(&self, _: ModelKind, name_or_path: &str) -> Result<()> {
        if name_or_path == "known" { Ok(()) } else { Err(Error::invalid("register it first")) }
    }
    async fn beam(&self, request: BeamRequest) -> Result<String> {
        Ok(format!("{} {} {}", request.beams, request.tokens_max, request.prompt))
    }
    fn config(&self) -> Value {
        Value::map([("base_model_path", "known".into())])
    }
}

struct Bench {
    fake: Arc<Fake>,
    service: LlmService,
}

fn bench() -> Bench {
    let fake = Arc::new(Fake::default());
    let part = || Arc::new(Engines(fake.clone()));
    let service = LlmService {
        name: "t".into(),
        capacity: 1,
        embedder: part(),
        reranker: part(),
        encoders: part(),
        models: part(),
    };
    Bench { service, fake }
}

impl Bench {
    async fn ask(&self, cmd: &str, fields: &[(&str, Value)]) -> Result<Value> {
        let request = Request::new(cmd);
        let request = fields.iter().fold(request, |request, (name, value)| request.with(name, value.clone()));
        self.service.legacy(request).await
    }

    async fn refused(&self, cmd: &str, fields: &[(&str, Value)]) -> String {
        self.ask(cmd, fields).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn one_text_is_a_question_and_a_list_are_passages() {
    let bench = bench();
    let one = bench.ask("GET_EMBEDDINGS", &[("texts", "abc".into())]).await.unwrap();
    assert_eq!(one, Value::Array(vec![Value::list([3.0f32])]));
    let list = Value::list(["a", "bb"]);
    let many = bench.ask("GET_EMBEDDINGS", &[("texts", list.clone()), ("bgem3_path", "known".into())]).await;
    assert_eq!(many.unwrap(), Value::Array(vec![Value::list([1.0f32]), Value::list([2.0f32])]));
    bench.ask("GET_EMBEDDINGS", &[("texts", list), ("purpose", "query".into())]).await.unwrap();
    assert_eq!(*bench.fake.embedded.lock().unwrap(), [Purpose::Query, Purpose::Passage, Purpose::Query]);
    let strange = [("texts", "a".into()), ("embedding_path", "/etc/passwd".into())];
    assert_eq!(bench.refused("GET_EMBEDDINGS", &strange).await, "register it first");
    assert!(bench.refused("GET_EMBEDDINGS", &[]).await.contains("'texts'"));
}

#[tokio::test]
async fn pairs_are_scored_in_either_order_of_question_and_passage() {
    let bench = bench();
    let scores = async |left: &[&'static str], right: &[&'static str]| {
        let side = |texts: &[&'static str]| Value::list(texts.iter().copied());
        bench.ask("GET_CROSS_SCORES", &[("texts_0", side(left)), ("texts_1", side(right))]).await
    };
    let expected = Value::list([101.0f32, 102.0]);
    assert_eq!(scores(&["q", "q"], &["a", "bb"]).await.unwrap(), expected);
    assert_eq!(scores(&["a", "bb"], &["q", "q"]).await.unwrap(), expected);
    assert_eq!(scores(&["q", "qq"], &["a", "bb"]).await.unwrap(), Value::list([101.0f32, 202.0]));
    assert_eq!(scores(&[], &[]).await.unwrap(), Value::Array(vec![]));
    assert!(scores(&["q"], &[]).await.unwrap_err().to_string().contains("pair"));
}

#[tokio::test]
async fn what_the_client_asks_of_an_answer_takes_effect() {
    let bench = bench();
    let fields = [
        ("instruction", "问".into()),
        ("input_text", "文".into()),
        ("token_count", Value::Int(7)),
        ("temperature", Value::Int(1)),
        ("top_p", Value::Float(0.5)),
        ("state_file", "qa".into()),
        ("base_model_path", "known".into()),
    ];
    assert_eq!(bench.ask("SAMPLING_GENERATE", &fields).await.unwrap(), "答".into());
    let asked = bench.fake.generated.lock().unwrap()[0].clone();
    assert_eq!(asked.prompt, "Instruction: 问\nInput: 文\n\nResponse:");
    assert_eq!((asked.tokens_max, asked.sampling.temperature, asked.sampling.top_p), (7, 1.0, 0.5));
    bench.ask("SAMPLING_GENERATE", &[("template_prompt", "全文".into())]).await.unwrap();
    let asked = bench.fake.generated.lock().unwrap()[1].clone();
    assert_eq!((asked.prompt.as_str(), asked.tokens_max, asked.sampling.temperature), ("全文", 1200, 0.3));
    let with = |name, value: &str| [("instruction", "q".into()), (name, Value::from(value))];
    assert_eq!(
        bench.refused("SAMPLING_GENERATE", &with("base_model_path", "/x.pth")).await,
        "register it first"
    );
    assert!(bench.refused("SAMPLING_GENERATE", &with("state_file", "/x")).await.contains("'/x'"));
    assert!(bench.refused("SAMPLING_GENERATE", &with("token_count", "many")).await.contains("token_count"));
    assert!(bench.refused("SAMPLING_GENERATE", &[]).await.contains("instruction"));
}

#[tokio::test]
async fn the_other_commands_answer_too() {
    let bench = bench();
    let beam = bench.ask("BEAM_GENERATE", &[("template_prompt", "p".into())]).await;
    assert_eq!(beam.unwrap(), "5 128 p".into());
    assert_eq!(
        bench.ask("RELOAD_BASE_MODEL", &[("base_model_path", "known".into())]).await.unwrap(),
        "ok".into()
    );
    let config = bench.ask("LLM_CONFIG", &[]).await.unwrap();
    assert_eq!(config.get("base_model_path"), Some(&"known".into()));
    assert_eq!(bench.refused("INDEX_TEXTS", &[]).await, UNSUPPORTED);
}

const UNSUPPORTED: &str = crate::wire::UNSUPPORTED_COMMAND;

#[tokio::test]
async fn what_is_embedded_and_scored_is_by_the_very_model_that_is_asked_for() {
    let bench = bench();
    let service = &bench.service;
    let asked = async |field: &'static str, value: &str| {
        calls::encoder(&*service.encoders, &Value::map([(field, value.into())])).await
    };
    let found = asked("name", "more").await.unwrap();
    let info = calls::encoder_info_of(&found).unwrap();
    assert_eq!((info.identity.as_str(), info.dim, info.tokens_max), ("more@1", 2, 9));
    assert_eq!(asked("identity", "gone@1").await.unwrap(), Value::Nil);
    assert!(asked("name", "gone").await.is_err());

    let texts = || vec!["abc".to_owned()];
    let dim = async |encoder: &str| {
        let arguments = calls::embed_arguments(texts(), Purpose::Passage, encoder);
        let answer = calls::embed(&service.embedder, &*service.encoders, &arguments).await;
        answer.map(|vectors| calls::vectors_of(&vectors).unwrap().dim)
    };
    assert_eq!((dim("fake").await.unwrap(), dim("more@1").await.unwrap()), (1, 2));
    let refused = dim("gone@1").await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable { message } if message.contains("gone@1")), "{refused}");

    let scores = async |reranker: Option<&str>| {
        let arguments = calls::rerank_arguments("q", &texts(), reranker);
        calls::scores_of(&calls::rerank(&service.reranker, &*service.encoders, &arguments).await?)
    };
    assert_eq!(scores(None).await.unwrap(), [103.0]);
    assert_eq!(scores(Some("more")).await.unwrap(), [0.25]);
    assert!(scores(Some("gone")).await.is_err());
}
