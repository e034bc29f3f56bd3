//! Documents in, cited answers out: the real program, plugins and models over HTTP.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod crash;
mod host;
mod main_job;
