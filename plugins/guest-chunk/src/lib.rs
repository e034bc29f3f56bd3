//! What chunkers share: the section, measuring and recursive cutting, headings as context, the component's exports.
//!
//! A chunker is a plain function from [`Section`], settings and [`Models`] to [`Chunk`]s, tested natively;
//! [`component!`] makes it a component. What a chunker does not call of [`Models`] it does not import either.

pub mod chars;
#[cfg(target_family = "wasm")]
mod component;
pub mod context;
pub mod cut;
pub mod options;
pub mod prose;
pub mod recurse;
mod section;
pub mod testing;

#[cfg(target_family = "wasm")]
pub use component::{Component, Exports, Host, bindings};
pub use guest_settings::error::{Code, Error, Result};
pub use section::{Block, Chunk, Embed, Heading, Kind, Models, Section};

/// Exports a chunker as a component: `component!(split: crate::split, many: "raise the setting 'size'");` in a module
/// that only wasm compiles. `split` takes the section, the settings as JSON and the host's models; `many` is what to do
/// when a section gives more chunks than a host takes.
#[macro_export]
macro_rules! component {
    (split: $split:path, many: $many:expr) => {
        struct Chunker;

        impl $crate::Exports for Chunker {
            const ID: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
            const MANY: &'static str = $many;

            fn split(
                section: &$crate::Section<'_>,
                settings: &str,
                models: &$crate::Host,
            ) -> $crate::Result<Vec<$crate::Chunk>> {
                $split(section, settings, models)
            }
        }

        type Exported = $crate::Component<Chunker>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
