//! Component `chunk-semantic`: neighbouring sentences stay together until what they are about changes.

pub mod drift;
pub mod units;

use guest_chunk::context::Path;
use guest_chunk::options::Options;
use guest_chunk::prose::Prose;
use guest_chunk::recurse::Recursion;
use guest_chunk::{Chunk, Embed, Error, Models, Result, Section};
use guest_settings::Settings;

/// Length of a chunk unless set.
const SIZE: u32 = 256;

/// Cuts a section where its subject changes; a part that is still too long falls apart like any prose.
pub fn chunks<M: Models + Embed>(section: &Section<'_>, settings: &str, models: &M) -> Result<Vec<Chunk>> {
    let settings =
        Settings::parse(settings, &["size", "percentile", "unit", "context"]).map_err(Error::invalid)?;
    let options = Options::read(&settings, models.token_limit(), SIZE).map_err(Error::invalid)?;
    let percentile = settings.integer("percentile", 50..=99, 85).map_err(Error::invalid)?;
    let prose = Prose { section };
    let units = units::units(section, &prose);
    let texts: Vec<&str> = units.iter().filter_map(|unit| section.text.get(unit.range.clone())).collect();
    let vectors = if texts.len() > 1 { models.embed(&texts)? } else { Vec::new() };
    let changes = drift::changes(&vectors, percentile);
    let recursion = Recursion { text: section.text, models, separators: &prose, options };
    let mut path = Path::new(section);
    let mut chunks = Vec::new();
    for part in units::parts(&units, &changes) {
        chunks.extend(recursion.chunks(part)?.into_iter().map(|range| Chunk {
            start: range.start,
            end: range.end,
            parent: None,
            context: path.above(range.start, options.context_chars_max),
        }));
    }
    Ok(chunks)
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "raise the setting 'size'");
}

#[cfg(test)]
mod tests;
