//! Connectors: a server that is away or talks nonsense is answered with a value; at most so many results, none twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rag_core::ports::{Connect, Found, Http, HttpRequest, HttpResponse};
use rag_core::{ErrorCode, Result};

use crate::doubles::NoServer;
use crate::{Checked, Report, UNKNOWN_SETTINGS, ensure, refused_by_name, typed};

const LIMITS: [u32; 2] = [1, 50];

/// A server that always answers the same.
struct Says(u16, &'static [u8]);

#[async_trait]
impl Http for Says {
    async fn fetch(&self, _: HttpRequest) -> Result<HttpResponse> {
        Ok(HttpResponse { status: self.0, headers: vec![], body: self.1.to_vec() })
    }
}

const ANSWERS: [Says; 7] = [
    Says(200, b""),
    Says(200, b"\xff\xfe\x00 not a text"),
    Says(200, b"{\"results\": [{}, null, 3]}"),
    Says(200, b"[[[[[[[[[["),
    Says(200, b"<html><body><a href='javascript:alert(1)'>x</a></body>"),
    Says(500, b"down"),
    Says(429, b"slower"),
];

/// Checks a connector; `make` makes it with settings as JSON and the servers that it may ask.
pub async fn check(make: impl Fn(&str, Arc<dyn Http>) -> Result<Arc<dyn Connect>>) -> Report {
    let mut report = Report::default();
    let away = async {
        let connector = make("{}", Arc::new(NoServer)).map_err(|error| error.to_string())?;
        match connector.search("知识库", 5).await {
            Ok(_) => Err("it has results from a server that is away".to_owned()),
            Err(error) => ensure(error.code() == ErrorCode::Unavailable, || error.to_string()),
        }
    };
    report.check("connector.away", "a server that is away is unavailable", away).await;
    let nonsense = async {
        for (number, answer) in ANSWERS.into_iter().enumerate() {
            let connector = make("{}", Arc::new(answer)).map_err(|error| error.to_string())?;
            for limit in LIMITS {
                match connector.search("What? 什么", limit).await {
                    Ok(found) => contract(&found, limit).map_err(|why| format!("answer {number}: {why}"))?,
                    Err(error) => ensure(typed(&error), || format!("answer {number}: {error}"))?,
                }
            }
        }
        Ok::<(), String>(())
    };
    let about = "nonsense is answered with a typed error or with addresses of the web, none twice";
    report.check("connector.nonsense", about, nonsense).await;
    let unknown = async {
        match make(UNKNOWN_SETTINGS, Arc::new(NoServer)) {
            Ok(connector) => refused_by_name(connector.search("words", 5).await),
            refused => refused_by_name(refused.map(|_| ())),
        }
    };
    report.check("connector.settings", "an unknown setting is refused by its name", unknown).await;
    report
}

fn contract(found: &[Found], limit: u32) -> Checked {
    ensure(found.len() <= limit as usize, || format!("{} results, more than {limit}", found.len()))?;
    let mut seen = BTreeSet::new();
    for result in found {
        let web = result.url.starts_with("http://") || result.url.starts_with("https://");
        ensure(web && seen.insert(&result.url), || {
            format!("'{}' is no address, or comes twice", result.url)
        })?;
    }
    Ok(())
}
