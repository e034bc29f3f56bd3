//! Parsers: text recalled from golden files in every encoding, each block where it says; everything else refused
//! with a typed error; memory and reads bounded on a file without a line end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use encoding_rs::Encoding;
use rag_core::document::{Block, BlockKind, Location, ParsedSummary, Span};
use rag_core::ports::{Blob, Parse, ParseSession, PluginInfo};
use rag_core::{Error, ErrorCode, Result};

use crate::host;
use rag_kit::doubles::MemoryBlob;

/// The native reference: UTF-8, one block a line.
struct Utf8Lines(PluginInfo, Vec<String>);

struct Utf8LinesSession {
    text: String,
    at: usize,
    row: u32,
}

#[async_trait]
impl Parse for Utf8Lines {
    fn info(&self) -> &PluginInfo {
        &self.0
    }
    fn accepts(&self) -> &[String] {
        &self.1
    }
    async fn open(&self, blob: Arc<dyn Blob>) -> Result<Box<dyn ParseSession>> {
        let bytes = blob.read_at(0, u32::try_from(blob.size()).unwrap()).await?;
        if bytes.contains(&0) {
            return Err(Error::Unsupported { message: "binary data".to_owned() });
        }
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| {
            Error::invalid(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
        })?;
        if text.trim().is_empty() {
            return Err(Error::invalid("the file is empty"));
        }
        Ok(Box::new(Utf8LinesSession { text, at: 0, row: 0 }))
    }
}

#[async_trait]
impl ParseSession for Utf8LinesSession {
    async fn next(&mut self, _: u32) -> Result<Option<Vec<Block>>> {
        while let Some(line) = self.text[self.at..].split_inclusive('\n').next() {
            let start = self.at + (line.len() - line.trim_start().len());
            self.at += line.len();
            self.row += 1;
            let body = line.trim();
            if !body.is_empty() {
                let source = Some(Span { start: start as u64, end: (start + body.len()) as u64 });
                let location = Location { row: Some(self.row), source, ..Location::default() };
                let block = Block { kind: BlockKind::Paragraph, level: 0, text: body.to_owned(), location };
                return Ok(Some(vec![block]));
            }
        }
        Ok(None)
    }
    async fn summary(&mut self) -> Result<ParsedSummary> {
        Ok(ParsedSummary::default())
    }
}

fn reference() -> Arc<dyn Parse> {
    let info = PluginInfo {
        id: "utf-8-lines".to_owned(),
        version: "0.0.0".to_owned(),
        description: String::new(),
        digest: String::new(),
    };
    Arc::new(Utf8Lines(info, vec!["text/plain".to_owned()]))
}

fn parser(id: &str) -> Arc<dyn Parse> {
    host().parser(id, "{}", Default::default()).unwrap()
}

fn subjects() -> Vec<Arc<dyn Parse>> {
    vec![reference(), parser("parse-text"), parser("parse-markdown")]
}

async fn read_blob(
    parser: &Arc<dyn Parse>,
    blob: Arc<MemoryBlob>,
    batch: u32,
) -> Result<(Vec<Block>, ParsedSummary)> {
    let mut session = parser.open(blob).await?;
    let mut blocks = Vec::new();
    while let Some(some) = session.next(batch).await? {
        assert!(!some.is_empty(), "{}: an empty batch is not the end", parser.info().id);
        let bytes: usize = some.iter().rev().skip(1).map(|block| block.text.len()).sum();
        assert!(
            bytes <= batch as usize,
            "{}: {bytes} bytes before the last block of a batch",
            parser.info().id
        );
        blocks.extend(some);
    }
    assert_eq!(session.next(batch).await?, None, "the end stays the end");
    Ok((blocks, session.summary().await?))
}

async fn read(parser: &Arc<dyn Parse>, bytes: &[u8]) -> Result<(Vec<Block>, ParsedSummary)> {
    let media_type = if parser.info().id.contains("markdown") { "text/markdown" } else { "text/plain" };
    read_blob(parser, MemoryBlob::new(bytes, media_type), 64 << 10).await
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(crate::tree().join("tests/conformance/golden").join(name)).unwrap()
}

/// Every block with a source is, decoded and with its line ends unified, exactly those bytes; rows count lines.
fn assert_sources(bytes: &[u8], encoding: &'static Encoding, blocks: &[Block]) {
    for block in blocks {
        let Some(source) = block.location.source else { continue };
        let decode = |range: std::ops::Range<usize>| {
            let decoded = encoding.decode_without_bom_handling_and_without_replacement(&bytes[range]);
            decoded.expect("whole characters").replace("\r\n", "\n")
        };
        assert_eq!(decode(source.start as usize..source.end as usize), block.text);
        let row = decode(0..source.start as usize).matches('\n').count() + 1;
        assert_eq!(block.location.row, Some(row as u32), "{}", block.text);
    }
}

