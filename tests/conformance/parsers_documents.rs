//! Parsers of documents: pages, books, mail, Office files, sheets, data, code and PDF as the sandbox runs them; what is damaged, encrypted or
//! something else is refused with a typed error, and a failing file is handed on at every read.

use std::sync::Arc;

use rag_core::document::{Block, BlockKind, ParsedSummary};
use rag_core::ports::Parse;
use rag_core::{ErrorCode, Result};

use crate::host;
use rag_kit::doubles::MemoryBlob;

const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// A file of one format, and the text of its blocks.
struct Sample {
    parser: &'static str,
    media_type: &'static str,
    bytes: Vec<u8>,
    blocks: Vec<(BlockKind, u8, &'static str)>,
    page: Option<u32>,
}

fn samples() -> Vec<Sample> {
    let html = "<html lang=zh><title>手册</title><nav>菜单</nav><main><h1>安装</h1><p>先备份，再安装。</p></main></html>";
    let docx = "<w:document xmlns:w='w'><w:body><w:p><w:pPr><w:outlineLvl w:val='0'/></w:pPr><w:r><w:t>总则</w:t></w:r></w:p>\
        <w:p><w:r><w:t>年假五天。</w:t></w:r></w:p></w:body></w:document>";
    let slide = "<p:sld xmlns:p='p' xmlns:a='a'><p:sp><p:nvPr><p:ph type='title'/></p:nvPr><a:p><a:r><a:t>概览</a:t></a:r></a:p></p:sp></p:sld>";
    let slides = "<Relationships><Relationship Id='a' Type='x/slide' Target='slides/s.xml'/></Relationships>";
    let csv = "姓名,部门\n张三,研发\n";
    let opf = "<package><manifest><item id='a' href='a.xhtml' media-type='application/xhtml+xml'/></manifest><spine><itemref idref='a'/></spine></package>";
    let mail = "From: a@example.com\r\nSubject: =?utf-8?B?5pGY6KaB?=\r\n\r\n先备份。\r\n";
    let table = (BlockKind::Table, 0, "| 姓名 | 部门 |\n| --- | --- |\n| 张三 | 研发 |");
    let sample = |parser, media_type, bytes, blocks, page| Sample { parser, media_type, bytes, blocks, page };
    vec![
        sample(
            "parse-html",
            "text/html",
            html.as_bytes().to_vec(),
            vec![(BlockKind::Heading, 1, "安装"), (BlockKind::Paragraph, 0, "先备份，再安装。")],
            None,
        ),
        sample(
            "parse-office",
            DOCX,
            zip(&[("word/document.xml", docx)]),
            vec![(BlockKind::Heading, 1, "总则"), (BlockKind::Paragraph, 0, "年假五天。")],
            None,
        ),
        sample(
            "parse-office",
            PPTX,
            zip(&[
                ("ppt/presentation.xml", "<p:p xmlns:p='p' xmlns:r='r'><p:sldId r:id='a'/></p:p>"),
                ("ppt/_rels/presentation.xml.rels", slides),
                ("ppt/slides/s.xml", slide),
            ]),
            vec![(BlockKind::Heading, 1, "概览")],
            Some(1),
        ),
        sample("parse-sheet", "text/csv", csv.as_bytes().to_vec(), vec![table], None),
        sample("parse-sheet", XLSX, workbook(), vec![table], Some(1)),
        sample(
            "parse-book",
            "application/epub+zip",
            zip(&[
                ("META-INF/container.xml", "<container><rootfile full-path='a.opf'/></container>"),
                ("a.opf", opf),
                ("a.xhtml", "<html><title/><body><h1>第一章</h1><p>开端。</p></body></html>"),
            ]),
            vec![(BlockKind::Heading, 1, "第一章"), (BlockKind::Paragraph, 0, "开端。")],
            None,
        ),
        sample(
            "parse-mail",
            "message/rfc822",
            mail.as_bytes().to_vec(),
            vec![
                (BlockKind::Heading, 1, "摘要"),
                (BlockKind::Paragraph, 0, "From: a@example.com"),
                (BlockKind::Paragraph, 0, "先备份。"),
            ],
            None,
        ),
        sample(
            "parse-rtf",
            "application/rtf",
            br"{\rtf1\ansi\ansicpg936{\stylesheet{\s1 heading 1;}}\pard\s1 \'d6\'aa\par\pard Words.\par}"
                .to_vec(),
            vec![(BlockKind::Heading, 1, "知"), (BlockKind::Paragraph, 0, "Words.")],
            None,
        ),
        sample(
            "parse-json",
            "application/json",
            "[{\"姓名\": \"张三\", \"年龄\": 3}, {}]".as_bytes().to_vec(),
            vec![(BlockKind::Paragraph, 0, "姓名：张三；年龄：3")],
            None,
        ),
        sample(
            "parse-json",
            "application/jsonl",
            b"{\"a\": 1}\n{\"a\": 2, \"b\": true}\n".to_vec(),
            vec![(BlockKind::Paragraph, 0, "a：1"), (BlockKind::Paragraph, 0, "a：2；b：true")],
            None,
        ),
        sample(
            "parse-code",
            "text/x-source",
            "use a;\n\nfn f() {\n    g()\n}\n".as_bytes().to_vec(),
            vec![(BlockKind::Code, 0, "use a;"), (BlockKind::Code, 0, "fn f() {\n    g()\n}")],
            None,
        ),
        sample(
            "parse-pdf",
            "application/pdf",
            pdf(),
            vec![(BlockKind::Heading, 1, "知识库"), (BlockKind::Paragraph, 0, "A page of words.")],
            Some(1),
        ),
    ]
}

async fn read(parser: &Arc<dyn Parse>, blob: Arc<MemoryBlob>) -> Result<(Vec<Block>, ParsedSummary)> {
    let mut session = parser.open(blob).await?;
    let mut blocks = Vec::new();
    while let Some(some) = session.next(64 << 10).await? {
        assert!(!some.is_empty(), "an empty batch is not the end");
        blocks.extend(some);
    }
    assert_eq!(session.next(64 << 10).await?, None, "the end stays the end");
    Ok((blocks, session.summary().await?))
}

#[tokio::test]
async fn every_format_is_read_in_order_with_its_pages() {
    for sample in samples() {
        let parser = host().parser(sample.parser, "{}", Default::default()).unwrap();
        assert!(parser.accepts().iter().any(|media_type| media_type == sample.media_type));
        let blob = MemoryBlob::new(&sample.bytes, sample.media_type);
        let (blocks, summary) = read(&parser, blob).await.unwrap();
        let found: Vec<_> =
            blocks.iter().map(|block| (block.kind, block.level, block.text.as_str())).collect();
        assert_eq!(found, sample.blocks, "{} {}", sample.parser, sample.media_type);
        assert!(blocks.iter().all(|block| block.location.page == sample.page), "{}", sample.media_type);
        if sample.parser == "parse-html" {
            assert_eq!((summary.title.as_deref(), summary.language.as_deref()), (Some("手册"), Some("zh")));
        }
        let again = read(&parser, MemoryBlob::new(&sample.bytes, sample.media_type)).await.unwrap();
        assert_eq!(again, (blocks, summary), "twice the same");
    }
}

#[tokio::test]
async fn a_failing_file_is_handed_on() {
    for sample in samples() {
        let parser = host().parser(sample.parser, "{}", Default::default()).unwrap();
        let blob = MemoryBlob::new(&sample.bytes, sample.media_type);
        blob.failing.set(1);
        let error = read(&parser, blob).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{} {}: {error}", sample.parser, sample.media_type);
    }
}

#[tokio::test]
async fn what_is_cut_off_or_something_else_is_refused() {
    // Half a text, and half a mail, can still be read.
    let whole = |sample: &Sample| !sample.media_type.starts_with("text/") && sample.parser != "parse-mail";
    for sample in samples().into_iter().filter(whole) {
        let parser = host().parser(sample.parser, "{}", Default::default()).unwrap();
        let what = format!("{} {}", sample.parser, sample.media_type);
        let cut = &sample.bytes[..sample.bytes.len() / 2];
        let error = read(&parser, MemoryBlob::new(cut, sample.media_type)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{what}: {error}");
        let other = if sample.parser == "parse-json" { &b"\x7fELF\0"[..] } else { b"plain words" };
        let error = read(&parser, MemoryBlob::new(other, sample.media_type)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{what}: {error}");
    }
    // An encrypted Office file is an OLE file around it.
    let locked = [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0; 2048]].concat();
    for (parser, media_type) in [("parse-office", DOCX), ("parse-sheet", XLSX)] {
        let parser = host().parser(parser, "{}", Default::default()).unwrap();
        let error = read(&parser, MemoryBlob::new(&locked, media_type)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
}

#[tokio::test]
async fn entities_and_depth_are_refused_by_a_typed_error() {
    let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbb'><!ENTITY c SYSTEM 'file:///etc/passwd'>]><w:p>&b;&c;</w:p>";
    let deep = "<w:p>".repeat(50_000);
    for (text, code) in [(bomb, ErrorCode::InvalidInput), (deep.as_str(), ErrorCode::Quota)] {
        let bytes = zip(&[("word/document.xml", text)]);
        let parser = host().parser("parse-office", "{}", Default::default()).unwrap();
        let error = read(&parser, MemoryBlob::new(&bytes, DOCX)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let parser = host().parser("parse-html", "{}", Default::default()).unwrap();
    let page = "<div>".repeat(100_000);
    let error = read(&parser, MemoryBlob::new(page.as_bytes(), "text/html")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Quota, "{error}");
}

/// A workbook of one sheet.
fn workbook() -> Vec<u8> {
    let cell = |place: &str, text: &str| format!("<c r='{place}' t='inlineStr'><is><t>{text}</t></is></c>");
    let rows = [("A1", "姓名"), ("B1", "部门"), ("A2", "张三"), ("B2", "研发")]
        .map(|(place, text)| cell(place, text));
    let [a1, b1, a2, b2] = rows;
    workbook_of(&format!("<row r='1'>{a1}{b1}</row><row r='2'>{a2}{b2}</row>"))
}

/// The same with these rows.
fn workbook_of(rows: &str) -> Vec<u8> {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006/relationships";
    let link = |kind: &str, target: &str| {
        format!(
            "<Relationships xmlns='{package}'><Relationship Id='a' Type='{relation}/{kind}' Target='{target}'/></Relationships>"
        )
    };
    zip(&[
        ("_rels/.rels", &link("officeDocument", "xl/workbook.xml")),
        (
            "xl/workbook.xml",
            &format!(
                "<workbook xmlns='{main}' xmlns:r='{relation}'><sheets><sheet name='甲' sheetId='1' r:id='a'/></sheets></workbook>"
            ),
        ),
        ("xl/_rels/workbook.xml.rels", &link("worksheet", "worksheets/sheet1.xml")),
        (
            "xl/worksheets/sheet1.xml",
            &format!("<worksheet xmlns='{main}'><sheetData>{rows}</sheetData></worksheet>"),
        ),
    ])
}

/// A page with a Han line in a font that is not in the file, and a Latin one.
fn pdf() -> Vec<u8> {
    let codes: String = "知识库".encode_utf16().map(|unit| format!("{unit:04X}")).collect();
    let content =
        format!("BT /H 20 Tf 50 700 Td <{codes}> Tj ET BT /L 10 Tf 50 650 Td (A page of words.) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /L 5 0 R /H 6 0 R >> >> >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts [<< /Type /Font \
         /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >> >>] >>"
            .to_owned(),
    ];
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in (1..).zip(&objects) {
        table.push_str(&format!("{:010} 00000 n \n", bytes.len()));
        bytes.extend_from_slice(format!("{number} 0 obj\n{object}\nendobj\n").as_bytes());
    }
    let start = bytes.len();
    let trailer =
        format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1);
    bytes.extend_from_slice(table.as_bytes());
    bytes.extend_from_slice(trailer.as_bytes());
    bytes
}

/// A zip archive whose parts are stored as they are.
fn zip(parts: &[(&str, &str)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in parts {
        let start = bytes.len() as u32;
        let mut fields = Vec::new();
        // Version, flags (names in UTF-8), method, time and date.
        for field in [20_u16, 1 << 11, 0, 0, 0x21] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        for field in [checksum(text.as_bytes()), text.len() as u32, text.len() as u32] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        fields.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(b"PK\x03\x04");
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(text.as_bytes());
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&fields);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&start.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let start = bytes.len() as u32;
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    for count in [parts.len() as u16; 2] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

/// CRC-32 as zip has it.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

/// Cells of a sheet that is large as real ones get, and the text that may come of it at once.
const CELLS: usize = 1_000_000;

#[tokio::test]
async fn a_sheet_of_a_million_cells_is_read_piece_by_piece() {
    let mut rows = String::with_capacity(32 * CELLS);
    for row in 0..CELLS / 100 {
        rows.push_str("<row>");
        for column in 0..100 {
            let value = ((row * 100 + column) * 2_654_435_761) % 1_000_000_007;
            rows.push_str(&format!("<c><v>{value}</v></c>"));
        }
        rows.push_str("</row>");
    }
    let bytes = workbook_of(&rows);
    let parser = host().parser("parse-sheet", "{}", Default::default()).unwrap();
    let mut session = parser.open(MemoryBlob::new(&bytes, XLSX)).await.unwrap();
    let mut last = String::new();
    let (mut cells, mut largest) = (0, 0);
    while let Some(blocks) = session.next(64 << 10).await.unwrap() {
        largest = largest.max(blocks.iter().map(|block| block.text.len()).sum::<usize>());
        for block in &blocks {
            // Every piece repeats the header and the line below it.
            let body = block.text.lines().skip(2);
            cells += body.clone().map(|line| line.matches('|').count() - 1).sum::<usize>();
            last = body.last().unwrap_or_default().to_owned();
        }
    }
    assert_eq!(cells, CELLS - 100, "the first row is the header");
    assert!(last.contains(&(((CELLS - 1) * 2_654_435_761) % 1_000_000_007).to_string()), "{last}");
    assert!(largest < 1 << 20, "{largest} bytes of text at once");
}
