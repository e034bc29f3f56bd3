//! The exports of a chunker's component, over its plain function.

use std::marker::PhantomData;

use self::bindings::exports::ragkit::plugin::{chunker, info};
use self::bindings::ragkit::host::{config, embed, tokens};
use self::bindings::ragkit::types::types as wit;
use crate::{Block, Chunk, Embed, Error, Heading, Kind, Models, Result, Section};

/// As `wit-bindgen` makes them.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "chunker-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "guest_chunk::bindings",
    });
}

/// Who a chunker is and how it cuts.
pub trait Exports: 'static {
    const ID: &'static str;
    const VERSION: &'static str;
    const DESCRIPTION: &'static str;
    /// What to do against too many chunks.
    const MANY: &'static str;

    fn split(section: &Section<'_>, settings: &str, models: &Host) -> Result<Vec<Chunk>>;
}

/// The component of a chunker.
#[derive(Debug)]
pub struct Component<C>(PhantomData<C>);

impl<C: Exports> info::Guest for Component<C> {
    fn describe() -> info::Info {
        info::Info {
            id: C::ID.to_owned(),
            version: C::VERSION.to_owned(),
            description: C::DESCRIPTION.to_owned(),
        }
    }
}

/// Chunks of one section that a host takes.
const CHUNKS_MAX: usize = 20_000;

impl<C: Exports> chunker::Guest for Component<C> {
    fn split(document: chunker::Document) -> Result<Vec<chunker::Chunk>, wit::Error> {
        let blocks: Vec<Block> = document.blocks.iter().map(block).collect();
        let outline: Vec<Heading> =
            document.outline.into_iter().map(|open| Heading { level: open.level, text: open.text }).collect();
        let section = Section {
            text: &document.text,
            blocks: &blocks,
            title: document.title.as_deref(),
            outline: &outline,
        };
        let chunks = C::split(&section, &config::settings(), &Host).map_err(to_host)?;
        if chunks.len() > CHUNKS_MAX {
            let message =
                format!("{} chunks in one section, more than {CHUNKS_MAX}: {}", chunks.len(), C::MANY);
            return Err(wit::Error { code: wit::ErrorCode::Quota, message, retryable: false });
        }
        let chunk = |chunk: Chunk| chunker::Chunk {
            span: wit::Span { start: chunk.start as u32, end: chunk.end as u32 },
            parent: chunk.parent,
            context: chunk.context,
        };
        Ok(chunks.into_iter().map(chunk).collect())
    }
}

/// The models that the host lends.
#[derive(Debug)]
pub struct Host;

impl Models for Host {
    fn token_limit(&self) -> u32 {
        tokens::limit()
    }

    fn count(&self, texts: &[&str]) -> Result<Vec<u32>> {
        let owned: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let counts = tokens::count(&owned).map_err(from_host)?;
        if counts.len() != texts.len() {
            let message = format!("the host counted {} of {} texts", counts.len(), texts.len());
            return Err(Error::internal(message));
        }
        Ok(counts)
    }
}

/// Texts that one call embeds.
const EMBED_TEXTS_MAX: usize = 256;

impl Embed for Host {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(EMBED_TEXTS_MAX) {
            let owned: Vec<String> = batch.iter().map(|text| (*text).to_owned()).collect();
            let found = embed::embed(&owned, embed::Purpose::Passage).map_err(from_host)?;
            vectors.extend(found.data.chunks_exact((found.dim as usize).max(1)).map(<[f32]>::to_vec));
        }
        if vectors.len() != texts.len() {
            let message = format!("the host embedded {} of {} texts", vectors.len(), texts.len());
            return Err(Error::internal(message));
        }
        Ok(vectors)
    }
}

fn block(block: &chunker::BlockSpan) -> Block {
    let kind = match block.kind {
        wit::BlockKind::Title | wit::BlockKind::Heading => Kind::Heading(block.level.max(1)),
        wit::BlockKind::Table => Kind::Table,
        wit::BlockKind::Code => Kind::Code,
        wit::BlockKind::Paragraph
        | wit::BlockKind::ListItem
        | wit::BlockKind::Quote
        | wit::BlockKind::Caption
        | wit::BlockKind::Footnote
        | wit::BlockKind::Image => Kind::Text,
    };
    Block { start: block.span.start as usize, end: block.span.end as usize, kind }
}

guest_settings::host_errors!(wit);
