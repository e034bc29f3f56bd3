//! Chunkers: spans sorted, on characters, not blank, covering; sizes and overlaps as asked; same input, same output.

use std::sync::Arc;

use async_trait::async_trait;
use rag_core::document::{BlockKind, ChunkSpan, Section, Span};
use rag_core::limits::SECTION_CHUNKS_MAX;
use rag_core::ports::{Chunk, PluginInfo};
use rag_core::{ErrorCode, Result};

use crate::host;
use rag_kit::chunker::contract;
use rag_kit::doubles::{HashEmbedder, tokens};
use rag_kit::random::Random;
use rag_kit::sections;

/// A chunker with settings, and how long its chunks may be.
struct Subject {
    name: String,
    chunker: Arc<dyn Chunk>,
    length: fn(&str) -> usize,
    size: usize,
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn of(id: &str, settings: &str) -> Arc<dyn Chunk> {
    host().chunker(id, settings, Arc::new(HashEmbedder::default())).unwrap()
}

/// The native reference: every block is a chunk, and so is what stands between.
#[derive(Debug)]
struct WholeBlocks(PluginInfo);

#[async_trait]
impl Chunk for WholeBlocks {
    fn info(&self) -> &PluginInfo {
        &self.0
    }
    async fn split(&self, section: Section) -> Result<Vec<ChunkSpan>> {
        let mut chunks = Vec::new();
        let mut at = 0;
        let ends = section.blocks.iter().flat_map(|block| [block.span.start, block.span.end]);
        for end in ends.chain([section.text.len() as u64]) {
            let piece = section.text.get(at as usize..end as usize).unwrap_or_default();
            if !piece.trim().is_empty() {
                chunks.push(ChunkSpan { span: Span { start: at, end }, parent: None, context: None });
            }
            at = end;
        }
        Ok(chunks)
    }
}

fn subjects() -> Vec<Subject> {
    let subject = |id: &str, settings: &str, length: fn(&str) -> usize, size: usize| Subject {
        name: format!("{id} {settings}"),
        chunker: of(id, settings),
        length,
        size,
    };
    let native = PluginInfo {
        id: "whole-blocks".to_owned(),
        version: "0.0.0".to_owned(),
        description: String::new(),
        digest: String::new(),
    };
    vec![
        Subject {
            name: "whole-blocks".to_owned(),
            chunker: Arc::new(WholeBlocks(native)),
            length: chars,
            size: usize::MAX,
        },
        subject("chunk-lines", "{}", chars, usize::MAX),
        subject("chunk-fixed", "{}", chars, 512),
        subject("chunk-fixed", r#"{"size": 7, "overlap": 3}"#, chars, 7),
        subject("chunk-fixed", r#"{"size": 1}"#, chars, 1),
        subject("chunk-code", "{}", tokens, 256),
        subject("chunk-code", r#"{"size": 64, "unit": "characters", "overlap": 20}"#, chars, 64),
        subject("chunk-parent-child", "{}", tokens, 510),
        subject("chunk-parent-child", r#"{"size": 64, "parent_size": 90}"#, tokens, 90),
        subject("chunk-semantic", "{}", tokens, 256),
        subject("chunk-semantic", r#"{"size": 64, "percentile": 50}"#, tokens, 64),
        subject("chunk-recursive", "{}", tokens, 256),
        subject("chunk-recursive", r#"{"size": 64, "overlap": 32}"#, tokens, 64),
        subject("chunk-recursive", r#"{"size": 64, "unit": "characters", "overlap": 20}"#, chars, 64),
        subject("chunk-sentence", "{}", tokens, 256),
        subject("chunk-sentence", r#"{"size": 64, "overlap": 32}"#, tokens, 64),
        subject("chunk-sentence", r#"{"size": 64, "unit": "characters", "overlap": 20}"#, chars, 64),
    ]
}

async fn assert_subject(subject: &Subject, section: &Section, what: &str) {
    let what = format!("{} on {what}", subject.name);
    let chunks = match subject.chunker.split(section.clone()).await {
        Ok(chunks) => chunks,
        Err(error) => {
            // More pieces than a section may have is the one thing to refuse, and by name.
            let pieces = (subject.length)(&section.text) / subject.size;
            assert!(pieces > SECTION_CHUNKS_MAX && error.code() == ErrorCode::Quota, "{what}: {error}");
            return;
        }
    };
    contract(section, &chunks).unwrap_or_else(|why| panic!("{what}: {why}"));
    for chunk in &chunks {
        let piece = &section.text[chunk.span.start as usize..chunk.span.end as usize];
        let length = (subject.length)(piece);
        assert!(length <= subject.size, "{what}: {length} of {}: {piece:?}", subject.size);
    }
    assert_eq!(subject.chunker.split(section.clone()).await.unwrap(), chunks, "{what}: twice the same");
}

#[tokio::test]
async fn every_chunker_keeps_the_contract_on_hard_texts() {
    for subject in subjects() {
        for (number, section) in sections::hard().iter().enumerate() {
            assert_subject(&subject, section, &format!("hard text {number}")).await;
        }
    }
}

#[tokio::test]
async fn every_chunker_keeps_the_contract_on_random_texts() {
    for subject in subjects() {
        for seed in 0..60 {
            let section = sections::random(&mut Random::new(seed));
            assert_subject(&subject, &section, &format!("seed {seed}")).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_kept_from_one_section_to_the_next() {
    let (one, other) = (sections::random(&mut Random::new(7)), sections::random(&mut Random::new(8)));
    for subject in subjects() {
        let first = subject.chunker.split(one.clone()).await.unwrap();
        subject.chunker.split(other.clone()).await.unwrap();
        assert_eq!(subject.chunker.split(one.clone()).await.unwrap(), first, "{}", subject.name);
    }
}

/// RWKV-RAG's windows, as its loader makes them: emit the first `size` characters, keep from `size - overlap`.
fn upstream_windows(text: &str, size: usize, overlap: usize) -> Vec<String> {
    let mut buffer: Vec<char> = text.chars().collect();
    let mut windows = Vec::new();
    while buffer.len() >= size {
        windows.push(buffer[..size].iter().collect());
        buffer.drain(..size - overlap);
    }
    // Its last window may be nothing but the overlap again: left out here.
    if buffer.len() > overlap {
        windows.push(buffer.iter().collect());
    }
    windows.retain(|window: &String| !window.trim().is_empty());
    windows
}

#[tokio::test]
async fn fixed_windows_are_those_of_rwkv_rag() {
    for (size, overlap) in [(512, 0), (512, 8), (10, 3), (3, 2), (1, 0)] {
        let chunker = of("chunk-fixed", &format!(r#"{{"size": {size}, "overlap": {overlap}}}"#));
        for seed in 0..20 {
            let section = sections::random(&mut Random::new(seed));
            let chunks = chunker.split(section.clone()).await.unwrap();
            let found: Vec<&str> =
                chunks.iter().map(|c| &section.text[c.span.start as usize..c.span.end as usize]).collect();
            assert_eq!(
                found,
                upstream_windows(&section.text, size, overlap),
                "{size}, {overlap}, seed {seed}"
            );
        }
    }
    let refused = of("chunk-fixed", r#"{"size": 8, "overlap": 8}"#)
        .split(sections::paragraph("text"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidInput);
    assert!(
        refused.to_string().contains("'overlap'") && refused.to_string().contains("from 0 to 7"),
        "{refused}"
    );
}

#[tokio::test]
async fn lines_are_chunks() {
    let section = sections::paragraph("问：什么是 RWKV？\n答：一种模型。\n\n  Third line \r\n");
    let chunks = of("chunk-lines", "{}").split(section.clone()).await.unwrap();
    let found: Vec<&str> =
        chunks.iter().map(|c| &section.text[c.span.start as usize..c.span.end as usize]).collect();
    assert_eq!(found, ["问：什么是 RWKV？", "答：一种模型。", "Third line"]);
}

#[tokio::test]
async fn sentences_stay_whole_and_know_their_headings() {
    let section = sections::section(&[
        (BlockKind::Heading, 1, "安装指南"),
        (BlockKind::Heading, 2, "准备工作"),
        (
            BlockKind::Paragraph,
            0,
            "首先备份全部数据，包括主目录与数据库。然后下载最新的安装镜像，并核对它的校验和是否一致。",
        ),
        (
            BlockKind::Paragraph,
            0,
            "最后把镜像写入闪存盘，重新启动机器，并在固件设置中选择从闪存盘启动，等待安装程序出现。",
        ),
        (BlockKind::Heading, 2, "Partitioning"),
        (BlockKind::Paragraph, 0, "Choose a disk, e.g. /dev/sda. Dr. Smith uses 3.5 GB. It is enough."),
    ]);
    let chunker = of("chunk-sentence", r#"{"unit": "characters", "size": 80}"#);
    let chunks = chunker.split(section.clone()).await.unwrap();
    let found: Vec<(&str, &str)> = chunks
        .iter()
        .map(|chunk| {
            let piece = &section.text[chunk.span.start as usize..chunk.span.end as usize];
            (piece, chunk.context.as_deref().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "安装指南\n\n准备工作\n\n首先备份全部数据，包括主目录与数据库。然后下载最新的安装镜像，并核对它的校验和是否一致。",
                "题目 Title"
            ),
            (
                "最后把镜像写入闪存盘，重新启动机器，并在固件设置中选择从闪存盘启动，等待安装程序出现。",
                "题目 Title › 安装指南 › 准备工作"
            ),
            (
                "Partitioning\n\nChoose a disk, e.g. /dev/sda. Dr. Smith uses 3.5 GB. It is enough.",
                "题目 Title › 安装指南"
            ),
        ]
    );
}

#[tokio::test]
async fn a_chunk_never_ends_with_a_heading_that_something_follows() {
    for settings in ["{}", r#"{"size": 64}"#, r#"{"size": 64, "unit": "characters"}"#] {
        let chunker = of("chunk-sentence", settings);
        for seed in 100..160 {
            let section = sections::random(&mut Random::new(seed));
            let chunks = chunker.split(section.clone()).await.unwrap();
            for (at, block) in
                section.blocks.iter().enumerate().filter(|(_, block)| block.kind == BlockKind::Heading)
            {
                let Some(next) = section.blocks.get(at + 1) else { continue };
                let end = section.text[..block.span.end as usize].trim_end().len() as u64;
                let ends_here = chunks.iter().any(|chunk| chunk.span.end == end);
                let adjacent =
                    section.text[block.span.end as usize..next.span.start as usize].trim().is_empty();
                let deeper = next.kind != BlockKind::Heading || next.level > block.level;
                let text = &section.text[next.span.start as usize..next.span.end as usize];
                assert!(
                    !(ends_here && adjacent && deeper) || text.trim().is_empty(),
                    "{settings} seed {seed}: {text:?}"
                );
            }
        }
    }
}
