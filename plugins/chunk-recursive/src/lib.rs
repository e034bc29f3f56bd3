//! Component `chunk-recursive`: the coarsest separators that make the pieces fit, from paragraphs to characters.

use guest_chunk::context::Path;
use guest_chunk::options::Options;
use guest_chunk::prose::Prose;
use guest_chunk::recurse::Recursion;
use guest_chunk::{Chunk, Error, Models, Result, Section};
use guest_settings::Settings;

/// Length of a chunk unless set.
const SIZE: u32 = 256;

/// Cuts a section by its settings.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, models: &M) -> Result<Vec<Chunk>> {
    let settings =
        Settings::parse(settings, &["size", "unit", "overlap", "context"]).map_err(Error::invalid)?;
    let options = Options::read(&settings, models.token_limit(), SIZE).map_err(Error::invalid)?;
    let separators = Prose { section };
    let recursion = Recursion { text: section.text, models, separators: &separators, options };
    let mut path = Path::new(section);
    let chunk = |range: std::ops::Range<usize>| Chunk {
        start: range.start,
        end: range.end,
        parent: None,
        context: path.above(range.start, options.context_chars_max),
    };
    Ok(recursion.chunks(0..section.text.len())?.into_iter().map(chunk).collect())
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "raise the setting 'size'");
}
#[cfg(test)]
mod tests;
