//! Documents in, cited answers out: the real program, plugins and models over HTTP.

mod bad_input;
mod commands;
mod crash;
mod host;
mod main_job;
