//! Component `chunk-code`: whole items of source code where they fit, else their parts, each below what encloses it.

pub mod items;
pub mod lines;

use guest_chunk::context::Path;
use guest_chunk::options::Options;
use guest_chunk::recurse::Recursion;
use guest_chunk::{Chunk, Error, Models, Result, Section};
use guest_settings::Settings;

use crate::items::Items;
use crate::lines::Lines;

/// Length of a chunk unless set.
const SIZE: u32 = 256;

/// Cuts a section by its settings.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, models: &M) -> Result<Vec<Chunk>> {
    let settings =
        Settings::parse(settings, &["size", "unit", "overlap", "context"]).map_err(Error::invalid)?;
    let options = Options::read(&settings, models.token_limit(), SIZE).map_err(Error::invalid)?;
    let lines = Lines::of(section.text);
    let recursion = Recursion { text: section.text, models, separators: &Items { lines: &lines }, options };
    let mut path = Path::new(section);
    let chunk = |range: std::ops::Range<usize>| {
        let enclosing = lines.enclosing(range.start);
        let context = path.around(range.start, &enclosing, options.context_chars_max);
        Chunk { start: range.start, end: range.end, parent: None, context }
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
