//! The exports of the component.

#![expect(unsafe_code, reason = "generated bindings call imports and lay out exports")]

wit_bindgen::generate!({ path: "../../wit", world: "connector-plugin", generate_all });

use exports::ragkit::plugin::connector::{Found, Guest};
use exports::ragkit::plugin::info;
use ragkit::host::{config, http};
use ragkit::types::types::{Error, ErrorCode};

use crate::engine::{Answer, Engine};

struct ConnectorWeb;
export!(ConnectorWeb);

impl info::Guest for ConnectorWeb {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl Guest for ConnectorWeb {
    fn search(query: String, limit: u32) -> Result<Vec<Found>, Error> {
        let engine = Engine::from_settings(&config::settings()).map_err(invalid)?;
        let answer = http::fetch(&http::Request {
            method: http::Method::Get,
            url: engine.request(&query, limit),
            headers: Vec::new(),
            body: None,
        })?;
        let location = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
        let answer = Answer {
            status: answer.status,
            location: location.map(|(_, value)| value.as_str()),
            body: &String::from_utf8_lossy(&answer.body),
        };
        let results = engine.results(&query, limit, &answer).map_err(unavailable)?;
        let found = |result: crate::engine::Found| Found {
            title: result.title,
            url: result.url,
            summary: result.summary,
        };
        Ok(results.into_iter().map(found).collect())
    }
}

fn invalid(message: String) -> Error {
    Error { code: ErrorCode::InvalidInput, message, retryable: false }
}

fn unavailable(message: String) -> Error {
    Error { code: ErrorCode::Unavailable, message, retryable: true }
}
