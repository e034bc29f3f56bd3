//! What lies outside this process: servers, databases, text recognition, the web. Reached only as far as an operator
//! granted it.

use std::sync::Arc;

use async_trait::async_trait;

use super::plugin::PluginInfo;
use crate::document::Rect;
use crate::error::{Error, Result};

/// Methods of a request; nothing that opens a tunnel or echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    pub const ALL: [HttpMethod; 6] = [
        HttpMethod::Get,
        HttpMethod::Head,
        HttpMethod::Post,
        HttpMethod::Put,
        HttpMethod::Patch,
        HttpMethod::Delete,
    ];

    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Head => "HEAD",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }
}

/// A request of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

/// What came back; a redirect comes back as one.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// HTTP within the grants of one plugin (`ragkit:host/http`). `Denied` names what is not granted.
#[async_trait]
pub trait Http: Send + Sync {
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse>;
}

/// A parameter or cell of a database.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// Rows of a query, cells row by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlRows {
    pub columns: Vec<String>,
    pub cells: Vec<SqlValue>,
}

/// Databases granted to one plugin by name (`ragkit:host/sql`). One statement a call.
#[async_trait]
pub trait Sql: Send + Sync {
    async fn query(&self, connection: &str, statement: &str, params: Vec<SqlValue>) -> Result<SqlRows>;
    /// Rows affected.
    async fn execute(&self, connection: &str, statement: &str, params: Vec<SqlValue>) -> Result<u64>;
}

/// A picture with text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OcrImage {
    /// PNG, JPEG, TIFF or WebP.
    Encoded(Vec<u8>),
    /// 8-bit grey pixels, row by row.
    Grey { width: u32, height: u32, pixels: Vec<u8> },
}

/// A recognised line; its area in pixels of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct OcrLine {
    pub text: String,
    pub area: Rect,
    /// From 0 to 1.
    pub confidence: f32,
}

/// Recognises text in pictures (`ragkit:host/ocr`).
#[async_trait]
pub trait Ocr: Send + Sync {
    /// What decides the outcome beside the picture, so that a document is read again after text recognition was
    /// installed or its languages changed. Cheap.
    fn identity(&self) -> String;
    /// Lines in reading order. `languages` as tesseract names them, empty for those of the knowledge base.
    /// `Unsupported` says how to install what is missing.
    async fn recognize(&self, image: OcrImage, languages: &[String]) -> Result<Vec<OcrLine>>;
}

/// A page of the web.
#[derive(Debug, Clone, PartialEq)]
pub struct WebPage {
    /// Where it was found, redirects followed; without a fragment.
    pub url: String,
    /// Its scheme, host and port.
    pub origin: String,
    /// A document's name made of the address.
    pub name: String,
    pub media_type: String,
    pub body: Vec<u8>,
    /// Absolute addresses that it links to, without fragments, none twice.
    pub links: Vec<WebLink>,
}

/// A link with the server that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebLink {
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
}

/// Reads pages of the web, within what the operator allows and their robots.txt.
#[async_trait]
pub trait Web: Send + Sync {
    /// The address as every other call writes it; `InvalidInput` says what is wrong with it.
    fn address(&self, url: &str) -> Result<WebLink>;
    /// `Denied` when the operator or the site's robots.txt does not allow it, `NotFound` when the page is gone.
    async fn page(&self, url: &str) -> Result<WebPage>;
}

/// Something that an engine found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub title: String,
    /// Where it can be read.
    pub url: String,
    /// Some words of it.
    pub summary: String,
}

/// Finds things outside that can become documents.
#[async_trait]
pub trait Connect: Send + Sync {
    fn info(&self) -> &PluginInfo;
    /// At most `limit` results, best first.
    async fn search(&self, query: &str, limit: u32) -> Result<Vec<Found>>;
}

/// A configured engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub name: String,
    /// The connector that speaks to it.
    pub plugin: String,
    /// Servers that it asks.
    pub origins: Vec<String>,
}

/// The configured engines.
pub trait Engines: Send + Sync {
    /// In the order of the configuration; the first is the default.
    fn list(&self) -> Vec<Engine>;
    /// `NotFound` when there is none of this name.
    fn engine(&self, name: &str) -> Result<Arc<dyn Connect>>;
}

/// Servers that a plugin may send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// Scheme, host and port, such as `https://example.org` or `http://127.0.0.1:8000`. A host `*.example.org` stands
    /// for all below it.
    pub origin: String,
    /// What a path must begin with; empty for any.
    pub path: String,
    /// Empty for all.
    pub methods: Vec<HttpMethod>,
    /// Whether the server may stand on this machine or in a private network.
    pub private: bool,
    /// Headers that the host adds, such as a key; plugins never see them.
    pub headers: Vec<(String, String)>,
}

/// A database that a plugin may use under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlGrant {
    pub name: String,
    /// Where it is and who logs in, as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Never shown.
    pub url: String,
}

/// What the operator lets one plugin reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginGrants {
    pub http: Vec<HttpGrant>,
    pub sql: Vec<SqlGrant>,
}

/// The operator's book of grants.
#[async_trait]
pub trait Grants: Send + Sync {
    /// Those of the configuration, then those given while running.
    fn of(&self, plugin: &str) -> PluginGrants;
    /// Replaces those given while running; `InvalidInput` says what is wrong with one. Kept over restarts.
    async fn set(&self, plugin: &str, grants: PluginGrants) -> Result<()>;
    /// Counts changes, so that what was bound under earlier grants can be told.
    fn version(&self) -> u64;
}

/// Everything outside, behind one door.
#[derive(Clone)]
pub struct Outside {
    pub web: Arc<dyn Web>,
    pub engines: Arc<dyn Engines>,
    pub grants: Arc<dyn Grants>,
}

impl Outside {
    /// Where nothing outside is reached.
    pub fn none() -> Self {
        Outside { web: Arc::new(Nothing), engines: Arc::new(Nothing), grants: Arc::new(Nothing) }
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("engines", &self.engines.list()).finish_non_exhaustive()
    }
}

struct Nothing;

fn nowhere<T>() -> Result<T> {
    Err(Error::Conflict { message: "this host reaches nothing outside itself".to_owned() })
}

#[async_trait]
impl Web for Nothing {
    fn address(&self, _: &str) -> Result<WebLink> {
        nowhere()
    }

    async fn page(&self, _: &str) -> Result<WebPage> {
        nowhere()
    }
}

impl Engines for Nothing {
    fn list(&self) -> Vec<Engine> {
        Vec::new()
    }

    fn engine(&self, name: &str) -> Result<Arc<dyn Connect>> {
        Err(Error::NotFound { what: "search engine", name: name.to_owned() })
    }
}

#[async_trait]
impl Grants for Nothing {
    fn of(&self, _: &str) -> PluginGrants {
        PluginGrants::default()
    }

    async fn set(&self, _: &str, _: PluginGrants) -> Result<()> {
        nowhere()
    }

    fn version(&self) -> u64 {
        0
    }
}
