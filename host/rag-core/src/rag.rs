//! The whole system behind one door: what the HTTP API, the command line and the services call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::ask::{self, Answering, AskRequest};
use crate::curate;
use crate::document::{BlockKind, BlockSpan, ChunkId, DocumentId, Section, Span};
use crate::error::{Error, ErrorCode, Result};
use crate::evaluate;
use crate::generations::{Strikes, SwapRequest};
use crate::ingest;
use crate::kb::{Kb, KbName, KbSettings, PluginChoice};
use crate::limits;
use crate::media;
use crate::ports::{
    Binding, Bindings, BlobStore, BlobWriter, Bundles, Catalog, Embed, Generate, GenerationState,
    IngestSource, Job, JobId, JobKind, JobState, Keys, ModelRegistry, Origin, Outside, Records, Rerank, Run,
    RunSettings, Stored, Unpack,
};
use crate::prompt;
use crate::recall::{self, Recall, SearchRequest};
use crate::search::{Filter, RetrieveRequest};

/// Waits without blocking the thread; given by the runtime, which this crate does not know.
pub type Pause = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Every port that the flows use.
pub struct Rag {
    pub catalog: Arc<dyn Catalog>,
    pub blobs: Arc<dyn BlobStore>,
    pub bindings: Arc<dyn Bindings>,
    /// For knowledge bases that choose none; likewise the reranker.
    pub embedder: Arc<dyn Embed>,
    pub reranker: Arc<dyn Rerank>,
    pub generator: Arc<dyn Generate>,
    pub keys: Arc<dyn Keys>,
    pub records: Arc<dyn Records>,
    pub models: Arc<dyn ModelRegistry>,
    pub outside: Outside,
    pub archives: Arc<dyn Unpack>,
    pub bundles: Arc<dyn Bundles>,
    pub strikes: Strikes,
    /// Tells the job loop that there is work.
    pub wake_jobs: Box<dyn Fn() + Send + Sync>,
    pub pause: Pause,
}

impl std::fmt::Debug for Rag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rag").field("generator", &self.generator.identity()).finish_non_exhaustive()
    }
}

impl Rag {
    /// Creates a knowledge base; its plugins must be installed and accept their settings.
    pub async fn create_kb(&self, name: &str, settings: Option<KbSettings>) -> Result<Kb> {
        let name = KbName::parse(name)?;
        let settings = self.checked(&name, settings.unwrap_or_default()).await?;
        self.catalog.create_kb(&name, &settings).await
    }

    /// Settings for a new knowledge base, with the versions of plugins that they mean.
    pub(crate) async fn checked(&self, name: &KbName, settings: KbSettings) -> Result<KbSettings> {
        let parts = settings.parts();
        let all = SwapRequest {
            chunker: Some(parts.chunker.clone()),
            store: Some(parts.store.clone()),
            retriever: Some(parts.retriever.clone()),
            parsers: parts.parsers.clone(),
            encoder: Some(parts.encoder.as_ref().map(|encoder| encoder.name.clone())),
            ..SwapRequest::default()
        };
        if let Some(reranker) = &settings.reranker {
            self.bindings.check_reranker(reranker).await?;
        }
        let settings = settings.with_parts(self.pinned(&parts, all).await?);
        self.check_settings(name, &settings).await?;
        Ok(settings)
    }

    /// Changes settings. Other plugins are a new generation that publishes itself: at once, or when a job has filled the
    /// second index that it needs. How it answers changes at once.
    pub async fn update_kb(&self, name: &str, settings: KbSettings) -> Result<Kb> {
        prompt::check_template(&settings.answer.template)?;
        let kb = self.kb(name).await?;
        self.update(&kb, settings).await
    }

    /// Deletes a knowledge base with everything in it. One that is being imported is given up.
    pub async fn delete_kb(&self, name: &str) -> Result<()> {
        let imports = self.catalog.imports().await?.into_iter();
        let kb = match imports.map(|import| import.kb).find(|kb| kb.name.as_str().eq_ignore_ascii_case(name))
        {
            Some(unfinished) => unfinished,
            None => self.kb(name).await?,
        };
        self.remove_kb(&kb).await
    }

    pub(crate) async fn remove_kb(&self, kb: &Kb) -> Result<()> {
        for index in self.records.indexes(&kb.name).await? {
            let store = self.bindings.store_of(kb, &index.store, &index.collection).await?;
            store.drop_collection(&index.collection).await?;
        }
        for blob in self.catalog.delete_kb(&kb.name).await? {
            self.blobs.remove(&blob).await?;
        }
        Ok(())
    }

