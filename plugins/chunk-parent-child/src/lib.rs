//! Component `chunk-parent-child`: small chunks that are found precisely, each within a larger one that reads well.

use guest_chunk::context::Path;
use guest_chunk::options::{Options, SIZE_MIN, size_max, unit};
use guest_chunk::prose::Prose;
use guest_chunk::recurse::Recursion;
use guest_chunk::{Chunk, Error, Models, Result, Section};
use guest_settings::Settings;

/// Length of a small chunk unless set.
const SIZE: u32 = 128;
/// Length of a larger chunk unless set.
const PARENT_SIZE: u32 = 510;

/// Cuts a section by its settings: every larger chunk stands before the small ones that it fell into. A larger chunk
/// that is small enough stands alone.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, models: &M) -> Result<Vec<Chunk>> {
    let (small, large) = options(settings, models.token_limit()).map_err(Error::invalid)?;
    let separators = Prose { section };
    let cut = |options, range| {
        Recursion { text: section.text, models, separators: &separators, options }.chunks(range)
    };
    let mut path = Path::new(section);
    let mut chunks: Vec<Chunk> = Vec::new();
    for range in cut(large, 0..section.text.len())? {
        let parts = cut(small, range.clone())?;
        let context = path.above(range.start, large.context_chars_max);
        let at = chunks.len() as u32;
        chunks.push(Chunk { start: range.start, end: range.end, parent: None, context });
        if parts.len() > 1 {
            chunks.extend(parts.into_iter().map(|part| Chunk {
                start: part.start,
                end: part.end,
                parent: Some(at),
                context: path.above(part.start, small.context_chars_max),
            }));
        }
    }
    Ok(chunks)
}

/// How small chunks and larger ones are cut.
fn options(settings: &str, token_limit: u32) -> Result<(Options, Options), String> {
    let settings = Settings::parse(settings, &["size", "parent_size", "unit", "context"])?;
    let small = Options::read(&settings, token_limit, SIZE)?;
    let most = size_max(unit(&settings)?, token_limit);
    let size = settings.integer("parent_size", SIZE_MIN..=most, PARENT_SIZE.min(most))? as usize;
    Ok((small, Options { size: size.max(small.size), ..small }))
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "raise the settings 'size' and 'parent_size'");
}

#[cfg(test)]
mod tests;
