//! What the flows need from the world. Each port is implemented in one side crate; `rag` puts them together.
//!
//! Contracts that hold for every port: calls are safe to repeat; dropping a call's future cancels it and leaves
//! nothing half done; a full queue is `Error::Busy` at once; nothing panics on any input.

mod accounts;
mod archive;
mod bundle;
mod catalog;
mod conversations;
mod curation;
mod engine;
mod evaluations;
mod folders;
mod generations;
mod host;
mod models;
mod outside;
mod overview;
mod plugin;
mod pulls;
mod queue;
mod site;
mod tuning;

pub use accounts::{Accounts, AuditEntry, AuditQuery, Rights, User, UserChange};

pub use archive::{NoUnpack, PackedFile, Unpack, UnpackLimits, Unpacked};
pub use bundle::{
    BundleBytes, BundleChunk, BundleDocument, BundleHead, BundlePart, BundleReader, BundleUpload,
    BundleWriter, Bundles, NoBundles,
};
pub use catalog::{
    Catalog, CrawlOrder, DocumentInfo, DocumentState, IngestSource, Job, JobId, JobKind, JobState, KbImport,
    NewDocument, Opened, Origin, Progress, Stage, Stored, VectorGarbage,
};
pub use conversations::{
    Conversation, ConversationKey, ConversationQuery, Conversations, Mark, NewRound, Round,
};
pub use curation::{Curation, DocumentQuery};
pub use engine::{
    Bounds, Embed, Encoders, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream,
    Purpose, Rerank, Sampling, Usage, Variant,
};
pub use evaluations::{
    Evaluations, Expected, Outcome, Question, QuestionSet, Run, RunHit, RunSettings, Scores,
};
pub use folders::{FolderEntry, FolderFile, Folders};
pub use generations::{
    Generation, GenerationState, Generations, NewGeneration, SwapHit, SwapQuestion, SwapReport, UnusedIndex,
    kb_with,
};
pub use host::{
    Blob, BlobStore, BlobWriter, KbSearch, KeyValue, Keys, Principal, Role, StoredVectors, VectorIndex,
};
pub use models::{
    ModelChange, ModelEntry, ModelKind, ModelRegistry, ModelSettings, ModelsNow, NewModel, NoRegistry,
    SwitchFailure, Switching, When,
};
pub use outside::{
    Connect, Engine, Engines, Found, Grants, Http, HttpGrant, HttpMethod, HttpRequest, HttpResponse, Ocr,
    OcrImage, OcrLine, Outside, PluginGrants, Sql, SqlGrant, SqlRows, SqlValue, Web, WebLink, WebPage,
};
pub use overview::{LogLine, Overview, ProxyState, ServiceState};
pub use plugin::{
    Binding, Bindings, Chunk, Parse, ParseSession, PluginAsk, PluginInfo, Retrieve, StoreBatch,
    VectorCollection, VectorStore,
};
pub use pulls::{NewPull, Pull, PullFile, PullState, PullsNow};
pub use queue::Queue;
pub use site::{Site, SiteBody, SiteHead, SiteRequest};
pub use tuning::{
    Tune, TuneDataset, TuneEstimate, TuneJob, TuneMethod, TunePair, TunePoint, TunePreview, TuneRequest,
    TuneSettings, TuneState,
};

/// What is kept beside the catalogue, behind one door: whatever implements all of these is one.
pub trait Records: Accounts + Conversations + Curation + Evaluations + Folders + Generations + Queue {}

impl<T: Accounts + Conversations + Curation + Evaluations + Folders + Generations + Queue> Records for T {}
