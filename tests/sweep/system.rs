//! The flows on a real store with small native parts, every port behind one fault.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{
    Block, BlockKind, ChunkId, ChunkSpan, Location, ParsedSummary, Section, Span, Vectors,
};
use rag_core::encoders::{encoder_of, reranker_of};
use rag_core::generations::Strikes;
use rag_core::kb::{EncoderChoice, Kb, PluginChoice};
use rag_core::ports::{
    Binding, Bindings, Blob, BlobStore, Catalog, Chunk, Embed, Encoders, FinishReason, Generate,
    GenerateRequest, GenerationEvent, GenerationStream, KbSearch, NoRegistry, Parse, ParseSession,
    PluginInfo, Purpose, Records, Rerank, Retrieve, StoreBatch, StoredVectors, Usage, VectorCollection,
    VectorIndex, VectorStore,
};
use rag_core::relevance::{Floor, RelevanceMin};
use rag_core::search::{Evidence, Filter, Hit, RankedChunk, Retrieval, RetrieveRequest};
use rag_core::{Error, Rag, Result, kb_search::BoundSearch};
use rag_store::{Store, StoreConfig};

use crate::fault::{Fault, Faulty};

/// The encoders that there are, each with the dimension of its vectors.
const ENCODERS: [(&str, usize); 3] = [("toy", 16), ("wide", 24), ("other", 16)];

/// Which encoder is for all, and which are not to be had.
#[derive(Clone, Default)]
pub struct Models {
    pub for_all: Option<&'static str>,
    pub gone: Vec<&'static str>,
}

/// The system on a data folder; every port call counts against `fault`.
pub fn open(dir: &Path, fault: &Arc<Fault>) -> (Rag, Arc<Store>) {
    open_with(dir, fault, Models::default())
}

/// Likewise with other models.
pub fn open_with(dir: &Path, fault: &Arc<Fault>, models: Models) -> (Rag, Arc<Store>) {
    let store = Store::open(StoreConfig { disk_free_min_bytes: 0, ..StoreConfig::new(dir) })
        .expect("the store opens");
    let catalog: Arc<dyn Catalog> = store.clone();
    let blobs: Arc<dyn BlobStore> = store.clone();
    let records: Arc<dyn Records> = store.clone();
    let encoders = ToyEncoders { models, fault: fault.clone() };
    let embedder = encoders.named(encoders.models.for_all.unwrap_or("toy")).expect("an encoder");
    let catalog: Arc<dyn Catalog> = Arc::new(Faulty { inner: catalog, fault: fault.clone() });
    let bindings =
        ToyBindings { store: store.clone(), catalog: catalog.clone(), encoders, fault: fault.clone() };
    let rag = Rag {
        catalog,
        blobs: Arc::new(Faulty { inner: blobs, fault: fault.clone() }),
        bindings: Arc::new(bindings),
        embedder,
        reranker: Arc::new(Toy::default()),
        generator: Arc::new(Toy::default()),
        keys: store.clone(),
        records: Arc::new(Faulty { inner: records, fault: fault.clone() }),
        outside: rag_core::ports::Outside::none(),
        archives: Arc::new(rag_core::ports::NoUnpack),
        bundles: Arc::new(rag_core::ports::NoBundles),
        models: Arc::new(NoRegistry),
        strikes: Strikes::default(),
        wake_jobs: Box::new(|| {}),
        pause: Box::new(|_| Box::pin(std::future::ready(()))),
    };
    (rag, store)
}

fn info(id: &str) -> PluginInfo {
    PluginInfo { id: id.into(), version: "1.0.0".into(), description: "toy".into(), digest: id.into() }
}

struct ToyBindings {
    store: Arc<Store>,
    catalog: Arc<dyn Catalog>,
    encoders: ToyEncoders,
    fault: Arc<Fault>,
}

struct ToyEncoders {
    models: Models,
    fault: Arc<Fault>,
}

impl ToyEncoders {
    fn named(&self, name: &str) -> Option<Arc<dyn Embed>> {
        let found =
            ENCODERS.into_iter().find(|(known, _)| *known == name && !self.models.gone.contains(known));
        let toy: Arc<dyn Embed> = found.map(|(name, dim)| Arc::new(Toy { name, dim }))?;
        Some(Arc::new(Faulty { inner: toy, fault: self.fault.clone() }))
    }
}

