//! Reads a multipart upload within a fixed amount of memory.
//!
//! The parser reads ahead for as long as bytes are at hand, and keeps a part's headers until they end. So it gets
//! bytes one piece at a time, and only so many between two steps of ours.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::StatusCode;
use futures_core::Stream;

use crate::error::{ApiError, ApiResult};

/// Bytes that may arrive in several pieces without any of them being handed on.
const READ_AHEAD_MAX: usize = 256 << 10;

/// Bytes since the last `progress`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadAhead(Arc<AtomicUsize>);

impl ReadAhead {
    /// What was read so far has been dealt with.
    pub(crate) fn progress(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Opens the multipart body; call `progress` after each field and each piece of one.
pub(crate) async fn open(request: Request) -> ApiResult<(Multipart, ReadAhead)> {
    let ahead = ReadAhead::default();
    let (parts, body) = request.into_parts();
    let paced = Paced { body: body.into_data_stream(), ahead: ahead.clone(), gave: false };
    let request = Request::from_parts(parts, Body::from_stream(paced));
    let multipart = Multipart::from_request(request, &()).await;
    Ok((multipart.map_err(|rejection| ApiError::invalid(rejection.body_text()))?, ahead))
}

pub(crate) fn refused(error: &MultipartError) -> ApiError {
    match error.status() {
        status @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) => ApiError::of_status(status),
        _ => ApiError::invalid(format!("the multipart body is broken: {}", error.body_text())),
    }
}

/// A body that lets its reader see one piece a turn, and ends with an error when nothing of it is used.
struct Paced<S> {
    body: S,
    ahead: ReadAhead,
    gave: bool,
}

impl<S> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Unpin,
{
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = std::task::ready!(Pin::new(&mut self.body).poll_next(cx));
        if let Some(Ok(bytes)) = &next {
            let before = self.ahead.0.fetch_add(bytes.len(), Ordering::Relaxed);
            if before > 0 && before + bytes.len() > READ_AHEAD_MAX {
                return Poll::Ready(Some(Err(axum::Error::new("a part's headers are too long"))));
            }
            self.gave = true;
        }
        Poll::Ready(next)
    }
}
