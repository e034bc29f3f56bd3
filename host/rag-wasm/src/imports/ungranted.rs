//! Interfaces of later grants: linked, so that a plugin which can do without them loads; every call is refused.

use crate::bindings::ragkit::host::{http, ocr, sql};
use crate::bindings::ragkit::types::types as wit;
use crate::state::{State, refusal};

impl State {
    fn not_granted<T>(&mut self, what: &str) -> wasmtime::Result<Result<T, wit::Error>> {
        if let Err(refused) = self.count_call()? {
            return Ok(Err(refused));
        }
        Ok(Err(refusal(wit::ErrorCode::Unsupported, &format!("{what} is not granted to this plugin"))))
    }
}

impl http::Host for State {
    async fn fetch(&mut self, _: http::Request) -> wasmtime::Result<Result<http::Response, wit::Error>> {
        self.not_granted("http")
    }
}

impl sql::Host for State {
    async fn query(
        &mut self,
        _: String,
        _: String,
        _: Vec<sql::Param>,
    ) -> wasmtime::Result<Result<sql::Rows, wit::Error>> {
        self.not_granted("sql")
    }

    async fn execute(
        &mut self,
        _: String,
        _: String,
        _: Vec<sql::Param>,
    ) -> wasmtime::Result<Result<u64, wit::Error>> {
        self.not_granted("sql")
    }
}

impl ocr::Host for State {
    async fn recognize(
        &mut self,
        _: ocr::Image,
        _: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<ocr::Line>, wit::Error>> {
        self.not_granted("ocr")
    }
}
