//! Reading pages of a server of ours: robots, redirects, names, kinds of answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rag_core::ErrorCode;
use rag_core::ports::Web;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

use super::{WebReader, name_of};
use crate::config::outside;
use crate::egress::{Egress, SystemLookup};

/// Pages by path: status line, headers, body.
struct Site {
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn start(pages: &[(&str, &str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let own = |(path, head, body): &(&str, &str, &str)| {
            ((*path).to_owned(), (head.replace("ORIGIN", &origin), (*body).to_owned()))
        };
        let pages: HashMap<String, (String, String)> = pages.iter().map(own).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).await.is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let missing = ("404 Not Found".to_owned(), String::new());
                let (line, body) = pages.get(&path).cloned().unwrap_or(missing);
                noted.lock().unwrap().push(path);
                let answer = format!(
                    "HTTP/1.1 {line}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Site { origin, asked }
    }

    /// Reads pages of this server only.
    fn reader(&self) -> WebReader {
        let web =
            outside::Web { private_origins: vec![self.origin.clone()], delay_ms: 0, ..Default::default() };
        let limits = outside::Egress::default();
        let egress = Egress::new(limits.clone(), Arc::new(SystemLookup));
        WebReader::new(&web, &limits, &egress).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const HTML: &str = "200 OK\r\ncontent-type: text/html; charset=utf-8";

#[tokio::test]
async fn a_page_is_read_with_its_links_and_a_readable_name() {
    let site = Site::start(&[
        ("/robots.txt", "200 OK", "User-agent: *\nDisallow: /private"),
        ("/wiki/%E6%96%87?a=b", HTML, "<p>字</p><a href='next#x'>n</a><a href='/private/y'>p</a>"),
        ("/private/y", HTML, "secret"),
        ("/file", "200 OK\r\ncontent-type: text/plain", "%PDF-1.7"),
    ])
    .await;
    let reader = site.reader();
    let page = reader.page(&format!("{}/wiki/文?a=b#part", site.origin)).await.unwrap();
    assert_eq!(page.url, format!("{}/wiki/%E6%96%87?a=b", site.origin));
    assert_eq!((page.name.as_str(), page.media_type.as_str()), ("127.0.0.1/wiki/文?a=b", "text/html"));
    let links: Vec<&str> = page.links.iter().map(|link| link.url.as_str()).collect();
    assert_eq!(links, [format!("{}/wiki/next", site.origin), format!("{}/private/y", site.origin)]);
    assert!(page.links.iter().all(|link| link.origin == page.origin));

    let forbidden = reader.page(links[1]).await.unwrap_err();
    assert_eq!(forbidden.code(), ErrorCode::Denied);
    assert!(forbidden.to_string().contains("robots.txt"), "{forbidden}");
    assert!(!site.asked().contains(&"/private/y".to_owned()));
    let file = reader.page(&format!("{}/file", site.origin)).await.unwrap();
    assert_eq!(file.media_type, "application/pdf", "content wins over a careless server");
    assert_eq!(site.asked().iter().filter(|path| *path == "/robots.txt").count(), 1, "asked once");
    let gone = reader.page(&format!("{}/gone", site.origin)).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn redirects_are_followed_only_to_where_a_page_may_be_read() {
    let inside = Site::start(&[("/", HTML, "inside")]).await;
    let site = Site::start(&[
        ("/a", "302 Found\r\nlocation: b", ""),
        ("/b", "301 Moved\r\nlocation: ORIGIN/c", ""),
        ("/c", HTML, "here"),
        ("/loop", "302 Found\r\nlocation: /loop", ""),
        ("/to-inside", &format!("302 Found\r\nlocation: {}/", inside.origin), ""),
        ("/to-metadata", "302 Found\r\nlocation: http://169.254.169.254/latest/meta-data/", ""),
        ("/to-file", "302 Found\r\nlocation: file:///etc/passwd", ""),
        ("/to-user", "302 Found\r\nlocation: http://user:pass@127.0.0.1/", ""),
        ("/ill", "500 Oops", ""),
        ("/locked", "401 Unauthorized", ""),
    ])
    .await;
    let reader = site.reader();
    let page = reader.page(&format!("{}/a", site.origin)).await.unwrap();
    assert_eq!(page.url, format!("{}/c", site.origin));
    for (path, code) in [
        ("/loop", ErrorCode::InvalidInput),
        ("/to-inside", ErrorCode::Denied),
        ("/to-metadata", ErrorCode::Denied),
        ("/to-file", ErrorCode::InvalidInput),
        ("/to-user", ErrorCode::InvalidInput),
        ("/ill", ErrorCode::Unavailable),
        ("/locked", ErrorCode::Denied),
    ] {
        let error = reader.page(&format!("{}{path}", site.origin)).await.unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
    }
    assert!(inside.asked().is_empty(), "{:?}", inside.asked());
}

#[tokio::test]
async fn what_is_no_page_for_us_is_refused() {
    let site = Site::start(&[("/robots.txt", "503 Busy", ""), ("/x", HTML, "x")]).await;
    let reader = site.reader();
    let error = reader.page(&format!("{}/x", site.origin)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "a site that cannot say what it allows: {error}");
    for url in ["http://127.0.0.1/", "http://localhost:1/", "http://[::1]/", "http://169.254.169.254/"] {
        assert_eq!(reader.page(url).await.unwrap_err().code(), ErrorCode::Denied, "{url}");
    }
    for url in ["", "words", "file:///etc/passwd", "ftp://example.org/", "http://a@b/"] {
        assert_eq!(reader.page(url).await.unwrap_err().code(), ErrorCode::InvalidInput, "{url}");
        assert!(reader.address(url).is_err());
    }
    let off = outside::Web { enabled: false, ..Default::default() };
    let limits = outside::Egress::default();
    let egress = Egress::new(limits.clone(), Arc::new(SystemLookup));
    let reader = WebReader::new(&off, &limits, &egress).unwrap();
    assert_eq!(reader.page("http://example.org/").await.unwrap_err().code(), ErrorCode::Denied);
}

#[test]
fn names_of_documents_are_readable_and_stay_inside() {
    for (url, name) in [
        ("https://zh.example.org/", "zh.example.org"),
        ("https://a/b//c/", "a/b/c"),
        ("https://a/%2e%2e/%2fetc%2fpasswd", "a/_etc_passwd"),
        ("https://a/%E7%9F%A5%E8%AF%86.html?id=3%0A", "a/知识.html?id=3_"),
        ("https://a/%ff", "a/%ff"),
        ("https://a/x%5c..%5cy", "a/x_.._y"),
    ] {
        let found = name_of(&Url::parse(url).unwrap());
        assert_eq!(found, name);
        assert_eq!(rag_core::media::document_name(&found).unwrap(), found, "{url}");
    }
    let long = name_of(&Url::parse(&format!("https://a/{}", "%E5%AD%97".repeat(300))).unwrap());
    assert!(long.len() <= 512 && long.contains('~'), "{long}");
    assert_ne!(long, name_of(&Url::parse(&format!("https://a/{}", "%E5%AD%97".repeat(301))).unwrap()));
}
