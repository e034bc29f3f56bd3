//! What the flows need from the world. Each port is implemented in one side crate; `rag` puts them together.
//!
//! Contracts that hold for every port: calls are safe to repeat; dropping a call's future cancels it and leaves
//! nothing half done; a full queue is `Error::Busy` at once; nothing panics on any input.

mod catalog;
mod engine;
mod host;
mod plugin;

pub use catalog::{
    Catalog, DocumentInfo, DocumentState, IngestSource, Job, JobId, JobKind, JobState, NewDocument, Opened,
    Progress, Stage, Stored, VectorGarbage,
};
pub use engine::{
    Bounds, Embed, FinishReason, Generate, GenerateRequest, GenerationEvent, GenerationStream, Purpose,
    Rerank, Sampling, Usage,
};
pub use host::{
    Blob, BlobStore, BlobWriter, KbSearch, KeyValue, Keys, Principal, Role, StoredVectors, VectorIndex,
};
pub use plugin::{
    Binding, Bindings, Chunk, Parse, ParseSession, PluginInfo, Retrieve, StoreBatch, VectorCollection,
    VectorStore,
};
