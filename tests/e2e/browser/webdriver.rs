//! A browser driven over the WebDriver protocol (W3C), with the few commands that the page's test needs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Key of an element reference, fixed by the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Milliseconds that the page has to come to what is waited for: ingest and answers run real models.
const WAIT_MS: u64 = 100_000;

/// Chromium with a fresh profile. Dropping it ends both processes.
pub struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

impl Browser {
    /// Starts the driver and a browser in the given language.
    pub async fn start(language: &str) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (Debian package chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("started successfully on port ").map(|(_, port)| port.to_owned())
            })
            .expect("chromedriver tells its port");
        let port = port.trim_end_matches('.').to_owned();
        std::thread::spawn(move || lines.for_each(drop));

        let profile = tempfile::tempdir().unwrap();
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
        ];
        let mut arguments: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--lang={language}"));
        let options = json!({"args": arguments, "prefs": {"intl.accept_languages": language}});
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": WAIT_MS},
        }}});
        let http = reqwest::Client::new();
        let base = format!("http://127.0.0.1:{port}/session");
        let answer =
            http.post(&base).json(&capabilities).send().await.unwrap().json::<Value>().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {answer}"));
        Browser { driver, session: format!("{base}/{id}"), http, _profile: profile }
    }

    async fn command(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.session));
        if method == Method::POST {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap().json::<Value>().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", json!({"url": url})).await;
    }

    async fn find(&self, css: &str) -> String {
        let found =
            self.command(Method::POST, "/element", json!({"using": "css selector", "value": css})).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    pub async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.command(Method::POST, &format!("/element/{element}/click"), json!({})).await;
    }

    /// Types as a person would; into a file input, chooses the file.
    pub async fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.command(Method::POST, &format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// What a function body in the page returns.
    pub async fn script(&self, body: &str) -> Value {
        self.command(Method::POST, "/execute/sync", json!({"script": body, "args": []})).await
    }

    pub async fn text(&self, css: &str) -> String {
        let script = format!("return document.querySelector({})?.textContent ?? ''", json!(css));
        self.script(&script).await.as_str().unwrap().to_owned()
    }

    /// Waits until an expression in the page becomes true, looking at it before each frame.
    pub async fn until(&self, expression: &str) {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => {{ if ({expression}) done(true); else setTimeout(look, 30); }};
             look();"
        );
        self.command(Method::POST, "/execute/async", json!({"script": script, "args": []})).await;
    }

    /// Accepts the question that the page asked.
    pub async fn accept(&self) {
        self.command(Method::POST, "/alert/accept", json!({})).await;
    }

    /// What the page said on the console: errors, refused connections, breaches of the content policy.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command(Method::POST, "/se/log", json!({"type": "browser"})).await;
        let lines = log.as_array().unwrap().iter();
        lines
            .filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING")
            .map(|line| line["message"].to_string())
            .collect()
    }

    pub async fn close(self) {
        self.command(Method::DELETE, "", json!(null)).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
