//! Component `parse-json`: the records of JSON and JSON lines, each value after its name.

mod document;
mod records;

pub use document::open;

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.

    guest_doc::component!(accepts: ["application/json", "application/jsonl"], open: crate::open);
}
