//! Parsers: text recalled, batches whole, the end stays the end, foreign bytes answered with a value, reads that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rag_core::document::Block;
use rag_core::ports::Parse;
use rag_core::{ErrorCode, Result};

use crate::doubles::MemoryBlob;
use crate::{Checked, Report, UNKNOWN_SETTINGS, during, ensure, refused_by_name, typed};

/// Text of a batch that is asked for.
const BATCH_BYTES: u32 = 4 << 10;
/// Reads that fail, one a try.
const FAILING_READS: u64 = 3;
/// In words that any format of text keeps.
const WORDS: [&str; 3] = ["知识库", "answers", "第三"];

/// Checks a parser; `make` makes it with settings as JSON.
pub async fn check(make: impl Fn(&str) -> Result<Arc<dyn Parse>>) -> Report {
    let mut report = Report::default();
    let parser = match make("{}") {
        Ok(parser) => parser,
        Err(error) => {
            let failed = async { Err(error.to_string()) };
            report.check("parser.made", "it is made with its default settings", failed).await;
            return report;
        }
    };
    report.check("parser.recall", "the words of a text come back in order", recall(&parser)).await;
    let about = "empty files, noise and half a file are answered with blocks or a typed error";
    report.check("parser.foreign", about, foreign(&parser)).await;
    report.check("parser.repeat", "the same file gives the same blocks", repeat(&parser)).await;
    let about = "a read that fails is handed on, and the next file is read";
    report.check("parser.host", about, failing(&parser)).await;
    let unknown = async {
        let taken = match make(UNKNOWN_SETTINGS) {
            Ok(parser) => read(&parser, sample().as_bytes()).await,
            Err(error) => Err(error),
        };
        refused_by_name(taken)
    };
    report.check("parser.settings", "an unknown setting is refused by its name", unknown).await;
    report
}

fn sample() -> String {
    let filler = "Some words that fill a page. 填满一页的文字。\n".repeat(200);
    format!("关于知识库的说明\n\nIt answers questions.\n\n{filler}\n第三章\n")
}

/// The type under which a parser is given a file: its first.
fn media_type(parser: &Arc<dyn Parse>) -> &'static str {
    const KNOWN: [&str; 5] =
        ["text/plain", "text/markdown", "text/html", "text/csv", "application/octet-stream"];
    let accepts = |name: &&&str| parser.accepts().iter().any(|accepted| accepted == **name);
    KNOWN.iter().find(accepts).copied().unwrap_or("application/octet-stream")
}

async fn read(parser: &Arc<dyn Parse>, bytes: &[u8]) -> Result<Vec<Block>> {
    read_blob(parser, MemoryBlob::new(bytes, media_type(parser))).await
}

async fn read_blob(parser: &Arc<dyn Parse>, blob: Arc<MemoryBlob>) -> Result<Vec<Block>> {
    let mut session = parser.open(blob).await?;
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(BATCH_BYTES).await? {
        if batch.is_empty() {
            return Err(rag_core::Error::internal("an empty batch, where the end is none"));
        }
        blocks.extend(batch);
    }
    if session.next(BATCH_BYTES).await?.is_some() {
        return Err(rag_core::Error::internal("blocks after the end"));
    }
    session.summary().await?;
    Ok(blocks)
}

async fn recall(parser: &Arc<dyn Parse>) -> Checked {
    let is_text = |name: &String| name.starts_with("text/");
    if !parser.accepts().iter().any(is_text) {
        return Ok(());
    }
    let blocks = during("a plain text", read(parser, sample().as_bytes()).await)?;
    let text: String = blocks.iter().map(|block| block.text.as_str()).collect();
    let mut from = 0;
    for word in WORDS {
        let found = text.get(from..).and_then(|rest| rest.find(word));
        let at = found.ok_or_else(|| format!("'{word}' is lost, or out of order"))?;
        from += at + word.len();
    }
    Ok(())
}

async fn foreign(parser: &Arc<dyn Parse>) -> Checked {
    let noise: Vec<u8> = (0..4_096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let half: Vec<u8> = sample().into_bytes().into_iter().take(20).collect();
    let mut magics = vec![("an empty file", Vec::new()), ("noise", noise), ("a cut character", half)];
    for (name, magic) in [("half a PDF", "%PDF-1.7\n1 0 obj <<"), ("half an archive", "PK\u{3}\u{4}\u{14}")] {
        magics.push((name, magic.as_bytes().to_vec()));
    }
    for (name, bytes) in magics {
        if let Err(error) = read(parser, &bytes).await {
            ensure(typed(&error), || format!("{name}: {error}"))?;
        }
    }
    Ok(())
}

async fn repeat(parser: &Arc<dyn Parse>) -> Checked {
    let bytes = sample();
    let outcome = |outcome: Result<Vec<Block>>| outcome.map_err(|error| error.to_string());
    let first = outcome(read(parser, bytes.as_bytes()).await);
    let again = outcome(read(parser, bytes.as_bytes()).await);
    ensure(first == again, || "a file is read otherwise the second time".to_owned())
}

async fn failing(parser: &Arc<dyn Parse>) -> Checked {
    for call in 1..=FAILING_READS {
        let blob = MemoryBlob::new(sample().as_bytes(), media_type(parser));
        blob.failing.set(call);
        let outcome = read_blob(parser, blob.clone()).await;
        let failed = blob.failing.calls() >= call;
        match outcome {
            Ok(_) => ensure(!failed, || format!("read {call} failed and nobody was told"))?,
            Err(error) => ensure(typed(&error) && (!failed || error.code() != ErrorCode::Internal), || {
                format!("read {call} failed: {error}")
            })?,
        }
        blob.failing.at.store(0, Ordering::SeqCst);
        if let Err(error) = read(parser, sample().as_bytes()).await {
            ensure(typed(&error), || format!("after a failed read: {error}"))?;
        }
    }
    Ok(())
}
