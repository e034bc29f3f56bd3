//! The exports of the component, and HTTP as the host grants it.

use std::rc::Rc;

use guest_doc::{Document, File, HostError, Ocr, Result};

use crate::{Http, Request, Response};

/// What the world of other parsers lacks: requests.
mod bindings {
    wit_bindgen::generate!({
        inline: "package ragkit:remote; world requests { import ragkit:host/http@0.1.0; }",
        path: "../../wit",
        world: "ragkit:remote/requests",
        generate_all,
    });
}
use bindings::ragkit::host::http;

guest_doc::component!(
    accepts: [
        "application/pdf",
        "application/rtf",
        "application/epub+zip",
        "application/x-ole-storage",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.ms-word.document.macroenabled.12",
        "application/vnd.ms-powerpoint.presentation.macroenabled.12",
        "image/png",
        "image/jpeg",
        "image/tiff",
        "image/webp",
        "image/gif",
        "application/octet-stream",
    ],
    open: open
);

fn open(file: Rc<dyn File>, _: Rc<dyn Ocr>, settings: &str) -> Result<Box<dyn Document>> {
    crate::open(file.as_ref(), settings, &Host)
}

struct Host;

impl Http for Host {
    fn put(&self, request: Request) -> Result<Response, HostError> {
        let Request { url, headers, body } = request;
        let request = http::Request { method: http::Method::Put, url, headers, body: Some(body) };
        let answer = http::fetch(&request).map_err(|error| HostError {
            code: error.code as u8,
            message: error.message,
            retryable: error.retryable,
        })?;
        let media_type = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let media_type = media_type.map(|(_, value)| value.clone()).unwrap_or_default();
        Ok(Response { status: answer.status, media_type, body: answer.body })
    }
}
