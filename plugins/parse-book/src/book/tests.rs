//! Books made here, of both versions, and what is none.

use std::io::{Cursor, Write};

use guest_doc::{Kind, Memory, NoOcr, Session};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn zip_of(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn read(bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    let file = Memory::file("a.epub", "application/epub+zip", bytes);
    let mut session = Session::new(open(file, Rc::new(NoOcr), "")?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

const CONTAINER: &str = "<container><rootfiles><rootfile full-path='OEBPS/a.opf'/></rootfiles></container>";
const OPF: &str = "<package xmlns:dc='d'><metadata><dc:title>三体</dc:title><dc:creator>刘慈欣</dc:creator><dc:language>zh</dc:language></metadata>
    <manifest><item id='n' href='nav.xhtml' media-type='application/xhtml+xml' properties='nav'/>
    <item id='toc' href='text/toc.html' media-type='application/xhtml+xml'/>
    <item id='b' href='text/%E4%BA%8C.xhtml' media-type='application/xhtml+xml'/>
    <item id='a' href='text/one.xhtml' media-type='application/xhtml+xml'/>
    <item id='i' href='cover.jpg' media-type='image/jpeg'/></manifest>
    <spine><itemref idref='n'/><itemref idref='i'/><itemref idref='toc'/><itemref idref='a'/><itemref idref='b'/><itemref idref='gone'/></spine>
    <guide><reference type='toc' href='text/toc.html#x'/></guide></package>";
const ONE: &str =
    "<?xml version='1.0' encoding='utf-8'?><!DOCTYPE html><html xmlns='x'><head><title/></head><body>
    <a id='p1'/><h1>第一章</h1><p>科学&nbsp;边界<br/>下一行</p></body></html>";

fn book(more: &[(&str, &str)]) -> Vec<u8> {
    let mut parts = vec![
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml", CONTAINER),
        ("OEBPS/a.opf", OPF),
        ("OEBPS/nav.xhtml", "<html><body><nav>目录一</nav></body></html>"),
        ("OEBPS/text/toc.html", "<html><body><p>目录二</p></body></html>"),
        ("OEBPS/text/二.xhtml", "<html><body><h1>第二章</h1><ul><li>射手</li></ul></body></html>"),
        ("OEBPS/text/one.xhtml", ONE),
    ];
    parts.extend(more);
    zip_of(&parts)
}

#[test]
fn chapters_come_in_the_order_of_the_spine() {
    let (blocks, summary) = read(&book(&[])).unwrap();
    let found: Vec<_> =
        blocks.iter().map(|block| (block.kind, block.text.as_str(), block.part.as_deref())).collect();
    let (one, two) = (Some("OEBPS/text/one.xhtml"), Some("OEBPS/text/二.xhtml"));
    assert_eq!(
        found,
        [
            (Kind::Heading(1), "第一章", one),
            (Kind::Paragraph, "科学 边界\n下一行", one),
            (Kind::Heading(1), "第二章", two),
            (Kind::ListItem, "射手", two),
        ]
    );
    assert_eq!((summary.title.as_deref(), summary.language.as_deref()), (Some("三体"), Some("zh")));
    assert_eq!(summary.attributes, [("author".to_owned(), "刘慈欣".to_owned())]);
}

#[test]
fn locked_books_and_other_archives_are_refused() {
    let lock = |uri: &str| {
        format!(
            "<encryption><EncryptedData><CipherData><CipherReference URI='{uri}'/></CipherData></EncryptedData></encryption>"
        )
    };
    let (text, font) = (lock("OEBPS/text/one.xhtml"), lock("OEBPS/fonts/a.otf"));
    let error = read(&book(&[("META-INF/encryption.xml", &text)])).unwrap_err();
    assert!(matches!(&error, DocError::Unsupported(message) if message.contains("DRM")), "{error}");
    assert!(read(&book(&[("META-INF/encryption.xml", &font)])).is_ok());
    assert!(matches!(read(&zip_of(&[("a.txt", "words")])), Err(DocError::Unsupported(_))));
    assert!(matches!(read(&zip_of(&[("META-INF/container.xml", CONTAINER)])), Err(DocError::Invalid(_))));
    let empty = zip_of(&[("META-INF/container.xml", CONTAINER), ("OEBPS/a.opf", "<package/>")]);
    assert!(matches!(read(&empty), Err(DocError::Invalid(_))));
    assert!(matches!(read(b"plain words"), Err(DocError::Unsupported(_))));
}
