//! The own API under `/api/v1`: one file a resource.

pub(crate) mod ask;
pub(crate) mod bundle;
pub(crate) mod conversations;
pub(crate) mod curate;
pub(crate) mod documents;
pub(crate) mod filter;
pub(crate) mod folders;
pub(crate) mod generations;
pub(crate) mod jobs;
pub(crate) mod kbs;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod models;
pub(crate) mod multipart;
pub(crate) mod overview;
pub(crate) mod plugins;
pub(crate) mod pulls;
pub(crate) mod questions;
pub(crate) mod resumable;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod tuning;
pub(crate) mod upload;
pub(crate) mod users;
pub(crate) mod web;
