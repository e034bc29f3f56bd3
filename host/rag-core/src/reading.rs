//! A document on its way from bytes to chunks: while one section is cut, the next is parsed.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::document::{ChunkSpan, ParsedSummary};
use crate::error::Result;
use crate::limits;
use crate::ports::{Blob, Chunk, Parse, ParseSession};
use crate::section::{PlacedSection, Sectioner};

/// A section and where it is cut.
#[derive(Debug)]
pub struct CutSection {
    pub placed: PlacedSection,
    pub spans: Vec<ChunkSpan>,
}

/// An open document. Holds at most the section that is being cut and those of one batch of the parser after it.
pub struct Reading {
    session: Box<dyn ParseSession>,
    chunker: Arc<dyn Chunk>,
    sectioner: Sectioner,
    /// What the parser knew after its first batch: the sections' title and language.
    early: Option<ParsedSummary>,
    parsed: VecDeque<PlacedSection>,
    /// Set once the parser is through.
    summary: Option<ParsedSummary>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("chunker", self.chunker.info()).finish_non_exhaustive()
    }
}

impl Reading {
    pub async fn open(parser: &dyn Parse, chunker: Arc<dyn Chunk>, blob: Arc<dyn Blob>) -> Result<Self> {
        Ok(Reading {
            session: parser.open(blob).await?,
            chunker,
            sectioner: Sectioner::default(),
            early: None,
            parsed: VecDeque::new(),
            summary: None,
        })
    }

    /// The next section; none at the end of the document. After an error, or when this is dropped half way, the
    /// document must be opened anew.
    pub async fn next(&mut self) -> Result<Option<CutSection>> {
        self.parse().await?;
        let Some(placed) = self.parsed.pop_front() else { return Ok(None) };
        let chunker = Arc::clone(&self.chunker);
        let (spans, ()) = both(chunker.split(placed.section.clone()), self.parse()).await?;
        Ok(Some(CutSection { placed, spans }))
    }

    /// Title and metadata, complete once `next` has returned none.
    pub async fn summary(mut self) -> Result<ParsedSummary> {
        match self.summary {
            Some(summary) => Ok(summary),
            None => self.session.summary().await,
        }
    }

    /// Parses until there is a section or the document ends.
    async fn parse(&mut self) -> Result<()> {
        while self.parsed.is_empty() && self.summary.is_none() {
            let Some(blocks) = self.session.next(limits::PARSE_BATCH_BYTES).await? else {
                let summary = self.session.summary().await?;
                self.parsed.extend(self.sectioner.finish(&summary));
                self.summary = Some(summary);
                return Ok(());
            };
            let early = match &mut self.early {
                Some(known) => known,
                none => none.insert(self.session.summary().await?),
            };
            let sectioner = &mut self.sectioner;
            self.parsed.extend(blocks.into_iter().flat_map(|block| sectioner.push(block, early)));
        }
        Ok(())
    }
}

/// Does both at once. An error of the first ends it and drops what the second has under way; one of the second is told
/// once the first is through, so that nothing of that is cut off halfway.
pub(crate) async fn both<A, B>(
    first: impl Future<Output = Result<A>>,
    second: impl Future<Output = Result<B>>,
) -> Result<(A, B)> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(outcome) = first.as_mut().poll(cx)
        {
            a = Some(outcome?);
        }
        if b.is_none()
            && let Poll::Ready(outcome) = second.as_mut().poll(cx)
        {
            b = Some(outcome);
        }
        match (a.take(), b.take()) {
            (Some(a), Some(b)) => Poll::Ready(b.map(|b| (a, b))),
            (left_a, left_b) => {
                (a, b) = (left_a, left_b);
                Poll::Pending
            }
        }
    })
    .await
}
