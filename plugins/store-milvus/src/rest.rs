//! How does one call of Milvus's REST interface go? Everything answers with status 200; what happened is a code within.

use guest_store::{Code, Error, Http, Method, Result, Server, Settings};
use serde_json::{Value as Json, json};

/// A generation of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// Milvus 2.3: ids are numbers that the server gives, reads may be behind writes.
    V1,
    /// Milvus 2.4 and later.
    V2,
}

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    List,
    Create,
    Describe,
    Drop,
    Insert,
    Upsert,
    Delete,
    Query,
    Search,
}

impl Call {
    fn path(self, api: Api) -> String {
        let (collections, entities) = match api {
            Api::V1 => ("/v1/vector/collections", "/v1/vector"),
            Api::V2 => ("/v2/vectordb/collections", "/v2/vectordb/entities"),
        };
        match self {
            // The list has no name in v1.
            Call::List if api == Api::V1 => collections.to_owned(),
            Call::List => format!("{collections}/list"),
            Call::Create => format!("{collections}/create"),
            Call::Describe => format!("{collections}/describe"),
            Call::Drop => format!("{collections}/drop"),
            Call::Insert => format!("{entities}/insert"),
            Call::Upsert => format!("{entities}/upsert"),
            Call::Delete => format!("{entities}/delete"),
            Call::Query => format!("{entities}/query"),
            Call::Search => format!("{entities}/search"),
        }
    }
}

/// A server and how it is spoken to.
#[derive(Debug)]
pub(crate) struct Rest {
    server: Server,
    pub(crate) api: Api,
}

impl Rest {
    pub(crate) fn open(settings: &Settings, http: Box<dyn Http>) -> Result<Self> {
        let api = settings.choice("api", &[("v2", Api::V2), ("v1", Api::V1)], Api::V2);
        let server = Server::new("Milvus", settings, "http://127.0.0.1:19530", http)?;
        Ok(Rest { server, api: api.map_err(Error::invalid)? })
    }

    /// The `data` of a success; else what the code means. `body` has the collection's name as the server knows it.
    pub(crate) fn call(&self, call: Call, body: &Json) -> Result<Json> {
        let path = call.path(self.api);
        let mut answer = match (self.api, call) {
            (Api::V1, Call::List) => self.server.call(Method::Get, &path, None)?,
            (Api::V1, Call::Describe) => {
                let name = body["collectionName"].as_str().unwrap_or_default();
                self.server.call(Method::Get, &format!("{path}?collectionName={name}"), None)?
            }
            _ => self.server.call(Method::Post, &path, Some(body))?,
        };
        match answer["code"].as_i64() {
            // v2 began with 200, too.
            Some(0 | 200) => Ok(answer["data"].take()),
            Some(code) => Err(self.refused(code, answer["message"].as_str().unwrap_or_default())),
            None => Err(self.server.strange("a code")),
        }
    }

    /// The same about one collection.
    pub(crate) fn on(&self, call: Call, name: &str, mut body: Json) -> Result<Json> {
        body["collectionName"] = json!(name);
        self.call(call, &body)
    }

    pub(crate) fn strange(&self, what: &str) -> Error {
        self.server.strange(what)
    }

    /// What a code means (the server's own table of errors, `merr`).
    fn refused(&self, code: i64, said: &str) -> Error {
        let (meaning, retryable) = match code {
            // No such collection.
            4 | 100 => (Code::NotFound, false),
            // Parameters, and what the REST interface itself finds wrong with a request.
            1100..=1199 | 1801..=1805 => (Code::InvalidInput, false),
            // Not loaded yet, too much to do, not ready.
            1..=19 | 101..=199 => (Code::Unavailable, true),
            _ => (Code::Unavailable, false),
        };
        let message = format!("{:?} answers with code {code}: {said}", self.server);
        Error { code: meaning, message, retryable }
    }
}
