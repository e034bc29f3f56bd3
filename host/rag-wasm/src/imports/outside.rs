//! What lies outside the process: HTTP, databases, text recognition. Every call is refused unless it was granted.

use rag_core::ports::{HttpMethod, HttpRequest, OcrImage, SqlValue};

use super::{invalid, too_many};
use crate::bindings::ragkit::host::{http, ocr, sql};
use crate::bindings::ragkit::types::types as wit;
use crate::state::{State, refusal};

/// Parameters of one statement, and bytes of its text.
const PARAMS_MAX: usize = 8_192;
const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Languages of one recognition.
const LANGUAGES_MAX: usize = 8;

type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

impl State {
    fn not_granted<T>(&mut self, code: wit::ErrorCode, message: &str) -> Outcome<T> {
        if let Err(refused) = self.count_call()? {
            return Ok(Err(refused));
        }
        self.count_denial()?;
        Ok(Err(refusal(code, message)))
    }
}

impl http::Host for State {
    async fn fetch(&mut self, request: http::Request) -> Outcome<http::Response> {
        let Some(http) = self.grants.http.clone() else {
            return self.not_granted(wit::ErrorCode::Unavailable, "this plugin is granted no server");
        };
        let request = HttpRequest {
            method: method(request.method),
            url: request.url,
            headers: request.headers,
            body: request.body,
        };
        let response = self.perform(async move { http.fetch(request).await }).await?;
        Ok(response.map(|response| http::Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }))
    }
}

fn method(method: http::Method) -> HttpMethod {
    match method {
        http::Method::Get => HttpMethod::Get,
        http::Method::Head => HttpMethod::Head,
        http::Method::Post => HttpMethod::Post,
        http::Method::Put => HttpMethod::Put,
        http::Method::Patch => HttpMethod::Patch,
        http::Method::Delete => HttpMethod::Delete,
    }
}

impl sql::Host for State {
    async fn query(
        &mut self,
        connection: String,
        statement: String,
        params: Vec<sql::Param>,
    ) -> Outcome<sql::Rows> {
        if let Err(refused) = check_statement(&statement, &params) {
            return Ok(Err(refused));
        }
        let Some(database) = self.grants.sql.clone() else { return self.no_database() };
        let params = params.into_iter().map(value).collect();
        let work = async move { database.query(&connection, &statement, params).await };
        Ok(self.perform(work).await?.map(|rows| sql::Rows {
            columns: rows.columns,
            cells: rows.cells.into_iter().map(param).collect(),
        }))
    }

    async fn execute(
        &mut self,
        connection: String,
        statement: String,
        params: Vec<sql::Param>,
    ) -> Outcome<u64> {
        if let Err(refused) = check_statement(&statement, &params) {
            return Ok(Err(refused));
        }
        let Some(database) = self.grants.sql.clone() else { return self.no_database() };
        let params = params.into_iter().map(value).collect();
        self.perform(async move { database.execute(&connection, &statement, params).await }).await
    }
}

impl State {
    fn no_database<T>(&mut self) -> Outcome<T> {
        self.not_granted(wit::ErrorCode::Unavailable, "this plugin is granted no database")
    }
}

fn check_statement(statement: &str, params: &[sql::Param]) -> Result<(), wit::Error> {
    if statement.len() > STATEMENT_BYTES_MAX {
        return Err(too_many("bytes of a statement", STATEMENT_BYTES_MAX));
    }
    if params.len() > PARAMS_MAX {
        return Err(too_many("parameters", PARAMS_MAX));
    }
    Ok(())
}

fn value(param: sql::Param) -> SqlValue {
    match param {
        sql::Param::Null => SqlValue::Null,
        sql::Param::Boolean(boolean) => SqlValue::Boolean(boolean),
        sql::Param::Integer(integer) => SqlValue::Integer(integer),
        sql::Param::Number(number) => SqlValue::Number(number),
        sql::Param::Text(text) => SqlValue::Text(text),
        sql::Param::Bytes(bytes) => SqlValue::Bytes(bytes),
        sql::Param::Floats(floats) => SqlValue::Floats(floats),
    }
}

fn param(value: SqlValue) -> sql::Param {
    match value {
        SqlValue::Null => sql::Param::Null,
        SqlValue::Boolean(boolean) => sql::Param::Boolean(boolean),
        SqlValue::Integer(integer) => sql::Param::Integer(integer),
        SqlValue::Number(number) => sql::Param::Number(number),
        SqlValue::Text(text) => sql::Param::Text(text),
        SqlValue::Bytes(bytes) => sql::Param::Bytes(bytes),
        SqlValue::Floats(floats) => sql::Param::Floats(floats),
    }
}

impl ocr::Host for State {
    async fn recognize(&mut self, image: ocr::Image, languages: Vec<String>) -> Outcome<Vec<ocr::Line>> {
        if languages.len() > LANGUAGES_MAX {
            return Ok(Err(too_many("languages", LANGUAGES_MAX)));
        }
        let image = match image {
            ocr::Image::Encoded(bytes) => OcrImage::Encoded(bytes),
            ocr::Image::Grey((width, height, pixels)) => {
                if u64::from(width) * u64::from(height) != pixels.len() as u64 || pixels.is_empty() {
                    return Ok(Err(invalid("grey pixels: width times height, at least one")));
                }
                OcrImage::Grey { width, height, pixels }
            }
        };
        let Some(ocr) = self.grants.ocr.clone() else {
            let message = "this host recognises no text in pictures";
            return self.not_granted(wit::ErrorCode::Unsupported, message);
        };
        let lines = self.perform(async move { ocr.recognize(image, &languages).await }).await?;
        let line = |line: rag_core::ports::OcrLine| ocr::Line {
            text: line.text,
            area: wit::Rect {
                x: line.area.x,
                y: line.area.y,
                width: line.area.width,
                height: line.area.height,
            },
            confidence: line.confidence,
        };
        Ok(lines.map(|lines| lines.into_iter().map(line).collect()))
    }
}
