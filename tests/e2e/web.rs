//! The web comes in: a page, a small crawl, a search with preview and import, against a server that plays all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::{Data, Host, answer};

/// A site with three pages, and the engines that find them.
fn serve(stream: TcpStream, origin: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let html =
        |body: &str| ("200 OK\r\ncontent-type: text/html", format!("<html><main>{body}</main></html>"));
    let (head, body) = match path {
        "/robots.txt" => ("200 OK", "User-agent: *\nDisallow: /secret\n".to_owned()),
        "/start" => html(
            "<h1>灯塔手册</h1><p>灯塔的灯每十二秒闪一次。</p><a href='/two'>next</a><a href='/secret'>no</a><a href='/dead'>x</a>",
        ),
        "/rich" => html(
            "<h1>信号</h1><p>红灯表示停航。</p><img src='/sub/a.png'><img srcset='/sub/b.png 2x'><iframe src='/sub/c'></iframe>\
             <script src='/sub/d.js'></script><link rel=stylesheet href='/sub/e.css'><object data='/sub/f'></object>\
             <video src='/sub/g' poster='/sub/h'></video><embed src='/sub/i'><base href='http://169.254.169.254/'>\
             <meta http-equiv=refresh content='0;url=/sub/j'><style>@import '/sub/k.css';p{background:url(/sub/l)}</style>\
             <svg><image href='/sub/m'/><use href='/sub/n#x'/></svg><form action='/sub/o'></form>",
        ),
        "/two" => html("<h1>Harbour rules</h1><p>Boats leave the harbour before the seventh bell.</p>"),
        "/secret" => html("<p>The password of the harbour is swordfish.</p>"),
        "/w/api.php" => {
            let found = json!({"query": {"search": [{"title": "start", "snippet": "<b>灯塔</b> &amp; 灯"}]}});
            ("200 OK\r\ncontent-type: application/json", found.to_string())
        }
        "/search" => {
            let found = json!({"results": [
                {"title": "two", "url": format!("{origin}/two"), "content": "harbour"},
                {"title": "inside", "url": "http://169.254.169.254/", "content": "metadata"}]});
            ("200 OK\r\ncontent-type: application/json", found.to_string())
        }
        "/feed" => {
            let item = format!("<item><title>t</title><link>{origin}/two</link></item>");
            ("200 OK\r\ncontent-type: application/rss+xml", format!("<rss><channel>{item}</channel></rss>"))
        }
        "/item/%E7%81%AF%E5%A1%94" => html("<title>灯塔_百度百科</title>"),
        _ => ("404 Not Found", String::new()),
    };
    let answer =
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let _ = (&stream).write_all(answer.as_bytes());
}

fn site() -> String {
    watched().0
}

/// Likewise, and what is asked of it.
fn watched() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let own = origin.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut head = [0; 200];
            let seen = stream.peek(&mut head).unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..seen]).into_owned();
            noted.lock().unwrap().push(head.split(' ').nth(1).unwrap_or_default().to_owned());
            serve(stream, &own);
        }
    });
    (origin, asked)
}

/// With the engines that the site plays, and leave to read it.
fn data(origin: &str) -> Data {
    let engine = |name: &str, settings: Value| {
        format!(
            "{{ name = \"{name}\", plugin = \"connector-web\", origins = [\"{origin}\"], private = true, settings = '{settings}' }}"
        )
    };
    let engines = [
        engine("wiki", json!({"engine": "wikipedia", "url": origin})),
        engine("searx", json!({"engine": "searxng", "url": origin})),
        engine("feed", json!({"engine": "opensearch", "url": format!("{origin}/feed?q={{searchTerms}}")})),
        engine("baike", json!({"engine": "baike", "url": origin})),
        engine("elsewhere", json!({"engine": "searxng", "url": "http://127.0.0.1:9"})),
    ];
    Data::new()
        .set("WEB", "ENGINES", format!("[{}]", engines.join(", ")))
        .set("WEB", "PRIVATE_ORIGINS", format!("[\"{origin}\"]"))
        .set("WEB", "DELAY_MS", 0)
}

