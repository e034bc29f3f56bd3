//! Where a plugin's log messages and standard output go: the operator's log, cleaned and up to a limit a call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::bindings::ragkit::host::log::Level;

/// Longest single message, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Standard error kept for the error report: a Rust guest writes its panic there before it traps.
const TAIL_BYTES_MAX: usize = 1 << 10;
/// Standard output accepted in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct LogSink {
    plugin: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    bytes_left: usize,
    cut: bool,
    /// Latest standard error.
    tail: Vec<u8>,
}

impl LogSink {
    pub(crate) fn new(plugin: Arc<str>, bytes_max: usize) -> Self {
        LogSink { plugin, inner: Mutex::new(Inner { bytes_left: bytes_max, cut: false, tail: Vec::new() }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new call may log again.
    pub(crate) fn begin_call(&self, bytes_max: usize) {
        let mut inner = self.lock();
        inner.bytes_left = bytes_max;
        inner.cut = false;
        inner.tail.clear();
    }

    /// Logs a message unless the call's share is used up; that is said once.
    pub(crate) fn log(&self, level: Level, message: &str) {
        let message = clean(message, MESSAGE_BYTES_MAX);
        {
            let mut inner = self.lock();
            match inner.bytes_left.checked_sub(message.len().max(1)) {
                Some(left) => inner.bytes_left = left,
                None if inner.cut => return,
                None => {
                    inner.cut = true;
                    tracing::warn!(target: "plugin", plugin = %self.plugin, "the rest of this call's log is dropped");
                    return;
                }
            }
        }
        let plugin = &self.plugin;
        match level {
            Level::Trace => tracing::trace!(target: "plugin", %plugin, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", %plugin, "{message}"),
            Level::Info => tracing::info!(target: "plugin", %plugin, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", %plugin, "{message}"),
            Level::Error => tracing::error!(target: "plugin", %plugin, "{message}"),
        }
    }

    /// Last words on standard error, for the report of a trap; empty when there are none.
    pub(crate) fn last_words(&self) -> String {
        clean(&String::from_utf8_lossy(&self.lock().tail), TAIL_BYTES_MAX)
    }

    fn write(&self, bytes: &[u8], is_error: bool) {
        if is_error {
            let mut inner = self.lock();
            inner.tail.extend_from_slice(bytes);
            let excess = inner.tail.len().saturating_sub(TAIL_BYTES_MAX);
            inner.tail.drain(..excess);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        if !text.is_empty() {
            self.log(if is_error { Level::Warn } else { Level::Debug }, text);
        }
    }
}

/// The text on one line, without control characters, at most `bytes_max` long.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in text.trim().chars() {
        let c = if c == '\n' || c == '\t' { ' ' } else { c };
        if out.len() + c.len_utf8() > bytes_max {
            break;
        }
        if !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// Standard output or error of a guest.
#[derive(Debug, Clone)]
pub(crate) struct Stdio {
    sink: Arc<LogSink>,
    is_error: bool,
}

impl Stdio {
    pub(crate) fn output(sink: &Arc<LogSink>) -> Self {
        Stdio { sink: Arc::clone(sink), is_error: false }
    }

    pub(crate) fn error(sink: &Arc<LogSink>) -> Self {
        Stdio { sink: Arc::clone(sink), is_error: true }
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.sink.write(&bytes, self.is_error);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.sink.write(bytes, self.is_error);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_clean_line_cut_at_a_character() {
        for (text, bytes_max, expected) in [
            ("  plain \n", 100, "plain"),
            ("two\nlines\tand tab", 100, "two lines and tab"),
            ("\u{1b}[31mred\u{7}", 100, "[31mred"),
            ("知识库", 7, "知识"),
            ("", 10, ""),
        ] {
            assert_eq!(clean(text, bytes_max), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_end_of_standard_error_is_kept_and_a_call_forgets_it() {
        let sink = LogSink::new("p 1.0.0".into(), 1 << 20);
        sink.write("x".repeat(5_000).as_bytes(), true);
        sink.write(b" panicked at src/lib.rs:3", true);
        let words = sink.last_words();
        assert!(words.len() <= TAIL_BYTES_MAX && words.ends_with("panicked at src/lib.rs:3"), "{words}");
        sink.begin_call(10);
        assert_eq!(sink.last_words(), "");
    }

    #[test]
    fn a_flood_is_cut() {
        let sink = LogSink::new("p 1.0.0".into(), 100);
        for _ in 0..1_000 {
            sink.log(Level::Info, "0123456789");
        }
        assert!(sink.lock().cut);
        assert!(sink.lock().bytes_left < 10);
    }
}
