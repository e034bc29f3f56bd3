//! A chunker: a fresh instance for each section, so that no document sees another.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::Result;
use rag_core::document::{ChunkSpan, Section, Span};
use rag_core::error::PluginFault;
use rag_core::ports::{Chunk, PluginInfo};

use crate::bindings::chunker::ChunkerPlugin;
use crate::bindings::chunker::exports::ragkit::plugin::chunker as guest;
use crate::bindings::ragkit::types::types as wit;
use crate::convert;
use crate::instance::{Budget, Instance, Plugin, Setup};
use crate::{check, fault};

/// `Chunk` by a component.
pub(crate) struct WasmChunker {
    pub(crate) plugin: Arc<Plugin<ChunkerPlugin>>,
    pub(crate) setup: Setup,
}

#[async_trait]
impl Chunk for WasmChunker {
    fn info(&self) -> &PluginInfo {
        &self.plugin.info
    }

    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
        let (plugin, setup) = (Arc::clone(&self.plugin), self.setup.clone());
        self.plugin.runner.run(async move { split(&plugin, &setup, section).await }).await
    }
}

/// In a fresh instance, on the thread that it is called on.
pub(crate) async fn split(
    plugin: &Plugin<ChunkerPlugin>,
    setup: &Setup,
    section: Section,
) -> Result<Vec<ChunkSpan>> {
    let mut budget = Budget::of(&plugin.limits);
    let mut instance = Instance::new(plugin, setup, &mut budget).await?;
    let document = Arc::new(to_guest(section));
    let input = Arc::clone(&document);
    let chunks = instance
        .call(plugin, &mut budget, move |world, store| {
            Box::pin(async move { world.ragkit_plugin_chunker().call_split(store, &input).await })
        })
        .await?;
    let chunks: Vec<ChunkSpan> = chunks.into_iter().map(from_guest).collect();
    check::chunks(&document.text, &chunks)
        .map_err(|message| fault::new(&plugin.label, PluginFault::InvalidOutput, message))?;
    Ok(chunks)
}

fn to_guest(section: Section) -> guest::Document {
    // A section is at most `limits::SECTION_BYTES_MAX`, so every offset fits.
    let offset = |place: u64| u32::try_from(place).unwrap_or(u32::MAX);
    let block = |block: rag_core::document::BlockSpan| guest::BlockSpan {
        span: wit::Span { start: offset(block.span.start), end: offset(block.span.end) },
        kind: convert::kind_to_guest(block.kind),
        level: block.level,
        page: block.page,
    };
    let heading = |heading: rag_core::document::Heading| guest::OpenHeading {
        level: heading.level,
        text: heading.text,
    };
    guest::Document {
        text: section.text,
        blocks: section.blocks.into_iter().map(block).collect(),
        language: section.language,
        title: section.title,
        outline: section.outline.into_iter().map(heading).collect(),
    }
}

fn from_guest(chunk: guest::Chunk) -> ChunkSpan {
    ChunkSpan {
        span: Span { start: chunk.span.start.into(), end: chunk.span.end.into() },
        parent: chunk.parent,
        context: chunk.context,
    }
}