fn texts(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.text.as_str()).collect()
}

#[tokio::test]
async fn plain_text_is_the_same_in_every_encoding() {
    let simplified = [
        "知识库问答系统",
        "把文档变成知识库，并从中回答问题，\n每个回答都附上引文。",
        "第二段：编码为“国标”或统一码，共有 3 种。",
    ];
    let traditional = [
        "知識庫問答系統",
        "把文件變成知識庫，並從中回答問題，\n每個回答都附上引文。",
        "第二段：編碼為「大五碼」，共有 3 種。",
    ];
    let english = ["A plain title", "Sentences wrap\nover lines.", "The last one ’quotes’ café."];
    for (file, encoding, expected) in [
        ("simplified.utf-8.txt", "utf-8", simplified),
        ("simplified.utf-8-bom.txt", "utf-8", simplified),
        ("simplified.gb18030.txt", "gb18030", simplified),
        ("simplified.utf-16le.txt", "utf-16le", simplified),
        ("simplified.utf-16le-bom.txt", "utf-16le", simplified),
        ("simplified.utf-16be.txt", "utf-16be", simplified),
        ("simplified.utf-16be-bom.txt", "utf-16be", simplified),
        ("traditional.utf-8.txt", "utf-8", traditional),
        ("traditional.big5.txt", "big5", traditional),
        ("english.utf-8.txt", "utf-8", english),
        ("english.windows-1252.txt", "windows-1252", english),
    ] {
        let bytes = golden(file);
        let (blocks, summary) = read(&parser("parse-text"), &bytes).await.unwrap();
        assert_eq!(texts(&blocks), expected, "{file}");
        assert!(blocks.iter().all(|block| block.location.source.is_some()), "{file}");
        assert_sources(&bytes, Encoding::for_label(encoding.as_bytes()).unwrap(), &blocks);
        assert_eq!(summary.attributes, [("encoding".to_owned(), encoding.to_owned())], "{file}");
    }
}

#[tokio::test]
async fn markdown_is_read_as_blocks() {
    let expected = [
        (BlockKind::Heading, 1, "安装 *手册*"),
        (BlockKind::Paragraph, 0, "引言第一行，有**粗体**和 `code`。\n引言第二行。"),
        (BlockKind::Heading, 2, "准备"),
        (BlockKind::ListItem, 0, "1. 备份数据。"),
        (BlockKind::ListItem, 0, "2. 下载镜像："),
        (BlockKind::ListItem, 0, "- 稳定版"),
        (BlockKind::ListItem, 0, "- 测试版"),
        (BlockKind::Paragraph, 0, "核对校验和。"),
        (BlockKind::Table, 0, "| 版本 | 代号 |\n|------|------|\n| 12   | bookworm |\n| 13   | trixie |"),
        (BlockKind::Code, 0, "```sh\n# 不是标题\napt update\n```"),
        (BlockKind::Quote, 0, "> 引文。\n> 第二行。"),
        (BlockKind::Heading, 2, "Setext heading"),
        (BlockKind::Paragraph, 0, "The last paragraph[^1] has a note."),
        (BlockKind::Footnote, 0, "[^1]: A note."),
    ];
    for (file, encoding) in [("manual.md", encoding_rs::UTF_8), ("manual.gb18030.md", encoding_rs::GB18030)] {
        let bytes = golden(file);
        let (blocks, summary) = read(&parser("parse-markdown"), &bytes).await.unwrap();
        let found: Vec<_> =
            blocks.iter().map(|block| (block.kind, block.level, block.text.as_str())).collect();
        assert_eq!(found, expected, "{file}");
        assert_sources(&bytes, encoding, &blocks);
        assert_eq!((summary.title.as_deref(), summary.language.as_deref()), (Some("安装手册"), Some("zh")));
        assert!(summary.attributes.contains(&("tags".to_owned(), "安装, Debian".to_owned())));
    }
}

