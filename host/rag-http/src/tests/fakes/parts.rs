//! Plugins and models in memory.

use rag_core::kb::EncoderChoice;
use rag_core::relevance::{Floor, RelevanceMin};

use super::*;

/// Parser, chunker and retriever of every knowledge base: paragraphs of UTF-8, found by shared words.
pub(crate) struct Plugins(pub(crate) Arc<Fake>);

struct Part {
    fake: Arc<Fake>,
    kb: KbName,
    info: PluginInfo,
    accepts: Vec<String>,
}

#[async_trait]
impl Bindings for Plugins {
    async fn bind(&self, kb: &Kb) -> Result<Arc<Binding>> {
        let settings = &kb.settings;
        for choice in [&settings.chunker, &settings.store, &settings.retriever] {
            if choice.id.contains("missing") {
                return Err(missing("plugin", &choice.id));
            }
        }
        let accepts = vec!["text/plain".to_owned(), "text/markdown".to_owned()];
        let part = |id| {
            Arc::new(Part {
                fake: self.0.clone(),
                kb: kb.name.clone(),
                info: info(id),
                accepts: accepts.clone(),
            })
        };
        Ok(Arc::new(Binding {
            kb: kb.clone(),
            parsers: vec![part("parse-text")],
            chunker: part("chunk-sentence"),
            store: part("store-local"),
            retriever: part("retrieve-hybrid"),
            embedder: Arc::new(Models(self.0.clone())),
            reranker: Some(Arc::new(Models(self.0.clone()))),
            relevance_min: RelevanceMin { rerank: Floor::same(1.0), dense: Floor::same(0.5) },
        }))
    }
    async fn store_of(&self, kb: &Kb, _: &PluginChoice, _: &str) -> Result<Arc<dyn VectorStore>> {
        Ok(self.bind(kb).await?.store.clone())
    }
    async fn pin(&self, _: &str, choice: &PluginChoice) -> Result<PluginChoice> {
        if choice.id.contains("missing") {
            return Err(missing("plugin", &choice.id));
        }
        Ok(choice.clone())
    }
    async fn pin_encoder(&self, name: &str) -> Result<EncoderChoice> {
        match name.contains("missing") {
            true => Err(missing("encoder", name)),
            false => Ok(EncoderChoice { name: name.to_owned(), identity: Some(format!("{name}@1")) }),
        }
    }
    async fn check_reranker(&self, name: &str) -> Result<()> {
        match name.contains("missing") {
            true => Err(missing("reranker", name)),
            false => Ok(()),
        }
    }
    async fn install(&self, component: Vec<u8>) -> Result<(&'static str, PluginInfo)> {
        match String::from_utf8(component) {
            Ok(id) if !id.is_empty() => Ok(("chunker", info(&id))),
            _ => Err(Error::invalid("it is no component")),
        }
    }
    async fn remove(&self, digest: &str) -> Result<()> {
        Err(missing("plugin", digest))
    }
    fn retire(&self, _: &Kb, _: &str) -> bool {
        true
    }
    fn installed(&self) -> Vec<(&'static str, PluginInfo)> {
        vec![("parser", info("parse-text")), ("retriever", info("retrieve-hybrid"))]
    }
    fn asks(&self, plugin: &str) -> Vec<PluginAsk> {
        let asks: &[&str] = if plugin == "retrieve-hybrid" { &["log", "search"] } else { &["log"] };
        let mut asks: Vec<PluginAsk> = asks.iter().map(|ask| PluginAsk::whole(*ask)).collect();
        if plugin == "retrieve-hybrid" {
            let only = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
            asks.push(PluginAsk { interface: "http".to_owned(), only });
        }
        asks
    }
    fn settings_schema(&self, _: &str) -> Option<String> {
        Some(r#"{"properties":{"mode":{"enum":["a","b"]}}}"#.to_owned())
    }
}

struct Session(Option<String>);

#[async_trait]
impl Parse for Part {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    fn accepts(&self) -> &[String] {
        &self.accepts
    }
    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>> {
        let bytes = blob.read_at(0, u32::MAX).await?;
        let text =
            String::from_utf8(bytes.to_vec()).map_err(|_| Error::invalid("the document is not UTF-8"))?;
        Ok(Box::new(Session(Some(text))))
    }
}

#[async_trait]
impl ParseSession for Session {
    async fn next(&mut self, _: u32) -> Result<Option<Vec<Block>>> {
        let block = |text: &str| Block {
            kind: if text.starts_with("# ") { BlockKind::Heading } else { BlockKind::Paragraph },
            level: u8::from(text.starts_with("# ")),
            text: text.trim_start_matches("# ").to_owned(),
            location: Location::default(),
        };
        Ok(self
            .0
            .take()
            .map(|text| text.split("\n\n").map(str::trim).filter(|t| !t.is_empty()).map(block).collect()))
    }
    async fn summary(&mut self) -> Result<ParsedSummary> {
        Ok(ParsedSummary::default())
    }
}

#[async_trait]
impl rag_core::ports::Chunk for Part {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
        let spans = section.blocks.iter().filter(|block| block.kind != BlockKind::Heading);
        Ok(spans.map(|block| ChunkSpan { span: block.span, parent: None, context: None }).collect())
    }
}

