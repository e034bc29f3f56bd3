//! A component that asks through `wasi:http` goes the way of every plugin: the operator's grants, checked addresses,
//! no redirects, bounded bodies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};

use reqwest::Method;
use serde_json::json;

use crate::host::{Data, answer, guest};

/// Plays a server as the path says, and tells what it was asked.
fn serve(stream: &TcpStream, asked: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or_default() > 2 {}
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    let _ = reader.read_exact(&mut body);
    let _ = asked.send(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut stream = stream;
    let _ = match path {
        "/elsewhere" => stream.write_all(
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        "/announced" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\nconnection: close\r\n\r\n")
        }
        // Ends only when the other side does.
        "/endless" => stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            .and_then(|()| loop {
                stream.write_all(&[b'x'; 65_536])?;
            }),
        "/cut" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\nconnection: close\r\n\r\nhalf"),
        _ => {
            let told = format!("{} bytes came", body.len());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", told.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(told.as_bytes()))
        }
    };
}

#[tokio::test]
async fn wasi_http_is_the_same_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let (asked, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(&stream, &asked);
        }
    });
    let engine = |name: &str, origins: &str, private: bool| {
        format!(
            "{{ name = \"{name}\", plugin = \"hostile-wasi-http\", origins = [{origins}], private = {private}, settings = '{{}}' }}"
        )
    };
    let origin = format!("\"http://{server}\"");
    let engines =
        [engine("granted", &origin, true), engine("public", &origin, false), engine("none", "", false)];
    let mut data = Data::new()
        .set("WEB", "ENGINES", format!("[{}]", engines.join(", ")))
        .set("EGRESS", "REQUEST_BYTES_MAX", 50_000)
        .set("EGRESS", "RESPONSE_BYTES_MAX", 1_000_000);
    let host = data.start();
    let component = fs_err::read(guest("wasi_http")).unwrap();
    let installed = answer(host.request(Method::POST, "/api/v1/plugins").body(component)).await;
    assert_eq!(installed["status"], 201, "{installed}");
    assert!(installed["rights"].to_string().contains("\"http\""), "it asks for http: {installed}");
    let told = async |engine: &str, query: &str| {
        let asked = json!({"query": query, "engine": engine});
        let found = host.post("/api/v1/kbs/initial/web/search", &asked).await;
        found["results"][0]["title"].as_str().unwrap_or_else(|| panic!("{query}: {found}")).to_owned()
    };

    let good = format!("POST|http|{server}|/good?q=1|header=x-a=1|header=te=trailers|body=20000");
    assert_eq!(told("granted", &good).await, "200 16 20000 bytes came");
    let head = heard.recv().unwrap();
    assert!(head.starts_with("post /good?q=1 http/1.1\r\n") && head.contains("\r\nx-a: 1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {server}\r\n")) && !head.contains("\r\nte:"), "{head}");

    // What is not granted is refused in WASI's own words, and nothing leaves the host.
    for (engine, query) in [
        ("none", format!("GET|http|{server}|/good")),
        ("public", format!("GET|http|{server}|/good")),
        ("granted", "GET|http|127.0.0.1:9|/good".to_owned()),
        ("granted", format!("GET|https|{server}|/good")),
        ("granted", "GET|http|169.254.169.254|/latest/meta-data".to_owned()),
        ("granted", "GET|http|[::ffff:169.254.169.254]|/".to_owned()),
        ("granted", format!("DELETE|http|{server}|/good")),
    ] {
        let outcome = told(engine, &query).await;
        assert!(outcome.contains("HttpRequestDenied"), "{engine}: {query}: {outcome}");
    }
    let outcome = told("granted", &format!("GET|http|user@{server}|/good")).await;
    assert!(outcome.contains("HttpRequestUriInvalid"), "{outcome}");
    let outcome = told("granted", &format!("POST|http|{server}|/good|body=60000")).await;
    assert!(outcome.contains("HttpRequestBodySize(Some(50000))"), "{outcome}");
    assert!(heard.try_recv().is_err(), "nothing left the host");

    for (path, words) in [
        ("/elsewhere", "302 0"),
        ("/announced", "HttpResponseBodySize(Some(1000000))"),
        ("/endless", "HttpResponseBodySize(Some(1000000))"),
        ("/cut", "DestinationUnavailable"),
    ] {
        let outcome = told("granted", &format!("GET|http|{server}|{path}")).await;
        assert!(outcome.contains(words), "{path}: {outcome}");
        assert!(heard.recv().unwrap().starts_with(&format!("get {path} ")));
    }
    assert_eq!(told("granted", &good).await, "200 16 20000 bytes came", "after all that");
}
