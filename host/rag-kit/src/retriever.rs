//! Retrievers: at most k known chunks, none twice, finite scores, best first; filters kept; failures handed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use rag_core::ports::Retrieve;
use rag_core::search::{Filter, Retrieval, RetrieveRequest, Value};
use rag_core::{ErrorCode, Result};

use crate::doubles::{Corpus, HashEmbedder};
use crate::filters::{Fields, passes, some_filter};
use crate::random::Random;
use crate::{Checked, Report, UNKNOWN_SETTINGS, during, ensure, refused_by_name, typed};

const QUESTIONS: [&str; 5] =
    ["Debian 多久发布一次稳定版？", "How high is the tower?", "apt", "完全无关的问题", "?!"];
const KS: [u32; 4] = [1, 3, 12, 1_000];
const FILTERS: u64 = 20;

/// The host's side of one retriever.
#[derive(Debug, Clone)]
pub struct Sides {
    pub search: Arc<Corpus>,
    pub embedder: Arc<HashEmbedder>,
}

/// Checks a retriever; `make` makes it with settings as JSON over a knowledge base in memory.
pub async fn check(make: impl Fn(&str, Sides) -> Result<Arc<dyn Retrieve>>) -> Report {
    let sides = |chunks| Sides {
        search: Arc::new(Corpus { chunks, ..Corpus::default() }),
        embedder: Arc::new(HashEmbedder::default()),
    };
    let mut report = Report::default();
    let full = sides(corpus());
    let retriever = match make("{}", full.clone()) {
        Ok(retriever) => retriever,
        Err(error) => {
            let failed = async { Err(error.to_string()) };
            report.check("retriever.made", "it is made with its default settings", failed).await;
            return report;
        }
    };
    let about = "at most k known chunks, none twice, finite scores, best first, twice the same";
    report.check("retriever.hits", about, hits(&retriever, &full)).await;
    report.check("retriever.filter", "a filter is kept", filters(&retriever, &full)).await;
    let empty = async {
        let empty = during("made", make("{}", sides(BTreeMap::new())))?;
        let found = during("an empty knowledge base", empty.retrieve(request("有什么？", 5)).await)?;
        ensure(found.hits.is_empty(), || "an empty knowledge base gave hits".to_owned())
    };
    report.check("retriever.empty", "an empty knowledge base gives no hits and no error", empty).await;
    report.check("retriever.question", "an empty question is invalid-input", no_question(&retriever)).await;
    let about = "a host that fails is handed on or done without, and the next call passes";
    report.check("retriever.host", about, failing(&retriever, &full)).await;
    let unknown = async {
        match make(UNKNOWN_SETTINGS, full.clone()) {
            Ok(retriever) => refused_by_name(retriever.retrieve(request("apt", 3)).await),
            refused => refused_by_name(refused.map(|_| ())),
        }
    };
    report.check("retriever.settings", "an unknown setting is refused by its name", unknown).await;
    report
}

fn request(question: &str, k: u32) -> RetrieveRequest {
    RetrieveRequest { question: question.to_owned(), history: vec![], k, filter: None }
}

/// Eight chunks in Chinese and English, with fields.
pub fn corpus() -> BTreeMap<String, (String, Fields)> {
    let texts = [
        "Debian 稳定版每两年发布一次，安全更新持续五年。",
        "测试版收集将要进入下一个稳定版的软件包。",
        "The unstable branch is where developers upload new packages.",
        "apt install installs a package and what it depends on.",
        "红楼梦的作者是曹雪芹。",
        "The Eiffel tower is 330 metres high and stands in Paris.",
        "埃菲尔铁塔位于巴黎，高三百三十米。",
        "知识库由文档切分成的片段组成。",
    ];
    let row = |(number, text): (usize, &&str)| {
        let page = Value::Integer((number % 4) as i64);
        let name = Value::Text(["a", "b", "中文"][number % 3].to_owned());
        let fields = vec![("page".to_owned(), page), ("name".to_owned(), name)];
        (format!("chunk-{number:02}"), ((*text).to_owned(), fields))
    };
    texts.iter().enumerate().map(row).collect()
}

fn contract(sides: &Sides, filter: Option<&Filter>, k: u32, found: &Retrieval) -> Checked {
    ensure(found.hits.len() <= k as usize, || format!("{} hits for k = {k}", found.hits.len()))?;
    let mut seen = std::collections::BTreeSet::new();
    let mut best = f32::INFINITY;
    for hit in &found.hits {
        let id = &hit.chunk.0;
        let Some((_, fields)) = sides.search.chunks.get(id) else {
            return Err(format!("'{id}' is no chunk of this knowledge base"));
        };
        ensure(seen.insert(id.clone()), || format!("'{id}' comes twice"))?;
        ensure(hit.score.is_finite() && hit.score <= best, || {
            format!("'{id}' with {} comes after {best}", hit.score)
        })?;
        ensure(passes(filter, fields), || format!("'{id}' does not pass the filter"))?;
        best = hit.score;
    }
    Ok(())
}

async fn hits(retriever: &Arc<dyn Retrieve>, sides: &Sides) -> Checked {
    let mut any = false;
    for question in QUESTIONS {
        for k in KS {
            let what = format!("'{question}', k = {k}");
            let found = during(&what, retriever.retrieve(request(question, k)).await)?;
            contract(sides, None, k, &found).map_err(|why| format!("{what}: {why}"))?;
            let again = during(&what, retriever.retrieve(request(question, k)).await)?;
            ensure(again.hits == found.hits, || format!("{what}: other hits the second time"))?;
            any |= !found.hits.is_empty();
        }
    }
    ensure(any, || "no question had a hit".to_owned())
}

async fn filters(retriever: &Arc<dyn Retrieve>, sides: &Sides) -> Checked {
    for seed in 0..FILTERS {
        let filter = some_filter(&mut Random::new(seed));
        let asked = RetrieveRequest { filter: Some(filter.clone()), ..request(QUESTIONS[0], 5) };
        let found = during(format!("filter {seed}"), retriever.retrieve(asked).await)?;
        contract(sides, Some(&filter), 5, &found).map_err(|why| format!("filter {filter:?}: {why}"))?;
    }
    Ok(())
}

async fn no_question(retriever: &Arc<dyn Retrieve>) -> Checked {
    for question in ["", "  \n"] {
        match retriever.retrieve(request(question, 5)).await {
            Ok(_) => return Err("an empty question was answered".to_owned()),
            Err(error) => ensure(error.code() == ErrorCode::InvalidInput, || error.to_string())?,
        }
    }
    Ok(())
}

async fn failing(retriever: &Arc<dyn Retrieve>, sides: &Sides) -> Checked {
    for (what, failing) in [
        ("the embedding model", &sides.embedder.failing),
        ("the search by vector", &sides.search.dense_failing),
        ("the search by words", &sides.search.lexical_failing),
    ] {
        failing.set(1);
        let outcome = retriever.retrieve(request("Debian 稳定版", 3)).await;
        let asked = failing.calls() > 0;
        failing.set(0);
        match outcome {
            Ok(found) => contract(sides, None, 3, &found).map_err(|why| format!("without {what}: {why}"))?,
            Err(error) => ensure(asked && typed(&error) && error.code() == ErrorCode::Unavailable, || {
                format!("{what} failed, and the error is not unavailable: {error}")
            })?,
        }
        during(format!("after {what} failed"), retriever.retrieve(request("Debian", 3)).await)?;
    }
    Ok(())
}
