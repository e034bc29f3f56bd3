//! The own API under `/api/v1`: one file a resource.

pub(crate) mod ask;
pub(crate) mod conversations;
pub(crate) mod documents;
pub(crate) mod filter;
pub(crate) mod jobs;
pub(crate) mod kbs;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod multipart;
pub(crate) mod search;
pub(crate) mod status;
pub(crate) mod upload;
