//! Component `chunk-fixed`: windows of a fixed number of characters.

pub mod windows;

use guest_chunk::{Chunk, Error, Models, Result, Section};

/// Cuts a section by its settings.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, _: &M) -> Result<Vec<Chunk>> {
    let options = windows::Options::parse(settings).map_err(Error::invalid)?;
    let windows = windows::windows(section.text, options).into_iter();
    Ok(windows.map(|(start, end)| Chunk { start, end, ..Chunk::default() }).collect())
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "raise the setting 'size'");
}
