//! Documents in, cited answers out: the real program, plugins and models over HTTP.

mod bad_input;
mod commands;
mod crash;
mod dropin;
mod host;
mod main_job;
mod pictures;
mod swap;
mod web;
