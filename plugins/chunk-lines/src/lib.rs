//! Component `chunk-lines`: one chunk a line.

pub mod lines;

use guest_chunk::{Chunk, Error, Models, Result, Section};
use guest_settings::Settings;

/// Cuts a section; there are no settings.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, _: &M) -> Result<Vec<Chunk>> {
    Settings::parse(settings, &[]).map_err(Error::invalid)?;
    let lines = lines::lines(section.text).into_iter();
    Ok(lines.map(|(start, end)| Chunk { start, end, ..Chunk::default() }).collect())
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "use chunk-sentence for a text of so many short lines");
}
