//! Chunkers: spans sorted, on characters, not blank, covering; same input, same output; nothing kept between sections.

use std::sync::Arc;

use rag_core::document::{ChunkSpan, Section};
use rag_core::ports::Chunk;
use rag_core::{ErrorCode, Result};

use crate::random::Random;
use crate::{Checked, Report, UNKNOWN_SETTINGS, during, ensure, refused_by_name, sections};

/// Random sections that a chunker must cut.
const RANDOM_SECTIONS: u64 = 20;

/// Checks a chunker; `make` makes it with settings as JSON.
pub async fn check(make: impl Fn(&str) -> Result<Arc<dyn Chunk>>) -> Report {
    let mut report = Report::default();
    let chunker = match make("{}") {
        Ok(chunker) => chunker,
        Err(error) => {
            let failed = async { Err(error.to_string()) };
            report.check("chunker.made", "it is made with its default settings", failed).await;
            return report;
        }
    };
    let about = "sorted spans on characters, none blank, together all of the text, on hard texts";
    report.check("chunker.hard", about, hard(&chunker)).await;
    report.check("chunker.random", "likewise on random texts", random(&chunker)).await;
    report.check("chunker.repeat", "the same section gives the same chunks", repeat(&chunker)).await;
    let unknown = async {
        match make(UNKNOWN_SETTINGS) {
            Ok(chunker) => refused_by_name(chunker.split(sections::paragraph("Words. 文字。")).await),
            refused => refused_by_name(refused),
        }
    };
    report.check("chunker.settings", "an unknown setting is refused by its name", unknown).await;
    report
}

async fn hard(chunker: &Arc<dyn Chunk>) -> Checked {
    for (number, section) in sections::hard().into_iter().enumerate() {
        cut(chunker, section, &format!("hard text {number}")).await?;
    }
    Ok(())
}

async fn random(chunker: &Arc<dyn Chunk>) -> Checked {
    for seed in 0..RANDOM_SECTIONS {
        cut(chunker, sections::random(&mut Random::new(seed)), &format!("random text {seed}")).await?;
    }
    Ok(())
}

async fn repeat(chunker: &Arc<dyn Chunk>) -> Checked {
    let (one, other) = (sections::random(&mut Random::new(7)), sections::random(&mut Random::new(8)));
    let first = during("first", chunker.split(one.clone()).await)?;
    during("another", chunker.split(other).await)?;
    let again = during("again", chunker.split(one).await)?;
    ensure(first == again, || "a section is cut otherwise after another one".to_owned())
}

async fn cut(chunker: &Arc<dyn Chunk>, section: Section, what: &str) -> Checked {
    match chunker.split(section.clone()).await {
        Ok(chunks) => contract(&section, &chunks).map_err(|why| format!("{what}: {why}")),
        // More pieces than a section may have.
        Err(error) if error.code() == ErrorCode::Quota && crate::typed(&error) => Ok(()),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// The rules of `wit/plugin.wit` for what `split` returns.
pub fn contract(section: &Section, chunks: &[ChunkSpan]) -> Checked {
    let text = &section.text;
    let piece = |start: u64, end: u64| text.get(start as usize..end as usize);
    let blank = |start: u64, end: u64| piece(start, end).is_some_and(|gap| gap.trim().is_empty());
    let (mut covered, mut last) = (0, 0);
    for (index, chunk) in chunks.iter().enumerate() {
        let (start, end) = (chunk.span.start, chunk.span.end);
        ensure(start >= last, || format!("chunk {index} starts before the one before it"))?;
        let Some(own) = piece(start, end).filter(|_| start < end) else {
            return Err(format!("chunk {index} at {start}..{end} is out of bounds or cuts a character"));
        };
        ensure(!own.trim().is_empty(), || format!("chunk {index} is blank"))?;
        ensure(start <= covered || blank(covered, start), || {
            format!("no chunk covers the text at {covered}..{start}")
        })?;
        if let Some(parent) = chunk.parent {
            let holds = chunks.get(parent as usize).is_some_and(|parent| {
                parent.span.start <= start && parent.span.end >= end && parent.span != chunk.span
            });
            ensure(holds, || format!("chunk {index} does not lie within its parent {parent}"))?;
        }
        last = start;
        covered = covered.max(end);
    }
    ensure(blank(covered, text.len() as u64), || format!("no chunk covers the text from {covered}"))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use rag_core::Error;
    use rag_core::document::Span;
    use rag_core::ports::PluginInfo;

    use super::*;

    /// Makes a whole section one chunk, but for one fault.
    #[derive(Debug)]
    struct Native(PluginInfo, &'static str, &'static str);

    #[async_trait]
    impl Chunk for Native {
        fn info(&self) -> &PluginInfo {
            &self.0
        }
        async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
            if self.1 != "{}" && self.2 != "careless" {
                return Err(Error::invalid("no setting 'no_such_key'"));
            }
            if section.text.trim().is_empty() {
                return Ok(vec![]);
            }
            let (mut start, mut end) = (0, section.text.len() as u64);
            match self.2 {
                "late" => start = section.text.chars().next().map_or(0, |c| c.len_utf8() as u64),
                "cutting" => end -= 1,
                _ => {}
            }
            Ok(vec![ChunkSpan { span: Span { start, end }, parent: None, context: None }])
        }
    }

    async fn broken(fault: &'static str) -> Vec<&'static str> {
        let report = check(|settings| {
            let info = PluginInfo {
                id: "native".to_owned(),
                version: "0.0.0".to_owned(),
                description: String::new(),
                digest: String::new(),
            };
            let settings = if settings == "{}" { "{}" } else { "other" };
            Ok(Arc::new(Native(info, settings, fault)))
        })
        .await;
        assert_eq!(report.checks.len(), 4);
        report.checks.iter().filter(|check| check.failure.is_some()).map(|check| check.id).collect()
    }

    #[tokio::test]
    async fn a_good_one_passes_and_each_fault_is_found() {
        assert!(broken("none").await.is_empty());
        assert_eq!(broken("careless").await, ["chunker.settings"]);
        for fault in ["late", "cutting"] {
            assert!(broken(fault).await.contains(&"chunker.hard"), "{fault}");
        }
    }
}
