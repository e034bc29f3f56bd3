//! HTTP requests that another process answers: what a web role passes on and an index role answers.

use std::net::IpAddr;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::error::Result;

/// One request, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRequest {
    pub method: String,
    /// Path and query, e.g. `/api/v1/kbs?limit=3`.
    pub target: String,
    /// Names in lower case; a name may come several times.
    pub headers: Vec<(String, Bytes)>,
    pub body: Bytes,
    /// Who sent it.
    pub peer: IpAddr,
}

/// The beginning of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteHead {
    pub status: u16,
    pub headers: Vec<(String, Bytes)>,
}

/// The rest of it, as it comes.
pub type SiteBody = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Whoever answers HTTP. Dropping the body ends the request.
#[async_trait]
pub trait Site: Send + Sync {
    async fn answer(&self, request: SiteRequest) -> Result<(SiteHead, SiteBody)>;
}
