//! Component `chunk-sentence`: whole sentences, below their headings, up to a size.

pub mod document;
pub mod options;
pub mod split;

mod atoms;
mod context;
mod pack;
mod sentences;

use guest_chunk::{Chunk, Error, Models, Result, Section};

/// Cuts a section by its settings.
pub fn chunks<M: Models>(section: &Section<'_>, settings: &str, models: &M) -> Result<Vec<Chunk>> {
    let options = options::Options::parse(settings, models.token_limit()).map_err(Error::invalid)?;
    split::split(*section, options, &mut |texts| models.count(texts))
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_chunk::component!(split: super::chunks, many: "raise the setting 'size'");
}
#[cfg(test)]
mod properties;