#[async_trait]
impl Encoders for ToyEncoders {
    async fn encoder(&self, name: Option<&str>) -> Result<Arc<dyn Embed>> {
        let name = name.or(self.models.for_all).unwrap_or("toy");
        self.named(name).ok_or_else(|| Error::NotFound { what: "encoder", name: name.to_owned() })
    }
    async fn of_identity(&self, identity: &str) -> Result<Option<Arc<dyn Embed>>> {
        Ok(self.named(identity))
    }
    async fn reranker(&self, name: Option<&str>) -> Result<Arc<dyn Rerank>> {
        match name {
            None => Ok(Arc::new(Toy::default())),
            Some("wide") => Ok(Arc::new(Toy { name: "wide", dim: 24 })),
            Some(other) => Err(Error::NotFound { what: "reranker", name: other.to_owned() }),
        }
    }
}

#[async_trait]
impl Bindings for ToyBindings {
    async fn bind(&self, kb: &Kb) -> Result<Arc<Binding>> {
        let embedder = encoder_of(&self.encoders, kb).await;
        let index = self.store.vector_index(&kb.name);
        let store: Arc<dyn VectorStore> = Arc::new(ToyStore { index: index.clone(), info: info("store") });
        let store: Arc<dyn VectorStore> = Arc::new(Faulty { inner: store, fault: self.fault.clone() });
        let search = BoundSearch {
            kb: kb.name.clone(),
            collection: kb.collection.clone(),
            catalog: self.catalog.clone(),
            store: store.clone(),
            index: Some(index),
        };
        let parser: Arc<dyn Parse> =
            Arc::new(ToyParser { info: info("parser"), accepts: vec!["text/plain".into()] });
        let chunker: Arc<dyn Chunk> = Arc::new(ToyChunker(info("chunker")));
        Ok(Arc::new(Binding {
            kb: kb.clone(),
            parsers: vec![Arc::new(Faulty { inner: parser, fault: self.fault.clone() })],
            chunker: Arc::new(Faulty { inner: chunker, fault: self.fault.clone() }),
            store,
            retriever: Arc::new(ToyRetriever { search, embedder: embedder.clone(), info: info("retriever") }),
            embedder,
            reranker: kb.settings.rerank.then_some(reranker_of(&self.encoders, kb).await),
            relevance_min: RelevanceMin { rerank: Floor::same(-1.0), dense: Floor::same(-1.0) },
        }))
    }

    async fn store_of(&self, kb: &Kb, _: &PluginChoice, _: &str) -> Result<Arc<dyn VectorStore>> {
        Ok(self.bind(kb).await?.store.clone())
    }

    async fn pin(&self, _: &str, choice: &PluginChoice) -> Result<PluginChoice> {
        Ok(choice.clone())
    }

    async fn pin_encoder(&self, name: &str) -> Result<EncoderChoice> {
        let identity = self.encoders.encoder(Some(name)).await?.identity().to_owned();
        Ok(EncoderChoice { name: name.to_owned(), identity: Some(identity) })
    }

    async fn check_reranker(&self, name: &str) -> Result<()> {
        self.encoders.reranker(Some(name)).await.map(|_| ())
    }

    async fn install(&self, _: Vec<u8>) -> Result<(&'static str, PluginInfo)> {
        Err(Error::invalid("toys are not installed"))
    }

    async fn remove(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn retire(&self, _: &Kb, _: &str) -> bool {
        true
    }

    fn vectors_of(&self, kb: &Kb) -> Option<Arc<dyn VectorIndex>> {
        Some(self.store.vector_index(&kb.name))
    }

    fn installed(&self) -> Vec<(&'static str, PluginInfo)> {
        Vec::new()
    }

    fn asks(&self, _: &str) -> Vec<rag_core::ports::PluginAsk> {
        Vec::new()
    }
}

struct ToyParser {
    info: PluginInfo,
    accepts: Vec<String>,
}

/// A paragraph a call.
struct ToySession(std::vec::IntoIter<String>);

#[async_trait]
impl Parse for ToyParser {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    fn accepts(&self) -> &[String] {
        &self.accepts
    }
    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>> {
        let bytes = blob.read_at(0, 1 << 20).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let paragraphs: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
        Ok(Box::new(ToySession(paragraphs.into_iter())))
    }
}

#[async_trait]
impl ParseSession for ToySession {
    async fn next(&mut self, _: u32) -> Result<Option<Vec<Block>>> {
        let block =
            |text| Block { kind: BlockKind::Paragraph, level: 0, text, location: Location::default() };
        Ok(self.0.next().map(|text| vec![block(text)]))
    }
    async fn summary(&mut self) -> Result<ParsedSummary> {
        Ok(ParsedSummary::default())
    }
}

struct ToyChunker(PluginInfo);

#[async_trait]
impl Chunk for ToyChunker {
    fn info(&self) -> &PluginInfo {
        &self.0
    }
    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
        let chunk = |span: Span| ChunkSpan { span, parent: None, context: None };
        Ok(section.blocks.iter().map(|block| chunk(block.span)).collect())
    }
}

