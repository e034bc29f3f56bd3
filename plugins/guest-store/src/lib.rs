//! What adapters to vector databases share: rows, filters, names, talking to the server, the component's exports.
//!
//! An adapter implements [`Store`] over an [`Http`] or a [`Sql`] that the host grants, and is tested natively against
//! [`testing`]; [`component!`] makes it a component. What it does not call of the host it does not import either.

#[cfg(target_family = "wasm")]
mod component;
pub mod fields;
pub mod filter;
pub mod index;
mod names;
pub mod search;
mod server;
mod store;
pub mod testing;

#[cfg(target_family = "wasm")]
pub use component::{Component, Exports, Host, bindings};
pub use guest_settings::Settings;
pub use guest_settings::error::{Code, Error, Result};
pub use names::Names;
pub use server::{Answer, Http, Method, Request, Response, Server, Sql, SqlRows, SqlValue, unavailable};
pub use store::{
    Collection, Compare, Filter, Hit, Metric, Node, ROWS_MAX, Row, Rows, Store, Value, check_shape,
};

/// Exports a store as a component: `component!(open: crate::Adapter::open);` in a module that only wasm compiles.
/// `open` takes the settings as JSON and a boxed [`Http`], [`Sql`] or [`index::Index`].
#[macro_export]
macro_rules! component {
    (open: $open:path) => {
        struct Adapter;

        impl $crate::Exports for Adapter {
            const ID: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");

            fn open(settings: &str) -> $crate::Result<Box<dyn $crate::Store>> {
                Ok(Box::new($open(settings, Box::new($crate::Host))?))
            }
        }

        type Exported = $crate::Component<Adapter>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
