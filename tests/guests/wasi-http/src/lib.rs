//! Asks servers through `wasi:http`, as well and as badly as its query says, and tells what came of it.
//!
//! A query is words between '|': METHOD|SCHEME|AUTHORITY|PATH, then any of `header=NAME=VALUE` (`\r\n` written out),
//! `body=BYTES`, `unfinished` (its body never ends), `times=N` (one after the other), `at-once=N` (none is waited for
//! before all are sent) and `leave` (nothing is waited for). The one result's title says how each ended.

wit_bindgen::generate!({ path: "../../../wit", world: "connector-plugin", generate_all });

use exports::ragkit::plugin::{connector, info};
use ragkit::types::types::Error;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme,
};
use wasip2::io::streams::StreamError;

struct Hostile;
export!(Hostile);

impl info::Guest for Hostile {
    fn describe() -> info::Info {
        info::Info {
            id: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        }
    }
}

impl connector::Guest for Hostile {
    fn search(query: String, _: u32) -> Result<Vec<connector::Found>, Error> {
        let words: Vec<&str> = query.split('|').collect();
        let number =
            |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.parse::<usize>().ok());
        let leave = words.contains(&"leave");
        let mut told = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..number("at-once=").unwrap_or(1) {
            for _ in 0..number("times=").unwrap_or(1) {
                match send(&words, number("body=")) {
                    Err(why) => told.push(why),
                    Ok(future) if words.contains(&"unfinished") || leave || number("at-once=").is_some() => {
                        sent.push(future);
                    }
                    Ok(future) => told.push(shown(&future)),
                }
            }
        }
        if leave {
            told = vec![format!("left {}", sent.len())];
            sent.into_iter().for_each(std::mem::forget);
        } else {
            // Every response is held until the last was read.
            let responses: Vec<_> = sent.iter().map(response).collect();
            told.extend(responses.iter().map(|response| match response {
                Ok(response) => format!("{}", response.status()),
                Err(why) => why.clone(),
            }));
        }
        told.dedup();
        let title = told.join("; ").chars().take(300).collect();
        Ok(vec![connector::Found { title, url: "http://told.example/".to_owned(), summary: String::new() }])
    }
}

/// A request on its way, its body written as far as the host takes it.
fn send(
    words: &[&str],
    bytes: Option<usize>,
) -> Result<(FutureIncomingResponse, Option<OutgoingBody>), String> {
    let headers = Fields::new();
    for header in words.iter().filter_map(|word| word.strip_prefix("header=")) {
        let (name, value) = header.split_once('=').unwrap_or_default();
        let value = value.replace("\\r", "\r").replace("\\n", "\n");
        headers.append(name, value.as_bytes()).map_err(|why| format!("header {why:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let method = match word(0) {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match word(1) {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "method refused".to_owned())?;
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme refused".to_owned())?;
    request.set_authority(Some(word(2))).map_err(|()| "authority refused".to_owned())?;
    request.set_path_with_query(Some(word(3))).map_err(|()| "path refused".to_owned())?;
    let body = request.body().map_err(|()| "no body".to_owned())?;
    let future = outgoing_handler::handle(request, None).map_err(|why| format!("{why:?}"))?;
    let stream = body.write().map_err(|()| "no stream".to_owned())?;
    let mut left = bytes.unwrap_or(0);
    while left > 0 {
        let piece = left.min(4096);
        match stream.blocking_write_and_flush(&[b'x'; 4096][..piece]) {
            Ok(()) => left -= piece,
            // The host wants no more: its answer says why.
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
        }
    }
    drop(stream);
    if words.contains(&"unfinished") {
        return Ok((future, Some(body)));
    }
    let _ = OutgoingBody::finish(body, None);
    Ok((future, None))
}

fn response(
    (future, _): &(FutureIncomingResponse, Option<OutgoingBody>),
) -> Result<IncomingResponse, String> {
    future.subscribe().block();
    let got: Option<Result<Result<IncomingResponse, ErrorCode>, ()>> = future.get();
    match got {
        Some(Ok(outcome)) => outcome.map_err(|why| format!("{why:?}")),
        other => Err(format!("no answer: {}", other.is_some())),
    }
}

/// Status, the length of its body and where it begins.
fn shown(sent: &(FutureIncomingResponse, Option<OutgoingBody>)) -> String {
    let response = match response(sent) {
        Ok(response) => response,
        Err(why) => return why,
    };
    let (Ok(body), status) = (response.consume(), response.status()) else { return "no body".to_owned() };
    let Ok(stream) = body.stream() else { return "no stream".to_owned() };
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(why)) => return why.to_debug_string(),
        }
    }
    let begin: String = String::from_utf8_lossy(&bytes).chars().take(60).collect();
    format!("{status} {} {begin}", bytes.len())
}
