//! Small files that unpack to something huge: each format refuses its own within the sandbox's bounds, by a typed error.

use std::io::{Cursor, Write as _};

use rag_core::{Error, ErrorCode, Result};
use rag_kit::doubles::MemoryBlob;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::host;

/// What comes of a file of some hundred kilobytes.
const UNPACKED: usize = 256 << 20;

/// An archive whose one part is a tag and then blanks.
fn bomb(part: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(part, SimpleFileOptions::default()).unwrap();
    writer.write_all(b"<a>").unwrap();
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..UNPACKED >> 20 {
        writer.write_all(&blanks).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The packed bytes of an archive's one part.
fn packed(archive: &[u8]) -> &[u8] {
    let number = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
    let start = 30 + number(26) + number(28);
    let directory = archive.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    &archive[start..directory]
}

async fn refusal(parser: &str, media_type: &'static str, bytes: &[u8]) -> Result<usize> {
    let parser = host().parser(parser, "{}", Default::default()).unwrap();
    let mut session = parser.open(MemoryBlob::new(bytes, media_type)).await?;
    let mut blocks = 0;
    while let Some(some) = session.next(64 << 10).await? {
        blocks += some.len();
    }
    Ok(blocks)
}

#[tokio::test]
async fn an_archive_of_blanks_is_refused_by_every_format_that_is_one() {
    const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
    const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    const ODS: &str = "application/vnd.oasis.opendocument.spreadsheet";
    for (parser, media_type, part) in [
        ("parse-office", DOCX, "word/document.xml"),
        ("parse-office", PPTX, "ppt/presentation.xml"),
        ("parse-sheet", XLSX, "xl/workbook.xml"),
        ("parse-sheet", ODS, "content.xml"),
        ("parse-book", "application/epub+zip", "META-INF/container.xml"),
    ] {
        let bytes = bomb(part);
        assert!(bytes.len() < 1 << 20);
        let error = refusal(parser, media_type, &bytes).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Quota, "{parser} {part}: {error}");
    }
}

/// Writes numbered objects with their table of contents; object 1 is the catalog.
fn pdf(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(objects) {
        places.push(bytes.len());
        bytes.extend_from_slice(format!("{number} 0 obj\n").as_bytes());
        bytes.extend_from_slice(object);
        bytes.extend_from_slice(b"\nendobj\n");
    }
    let start = bytes.len();
    let rows: String = places.iter().map(|place| format!("{place:010} 00000 n \n")).collect();
    let size = objects.len() + 1;
    let trailer = trailer.replace("START", &start.to_string());
    let end = format!(
        "xref\n0 {size}\n0000000000 65535 f \n{rows}trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n"
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes
}

/// A page with these entries, whose contents are object 4 and whose type is object 5.
fn page(entries: &str, contents: Vec<u8>) -> Vec<Vec<u8>> {
    vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!("<< /Type /Page /Parent 2 0 R {entries} /Resources << /Font << /L 5 0 R >> >> >>")
            .into_bytes(),
        contents,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
    ]
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<< {dictionary} /Length {} >>\nstream\n", content.len());
    [head.as_bytes(), content, b"\nendstream"].concat()
}

/// Nothing, a few words, or an error that names the parser; and the next document is read.
async fn ends(what: &str, bytes: &[u8]) {
    match refusal("parse-pdf", "application/pdf", bytes).await {
        Ok(blocks) => assert!(blocks < 10, "{what}: {blocks} blocks came of it"),
        Err(error) => assert!(
            !matches!(error, Error::Internal { .. }) && error.code() != ErrorCode::Timeout,
            "{what}: {error}"
        ),
    }
    let words = stream("", b"BT /L 10 Tf 50 700 Td (A page of words.) Tj ET");
    let good = pdf(&page("/MediaBox [0 0 600 800] /Contents 4 0 R", words), "");
    assert_eq!(refusal("parse-pdf", "application/pdf", &good).await.unwrap(), 1, "after {what}");
}

#[tokio::test]
async fn a_page_of_blanks_ends_within_the_bounds_of_its_parser() {
    let archive = bomb("x");
    // The checksum behind it is not looked at.
    let packed = [&b"\x78\x9c"[..], packed(&archive), &[0; 4]].concat();
    let contents = stream("/Filter /FlateDecode", &packed);
    let bytes = pdf(&page("/MediaBox [0 0 600 800] /Contents 4 0 R", contents), "");
    assert!(bytes.len() < 1 << 20);
    ends("a page of blanks", &bytes).await;
}

/// Each points at itself, at another that points back, or at something without end.
#[tokio::test]
async fn loops_and_monsters_of_objects_end() {
    const SMALL: &str = "/MediaBox [0 0 600 800] /Contents 4 0 R";
    let words = || stream("", b"BT /L 10 Tf 50 700 Td (A page of words.) Tj ET");
    let changed = |entries: &str, object: usize, text: &str| {
        let mut objects = page(entries, words());
        objects[object - 1] = text.as_bytes().to_vec();
        objects
    };
    let mut within = changed(SMALL, 2, "<< /Type /Pages /Kids [6 0 R 3 0 R] /Count 1000000000 >>");
    within.push(b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R 6 0 R] /Count 2147483647 >>".to_vec());
    let mut deep = page("/MediaBox 6 0 R /Contents 4 0 R", words());
    deep.push(["[".repeat(200_000), "]".repeat(200_000)].concat().into_bytes());
    let states = stream("", "q ".repeat(300_000).as_bytes());
    for (what, objects) in [
        ("a length that is itself", changed(SMALL, 4, "<< /Length 4 0 R >>\nstream\nBT ET\nendstream")),
        (
            "a parent that is itself",
            changed("/Contents 4 0 R", 2, "<< /Type /Pages /Kids [3 0 R] /Count 1 /Parent 2 0 R >>"),
        ),
        (
            "a font that is its own part",
            changed(
                SMALL,
                5,
                "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding 5 0 R /DescendantFonts [5 0 R] >>",
            ),
        ),
        ("pages within each other", within),
        ("arrays without end", deep),
        ("states without end", page(SMALL, states)),
        ("a page as large as a country", page("/MediaBox [0 0 1e30 1e30] /Contents 4 0 R", words())),
        ("a page of no size", page("/MediaBox [0 0 0 0] /Contents 4 0 R", words())),
        ("a page inside out", page("/MediaBox [600 800 -1e30 -1e30] /Contents 4 0 R", words())),
        ("contents that are a page", page("/MediaBox [0 0 600 800] /Contents [4 0 R 4 0 R 3 0 R]", words())),
    ] {
        ends(what, &pdf(&objects, "")).await;
        ends(what, &pdf(&objects, "/Prev START")).await;
    }
}
