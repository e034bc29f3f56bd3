//! The `rwkv-rag` binary.
fn main() {}
