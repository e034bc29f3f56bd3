//! A hub on this machine that breaks off, lies about sizes, serves wrong bytes and leads elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The commit that `main` is.
pub(super) const COMMIT: &str = "c0ffee";

/// What the server does with one request for a large file.
#[derive(Debug, Clone)]
pub(super) enum Does {
    /// Sends all that is asked for.
    Serve,
    /// Announces all and hangs up after so many bytes.
    BreakAfter(usize),
    /// Announces so many bytes more than there are.
    Announce(usize),
    /// Sends bytes that nobody announced.
    Flood(usize),
    /// Flips a bit.
    Spoil,
    /// Sends all from the start, whatever was asked for.
    IgnoreRange,
    /// Sends another part than was asked for.
    OtherRange,
    /// Calls its bytes by another name from now on, and so keeps to `If-Range`.
    Renamed,
    Status(&'static str),
    /// Answers nothing.
    Hang,
    /// Leads to another address.
    Redirect(String),
}

/// How the hub describes its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// Sizes and hashes in its description.
    Everything,
    /// Names only; sizes and hashes in the headers of each file.
    Headers,
    Nothing,
}

/// A request for a large file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) from: usize,
    pub(super) if_range: Option<String>,
}

/// One repository, `owner/name`; files above `LARGE` bytes are those whose hash is a SHA-256.
pub(super) struct Hub {
    pub(super) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    paths: Arc<Mutex<Vec<String>>>,
}

const LARGE: usize = 1 << 20;

struct Served {
    files: BTreeMap<String, Vec<u8>>,
    does: Vec<Does>,
    tells: Tells,
    asked: Arc<Mutex<Vec<Asked>>>,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Does `does` with requests for large files, one after the other, the last for ever.
    pub(super) async fn start(files: &[(&str, Vec<u8>)], does: &[Does], tells: Tells) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, paths) = <(Arc<Mutex<Vec<Asked>>>, Arc<Mutex<Vec<String>>>)>::default();
        let served = Served {
            files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect(),
            does: does.to_vec(),
            tells,
            asked: asked.clone(),
            paths: paths.clone(),
        };
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                served.one(socket).await;
            }
        });
        Hub { address, asked, paths }
    }

    /// Requests for large files so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Where those began.
    pub(super) fn began(&self) -> Vec<usize> {
        self.asked().iter().map(|asked| asked.from).collect()
    }

    /// Files that were asked for with GET.
    pub(super) fn fetched(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

impl Served {
    async fn one(&self, mut socket: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut block = [0; 1024];
            match socket.read(&mut block).await {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(&block[..read]),
            }
        }
        let answer = self.answer(&String::from_utf8(request).unwrap());
        if answer.is_empty() {
            // Until the client goes.
            let _ = socket.read(&mut [0]).await;
        }
        // The client may hang up first.
        let _ = socket.write_all(&answer).await;
    }

    fn answer(&self, request: &str) -> Vec<u8> {
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path == "/api/models/owner/name/revision/main?blobs=true" {
            return whole(self.description().into_bytes());
        }
        let file = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"));
        let Some((name, bytes)) = file.and_then(|file| self.files.get_key_value(file)) else {
            return status("404 Not Found");
        };
        if request.starts_with("HEAD ") {
            return self.head(bytes);
        }
        self.paths.lock().unwrap().push(name.clone());
        if bytes.len() < LARGE {
            return whole(bytes.clone());
        }
        let header = |wanted: &str| {
            let found = request
                .lines()
                .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(wanted)));
            found.map(|(_, value)| value.to_owned())
        };
        let from =
            header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let asked = Asked { from: from.unwrap_or(0), if_range: header("if-range") };
        let turn = {
            let mut all = self.asked.lock().unwrap();
            all.push(asked.clone());
            all.len() - 1
        };
        content(&self.does[turn.min(self.does.len() - 1)], &asked, bytes)
    }

    fn description(&self) -> String {
        let sibling = |(name, bytes): (&String, &Vec<u8>)| match self.tells {
            Tells::Everything if bytes.len() >= LARGE => {
                let lfs = json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 1});
                json!({"rfilename": name, "size": bytes.len(), "blobId": "00", "lfs": lfs})
            }
            Tells::Everything => json!({"rfilename": name, "size": bytes.len(), "blobId": git(bytes)}),
            Tells::Headers | Tells::Nothing => json!({"rfilename": name}),
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        json!({"sha": COMMIT, "cardData": {"license": "apache-2.0"}, "siblings": siblings}).to_string()
    }

    /// As the hub answers for a file that is kept elsewhere.
    fn head(&self, bytes: &[u8]) -> Vec<u8> {
        if self.tells == Tells::Nothing {
            return b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        }
        let hash = if bytes.len() < LARGE { git(bytes) } else { sha256(bytes) };
        format!(
            "HTTP/1.1 302 Found\r\nlocation: https://elsewhere.invalid/\r\nx-linked-etag: \"{hash}\"\r\nx-linked-size: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            bytes.len()
        )
        .into_bytes()
    }
}

fn content(does: &Does, asked: &Asked, file: &[u8]) -> Vec<u8> {
    let (total, from) = (file.len(), asked.from);
    let head = |from: usize, announced: usize, tag: &str| {
        let range = format!("content-range: bytes {from}-{}/{total}\r\n", total - 1);
        let (status, range) =
            if from > 0 { ("206 Partial Content", range) } else { ("200 OK", String::new()) };
        format!("HTTP/1.1 {status}\r\n{range}etag: \"{tag}\"\r\ncontent-length: {announced}\r\nconnection: close\r\n\r\n")
            .into_bytes()
    };
    let rest = &file[from..];
    match does {
        Does::Serve => [head(from, rest.len(), "first"), rest.to_vec()].concat(),
        Does::BreakAfter(bytes) => [head(from, rest.len(), "first"), rest[..*bytes].to_vec()].concat(),
        Does::Announce(more) => [head(from, rest.len() + more, "first"), rest.to_vec()].concat(),
        Does::Flood(more) => {
            let endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            [endless, file.to_vec(), vec![0; *more]].concat()
        }
        Does::Spoil => {
            let mut rest = rest.to_vec();
            rest[7] ^= 1;
            [head(from, rest.len(), "first"), rest].concat()
        }
        Does::IgnoreRange => [head(0, total, "first"), file.to_vec()].concat(),
        Does::Renamed if asked.if_range.as_deref() == Some("\"second\"") => {
            [head(from, rest.len(), "second"), rest.to_vec()].concat()
        }
        Does::Renamed => [head(0, total, "second"), file.to_vec()].concat(),
        Does::OtherRange => {
            [head(from - 5, rest.len(), "first"), file[from - 5..total - 5].to_vec()].concat()
        }
        Does::Status(line) => status(line),
        Does::Hang => Vec::new(),
        Does::Redirect(to) => {
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .into_bytes()
        }
    }
}

fn whole(body: Vec<u8>) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Bytes of a large file.
pub(super) fn content_of(seed: u32) -> Vec<u8> {
    (0..300_000_u32).flat_map(|i| (i ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
