//! The end of this process's log, kept in memory for those who run it.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rag_core::ports::LogLine;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are remembered.
const LINES_MAX: usize = 500;
/// Bytes of a line that are remembered.
const LINE_BYTES_MAX: usize = 1000;

/// Remembers what passes the log's filter; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogBook {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of the newest line.
    number: u64,
    lines: VecDeque<LogLine>,
}

impl LogBook {
    /// Lines after a number, oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<LogLine> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().filter(|line| line.number > number).cloned().collect()
    }

    fn add(&self, level: &'static str, text: String) {
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.number += 1;
        let line =
            LogLine { number: kept.number, at_ms: i64::try_from(at_ms).unwrap_or(i64::MAX), level, text };
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for LogBook {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message;
        text.push_str(&line.fields);
        text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        self.add(event.metadata().level().as_str(), text);
    }
}

/// An event as one line: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_end_of_the_log_is_remembered_with_its_fields() {
        let book = LogBook::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(book.clone()), || {
            tracing::warn!(kb = "港口", error = %"no disk", "a job failed");
            (0..LINES_MAX).for_each(|i| tracing::info!(i, "next"));
            tracing::info!("{}", "长".repeat(LINE_BYTES_MAX));
        });
        let lines = book.after(0);
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].number, lines[0].text.as_str()), (3, "next i=1"));
        assert_eq!(lines[0].level, "INFO");
        let last = lines.last().unwrap();
        assert!(last.text.len() <= LINE_BYTES_MAX && last.text.starts_with('长'));
        assert_eq!(book.after(last.number - 1), std::slice::from_ref(last));

        let book = LogBook::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(book.clone()), || {
            tracing::warn!(kb = "港口", error = %"no disk", "a job failed");
        });
        assert_eq!(book.after(0)[0].text, "a job failed kb=\"港口\" error=no disk");
    }
}
