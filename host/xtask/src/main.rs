//! Project chores; see `cargo xtask help`.
fn main() {}