    /// One knowledge base.
    pub async fn kb(&self, name: &str) -> Result<Kb> {
        self.catalog.kb(&KbName::parse(name)?).await
    }

    /// A knowledge base with its parts.
    pub async fn binding(&self, name: &str) -> Result<Arc<Binding>> {
        self.bindings.bind(&self.kb(name).await?).await
    }

    /// Likewise with another retriever, in its default settings unless it is the knowledge base's own.
    async fn binding_with(&self, name: &str, retriever: &str) -> Result<Arc<Binding>> {
        let mut kb = self.kb(name).await?;
        if kb.settings.retriever.id != retriever {
            kb.settings.retriever = PluginChoice::any(retriever, "{}");
        }
        self.bindings.bind(&kb).await
    }

    /// Opens a writer for an original; give it to `submit` when all bytes are in.
    pub async fn upload(&self) -> Result<Box<dyn BlobWriter>> {
        self.blobs.create().await
    }

    /// Queues an uploaded original for ingest. `media_type` none is found from the name and the content.
    pub async fn submit(
        &self,
        kb: &str,
        name: &str,
        media_type: Option<&str>,
        writer: Box<dyn BlobWriter>,
    ) -> Result<Job> {
        self.submit_from(kb, name, media_type, writer, Origin::default()).await
    }

    /// Likewise for what was found on the web, or is kept in step with a folder.
    pub async fn submit_from(
        &self,
        kb: &str,
        name: &str,
        media_type: Option<&str>,
        writer: Box<dyn BlobWriter>,
        origin: Origin,
    ) -> Result<Job> {
        let kb = self.kb(kb).await?;
        let source = self.received(name, media_type, writer, origin).await?;
        self.enqueue(&kb.name, &JobKind::Ingest(source)).await
    }

    /// Keeps an original, and finds out what it is.
    pub(crate) async fn received(
        &self,
        name: &str,
        media_type: Option<&str>,
        writer: Box<dyn BlobWriter>,
        origin: Origin,
    ) -> Result<IngestSource> {
        let name = media::document_name(name)?;
        let (blob, size) = writer.finish().await?;
        let media_type = match media_type.and_then(media::known) {
            Some(known) => known.to_owned(),
            None => {
                let original = self.blobs.open(&blob, &name, media::OCTETS).await?;
                media::sniff(&name, &original.read_at(0, media::SNIFF_BYTES).await?).to_owned()
            }
        };
        Ok(IngestSource { blob, size, name, media_type, chunker: None, origin, alone: false })
    }

    /// Queues a job and tells the runner.
    pub(crate) async fn enqueue(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let job = self.catalog.enqueue(kb, kind).await?;
        (self.wake_jobs)();
        Ok(job)
    }

    /// Likewise for work that somebody waits for: it goes before what merely waits.
    pub(crate) async fn enqueue_soon(&self, kb: &KbName, kind: &JobKind) -> Result<Job> {
        let job = self.enqueue(kb, kind).await?;
        self.prioritise(job, limits::PRIORITY_SOON).await
    }

    /// Moves a job that was just queued; one that runs already stays as it is.
    pub(crate) async fn prioritise(&self, job: Job, priority: i32) -> Result<Job> {
        match self.records.set_priority(&job.id, priority).await {
            Err(error) if error.code() == ErrorCode::Conflict => Ok(job),
            changed => changed,
        }
    }

    /// Cuts a document anew with another chunker, or with the knowledge base's own; its metadata stays, edits of its
    /// chunks do not.
    pub async fn rechunk(&self, id: &DocumentId, chunker: Option<PluginChoice>) -> Result<Job> {
        let document = self.catalog.document(id).await?;
        if let Some(chunker) = &chunker {
            let kb = self.catalog.kb(&document.kb).await?;
            let settings = KbSettings { chunker: chunker.clone(), ..kb.settings };
            self.check_settings(&document.kb, &settings).await?;
        }
        let source = ingest::source_of(&document, chunker);
        self.enqueue(&document.kb, &JobKind::Ingest(source)).await
    }

