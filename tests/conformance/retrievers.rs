//! Retrievers: at most k known chunks, none twice, finite scores, best first; failures of the host handed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::{
    Embed, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, KbSearch, PluginInfo,
    Purpose, Retrieve, Usage,
};
use rag_core::search::{Evidence, Filter, RankedChunk, Retrieval, RetrieveRequest, Turn, Value};
use rag_core::{ErrorCode, Result};
use rag_wasm::RetrieverImports;

use crate::host;
use rag_kit::doubles::{Corpus, HashEmbedder, MemoryKeys, out_of_order};
use rag_kit::filters::{passes, some_filter};
use rag_kit::random::Random;

/// The native reference: the nearest chunks by vector.
struct Nearest {
    info: PluginInfo,
    search: Arc<Corpus>,
    embedder: Arc<HashEmbedder>,
}

#[async_trait]
impl Retrieve for Nearest {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn retrieve(&self, request: RetrieveRequest) -> Result<Retrieval> {
        if request.question.trim().is_empty() {
            return Err(rag_core::Error::invalid("the question is empty"));
        }
        let query = self.embedder.embed(vec![request.question], Purpose::Query).await?;
        let hits = self.search.dense(&query, request.k, request.filter.as_ref()).await?;
        let ranked = (1..).zip(hits).map(|(rank, hit)| RankedChunk {
            evidence: vec![Evidence { arm: "dense".to_owned(), rank, score: hit.score }],
            chunk: hit.chunk,
            score: hit.score,
        });
        Ok(Retrieval { hits: ranked.collect(), ..Retrieval::default() })
    }
}

struct Subject {
    name: String,
    retriever: Arc<dyn Retrieve>,
    search: Arc<Corpus>,
    embedder: Arc<HashEmbedder>,
    /// Whether words are searched for too.
    lexical: bool,
}

