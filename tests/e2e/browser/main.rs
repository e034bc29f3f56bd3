//! The page in a real browser, and the API in the hands of other people's clients.

mod clients;
#[path = "../host.rs"]
#[expect(dead_code, reason = "the other suite uses all of it")]
mod host;
mod page;
