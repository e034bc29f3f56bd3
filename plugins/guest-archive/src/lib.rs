//! Reads zip archives and the XML in them within limits: entries, expanded bytes, ratio, depth; no entities.

mod archive;
mod xml;

pub use archive::{Archive, Entry, resolve};
pub use xml::{Element, Event, Xml, decode};
