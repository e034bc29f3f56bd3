//! What people and programs read: data on stdout, one clear line on stderr when something fails.

use std::fmt;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// One line of data. A closed pipe is no error: whoever read has seen enough.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Data without a line end, shown at once.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// A JSON document.
pub(crate) fn json(value: &Value) {
    line(format_args!("{value:#}"));
}

/// The one line of a failure.
pub(crate) fn error(error: &anyhow::Error) {
    let text = format!("{error:#}").replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "rwkv-rag: {text}");
}

/// A note for people, beside the data.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Rows as aligned columns under their titles.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) {
    let width = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
    let widths: Vec<usize> = (0..titles.len())
        .map(|at| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).chain([width(titles[at])]).max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, &wide)| format!("{cell}{}", " ".repeat(wide.saturating_sub(width(cell)))))
            .collect();
        line(format_args!("{}", padded.join("  ").trim_end()));
    };
    print(&mut titles.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Progress: a bar on a terminal, plain lines at every tenth when piped.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    tenth: Option<u64>,
    /// Why it waits, as was told last.
    reason: Option<String>,
}

impl Progress {
    /// Progress of one named piece of work.
    pub(crate) fn new(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(100);
            if let Ok(style) = ProgressStyle::with_template("{prefix:24!} {bar:30} {percent:>3}% {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        Progress { bar, name: name.to_owned(), tenth: None, reason: None }
    }

    /// How far it is.
    pub(crate) fn set(&mut self, percent: u64, stage: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(percent);
                bar.set_message(stage.to_owned());
            }
            None if self.tenth != Some(percent / 10) => {
                self.tenth = Some(percent / 10);
                note(format_args!("{}: {percent}% {stage}", self.name));
            }
            None => {}
        }
    }

    /// What went wrong before it is tried again; each reason once.
    pub(crate) fn waits(&mut self, reason: &str) {
        if self.reason.as_deref() == Some(reason) {
            return;
        }
        self.reason = Some(reason.to_owned());
        let words = format!("{}: is tried again later: {reason}", self.name);
        match &self.bar {
            Some(bar) => bar.println(words),
            None => note(format_args!("{words}")),
        }
    }

    /// Ends with a last word.
    pub(crate) fn finish(self, word: &str) {
        match self.bar {
            Some(bar) => bar.finish_with_message(word.to_owned()),
            None => note(format_args!("{}: {word}", self.name)),
        }
    }
}
