//! Component `parse-remote`: a document is sent to a parser service and what it answers is read.
//!
//! The protocol is that of Apache Tika's server: `PUT` of the document with its media type, its name in
//! `Content-Disposition`, and `Accept`; the answer is HTML (each `<div class="page">` is a page), Markdown or text.

mod answer;
mod remote;

pub use remote::{Http, Request, Response, open};

#[cfg(target_family = "wasm")]
mod component;