#[tokio::test]
async fn every_parser_recalls_the_text_and_says_where_it_stands() {
    let bytes = golden("simplified.utf-8.txt");
    let all: String = std::str::from_utf8(&bytes).unwrap().split_whitespace().collect();
    for parser in subjects() {
        let (blocks, _) = read(&parser, &bytes).await.unwrap();
        let found: String = blocks.iter().flat_map(|block| block.text.split_whitespace()).collect();
        assert_eq!(found, all, "{}", parser.info().id);
        assert_sources(&bytes, encoding_rs::UTF_8, &blocks);
        for block in &blocks {
            assert!(!block.text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
        assert_eq!(read(&parser, &bytes).await.unwrap().0, blocks, "twice the same");
    }
}

#[tokio::test]
async fn what_is_not_text_is_unsupported() {
    let zip = [&b"PK\x03\x04\x14\0\x06\0"[..], &[7; 300]].concat();
    let utf32: Vec<u8> = "UTF-32 文本".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    for (what, bytes) in [
        ("PDF", &b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n"[..]),
        ("ZIP", &zip),
        ("program", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"),
        ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("binary", b"looks like text at first\n\0\x01\x02\0\0\0\x03"),
        ("UTF-32", &[&b"\xff\xfe\0\0"[..], utf32.as_slice()].concat()),
    ] {
        for parser in [parser("parse-text"), parser("parse-markdown")] {
            let error = read(&parser, bytes).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unsupported, "{what}: {error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert!(!error.retryable());
        }
    }
    // Found out only after a megabyte of good text: still a typed error.
    let late = [golden("simplified.utf-8.txt").repeat(8_000).as_slice(), b"\0\0\0"].concat();
    for parser in subjects() {
        assert_eq!(
            read(&parser, &late).await.unwrap_err().code(),
            ErrorCode::Unsupported,
            "{}",
            parser.info().id
        );
    }
}

#[tokio::test]
async fn empty_blank_and_damaged_files_are_invalid_and_the_place_is_named() {
    for parser in subjects() {
        for bytes in [&b""[..], b" \n\t\r\n \n", "　\n　".as_bytes()] {
            let error = read(&parser, bytes).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput, "{}: {error}", parser.info().id);
        }
        let good = golden("simplified.utf-8.txt");
        let cut = &good[..good.len() - 3];
        let error = read(&parser, cut).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{}: {error}", parser.info().id);
        let at = std::str::from_utf8(cut).unwrap_err().valid_up_to();
        assert!(error.to_string().contains(&format!("byte {at} ")), "{at}: {error}");
        let mut damaged = good.repeat(3);
        damaged[good.len() + 3] = 0xff;
        let error = read(&parser, &damaged).await.unwrap_err();
        assert!(error.to_string().contains(&format!("byte {} ", good.len() + 3)), "{error}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_read_in_pieces_and_once() {
    let pattern = "没有换行的一行文字，句子倒是很多。Plain words too. ".as_bytes();
    let size = 24 << 20;
    for id in ["parse-text", "parse-markdown"] {
        let blob = MemoryBlob::repeated(pattern, size - size % pattern.len() as u64, "text/plain");
        let mut session = parser(id).open(blob.clone()).await.unwrap();
        let (mut bytes, mut largest) = (0, 0);
        while let Some(blocks) = session.next(256 << 10).await.unwrap() {
            for block in blocks {
                largest = largest.max(block.text.len());
                bytes += block.text.len() as u64;
                assert!(block.text.ends_with("。") || block.text.ends_with('.') || id == "parse-markdown");
            }
        }
        assert!(bytes > blob.size() - blob.size() / 100, "{id}: {bytes} of {}", blob.size());
        assert!(largest < 1 << 20, "{id}: {largest}");
        assert_eq!(blob.bytes_read.load(Ordering::SeqCst), blob.size(), "{id}: every byte once");
    }
}

#[tokio::test]
async fn a_failing_file_is_handed_on_at_every_read() {
    let bytes = golden("manual.md").repeat(2_500);
    for id in ["parse-text", "parse-markdown"] {
        for call in 1..=4 {
            let blob = MemoryBlob::new(&bytes, "text/markdown");
            blob.failing.set(call);
            let error = read_blob(&parser(id), blob, 64 << 10).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unavailable, "{id}, read {call}: {error}");
        }
        assert!(read(&parser(id), &bytes).await.is_ok(), "{id}");
    }
}

#[tokio::test]
async fn a_named_encoding_is_taken_at_its_word() {
    let bytes = golden("traditional.big5.txt");
    let named = host().parser("parse-text", r#"{"encoding": "big5"}"#, Default::default()).unwrap();
    assert_eq!(texts(&read(&named, &bytes).await.unwrap().0)[0], "知識庫問答系統");
    let wrong = host().parser("parse-text", r#"{"encoding": "utf-8"}"#, Default::default()).unwrap();
    let error = read(&wrong, &bytes).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("byte 0 is not valid utf-8"), "{error}");
}
