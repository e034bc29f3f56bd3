//! Speaks HTTP and serves the web page; decides status codes and nothing else.
//!
//! `router` lists every path, `frame` is what surrounds them, `auth` says who may, `error` decides statuses, `gateway` passes all
//! on to another process. The own
//! API is in `api`, the OpenAI-compatible one in `openai`, the page in `ui`.

mod answer;
mod api;
mod audit;
mod auth;
mod error;
mod extract;
mod frame;
mod gateway;
mod metrics;
mod openai;
mod router;
mod serve;
mod session;
mod settings;
mod state;
mod ui;
mod watch;

pub use gateway::{BODY_BYTES_MAX, LocalSite, serve_site};
pub use router::{app, openapi};
pub use serve::serve;
pub use settings::{Settings, hosts_for};
pub use state::AppState;

#[cfg(test)]
mod tests;