    /// Takes a document out of every search at once, or queues the job that brings it back.
    pub async fn set_document_enabled(&self, id: &DocumentId, enabled: bool) -> Result<Option<Job>> {
        let document = self.catalog.document(id).await?;
        if enabled {
            return match document.disabled {
                true => {
                    Ok(Some(self.enqueue_soon(&document.kb, &JobKind::EnableDocument(id.clone())).await?))
                }
                false => Ok(None),
            };
        }
        self.records.disable_document(id).await?;
        let binding = self.binding(document.kb.as_str()).await?;
        crate::jobs::collect_garbage(self, &binding).await?;
        Ok(None)
    }

    /// Likewise for one chunk, at once both ways.
    pub async fn set_chunk_enabled(&self, kb: &KbName, id: &ChunkId, enabled: bool) -> Result<Stored> {
        if enabled {
            return curate::enable_chunk(self, kb, id).await;
        }
        self.records.chunk(kb, id).await?;
        self.records.disable_chunk(id).await?;
        let binding = self.binding(kb.as_str()).await?;
        crate::jobs::collect_garbage(self, &binding).await?;
        self.records.chunk(kb, id).await
    }

    /// Replaces a chunk's text; the chunk gets a new id.
    pub async fn edit_chunk(&self, kb: &KbName, id: &ChunkId, text: &str) -> Result<Stored> {
        curate::edit_chunk(self, kb, id, text).await
    }

    /// Queues a run of a question set.
    pub async fn start_run(&self, set: &str, settings: &RunSettings) -> Result<Run> {
        let kb = self.records.question_set(set).await?.kb;
        if !(1..=limits::RUN_K_MAX).contains(&settings.k) {
            return Err(Error::invalid(format!("k is 1 to {}, not {}", limits::RUN_K_MAX, settings.k)));
        }
        evaluate::bind(self, &kb, settings).await?;
        let run = self.records.create_run(set, settings).await?;
        match self.enqueue_soon(&kb, &JobKind::Evaluate(run.id.clone())).await {
            Ok(job) => self.records.assign_run(&run.id, &job.id).await,
            Err(error) => {
                self.records.delete_run(&run.id).await?;
                Err(error)
            }
        }
    }

    /// Queues a failed or cancelled job again.
    pub async fn retry(&self, id: &JobId) -> Result<Job> {
        let job = self.catalog.job(id).await?;
        if !matches!(job.state, JobState::Failed { .. } | JobState::Cancelled) {
            return Err(Error::Conflict { message: format!("job '{id}' is neither failed nor cancelled") });
        }
        self.catalog.finish(id, &JobState::Queued).await?;
        (self.wake_jobs)();
        self.catalog.job(id).await
    }

    /// Stops a job; a running one stops at its next batch. Ending twice is no error.
    pub async fn cancel(&self, id: &JobId) -> Result<Job> {
        let job = self.catalog.job(id).await?;
        if matches!(job.state, JobState::Queued | JobState::Paused | JobState::Running) {
            self.catalog.finish(id, &JobState::Cancelled).await?;
            match &job.kind {
                JobKind::EnableDocument(document) => curate::drop_embedded(self, document).await?,
                JobKind::Reindex(number) => self.give_up(&job.kb, *number).await?,
                JobKind::Ingest(_)
                | JobKind::DeleteDocument(_)
                | JobKind::Evaluate(_)
                | JobKind::Crawl(_) => {}
            }
        }
        self.catalog.job(id).await
    }

    async fn give_up(&self, kb: &KbName, number: u64) -> Result<()> {
        let reason = "its job was cancelled";
        self.records.end_generation(kb, number, GenerationState::Abandoned, reason).await.map(|_| ())
    }

    /// Takes a document out of every search at once and removes its vectors.
    pub async fn delete_document(&self, id: &DocumentId) -> Result<()> {
        let document = self.catalog.document(id).await?;
        for blob in self.catalog.delete_document(id).await? {
            self.blobs.remove(&blob).await?;
        }
        let binding = self.binding(document.kb.as_str()).await?;
        crate::jobs::collect_garbage(self, &binding).await
    }

    /// Likewise for one chunk of a knowledge base.
    pub async fn delete_chunk(&self, kb: &str, id: &ChunkId) -> Result<()> {
        let binding = self.binding(kb).await?;
        self.records.chunk(&binding.kb.name, id).await?;
        self.catalog.delete_chunk(id).await?;
        crate::jobs::collect_garbage(self, &binding).await
    }

