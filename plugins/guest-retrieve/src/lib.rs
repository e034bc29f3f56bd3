//! What retrievers share: searching both ways, fusion, follow-up questions, the trace, the component's exports.
//!
//! A retriever is a plain function from a host ([`Search`], [`Generate`]), a [`Request`] and settings to an [`Outcome`],
//! tested natively; [`component!`] makes it a component. What it does not call of the host it does not import either.

pub mod arms;
#[cfg(target_family = "wasm")]
mod component;
pub mod follow_up;
pub mod fusion;
mod host;
pub mod options;
mod outcome;
pub mod standing_alone;
pub mod testing;
mod written;

pub use arms::both;
#[cfg(target_family = "wasm")]
pub use component::{Component, Exports, Host, bindings};
pub use guest_settings::error::{Code, Error, Result};
pub use host::{Generate, Hits, Search};
pub use outcome::{Evidence, Outcome, Ranked, Request, Step, Trace, check_question};
pub use written::{is_chinese, lines, usable};

/// Exports a retriever as a component: `component!(retrieve: crate::retrieve);` in a module that only wasm compiles.
/// `retrieve` takes the host, the request and the settings as JSON.
#[macro_export]
macro_rules! component {
    (retrieve: $retrieve:path) => {
        struct Retriever;

        impl $crate::Exports for Retriever {
            const ID: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");

            fn retrieve(
                host: &$crate::Host,
                request: &$crate::Request,
                settings: &str,
            ) -> $crate::Result<$crate::Outcome> {
                $retrieve(host, request, settings)
            }
        }

        type Exported = $crate::Component<Retriever>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