#[async_trait]
impl VectorStore for Part {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn create(&self, _: &VectorCollection) -> Result<()> {
        Ok(())
    }
    async fn drop_collection(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        Ok(Vec::new())
    }
    async fn count(&self, _: &str) -> Result<u64> {
        Ok(0)
    }
    async fn upsert(&self, _: &str, _: StoreBatch) -> Result<()> {
        Ok(())
    }
    async fn delete(&self, _: &str, _: &[ChunkId]) -> Result<()> {
        Ok(())
    }
    async fn query(&self, _: &str, queries: &Vectors, _: u32, _: Option<&Filter>) -> Result<Vec<Vec<Hit>>> {
        Ok(vec![Vec::new(); queries.rows()])
    }
    async fn ping(&self) -> Result<String> {
        Ok("1".into())
    }
}

#[async_trait]
impl Retrieve for Part {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn retrieve(&self, request: RetrieveRequest) -> Result<Retrieval> {
        let kept = self.fake.kept();
        let own =
            |owner: &DocumentId| kept.documents.get(owner).is_some_and(|document| document.kb == self.kb);
        let words: Vec<&str> =
            request.question.split([' ', '?', '？', '，']).filter(|w| w.len() > 3).collect();
        let matching = kept
            .chunks
            .iter()
            .filter(|(owner, chunk)| own(owner) && words.iter().any(|word| chunk.text.contains(word)));
        let hits = (1_u32..).zip(matching).take(request.k as usize).map(|(rank, (_, chunk))| RankedChunk {
            chunk: chunk.id.clone(),
            score: 1.0 / rank as f32,
            evidence: vec![Evidence { arm: "dense".into(), rank, score: 0.9 }],
        });
        let steps = vec![TraceStep { name: "words".into(), detail: words.join(" "), millis: 0 }];
        Ok(Retrieval { hits: hits.collect(), steps, rewritten: None })
    }
}

/// All three models. Their vectors, scores and words follow from the text alone.
pub(crate) struct Models(pub(crate) Arc<Fake>);

#[async_trait]
impl Embed for Models {
    fn identity(&self) -> &str {
        "fake-embedder@01"
    }
    fn dim(&self) -> usize {
        2
    }
    fn tokens_max(&self) -> usize {
        512
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| text.chars().count() as u32).collect()
    }
    async fn embed(&self, texts: Vec<String>, purpose: Purpose) -> Result<Vectors> {
        if texts.iter().any(|text| text.contains("OFFLINE")) {
            return Err(Error::Unavailable { message: "the encoder is offline".to_owned() });
        }
        if purpose == Purpose::Passage {
            self.0.kept().embedded += texts.len();
        }
        let second = if purpose == Purpose::Query { 1.0 } else { 0.5 };
        let data = texts.iter().flat_map(|text| [text.len() as f32, second]).collect();
        Ok(Vectors { dim: 2, data })
    }
}

#[async_trait]
impl Rerank for Models {
    fn identity(&self) -> &str {
        "fake-reranker"
    }
    async fn rerank(&self, query: &str, passages: &[String]) -> Result<Vec<f32>> {
        let shared = |text: &String| query.chars().filter(|c| text.contains(*c)).count() as f32;
        Ok(passages.iter().map(shared).collect())
    }
}

#[async_trait]
impl Generate for Models {
    fn identity(&self) -> String {
        "fake-rwkv".to_owned()
    }
    fn demonstration(&self) -> bool {
        true
    }
    fn count_tokens(&self, text: &str) -> u32 {
        text.chars().count() as u32
    }
    /// ` Paris is`, ` the answer.` and the end. A prompt with `ENDLESS` says `more` for ever, one with `SILENT` says
    /// one word and then nothing, one with `BREAKS` fails after a word.
    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        let prompt = request.prompt.clone();
        self.0.prompts.lock().unwrap().push(request);
        if prompt.contains("BUSY") {
            return Err(Error::Busy { what: "the generator", limit: 4 });
        }
        let open = Open::new(&self.0.generations);
        let text = |text: &str| Ok(GenerationEvent::Text(text.to_owned()));
        let done = GenerationEvent::Done {
            reason: FinishReason::Stop,
            usage: Usage { prompt_tokens: 7, output_tokens: 5 },
        };
        let events: GenerationStream = if prompt.contains("ENDLESS") {
            Box::pin(stream::unfold((), move |()| async move {
                tokio::task::yield_now().await;
                Some((Ok(GenerationEvent::Text("more ".into())), ()))
            }))
        } else if prompt.contains("SILENT") {
            Box::pin(stream::iter([text(" word")]).chain(stream::pending()))
        } else if prompt.contains("BREAKS") {
            Box::pin(stream::iter([text(" word"), Err(Error::internal("the secret reason"))]))
        } else {
            Box::pin(stream::iter([text(" "), text(" Paris is"), text(" the answer."), Ok(done)]))
        };
        Ok(Box::pin(events.inspect(move |_| {
            let _held = &open;
        })))
    }
}
