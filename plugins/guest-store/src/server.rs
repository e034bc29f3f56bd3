//! How does an adapter talk to its server? JSON over granted HTTP, or SQL, with errors that say who must do what.

use serde_json::Value as Json;

use crate::{Code, Error, Result, Settings};

/// Characters of a server's own words in an error.
const SAID_CHARS: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// HTTP as the host grants it.
pub trait Http {
    fn fetch(&self, request: Request) -> Result<Response>;
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
    pub columns: usize,
    pub cells: Vec<SqlValue>,
}

impl SqlRows {
    pub fn rows(&self) -> impl Iterator<Item = &[SqlValue]> {
        self.cells.chunks_exact(self.columns.max(1))
    }
}

/// A database as the host grants it; one statement a call.
pub trait Sql {
    fn query(&self, connection: &str, statement: &str, params: &[SqlValue]) -> Result<SqlRows>;
    /// Rows affected.
    fn execute(&self, connection: &str, statement: &str, params: &[SqlValue]) -> Result<u64>;
}

/// A server that speaks JSON over HTTP.
pub struct Server {
    /// As messages name it, e.g. `Chroma`.
    kind: &'static str,
    /// Without a slash at the end.
    url: String,
    http: Box<dyn Http>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.kind, self.url)
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Null where the body is no JSON.
    pub json: Json,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The server's own words, shortened.
    fn said(&self) -> String {
        let own = ["message", "error", "detail", "reason"]
            .iter()
            .find_map(|key| self.json[key].as_str().or_else(|| self.json[key]["reason"].as_str()))
            .or_else(|| self.json["status"]["error"].as_str());
        let text = own.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        text.chars().filter(|c| !c.is_control()).take(SAID_CHARS).collect()
    }
}

impl Server {
    /// Reads the setting `url`.
    pub fn new(
        kind: &'static str,
        settings: &Settings,
        default_url: &str,
        http: Box<dyn Http>,
    ) -> Result<Self> {
        let url = settings.text("url", default_url).map_err(Error::invalid)?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Error::invalid("setting 'url' must begin with http:// or https://".to_owned()));
        }
        Ok(Server { kind, url: url.trim_end_matches('/').to_owned(), http })
    }

    /// Sends JSON, or nothing when `body` is none. An error means that no server answered.
    pub fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        self.send_as(method, path, body, "application/json")
    }

    /// The same with a body of another type.
    pub fn send_as(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        media_type: &str,
    ) -> Result<Answer> {
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if body.is_some() {
            headers.push(("content-type".to_owned(), media_type.to_owned()));
        }
        let request = Request { method, url: format!("{}{path}", self.url), headers, body };
        let response = self.http.fetch(request)?;
        let json = serde_json::from_slice(&response.body).unwrap_or(Json::Null);
        Ok(Answer { status: response.status, json, body: response.body })
    }

    /// The JSON of a success; else what the status means.
    pub fn call(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json> {
        let answer = self.send(method, path, body.map(|body| body.to_string().into_bytes()))?;
        self.check(answer).map(|answer| answer.json)
    }

    /// The answer when it is a success; else what its status means.
    pub fn check(&self, answer: Answer) -> Result<Answer> {
        if answer.is_success() {
            return Ok(answer);
        }
        Err(self.refused(answer.status, &answer.said()))
    }

    /// What a status means, with the server's words.
    pub fn refused(&self, status: u16, said: &str) -> Error {
        let (code, advice, retryable) = match status {
            401 | 403 => {
                (Code::Unavailable, ": put its key into the headers of the grant (plugins.http)", false)
            }
            404 => (Code::NotFound, "", false),
            409 => (Code::Conflict, "", false),
            400 | 413 | 422 => (Code::InvalidInput, "", false),
            429 => (Code::Unavailable, ": it has too much to do", true),
            500.. => (Code::Unavailable, ": look into the server's log", true),
            _ => (Code::Unavailable, ": is this the right address?", false),
        };
        let message = format!("{self:?} answers with status {status}{advice}: {said}");
        Error { code, message: message.trim_end_matches([' ', ':']).to_owned(), retryable }
    }

    /// A shape of an answer that this adapter does not know.
    pub fn strange(&self, what: &str) -> Error {
        let message = format!("{self:?} answers without {what}: is this server of another kind or version?");
        Error { code: Code::Unavailable, message, retryable: false }
    }
}

/// Something may be there later.
pub fn unavailable(message: &str) -> Error {
    Error { code: Code::Unavailable, message: message.to_owned(), retryable: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn server(script: &Script) -> Server {
        let settings = Settings::parse(r#"{"url": "http://v:1/"}"#, &["url"]).unwrap();
        Server::new("Store", &settings, "http://x", Box::new(script.clone())).unwrap()
    }

    #[test]
    fn errors_name_the_server_and_what_to_do() {
        for (status, body, code, words) in [
            (401, r#"{"message": "no key"}"#, Code::Unavailable, "grant (plugins.http): no key"),
            (404, r#"{"error": "none"}"#, Code::NotFound, "404: none"),
            (409, "", Code::Conflict, "409"),
            (422, r#"{"error": {"reason": "dim"}}"#, Code::InvalidInput, "dim"),
            (500, "<html>\u{7}", Code::Unavailable, "server's log: <html>"),
            (302, "", Code::Unavailable, "right address?"),
        ] {
            let script = Script::default();
            script.answer(status, body);
            let error = server(&script).call(Method::Get, "/a", None).unwrap_err();
            assert_eq!(error.code, code, "{error:?}");
            assert!(error.message.starts_with("Store at http://v:1 answers"), "{error:?}");
            assert!(error.message.contains(words), "{error:?}");
            assert_eq!(script.requests()[0].url, "http://v:1/a");
        }
        let error = server(&Script::default()).call(Method::Get, "/", None).unwrap_err();
        assert!(error.retryable, "the host's own words: {error:?}");
        let bad = Settings::parse(r#"{"url": "ftp://v"}"#, &["url"]).unwrap();
        assert!(Server::new("Store", &bad, "", Box::new(Script::default())).is_err());
    }
}