    /// Finds passages, reranked when the knowledge base does that.
    pub async fn search(&self, kb: &str, mut request: SearchRequest) -> Result<Recall> {
        prompt::check_question(&request.question)?;
        let asked = request.filter.take();
        let mut binding = match &request.retriever {
            Some(retriever) => self.binding_with(kb, retriever).await?,
            None => self.binding(kb).await?,
        };
        loop {
            request.filter = self.resolved(&binding.kb, asked.as_ref()).await?;
            let mut outcome = recall::recall(self, &binding, request.clone()).await;
            if let (true, Ok(found)) = (request.fates, &mut outcome) {
                let asked = AskRequest { question: request.question.clone(), ..AskRequest::default() };
                found.fates = ask::plan(self, &binding, &asked, found).fates;
            }
            if request.retriever.is_some() {
                // No generation is to blame for it.
                return outcome;
            }
            let error = outcome.as_ref().err().cloned();
            match self.another(&binding, &request.question, error.as_ref()).await? {
                Some(other) => binding = other,
                None => return outcome,
            }
        }
    }

    /// Answers a question; the answer streams out of what is returned.
    pub async fn ask(&self, kb: &str, mut request: AskRequest) -> Result<Answering> {
        prompt::check_question(&request.question)?;
        let mut binding = match &request.retriever {
            Some(retriever) => self.binding_with(kb, retriever).await?,
            None => self.binding(kb).await?,
        };
        if let (Some(conversation), true) = (&request.conversation, request.history.is_empty()) {
            request.history = self.catalog.turns(conversation, limits::HISTORY_ROUNDS).await?;
        }
        let surplus = request.history.len().saturating_sub(limits::HISTORY_ROUNDS);
        request.history.drain(..surplus);
        let asked = request.filter.take();
        loop {
            request.filter = self.resolved(&binding.kb, asked.as_ref()).await?;
            let outcome = ask::ask(self, &binding, request.clone()).await;
            if request.retriever.is_some() {
                // No generation is to blame for it.
                return outcome;
            }
            let error = outcome.as_ref().err().cloned();
            match self.another(&binding, &request.question, error.as_ref()).await? {
                Some(other) => binding = other,
                None => return outcome,
            }
        }
    }

    /// What a question that failed is asked of instead: when it was one failure too many for a new generation, the one
    /// that answers in its place.
    async fn another(
        &self,
        binding: &Binding,
        question: &str,
        error: Option<&Error>,
    ) -> Result<Option<Arc<Binding>>> {
        match error {
            Some(error) if self.struck(binding, question, error).await? => {
                Ok(Some(self.binding(binding.kb.name.as_str()).await?))
            }
            _ => Ok(None),
        }
    }

    /// A filter that every vector store understands: attributes and metadata are known to the catalogue alone.
    async fn resolved(&self, kb: &Kb, filter: Option<&Filter>) -> Result<Option<Filter>> {
        match filter {
            Some(filter) => Ok(Some(self.records.resolve_filter(&kb.name, &kb.collection, filter).await?)),
            None => Ok(None),
        }
    }

    /// Tries the plugins on a knowledge base that does not exist yet, so that wrong settings are refused before anything is kept.
    pub(crate) async fn check_settings(&self, name: &KbName, settings: &KbSettings) -> Result<()> {
        prompt::check_template(&settings.answer.template)?;
        let kb = Kb {
            name: name.clone(),
            settings: settings.clone(),
            collection: format!("{name}-probe"),
            generation: 0,
            embedder: None,
            created_ms: 0,
            documents: 0,
            chunks: 0,
        };
        let binding = self.bindings.bind(&kb).await?;
        // A plugin reads its settings when it is first called.
        binding.chunker.split(probe()).await?;
        let request = RetrieveRequest { question: "?".to_owned(), history: Vec::new(), k: 1, filter: None };
        match binding.retriever.retrieve(request).await {
            Err(error) if error.code() == ErrorCode::InvalidInput => Err(error),
            // The knowledge base does not exist yet, so a search may well fail.
            _ => Ok(()),
        }
    }
}

/// The shortest text that has a chunk.
fn probe() -> Section {
    let span = Span { start: 0, end: 1 };
    Section {
        text: "a\n\n".to_owned(),
        blocks: vec![BlockSpan { span, kind: BlockKind::Paragraph, level: 0, page: None }],
        title: None,
        language: None,
        outline: Vec::new(),
    }
}
