//! The document goes out whole, and what comes back becomes blocks.

use std::collections::VecDeque;

use guest_doc::{Block, DocError, Document, File, HostError, Result, Summary, read_all};
use guest_settings::Settings;

use crate::answer;

/// Bytes of a document that is sent: what a call of a parser may hand to the host leaves no room for more.
const DOCUMENT_BYTES_MAX: u64 = 30 << 20;
const URL_DEFAULT: &str = "http://127.0.0.1:9998/tika";
/// Characters of a server's own words in an error.
const SAID_CHARS: usize = 300;

/// A document on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// As its header says, with parameters.
    pub media_type: String,
    pub body: Vec<u8>,
}

/// HTTP as the host grants it.
pub trait Http {
    fn put(&self, request: Request) -> Result<Response, HostError>;
}

/// Sends the file and reads the answer.
pub fn open(file: &dyn File, settings: &str, http: &dyn Http) -> Result<Box<dyn Document>> {
    let settings = Settings::parse(settings, &["url"]).map_err(DocError::Invalid)?;
    let url = settings.text("url", URL_DEFAULT).map_err(DocError::Invalid)?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(DocError::invalid("setting 'url' must begin with http:// or https://"));
    }
    let body = read_all(file, DOCUMENT_BYTES_MAX)?;
    let headers = vec![
        ("accept".to_owned(), "text/html, text/markdown;q=0.9, text/plain;q=0.8".to_owned()),
        ("content-type".to_owned(), file.media_type()),
        ("content-disposition".to_owned(), disposition(&file.name())),
    ];
    let response = http.put(Request { url: url.clone(), headers, body })?;
    let (blocks, mut summary) = match response.status {
        200 => answer::read(&response.media_type, &response.body)?,
        204 => Default::default(),
        status => return Err(refused(&url, status, &response.body)),
    };
    summary.add("parsed-by", &url);
    Ok(Box::new(Answered { blocks: blocks.into(), summary }))
}

/// The name's last part, percent-encoded (RFC 6266).
fn disposition(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.rsplit('/').next().unwrap_or(name).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("attachment; filename*=UTF-8''{encoded}")
}

/// What a status means, with the server's words.
fn refused(url: &str, status: u16, body: &[u8]) -> DocError {
    let said: String =
        String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(SAID_CHARS).collect();
    let told = |advice: &str| {
        let message = format!("the parser service at {url} answers with status {status}{advice}: {said}");
        message.trim_end_matches([' ', ':']).to_owned()
    };
    let outside = |advice: &str, retryable: bool| {
        DocError::Host(HostError { code: HostError::UNAVAILABLE, message: told(advice), retryable })
    };
    match status {
        415 | 422 => DocError::Unsupported(told(" (it cannot read this document)")),
        413 => DocError::TooLarge(told("")),
        401 | 403 => outside(", so put its key into the headers of the grant (plugins.http)", false),
        404 | 405 => outside(", so its address is wrong (setting url)", false),
        429 | 502..=504 => outside(" (it has too much to do, or is starting)", true),
        500 => DocError::Invalid(told(" (it failed on this document)")),
        _ => outside("", false),
    }
}

struct Answered {
    blocks: VecDeque<Block>,
    summary: Summary,
}

impl Document for Answered {
    fn more(&mut self, blocks: &mut Vec<Block>) -> Result<bool> {
        blocks.extend(self.blocks.pop_front());
        Ok(!self.blocks.is_empty())
    }

    fn summary(&self) -> Summary {
        self.summary.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use guest_doc::{Kind, Memory};

    use super::*;

    struct Script {
        answer: Result<Response, HostError>,
        asked: RefCell<Vec<Request>>,
    }

    impl Http for Script {
        fn put(&self, request: Request) -> Result<Response, HostError> {
            self.asked.borrow_mut().push(request);
            self.answer.clone()
        }
    }

    fn answered(status: u16, media_type: &str, body: &str) -> Script {
        let response = Response { status, media_type: media_type.to_owned(), body: body.as_bytes().to_vec() };
        Script { answer: Ok(response), asked: RefCell::default() }
    }

    fn read(script: &Script) -> Result<(Vec<Block>, Summary)> {
        let file = Memory::file("信/合同.doc", "application/x-ole-storage", b"OLE".to_vec());
        let mut document = open(file.as_ref(), r#"{"url": "http://tika:9998/tika"}"#, script)?;
        let mut blocks = Vec::new();
        while document.more(&mut blocks)? {}
        Ok((blocks, document.summary()))
    }

    #[test]
    fn a_document_goes_out_whole_and_comes_back_as_blocks() {
        let script = answered(
            200,
            "text/html;charset=UTF-8",
            "<html><head><title>合同</title></head><body><h1>总则</h1><p>甲方付款。</p></body></html>",
        );
        let (blocks, summary) = read(&script).unwrap();
        let texts: Vec<_> = blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
        assert_eq!(texts, [(Kind::Heading(1), "总则"), (Kind::Paragraph, "甲方付款。")]);
        assert_eq!(summary.title.as_deref(), Some("合同"));
        let asked = &script.asked.borrow()[0];
        assert_eq!((asked.url.as_str(), asked.body.as_slice()), ("http://tika:9998/tika", &b"OLE"[..]));
        let header = |name: &str| asked.headers.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(header("content-type"), "application/x-ole-storage");
        assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''%E5%90%88%E5%90%8C.doc");
        assert!(header("accept").starts_with("text/html"));
    }

    #[test]
    fn what_a_status_means_is_told_with_the_servers_words() {
        for (status, retryable, words) in [
            (401, Some(false), "grant"),
            (404, Some(false), "setting url"),
            (503, Some(true), "too much to do"),
            (429, Some(true), "too much to do"),
            (302, Some(false), "302"),
            (415, None, "cannot read"),
            (422, None, "cannot read"),
            (500, None, "failed on this document"),
        ] {
            let error = read(&answered(status, "text/plain", "own\nwords")).err().unwrap();
            assert!(error.to_string().contains(words) && error.to_string().contains("ownwords"), "{error}");
            let told = match &error {
                DocError::Host(error) => Some(error.retryable),
                _ => None,
            };
            assert_eq!(told, retryable, "{status}");
        }
        let gone =
            HostError { code: HostError::UNAVAILABLE, message: "no grant".to_owned(), retryable: false };
        let script = Script { answer: Err(gone.clone()), asked: RefCell::default() };
        assert_eq!(read(&script).err(), Some(DocError::Host(gone)));
        assert!(read(&answered(204, "", "")).unwrap().0.is_empty());
        let file = Memory::file("a", "application/pdf", b"x".to_vec());
        assert!(open(file.as_ref(), r#"{"url": "ftp://x"}"#, &answered(200, "", "")).is_err());
    }
}
