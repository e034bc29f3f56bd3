//! A parser service of the operator's: asked where a knowledge base names it and a grant allows it, and nowhere else;
//! one that breaks off, lies or is slow is told in plain words.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Events, Host, answer};

/// The first line and the headers of a request, and its body.
fn request(mut stream: &TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or_default() == 1 {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Plays Tika's server; how well, the document's first word decides. `slow` waits until the test is over.
fn serve(stream: &TcpStream, asked: &Sender<(String, Vec<u8>)>, over: &Receiver<()>) {
    let (head, body) = request(stream);
    let page = "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title/></head><body>\
        <div class=\"page\"><p>灯塔每十二秒闪一次。</p></div><div class=\"page\"><p>The beam reaches nine miles.</p></div>\
        </body></html>";
    let whole = |status: &str, kind: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let word = String::from_utf8_lossy(&body).split(' ').next().unwrap_or_default().to_owned();
    let _ = asked.send((head, body));
    let told = match word.as_str() {
        "good" => whole("200 OK", "text/html;charset=UTF-8", page),
        "cut" => "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 999\r\n\r\n<html><p>half"
            .to_owned(),
        "picture" => whole("200 OK", "image/png", "\u{1}PNG"),
        "binary" => whole("200 OK", "text/plain", "a\0b"),
        "nothing" => whole("204 No Content", "text/plain", ""),
        "endless" => {
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40)
        }
        "locked" => whole("422 Unprocessable Entity", "text/plain", "it is encrypted"),
        "elsewhere" => whole("302 Found\r\nlocation: http://169.254.169.254/", "text/plain", ""),
        "slow" => {
            let _ = over.recv();
            String::new()
        }
        _ => whole("500 Internal Server Error", "text/plain", "no such word"),
    };
    let mut stream = stream;
    let _ = stream.write_all(told.as_bytes());
}

/// Sends a file that nobody else reads; its job once it ended, or was put off.
fn document(host: &Host) -> impl AsyncFn(&str) -> Value + '_ {
    async move |word: &str| {
        let job = host.upload("initial", &format!("{word}/合同.bin"), format!("{word} \u{1}\0 bytes")).await;
        let path = format!("/api/v1/jobs/{}/events", job["id"].as_str().unwrap());
        let mut events = Events::open(host.request(Method::GET, &path)).await;
        while let Some((name, job)) = events.next().await {
            // What may pass is tried again later, and says why.
            if name == "end" || job["attempts"].as_u64() > Some(0) {
                return job;
            }
        }
        panic!("the job's events ended before the job");
    }
}

#[tokio::test]
async fn a_parser_service_is_asked_by_grant_and_choice_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (asked, heard) = channel();
    let (over, waiting) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(&stream, &asked, &waiting);
        }
    });
    let mut data = Data::new().set("EGRESS", "TIMEOUT_MS", 1_500);
    let host = data.start();
    let send = document(&host);

    // Neither chosen nor granted: nobody reads such a file, and nothing leaves the host.
    let job = send("good").await;
    assert!(job["error"].as_str().unwrap().contains("no installed parser reads"), "{job}");
    let chosen = json!({"publish": true, "parsers": [
        {"id": "parse-remote", "settings": {"url": format!("{origin}/tika")}}]});
    let staged = host.post("/api/v1/kbs/initial/plugins/swap", &chosen).await;
    assert_eq!(staged["status"], 202, "{staged}");
    if staged["state"] == "building" {
        host.follow(&json!({"id": staged["job"]})).await;
    }
    let job = send("good").await;
    let told = job["error"].as_str().or(job["reason"].as_str()).unwrap();
    assert!(told.contains("granted no server"), "{job}");
    assert!(heard.try_recv().is_err(), "nothing left the host");

    let grant = json!({"http": [{"origin": origin, "path": "/tika", "methods": ["PUT"], "private": true,
        "headers": [{"name": "x-key", "value": "secret"}]}]});
    let path = "/api/v1/plugins/parse-remote/grants";
    assert_eq!(answer(host.request(Method::PUT, path).json(&grant)).await["status"], 200);
    let job = send("good").await;
    assert_eq!(job["state"], "done", "{job}");
    let (head, body) = heard.recv().unwrap();
    assert!(head.starts_with("put /tika http/1.1"), "{head}");
    assert!(head.contains("x-key: secret") && head.contains("accept: text/html"), "{head}");
    assert!(head.contains("%e5%90%88%e5%90%8c.bin"), "{head}");
    assert_eq!(body, "good \u{1}\0 bytes".as_bytes());
    let question = json!({"question": "How far does the beam reach?"});
    let found = host.post("/api/v1/kbs/initial/search", &question).await;
    let hit =
        found["hits"].as_array().unwrap().iter().find(|hit| hit["text"].to_string().contains("nine miles"));
    // Both short pages are one chunk, which begins on the first.
    assert_eq!(hit.unwrap()["page"], 1, "{found}");
    // A format that the host reads itself goes there too, because that was chosen; text does not.
    host.ingest("initial", "plain.txt", "Words that stay here.").await;
    assert!(heard.try_recv().is_err());

    for (word, words) in [
        ("cut", "127.0.0.1"),
        ("picture", "image/png"),
        ("binary", "binary data"),
        ("nothing", "no text"),
        ("endless", "egress.response_bytes_max"),
        ("locked", "it is encrypted"),
        ("elsewhere", "302"),
        ("other", "failed on this document"),
        ("slow", "egress.timeout_ms"),
    ] {
        let job = send(word).await;
        let told =
            job["error"].as_str().or(job["reason"].as_str()).unwrap_or_else(|| panic!("{word}: {job}"));
        assert!(told.contains(words), "{word}: {job}");
    }
    drop(over);
    assert_eq!(host.index("initial").await.len(), 2, "what failed leaves nothing");
    released(&host).await;
}

/// What only a fixed parser reads keeps it; then it is fixed no longer, and what was not fixed cannot be released.
async fn released(host: &Host) {
    const PLUGINS: &str = "/api/v1/kbs/initial/plugins";
    let release = async || {
        let change = json!({"publish": true, "release": ["parse-remote"]});
        let staged = host.post(&format!("{PLUGINS}/swap"), &change).await;
        if staged["state"] == "building" {
            host.follow(&json!({"id": staged["job"]})).await;
        }
        staged
    };
    let generation = async |staged: Value| {
        assert_eq!(staged["status"], 202, "{staged}");
        host.get(&format!("{PLUGINS}/generations/{}", staged["number"])).await
    };
    let failed = generation(release().await).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("no installed parser reads"), "{failed}");

    for document in host.index("initial").await {
        let (name, id) = (document[0].as_str().unwrap(), document[1].as_str().unwrap());
        if name != "plain.txt" {
            let gone = host.delete(&format!("/api/v1/kbs/initial/documents/{id}")).await;
            assert_eq!(gone["status"], 204, "{gone}");
        }
    }
    let live = generation(release().await).await;
    assert_eq!(live["state"], "live", "{live}");
    let bound = host.get(PLUGINS).await;
    assert!(bound["slots"].as_array().unwrap().iter().all(|slot| slot["kind"] != "parser"), "{bound}");
    let again = release().await;
    assert_eq!(again["status"], 404, "{again}");
}
