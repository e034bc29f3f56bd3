//! Which status and words an error gets: the only place that decides it.
//!
//! A caller's error says what to change. What broke inside goes to the log, and the caller gets the request's id to
//! quote. Handlers return `ApiError`; `frame` renders it once the request's id and the style of the API are known.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rag_core::error::PluginFault;
use rag_core::{Error, ErrorCode};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// An error on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retryable: bool,
    pub(crate) retry_after_s: Option<u64>,
}

/// Body of every error of the own API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// One of `invalid_input`, `unsupported`, `not_found`, `conflict`, `quota`, `too_many`, `unauthenticated`,
    /// `denied`, `unavailable`, `storage`, `plugin`, `timeout`, `cancelled`, `internal`.
    pub(crate) code: &'static str,
    /// One sentence for a person.
    pub(crate) message: String,
    /// Whether the same request may succeed later, unchanged.
    pub(crate) retryable: bool,
    /// To quote when asking the operator.
    pub(crate) request_id: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, code, message: message.into(), retryable: false, retry_after_s: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_input", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("{what} '{name}' does not exist"))
    }

    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "quota", message)
    }

    /// Too many at once or in a row: come back in `after_s` seconds.
    pub(crate) fn too_many(message: impl Into<String>, after_s: u64) -> Self {
        ApiError {
            retryable: true,
            retry_after_s: Some(after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
        }
    }

    pub(crate) fn internal() -> Self {
        let message = "something failed inside; the server's log has it under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// For answers that were not made here: unknown paths, wrong methods, a framework's own refusals.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::new(status, "not_found", "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(status, "invalid_input", "this path does not know this method")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the body is larger than this path accepts"),
            StatusCode::REQUEST_TIMEOUT => {
                Self { retryable: true, ..Self::new(status, "timeout", "the request did not arrive in time") }
            }
            other if other.is_client_error() => {
                Self::new(other, "invalid_input", other.canonical_reason().unwrap_or("bad request"))
            }
            _ => Self::internal(),
        }
    }

    pub(crate) fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code,
                message: self.message.clone(),
                retryable: self.retryable,
                request_id: request_id.to_owned(),
            },
        }
    }

    /// The finished response: OpenAI's shape under `/v1`, ours elsewhere.
    pub(crate) fn render(&self, path: &str, request_id: &str) -> Response {
        let json = if path.starts_with("/v1/") {
            crate::openai::error_json(self)
        } else {
            serde_json::to_vec(&self.body(request_id)).unwrap_or_default()
        };
        let mut response =
            (self.status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json)
                .into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = status_of(&error);
        if status.is_server_error() {
            tracing::error!(%error, code, "request failed");
        }
        let message = match &error {
            Error::Storage { .. } => {
                "the data folder could not be read or written (a full disk is the usual reason); nothing was \
                 saved, and the server's log has the details under this request's id"
                    .to_owned()
            }
            Error::Plugin { fault: PluginFault::Guest(code), .. } if *code != ErrorCode::Internal => {
                error.to_string()
            }
            Error::Plugin { plugin, .. } => {
                format!("plugin {plugin} failed; the server's log has the details under this request's id")
            }
            Error::Model { .. } | Error::Internal { .. } => ApiError::internal().message,
            _ => error.to_string(),
        };
        let retry_after_s = matches!(error, Error::Busy { .. }).then_some(1);
        ApiError { status, code, message, retryable: error.retryable(), retry_after_s }
    }
}

/// Busy is the caller's turn to wait (429); unavailable is the operator's to mend (503).
fn status_of(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::Busy { .. } => return (StatusCode::TOO_MANY_REQUESTS, "too_many"),
        Error::Storage { .. } => return (StatusCode::SERVICE_UNAVAILABLE, "storage"),
        Error::Plugin { fault, .. } if !matches!(fault, PluginFault::Guest(_)) => {
            return (StatusCode::BAD_GATEWAY, "plugin");
        }
        _ => {}
    }
    match error.code() {
        ErrorCode::InvalidInput => (StatusCode::BAD_REQUEST, "invalid_input"),
        ErrorCode::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported"),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorCode::Conflict => (StatusCode::CONFLICT, "conflict"),
        ErrorCode::Quota => (StatusCode::PAYLOAD_TOO_LARGE, "quota"),
        ErrorCode::Denied => (StatusCode::FORBIDDEN, "denied"),
        ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorCode::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
        // The caller is gone; the number is what proxies log for that.
        ErrorCode::Cancelled => (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), "cancelled"),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the JSON body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported",
                "send a JSON body with 'Content-Type: application/json'",
            ),
            // The body stood still or broke off.
            _ if matches!(rejection, JsonRejection::BytesRejection(_)) => {
                Self::of_status(StatusCode::REQUEST_TIMEOUT)
            }
            _ => Self::invalid(rejection.body_text()),
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, status: u16, code: &str) -> ApiError {
        let error = ApiError::from(error);
        assert_eq!((error.status.as_u16(), error.code), (status, code), "{error:?}");
        error
    }

    fn plugin(fault: PluginFault) -> Error {
        Error::Plugin { plugin: "parse-x@1".into(), fault, message: "secret-detail".into() }
    }

    #[test]
    fn every_error_has_its_status() {
        let text = || "message".to_owned();
        check(Error::invalid("message"), 400, "invalid_input");
        check(Error::Unsupported { message: text() }, 415, "unsupported");
        check(Error::NotFound { what: "job", name: text() }, 404, "not_found");
        check(Error::Conflict { message: text() }, 409, "conflict");
        check(Error::Denied { message: text() }, 403, "denied");
        let large = Error::TooLarge { what: text(), size: 2, limit: 1, unit: "bytes", setting: "a.b" };
        check(large, 413, "quota");
        check(Error::Cancelled, 499, "cancelled");
        assert_eq!(check(Error::Busy { what: "x", limit: 1 }, 429, "too_many").retry_after_s, Some(1));
        check(Error::Unavailable { message: text() }, 503, "unavailable");
        check(Error::Timeout { what: text(), limit_ms: 1, setting: "a.b" }, 504, "timeout");
        check(Error::Storage { message: text() }, 503, "storage");
        check(Error::Model { path: text(), message: text() }, 500, "internal");
        check(Error::internal("message"), 500, "internal");
    }

    #[test]
    fn a_plugins_answer_is_the_callers_its_fault_is_not() {
        let answer = check(plugin(PluginFault::Guest(ErrorCode::InvalidInput)), 400, "invalid_input");
        assert!(answer.message.contains("secret-detail"));
        for fault in
            [PluginFault::Trap, PluginFault::CpuLimit, PluginFault::MemoryLimit, PluginFault::Refused]
        {
            assert!(!check(plugin(fault), 502, "plugin").message.contains("secret-detail"));
        }
    }

    #[test]
    fn inner_details_stay_inside() {
        let errors = [
            Error::Storage { message: "/secret/path".into() },
            Error::Model { path: "/secret/path".into(), message: "/secret/path".into() },
            Error::internal("/secret/path"),
        ];
        for error in errors {
            assert!(!ApiError::from(error).message.contains("secret"));
        }
    }
}
