//! A parser: a fresh instance for each document, kept from `open` to the end of its session.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{Block, ParsedSummary};
use rag_core::error::PluginFault;
use rag_core::ports::{Blob, Parse, ParseSession, PluginInfo};
use rag_core::{Error, Result};
use wasmtime::component::ResourceAny;

use crate::bindings::parser::ParserPlugin;
use crate::instance::{Budget, Instance, Plugin, Setup};
use crate::state::OpenBlob;
use crate::{check, convert, fault};

/// Times its own size that a document may be read, and bytes beyond.
const READS_MAX: u64 = 4;
const READ_BYTES_EXTRA: u64 = 16 << 20;
/// Times its own size that a document's text may be.
const EXPANSION_MAX: u64 = 10;
/// What a batch counts at least, so that a session of empty batches ends.
const BATCH_BYTES_MIN: u64 = 1 << 10;

/// `Parse` by a component.
pub(crate) struct WasmParser {
    pub(crate) plugin: Arc<Plugin<ParserPlugin>>,
    pub(crate) setup: Setup,
    pub(crate) accepts: Vec<String>,
}

#[async_trait]
impl Parse for WasmParser {
    fn info(&self) -> &PluginInfo {
        &self.plugin.info
    }

    fn identity(&self) -> String {
        match &self.setup.grants.ocr {
            Some(ocr) => format!("{} {}", self.plugin.info.digest, ocr.identity()),
            None => self.plugin.info.digest.clone(),
        }
    }

    fn accepts(&self) -> &[String] {
        &self.accepts
    }

    fn sends_out(&self) -> bool {
        self.setup.grants.http.is_some()
    }

    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>> {
        let (plugin, setup) = (Arc::clone(&self.plugin), self.setup.clone());
        let size = blob.size();
        let open = async move { open(plugin, &setup, blob).await };
        let document = self.plugin.runner.run(open).await?;
        let limit = size.saturating_mul(EXPANSION_MAX);
        let bytes_left = limit.saturating_add(self.plugin.limits.document_bytes_extra);
        Ok(Box::new(Session { plugin: Arc::clone(&self.plugin), document: Some(document), size, bytes_left }))
    }
}

/// A document within its instance. Dropped with it, so the guest's destructor never runs.
struct Document {
    instance: Instance<ParserPlugin>,
    session: ResourceAny,
    budget: Budget,
}

async fn open(plugin: Arc<Plugin<ParserPlugin>>, setup: &Setup, blob: Arc<dyn Blob>) -> Result<Document> {
    let budget = Budget::of_document(&plugin.limits);
    // Others work meanwhile.
    let waits = setup.grants.ocr.is_some() || setup.grants.http.is_some();
    let mut budget = if waits { budget.within(plugin.runner.limits.ocr_wall_ms_max) } else { budget };
    let mut instance = Instance::new(&plugin, setup, &mut budget).await?;
    let bytes_left = blob.size().saturating_mul(READS_MAX).saturating_add(READ_BYTES_EXTRA);
    let source = instance.state().table.push(OpenBlob { blob, bytes_left });
    let source = source.map_err(|err| Error::internal(format!("cannot lend a document: {err}")))?;
    let session = instance
        .call(&plugin, &mut budget, move |world, store| {
            Box::pin(async move { world.ragkit_plugin_parser().call_open(store, source).await })
        })
        .await?;
    Ok(Document { instance, session, budget })
}

struct Session {
    plugin: Arc<Plugin<ParserPlugin>>,
    /// None once a call failed or was dropped half way.
    document: Option<Document>,
    size: u64,
    /// Output that the document may still have.
    bytes_left: u64,
}

impl Session {
    /// Performs a call on the plugin threads; the document comes back only from a call that succeeded.
    async fn call<T, F>(
        &mut self,
        function: impl FnOnce(Arc<Plugin<ParserPlugin>>, Document) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, Document)>> + Send + 'static,
    {
        let document = self.document.take().ok_or_else(|| Error::Conflict {
            message: "this document's parser has failed; open it again".to_owned(),
        })?;
        let (value, document) = self.plugin.runner.run(function(Arc::clone(&self.plugin), document)).await?;
        self.document = Some(document);
        Ok(value)
    }

    fn invalid(&mut self, message: String) -> Error {
        self.document = None;
        fault::new(&self.plugin.label, PluginFault::InvalidOutput, message)
    }
}

#[async_trait]
impl ParseSession for Session {
    async fn next(&mut self, bytes_max: u32) -> Result<Option<Vec<Block>>> {
        let blocks = self
            .call(async move |plugin, mut document: Document| {
                let session = document.session;
                let blocks = document
                    .instance
                    .call(&plugin, &mut document.budget, move |world, store| {
                        Box::pin(async move {
                            world.ragkit_plugin_parser().session().call_next(store, session, bytes_max).await
                        })
                    })
                    .await?;
                Ok((blocks, document))
            })
            .await?;
        let Some(blocks) = blocks else { return Ok(None) };
        let blocks: Vec<Block> = blocks.into_iter().map(convert::block_from_guest).collect();
        let bytes = match check::blocks(&blocks, self.size, self.plugin.limits.batch_bytes_max) {
            Ok(bytes) => bytes.max(BATCH_BYTES_MIN),
            Err(message) => return Err(self.invalid(message)),
        };
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => {
                let message =
                    format!("more output than {EXPANSION_MAX} times the document's {} bytes", self.size);
                return Err(self.invalid(message));
            }
        }
        Ok(Some(blocks))
    }

    async fn summary(&mut self) -> Result<ParsedSummary> {
        let parsed = self
            .call(async move |plugin, mut document: Document| {
                let session = document.session;
                let parsed = document
                    .instance
                    .call(&plugin, &mut document.budget, move |world, store| {
                        Box::pin(async move {
                            Ok(Ok(world
                                .ragkit_plugin_parser()
                                .session()
                                .call_summary(store, session)
                                .await?))
                        })
                    })
                    .await?;
                Ok((parsed, document))
            })
            .await?;
        let summary =
            ParsedSummary { title: parsed.title, language: parsed.language, attributes: parsed.attributes };
        match check::summary(&summary) {
            Ok(()) => Ok(summary),
            Err(message) => Err(self.invalid(message)),
        }
    }
}