struct ToyStore {
    index: Arc<dyn VectorIndex>,
    info: PluginInfo,
}

#[async_trait]
impl VectorStore for ToyStore {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn create(&self, collection: &VectorCollection) -> Result<()> {
        self.index.create(collection).await
    }
    async fn drop_collection(&self, name: &str) -> Result<()> {
        self.index.drop_collection(name).await
    }
    async fn list(&self) -> Result<Vec<VectorCollection>> {
        self.index.list().await
    }
    async fn count(&self, name: &str) -> Result<u64> {
        self.index.count(name).await
    }
    async fn upsert(&self, name: &str, batch: StoreBatch) -> Result<()> {
        self.index.upsert(name, StoredVectors { ids: batch.ids, vectors: batch.vectors }, batch.fields).await
    }
    async fn delete(&self, name: &str, ids: &[ChunkId]) -> Result<()> {
        self.index.delete(name, ids).await
    }
    async fn query(
        &self,
        name: &str,
        queries: &Vectors,
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.index.query(name, queries, k, filter).await
    }
    async fn ping(&self) -> Result<String> {
        Ok("toy".into())
    }
}

struct ToyRetriever {
    search: BoundSearch,
    embedder: Arc<dyn Embed>,
    info: PluginInfo,
}

#[async_trait]
impl Retrieve for ToyRetriever {
    fn info(&self) -> &PluginInfo {
        &self.info
    }
    async fn retrieve(&self, request: RetrieveRequest) -> Result<Retrieval> {
        let query = self.embedder.embed(vec![request.question.clone()], Purpose::Query).await?;
        let dense = self.search.dense(&query, request.k, request.filter.as_ref()).await?;
        self.search.lexical(&request.question, request.k, request.filter.as_ref()).await?;
        let ranked = |(rank, hit): (u32, Hit)| RankedChunk {
            chunk: hit.chunk,
            score: hit.score,
            evidence: vec![Evidence { arm: "dense".into(), rank, score: hit.score }],
        };
        Ok(Retrieval { hits: (1..).zip(dense).map(ranked).collect(), ..Retrieval::default() })
    }
}

/// Models that need no weights: letters are counted, and the answer is the prompt's length.
struct Toy {
    name: &'static str,
    dim: usize,
}

impl Default for Toy {
    fn default() -> Self {
        Toy { name: "toy", dim: 16 }
    }
}

#[async_trait]
impl Embed for Toy {
    fn identity(&self) -> &str {
        self.name
    }
    fn dim(&self) -> usize {
        self.dim
    }
    fn tokens_max(&self) -> usize {
        512
    }
    fn count_tokens(&self, texts: &[String]) -> Vec<u32> {
        texts.iter().map(|text| text.chars().count() as u32).collect()
    }
    async fn embed(&self, texts: Vec<String>, _: Purpose) -> Result<Vectors> {
        let dim = self.dim;
        let mut data = Vec::with_capacity(texts.len() * dim);
        for text in &texts {
            let mut row = vec![0.01_f32; dim];
            text.chars().for_each(|c| row[c as usize % dim] += 1.0);
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            data.extend(row.iter().map(|x| x / norm));
        }
        Ok(Vectors { dim, data })
    }
}

#[async_trait]
impl Rerank for Toy {
    fn identity(&self) -> &str {
        self.name
    }
    async fn rerank(&self, _: &str, passages: &[String]) -> Result<Vec<f32>> {
        Ok(passages.iter().map(|text| 1.0 / text.len() as f32).collect())
    }
}

#[async_trait]
impl Generate for Toy {
    fn identity(&self) -> String {
        "toy".to_owned()
    }
    fn demonstration(&self) -> bool {
        true
    }
    fn count_tokens(&self, text: &str) -> u32 {
        text.chars().count() as u32
    }
    async fn generate(&self, request: GenerateRequest) -> Result<GenerationStream> {
        let done = GenerationEvent::Done { reason: FinishReason::Stop, usage: Usage::default() };
        let events = [GenerationEvent::Text(request.prompt.len().to_string()), done];
        Ok(Box::pin(futures_util::stream::iter(events.map(Ok))))
    }
}
