//! How well and how fast passages are found: every question of a set against all its contexts, through the real plugins.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use rag_core::recall::{Recall, SearchRequest};

use super::Figure;
use super::corpus::{KB, Row, Scratch, rows, thin};
use crate::cli::Bench;
use crate::config::Config;
use crate::output::Progress;

/// Ranks looked at.
const DEPTH: usize = 10;
/// Chunks asked for: several of one document may come before another document's first.
const CHUNKS: u32 = 30;

pub(super) async fn run(config: &Config, args: &Bench) -> Result<Vec<Figure>> {
    let rows = rows(args)?;
    let scratch = Scratch::open(config, args).await?;
    let mut names: HashMap<&str, String> = HashMap::new();
    let mut documents = Vec::new();
    for row in &rows {
        names.entry(&row.context).or_insert_with(|| {
            let name = format!("p{:05}.txt", documents.len());
            documents.push((name.clone(), Bytes::from(row.context.clone())));
            name
        });
    }
    let seconds = scratch.ingest(&documents).await?;
    let chunks = scratch.parts.rag.kb(KB).await?.chunks;
    let mut figures = vec![
        Figure::new("documents", documents.len() as f64, "documents"),
        Figure::new("chunks", chunks as f64, "chunks"),
        Figure::new("ingest", documents.len() as f64 / seconds, "documents/s"),
    ];
    let asked = thin(&rows, args.limit);
    figures.push(Figure::new("questions", asked.len() as f64, "questions"));
    figures.extend(measure(&scratch, &asked, &names, false).await?);
    if !args.no_rerank {
        figures.extend(measure(&scratch, &asked, &names, true).await?);
    }
    Ok(figures)
}

async fn measure(
    scratch: &Scratch,
    asked: &[&Row],
    names: &HashMap<&str, String>,
    rerank: bool,
) -> Result<Vec<Figure>> {
    let label = if rerank { "reranked" } else { "retrieved" };
    let mut progress = Progress::new(label);
    let mut ranks = Vec::with_capacity(asked.len());
    let start = Instant::now();
    for (at, row) in asked.iter().enumerate() {
        let request = SearchRequest {
            question: row.question.clone(),
            k: (!rerank).then_some(CHUNKS),
            rerank: Some(rerank),
            ..SearchRequest::default()
        };
        let found = scratch.parts.rag.search(KB, request).await?;
        ranks.push(rank_of(&found, names.get(row.context.as_str()).map_or("", String::as_str)));
        progress.set(at as u64 * 100 / asked.len() as u64, label);
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.finish("done");
    let share = |depth: usize| {
        ranks.iter().flatten().filter(|&&rank| rank <= depth).count() as f64 / ranks.len() as f64
    };
    let mrr = ranks.iter().flatten().map(|&rank| 1.0 / rank as f64).sum::<f64>() / ranks.len() as f64;
    Ok(vec![
        Figure::new(format!("{label} R@1"), share(1), "share"),
        Figure::new(format!("{label} R@5"), share(5), "share"),
        Figure::new(format!("{label} R@10"), share(DEPTH), "share"),
        Figure::new(format!("{label} MRR@10"), mrr, "share"),
        Figure::new(format!("{label} speed"), asked.len() as f64 / seconds, "queries/s"),
    ])
}

/// Place of a document among the distinct documents found, from 1.
fn rank_of(found: &Recall, name: &str) -> Option<usize> {
    let mut seen: Vec<&str> = Vec::new();
    for hit in &found.hits {
        let document = hit.passage.document_name.as_str();
        if !seen.contains(&document) {
            seen.push(document);
        }
    }
    seen.iter().take(DEPTH).position(|&document| document == name).map(|at| at + 1)
}