fn subjects(chunks: &BTreeMap<String, (String, Vec<(String, Value)>)>) -> Vec<Subject> {
    let made = |id: &str, settings: &str| {
        let search = Arc::new(Corpus { chunks: chunks.clone(), ..Corpus::default() });
        let embedder = Arc::new(HashEmbedder::default());
        let retriever: Arc<dyn Retrieve> = if id == "nearest" {
            let info = PluginInfo {
                id: id.to_owned(),
                version: "0.0.0".to_owned(),
                description: String::new(),
                digest: String::new(),
            };
            Arc::new(Nearest { info, search: search.clone(), embedder: embedder.clone() })
        } else {
            let imports = RetrieverImports {
                search: search.clone(),
                embedder: embedder.clone(),
                reranker: None,
                generator: None,
                kv: Arc::new(MemoryKeys::default()),
            };
            host().retriever(id, settings, imports).unwrap()
        };
        Subject {
            name: format!("{id} {settings}"),
            retriever,
            search,
            embedder,
            lexical: !matches!(id, "nearest" | "retrieve-dense"),
        }
    };
    vec![
        made("nearest", ""),
        made("retrieve-dense", "{}"),
        made("retrieve-dense", r#"{"k": 1000}"#),
        made("retrieve-hybrid", "{}"),
        made("retrieve-hybrid", r#"{"normalise": "min-max", "dense_weight": 0.3, "depth": 3}"#),
        made("retrieve-hybrid", r#"{"fusion": "rank"}"#),
        made("retrieve-hybrid", r#"{"dense_weight": 1}"#),
        made("retrieve-parent", "{}"),
        made("retrieve-parent", r#"{"children": 3, "depth": 3}"#),
        made("retrieve-mmr", "{}"),
        made("retrieve-mmr", r#"{"relevance": 0.2, "depth": 3}"#),
        // Without a language model: the plain question is searched for.
        made("retrieve-multi-query", "{}"),
        made("retrieve-hyde", "{}"),
        made("rewrite-with-history", "{}"),
        made("rewrite-with-history", r#"{"fusion": "rank", "rounds": 1}"#),
    ]
}

fn corpus() -> BTreeMap<String, (String, Vec<(String, Value)>)> {
    let texts = [
        "Debian 稳定版每两年发布一次，安全更新持续五年。",
        "测试版收集将要进入下一个稳定版的软件包。",
        "The unstable branch is where developers upload new packages.",
        "apt install installs a package and what it depends on.",
        "dpkg -l 列出已安装的软件包。",
        "红楼梦的作者是曹雪芹。",
        "The Eiffel tower is 330 metres high and stands in Paris.",
        "埃菲尔铁塔位于巴黎，高三百三十米。",
        "RWKV is a recurrent network that trains like a transformer.",
        "RWKV 模型按时间递推，训练时可以并行。",
        "The tower was built for the world fair of 1889.",
        "知识库由文档切分成的片段组成。",
    ];
    let row = |(number, text): (usize, &str)| {
        let fields = vec![
            ("page".to_owned(), Value::Integer(number as i64 % 4)),
            ("name".to_owned(), Value::Text("a".into())),
        ];
        (format!("chunk-{number:02}"), (text.to_owned(), fields))
    };
    texts.into_iter().enumerate().map(row).collect()
}

fn request(question: &str, k: u32) -> RetrieveRequest {
    RetrieveRequest { question: question.to_owned(), history: vec![], k, filter: None }
}

fn assert_contract(subject: &Subject, filter: Option<&Filter>, k: u32, found: &Retrieval) {
    let name = &subject.name;
    assert!(found.hits.len() <= k as usize, "{name}: {} of {k}", found.hits.len());
    for hit in &found.hits {
        let known = subject.search.chunks.get(&hit.chunk.0);
        assert!(known.is_some_and(|(_, fields)| passes(filter, fields)), "{name}: {}", hit.chunk);
        assert!(hit.score.is_finite() && !hit.evidence.is_empty(), "{name}");
        assert!(
            hit.evidence.iter().all(|e| e.rank >= 1 && e.score.is_finite() && !e.arm.is_empty()),
            "{name}"
        );
    }
    assert!(found.hits.windows(2).all(|pair| pair[0].score >= pair[1].score), "{name}: best first");
    let mut ids: Vec<_> = found.hits.iter().map(|hit| &hit.chunk).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), found.hits.len(), "{name}: no chunk twice");
}

#[tokio::test]
async fn every_retriever_keeps_the_contract() {
    let questions =
        ["Debian 多久发布一次稳定版？", "How high is the tower?", "apt", "完全无关的问题", "?!", "x"];
    for subject in subjects(&corpus()) {
        for question in questions {
            for k in [1, 3, 12, 1_000] {
                let found = subject.retriever.retrieve(request(question, k)).await.unwrap();
                assert_contract(&subject, None, k, &found);
                let again = subject.retriever.retrieve(request(question, k)).await.unwrap();
                assert_eq!(again.hits, found.hits, "{}: twice the same", subject.name);
            }
        }
        for seed in 0..40 {
            let filter = some_filter(&mut Random::new(seed));
            let asked = RetrieveRequest { filter: Some(filter.clone()), ..request(questions[0], 5) };
            let found = subject.retriever.retrieve(asked).await.unwrap();
            assert_contract(&subject, Some(&filter), 5, &found);
        }
    }
}

#[tokio::test]
async fn the_right_chunk_comes_first() {
    for subject in subjects(&corpus()) {
        for (question, best) in [
            ("红楼梦的作者是谁？", "chunk-05"),
            ("Where do developers upload new packages?", "chunk-02"),
            ("哪个命令列出已安装的软件包？", "chunk-04"),
        ] {
            let found = subject.retriever.retrieve(request(question, 3)).await.unwrap();
            assert_eq!(found.hits[0].chunk.0, best, "{}: {question}", subject.name);
        }
    }
}

#[tokio::test]
async fn an_empty_knowledge_base_gives_no_hits_and_an_empty_question_an_error() {
    for subject in subjects(&BTreeMap::new()) {
        let found = subject.retriever.retrieve(request("有什么？", 5)).await.unwrap();
        assert!(found.hits.is_empty(), "{}", subject.name);
        for question in ["", "  \n"] {
            let error = subject.retriever.retrieve(request(question, 5)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput, "{}: {error}", subject.name);
        }
    }
}

#[tokio::test]
async fn dense_returns_three_unless_asked_for_fewer_or_set_otherwise() {
    let all = subjects(&corpus());
    let found =
        async |at: usize, k: u32| all[at].retriever.retrieve(request("Debian", k)).await.unwrap().hits.len();
    assert_eq!((found(1, 10).await, found(1, 2).await, found(2, 10).await), (3, 2, 10));
}

#[tokio::test]
async fn failures_of_the_host_are_handed_on_and_the_next_call_passes() {
    for subject in subjects(&corpus()) {
        // With one arm away the other is used; with the model away there is no dense arm.
        subject.embedder.failing.set(1);
        let found = subject.retriever.retrieve(request("Debian 稳定版", 3)).await;
        subject.embedder.failing.set(0);
        if subject.lexical {
            let found = found.unwrap();
            assert_contract(&subject, None, 3, &found);
            assert!(found.hits.iter().all(|hit| hit.evidence.iter().all(|e| e.arm == "lexical")));
            assert!(found.steps.iter().any(|step| step.detail.contains("out of order")), "the trace says so");
            subject.search.lexical_failing.set(1);
            let found = subject.retriever.retrieve(request("Debian 稳定版", 3)).await.unwrap();
            assert!(found.hits.iter().all(|hit| hit.evidence.iter().all(|e| e.arm == "dense")));
            subject.search.dense_failing.set(1);
            subject.search.lexical_failing.set(1);
            let error = subject.retriever.retrieve(request("Debian 稳定版", 3)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unavailable, "{}: {error}", subject.name);
        } else {
            assert_eq!(found.unwrap_err().code(), ErrorCode::Unavailable, "{}", subject.name);
        }
        subject.search.dense_failing.set(0);
        subject.search.lexical_failing.set(0);
        subject.retriever.retrieve(request("Debian 稳定版", 3)).await.unwrap();
    }
}

#[tokio::test]
async fn hybrid_shows_both_arms_and_its_steps() {
    let all = subjects(&corpus());
    let found = all[3].retriever.retrieve(request("埃菲尔铁塔有多高？", 5)).await.unwrap();
    let best = &found.hits[0];
    assert_eq!(best.chunk.0, "chunk-07");
    let arms: Vec<&str> = best.evidence.iter().map(|evidence| evidence.arm.as_str()).collect();
    assert_eq!(arms, ["dense", "lexical"]);
    let steps: Vec<&str> = found.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["dense", "lexical", "fuse"]);
}

#[tokio::test]
async fn hybrid_searches_for_a_follow_up_together_with_what_it_follows() {
    let all = subjects(&corpus());
    let subject = &all[3];
    let turn = |question: &str| Turn { question: question.to_owned(), answer: "……".to_owned() };
    let history = vec![turn("红楼梦的作者是谁？"), turn("埃菲尔铁塔在哪里？")];
    let asked = RetrieveRequest { history: history.clone(), ..request("它有多高？", 3) };
    let found = subject.retriever.retrieve(asked).await.unwrap();
    assert_eq!(found.rewritten.as_deref(), Some("埃菲尔铁塔在哪里？ 它有多高？"));
    assert_eq!(*subject.search.searched.lock().unwrap(), "埃菲尔铁塔在哪里？ 它有多高？");
    assert_eq!(found.hits[0].chunk.0, "chunk-07");
    assert_eq!(found.steps[0].name, "follow-up");
    let asked = RetrieveRequest { history, ..request("Which command installs a package?", 3) };
    assert_eq!(subject.retriever.retrieve(asked).await.unwrap().rewritten, None);
}

/// A language model that always says the same, or is out of order.
struct Says(Option<&'static str>);

#[async_trait]
impl Generate for Says {
    fn identity(&self) -> String {
        "says".to_owned()
    }
    fn demonstration(&self) -> bool {
        true
    }
    fn count_tokens(&self, text: &str) -> u32 {
        text.len() as u32
    }
    async fn generate(&self, _: GenerateRequest) -> Result<GenerationStream> {
        let text = self.0.ok_or_else(out_of_order)?.to_owned();
        let done = GenerationEvent::Done { reason: FinishReason::Stop, usage: Usage::default() };
        Ok(Box::pin(futures_util::stream::iter([Ok(GenerationEvent::Text(text)), Ok(done)])))
    }
}

#[tokio::test]
async fn a_language_model_is_asked_and_not_trusted() {
    let history =
        vec![Turn { question: "Debian 是什么？".to_owned(), answer: "一种系统。".to_owned() }];
    for (id, settings, step) in [
        ("retrieve-multi-query", "{}", "wordings"),
        ("retrieve-multi-query", r#"{"history": "model", "queries": 5, "weight": 1}"#, "rewrite"),
        ("retrieve-hyde", "{}", "guess"),
        ("retrieve-hyde", r#"{"weight": 1}"#, "guess"),
        ("rewrite-with-history", "{}", "rewrite"),
    ] {
        for (said, searched) in [
            (Some("1. 稳定版何时发布\n2. Debian release cycle"), true),
            (Some(""), false),
            (Some("！？……\n\n---"), false),
            (Some("\u{fffd}\u{0}\u{7f} 哈哈哈哈哈哈"), true),
            (None, false),
        ] {
            let search = Arc::new(Corpus { chunks: corpus(), ..Corpus::default() });
            let embedder = Arc::new(HashEmbedder::default());
            let imports = RetrieverImports {
                search: search.clone(),
                embedder: embedder.clone(),
                reranker: None,
                generator: Some(Arc::new(Says(said))),
                kv: Arc::new(MemoryKeys::default()),
            };
            let retriever = host().retriever(id, settings, imports).unwrap();
            let name = format!("{id} {settings} {said:?}");
            let subject = Subject { name, retriever, search, embedder, lexical: true };
            let asked = RetrieveRequest {
                history: history.clone(),
                ..request("Debian 多久发布一次稳定版？", 5)
            };
            let found = subject.retriever.retrieve(asked).await.unwrap();
            assert_contract(&subject, None, 5, &found);
            assert!(!found.hits.is_empty(), "{}", subject.name);
            assert_eq!(found.steps[0].name, step, "{}", subject.name);
            let more = found.steps.iter().any(|step| matches!(step.name.as_str(), "join" | "aim"));
            assert!(searched || !more, "{}: {:?}", subject.name, found.steps);
            if !searched {
                let plain =
                    found.hits[0].evidence.iter().all(|e| matches!(e.arm.as_str(), "dense" | "lexical"));
                assert!(plain && found.rewritten.is_none(), "{}", subject.name);
            }
        }
    }
}
