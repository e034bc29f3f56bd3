//! Documents in, cited answers out: the real program, plugins and models over HTTP.

mod bad_input;
mod commands;
mod compile;
mod crash;
mod dropin;
mod encoders;
mod endurance;
mod folders;
mod formats;
mod host;
mod imports;
mod main_job;
mod pictures;
mod power_cut;
mod remote;
mod rollback;
mod swap;
mod tune;
mod wasi_http;
mod web;