/// Follows a job and all that it queued to the end.
async fn settle(host: &Host) -> Vec<Value> {
    loop {
        let jobs = host.get("/api/v1/jobs").await["jobs"].as_array().unwrap().clone();
        let busy = jobs.iter().any(|job| job["state"] == "queued" || job["state"] == "running");
        if !busy {
            return jobs;
        }
        let id = jobs.iter().find(|job| job["state"] == "queued" || job["state"] == "running").unwrap()["id"]
            .clone();
        let path = format!("/api/v1/jobs/{}/events", id.as_str().unwrap());
        host.request(Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
    }
}

#[tokio::test]
async fn pages_of_the_web_become_documents() {
    let origin = site();
    let mut data = data(&origin);
    let host = data.start();
    let crawl = json!({"url": format!("{origin}/start#top"), "depth": 1});
    let job = host.post("/api/v1/kbs/initial/web", &crawl).await;
    assert_eq!(job["kind"], "crawl", "{job}");
    let jobs = settle(&host).await;
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    let documents = host.get("/api/v1/kbs/initial/documents").await;
    let names: Vec<&str> =
        documents["documents"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["127.0.0.1/start", "127.0.0.1/two"], "what robots.txt forbids stays out");
    let body = json!({"question": "灯塔的灯多久闪一次？"});
    let got = host.post("/api/v1/kbs/initial/search", &body).await;
    assert_eq!(got["hits"][0]["document"], "127.0.0.1/start", "{got}");
    let shown = documents["documents"][0].to_string();
    assert!(shown.contains(&format!("{origin}/start")), "its address stands with it: {shown}");

    // The same again costs nothing.
    host.post("/api/v1/kbs/initial/web", &crawl).await;
    let again = settle(&host).await;
    assert!(again.iter().take(2).all(|job| job["unchanged"] == true), "{again:?}");

    for (url, status) in [
        ("http://169.254.169.254/latest/", 403),
        ("http://localhost:22/", 403),
        ("http://[::ffff:10.0.0.1]/", 403),
        ("file:///etc/passwd", 400),
        ("http://user@127.0.0.1/", 400),
    ] {
        let told =
            answer(host.request(Method::POST, "/api/v1/kbs/initial/web/preview").json(&json!({"url": url})))
                .await;
        assert_eq!(told["status"], status, "{url}: {told}");
    }
    // Through the queue as well: the job says why.
    host.post("/api/v1/kbs/initial/web", &json!({"url": "http://127.0.0.1:1/"})).await;
    let failed = settle(&host).await;
    assert_eq!(failed[0]["state"], "failed", "{:?}", failed[0]);
    assert!(failed[0]["error"].as_str().unwrap().contains("not granted"), "{:?}", failed[0]);
}

#[tokio::test]
async fn nothing_but_the_page_is_asked_for_and_nobody_in_between() {
    let (origin, asked) = watched();
    // Whoever sets these for other programs sets them for all of them.
    let (proxy, through) = watched();
    let mut data = data(&origin);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        data.settings.push((name.to_owned(), proxy.clone()));
    }
    let host = data.start();
    let url = format!("{origin}/rich");
    let preview = host.post("/api/v1/kbs/initial/web/preview", &json!({"url": url})).await;
    assert!(preview["text"].as_str().unwrap().contains("红灯表示停航"), "{preview}");
    host.post("/api/v1/kbs/initial/web", &json!({"url": url, "depth": 3})).await;
    let jobs = settle(&host).await;
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["/rich", "/robots.txt"]);
    assert_eq!(*through.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn engines_find_pages_that_are_looked_at_and_imported() {
    let origin = site();
    let mut data = data(&origin);
    let host = data.start();
    let engines = host.get("/api/v1/web/engines").await;
    assert_eq!(engines["engines"][0]["name"], "wiki");
    let search = async |engine: &str| {
        host.post("/api/v1/kbs/initial/web/search", &json!({"query": "灯塔", "engine": engine})).await
    };
    let wiki = search("wiki").await;
    assert_eq!(wiki["results"][0]["url"], format!("{origin}/wiki/start"), "{wiki}");
    assert_eq!(wiki["results"][0]["summary"], "灯塔 & 灯");
    let feed = search("feed").await;
    assert_eq!(feed["results"][0]["url"], format!("{origin}/two"), "{feed}");
    let baike = search("baike").await;
    assert_eq!(baike["results"][0]["title"], "灯塔", "{baike}");
    let found = search("searx").await;
    assert_eq!(found["results"].as_array().unwrap().len(), 2, "{found}");

    let url = &found["results"][0]["url"];
    let preview = host.post("/api/v1/kbs/initial/web/preview", &json!({"url": url})).await;
    assert!(preview["text"].as_str().unwrap().contains("seventh bell"), "{preview}");
    assert_eq!(host.get("/api/v1/kbs/initial/documents").await["documents"], json!([]), "nothing is kept");
    host.post("/api/v1/kbs/initial/web", &json!({"url": url})).await;
    settle(&host).await;
    let got = host
        .post("/api/v1/kbs/initial/search", &json!({"question": "When do boats leave the harbour?"}))
        .await;
    assert_eq!(got["hits"][0]["document"], "127.0.0.1/two", "{got}");

    // What an engine finds inside is not fetched, and an engine outside its origins is not asked.
    let inside = json!({"url": found["results"][1]["url"]});
    let refused = answer(host.request(Method::POST, "/api/v1/kbs/initial/web/preview").json(&inside)).await;
    assert_eq!(refused["status"], 403, "{refused}");
    for (engine, status) in [("elsewhere", 403), ("no-such", 404)] {
        let asked = json!({"query": "x", "engine": engine});
        let told = answer(host.request(Method::POST, "/api/v1/kbs/initial/web/search").json(&asked)).await;
        assert_eq!(told["status"], status, "{engine}: {told}");
    }
}

#[tokio::test]
async fn grants_are_given_shown_and_taken_back() {
    let mut data = Data::new();
    let host = data.start();
    let rights = async |host: &Host| {
        let told = host.get("/api/v1/plugins").await;
        let connector =
            told["plugins"].as_array().unwrap().iter().find(|p| p["id"] == "connector-web").cloned();
        let rights = connector.unwrap()["rights"].as_array().unwrap().clone();
        rights.into_iter().find(|right| right["interface"] == "http").unwrap()
    };
    assert_eq!(rights(&host).await["granted"], false);
    let path = "/api/v1/plugins/connector-web/grants";
    let headers = json!([{"name": "authorization", "value": "Bearer very-secret"}]);
    let grant = json!({"http": [{"origin": "https://example.org", "path": "/api", "headers": headers}]});
    let told = answer(host.request(Method::PUT, path).json(&grant)).await;
    assert_eq!(told["status"], 200, "{told}");
    assert!(!told.to_string().contains("very-secret"), "{told}");
    assert_eq!(rights(&host).await["to"], json!(["https://example.org/api"]));
    for (path, body, status) in [
        (path, json!({"http": [{"origin": "ftp://x"}]}), 400),
        (path, json!({"sql": [{"name": "a", "url": "postgres://x"}]}), 400),
        ("/api/v1/plugins/chunk-lines/grants", grant, 400),
        ("/api/v1/plugins/no-such/grants", json!({}), 404),
    ] {
        let told = answer(host.request(Method::PUT, path).json(&body)).await;
        assert_eq!(told["status"], status, "{body}: {told}");
    }
    drop(host);
    let host = data.start();
    assert_eq!(rights(&host).await["granted"], true, "kept over a restart");
    let told = answer(host.request(Method::PUT, path).json(&json!({}))).await;
    assert_eq!(told["status"], 200, "{told}");
    assert_eq!(rights(&host).await["granted"], false);
}
