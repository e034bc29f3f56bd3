//! How often the search by words finds a question's own paragraph first, and among the first ten.
//!
//! `xzcat questions.jsonl.xz | cargo run --release -p rag-store --example lexical_recall`, where each line is a JSON
//! object with `question` and `context`. Every distinct context becomes a document of one chunk.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use rag_core::document::{BlobHash, Chunk, ChunkId, DocumentId, ParsedSummary, Span};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{BlobStore, Catalog, IngestSource, JobKind, NewDocument};
use rag_store::{Store, StoreConfig};

type Failure = Box<dyn std::error::Error>;

#[derive(serde::Deserialize)]
struct Line {
    question: String,
    context: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut lines: Vec<Line> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        lines.push(serde_json::from_str(&line?)?);
    }
    let dir = tempfile::tempdir()?;
    let store = Store::open(StoreConfig::new(dir.path()))?;
    let kb = KbName::parse("recall")?;
    store.create_kb(&kb, &KbSettings::default()).await?;

    let mut writer = BlobStore::create(&*store).await?;
    writer.write("original".into()).await?;
    let (blob, size) = writer.finish().await?;
    let source = IngestSource {
        blob: blob.clone(),
        size,
        name: "all".into(),
        media_type: "text/plain".into(),
        chunker: None,
        origin: rag_core::ports::Origin::default(),
        alone: false,
    };
    let job = store.enqueue(&kb, &JobKind::Ingest(source)).await?;

    let begun = Instant::now();
    let mut chunk_of: HashMap<&str, ChunkId> = HashMap::new();
    for line in &lines {
        if !chunk_of.contains_key(line.context.as_str()) {
            let name = format!("{:06}", chunk_of.len());
            let chunk = ingest(&store, &kb, &blob, &name, &line.context, &job.id).await?;
            chunk_of.insert(&line.context, chunk);
        }
    }
    let ingest_s = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let (mut first, mut ten) = (0, 0);
    for line in &lines {
        let hits = store.lexical(&kb, &format!("{kb}-g1"), &line.question, 10, None).await?;
        let place = hits.iter().position(|hit| hit.chunk == chunk_of[line.context.as_str()]);
        first += usize::from(place == Some(0));
        ten += usize::from(place.is_some());
    }
    let search_s = begun.elapsed().as_secs_f64();
    let share = |count: usize| count as f64 / lines.len() as f64;
    writeln!(
        std::io::stdout(),
        "{} questions, {} paragraphs: R@1 {:.4}  R@10 {:.4}  {:.3} ms a search, ingest {ingest_s:.1} s",
        lines.len(),
        chunk_of.len(),
        share(first),
        share(ten),
        search_s * 1000.0 / lines.len() as f64,
    )?;
    Ok(())
}

async fn ingest(
    store: &Store,
    kb: &KbName,
    blob: &BlobHash,
    name: &str,
    text: &str,
    job: &rag_core::ports::JobId,
) -> Result<ChunkId, Failure> {
    let document = NewDocument {
        id: DocumentId::of(kb.as_str(), name, blob, ""),
        kb: kb.clone(),
        name: name.to_owned(),
        blob: blob.clone(),
        size: 0,
        media_type: "text/plain".to_owned(),
        pipeline: String::new(),
        collection: format!("{kb}-g1"),
        folder: None,
    };
    let chunk = Chunk {
        id: ChunkId::of(&document.id, 0, text),
        ordinal: 0,
        text: text.to_owned(),
        span: Span { start: 0, end: text.len() as u64 },
        parent: None,
        context: None,
        heading: None,
        page: None,
        source: None,
    };
    store.open_document(&document).await?;
    store.put_section(&document.id, 0, text, std::slice::from_ref(&chunk)).await?;
    store.commit_document(&document.id, &ParsedSummary::default(), job).await?;
    Ok(chunk.id)
}
