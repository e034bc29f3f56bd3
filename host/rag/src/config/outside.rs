//! Settings of what reaches outside: requests and their grants, the web, text recognition.

use serde::{Deserialize, Serialize};

/// Bounds of every request that leaves this host for a plugin or to read the web.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Egress {
    /// Of a whole exchange, in milliseconds.
    pub(crate) timeout_ms: u64,
    pub(crate) connect_timeout_ms: u64,
    /// Bytes of a body.
    pub(crate) request_bytes_max: usize,
    pub(crate) response_bytes_max: usize,
    /// Requests under one grant at once; more wait.
    pub(crate) requests_max: usize,
}

/// A server that a plugin may ask.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpGrant {
    pub(crate) plugin: String,
    /// `https://example.org`, `https://*.example.org` or `http://127.0.0.1:8000`.
    pub(crate) origin: String,
    /// What paths begin with; empty for any.
    pub(crate) path: String,
    /// `GET`, `POST`, …; empty for all.
    pub(crate) methods: Vec<String>,
    /// Whether it may stand on this machine or in a private network.
    pub(crate) private: bool,
    /// Headers that the host adds: a value, `env:NAME` or `file:PATH`.
    pub(crate) headers: std::collections::BTreeMap<String, String>,
}

/// A PostgreSQL database that a plugin may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SqlGrant {
    pub(crate) plugin: String,
    pub(crate) name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, `env:NAME` or `file:PATH`.
    pub(crate) url: String,
}

/// Reading pages and asking search engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Web {
    /// Whether pages of the web may be ingested.
    pub(crate) enabled: bool,
    /// Servers on this machine or in a private network whose pages may be read too, such as `http://wiki.local`.
    pub(crate) private_origins: Vec<String>,
    /// Bytes of one page or file.
    pub(crate) page_bytes_max: usize,
    /// Between two pages of one crawl, in milliseconds.
    pub(crate) delay_ms: u64,
    /// Engines that the web search asks; the first is the default.
    pub(crate) engines: Vec<Engine>,
}

/// A search engine, with the servers that its connector may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Engine {
    pub(crate) name: String,
    /// The connector.
    pub(crate) plugin: String,
    pub(crate) origins: Vec<String>,
    /// Whether they may stand on this machine or in a private network.
    #[serde(default)]
    pub(crate) private: bool,
    /// Of the connector, as a JSON object.
    pub(crate) settings: String,
}

/// Text recognition by tesseract in a process of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ocr {
    /// The program; empty recognises nothing.
    pub(crate) command: String,
    /// Pictures recognised at once.
    pub(crate) processes: usize,
    /// Of one picture, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Memory of the process, in bytes of address space.
    pub(crate) memory_bytes_max: u64,
}

impl Default for Egress {
    fn default() -> Self {
        Egress {
            timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            request_bytes_max: 32 << 20,
            response_bytes_max: 16 << 20,
            requests_max: 8,
        }
    }
}

impl Default for Web {
    fn default() -> Self {
        let engine = |name: &str, origin: &str, settings: &str| Engine {
            name: name.to_owned(),
            plugin: "connector-web".to_owned(),
            origins: vec![origin.to_owned()],
            private: false,
            settings: settings.to_owned(),
        };
        Web {
            enabled: true,
            private_origins: Vec::new(),
            page_bytes_max: 16 << 20,
            delay_ms: 500,
            engines: vec![
                engine(
                    "wikipedia-zh",
                    "https://zh.wikipedia.org",
                    r#"{"engine": "wikipedia", "url": "https://zh.wikipedia.org"}"#,
                ),
                engine(
                    "wikipedia-en",
                    "https://en.wikipedia.org",
                    r#"{"engine": "wikipedia", "url": "https://en.wikipedia.org"}"#,
                ),
                engine(
                    "baike",
                    "https://baike.baidu.com",
                    r#"{"engine": "baike", "url": "https://baike.baidu.com"}"#,
                ),
            ],
        }
    }
}

impl Default for Ocr {
    fn default() -> Self {
        Ocr { command: "tesseract".to_owned(), processes: 1, timeout_ms: 120_000, memory_bytes_max: 2 << 30 }
    }
}
