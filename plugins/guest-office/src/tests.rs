//! Office files made here, read back.

use std::io::{Cursor, Write};
use std::rc::Rc;

use guest_doc::{Block, DocError, Document, Kind, Memory, NoOcr, Result, Session, Summary};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{docx, pptx};

fn zip_of(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

type Opened = fn(Rc<dyn guest_doc::File>, Rc<dyn guest_doc::Ocr>, &str) -> Result<Box<dyn Document>>;

fn read(open: Opened, bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    let mut session = Session::new(open(Memory::file("a", "b", bytes), Rc::new(NoOcr), "{}")?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

fn shown(blocks: &[Block]) -> Vec<(Kind, &str, Option<u32>)> {
    blocks.iter().map(|block| (block.kind, block.text.as_str(), block.page)).collect()
}

const STYLES: &str = r#"<w:styles xmlns:w="w">
<w:style w:styleId="1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="My"><w:name w:val="Chapter"/><w:basedOn w:val="1"/></w:style>
<w:style w:styleId="Loop"><w:name w:val="Loop"/><w:basedOn w:val="Loop"/></w:style>
</w:styles>"#;

fn document(body: &str) -> Vec<u8> {
    let document = format!("<w:document xmlns:w='w' xmlns:mc='mc'><w:body>{body}</w:body></w:document>");
    zip_of(&[
        ("word/document.xml", &document),
        ("word/styles.xml", STYLES),
        ("docProps/core.xml", "<c xmlns:dc='d'><dc:title>员工手册</dc:title><dc:creator>王</dc:creator></c>"),
        ("word/footnotes.xml", "<w:f xmlns:w='w'><w:p><w:r><w:t>注一</w:t></w:r></w:p></w:f>"),
    ])
}

#[test]
fn a_docx_is_read_by_its_styles() {
    let bytes = document(
        "<w:p><w:pPr><w:pStyle w:val='1'/></w:pPr><w:r><w:t>总则</w:t></w:r></w:p>
         <w:p><w:r><w:t xml:space='preserve'>年假 </w:t></w:r><w:del><w:r><w:delText>十</w:delText></w:r></w:del>\
         <w:r><w:t>五天。</w:t><w:br/><w:t>A &amp; B</w:t></w:r></w:p>
         <w:p><w:pPr><w:numPr><w:ilvl w:val='0'/><w:numId w:val='3'/></w:numPr></w:pPr><w:r><w:t>第一条</w:t></w:r></w:p>
         <w:p><w:r><w:lastRenderedPageBreak/><w:t>次页</w:t><w:instrText>PAGE</w:instrText></w:r></w:p>
         <w:p><w:pPr><w:pStyle w:val='My'/></w:pPr><w:r><w:t>附则</w:t></w:r></w:p>
         <w:p><w:pPr><w:pStyle w:val='Loop'/></w:pPr><w:r><w:t>环</w:t></w:r></w:p>",
    );
    let (blocks, summary) = read(docx::open, &bytes).unwrap();
    assert_eq!(
        shown(&blocks),
        [
            (Kind::Heading(1), "总则", Some(1)),
            (Kind::Paragraph, "年假 五天。\nA & B", Some(1)),
            (Kind::ListItem, "第一条", Some(1)),
            (Kind::Paragraph, "次页", Some(2)),
            (Kind::Heading(1), "附则", Some(2)),
            (Kind::Paragraph, "环", Some(2)),
            (Kind::Footnote, "注一", None),
        ]
    );
    assert_eq!(summary.title.as_deref(), Some("员工手册"));
    assert_eq!(summary.attributes, [("author".to_owned(), "王".to_owned())]);
}

#[test]
fn tables_of_a_docx_keep_their_columns() {
    let cell = |text: &str| format!("<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
    let wide = "<w:tc><w:tcPr><w:gridSpan w:val='2'/></w:tcPr><w:p><w:r><w:t>合计</w:t></w:r></w:p></w:tc>";
    let inner = format!("<w:tc><w:tbl><w:tr>{}{}</w:tr></w:tbl></w:tc>", cell("x"), cell("y"));
    let body = format!(
        "<w:tbl><w:tr>{}{}{}</w:tr><w:tr>{wide}{}</w:tr><w:tr>{}{inner}{}</w:tr></w:tbl>",
        cell("项目"),
        cell("数量"),
        cell("价|格"),
        cell("9"),
        cell("a"),
        cell("b"),
    );
    let (blocks, _) = read(docx::open, &document(&body)).unwrap();
    let expected = "| 项目 | 数量 | 价\\|格 |\n| --- | --- | --- |\n| 合计 |  | 9 |\n| a | x y | b |";
    assert_eq!(shown(&blocks)[0], (Kind::Table, expected, None));
}

#[test]
fn alternatives_are_read_once() {
    let text = |text: &str| format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>");
    let body = format!(
        "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{0}</w:txbxContent></mc:Choice>\
         <mc:Fallback><w:txbxContent>{0}</w:txbxContent></mc:Fallback></mc:AlternateContent><w:t>外</w:t></w:r></w:p>",
        text("框内")
    );
    let (blocks, _) = read(docx::open, &document(&body)).unwrap();
    let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
    assert_eq!(texts, ["框内", "外", "注一"]);
}

#[test]
fn a_pptx_is_read_slide_by_slide_with_notes() {
    let shape = |kind: &str, text: &str| {
        format!(
            "<p:sp><p:nvSpPr><p:nvPr><p:ph type='{kind}'/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        )
    };
    let slide = |shapes: &str| format!("<p:sld xmlns:p='p' xmlns:a='a'>{shapes}</p:sld>");
    let tables = "<a:tbl><a:tr><a:tc><a:p><a:r><a:t>年</a:t></a:r></a:p></a:tc><a:tc><a:p><a:r><a:t>额</a:t></a:r></a:p></a:tc></a:tr>\
        <a:tr><a:tc><a:p><a:r><a:t>2024</a:t></a:r></a:p></a:tc><a:tc><a:p><a:r><a:t>7</a:t></a:r></a:p></a:tc></a:tr></a:tbl>";
    let relations = |pairs: &[(&str, &str, &str)]| {
        let all: String = pairs
            .iter()
            .map(|(id, kind, target)| {
                format!("<Relationship Id='{id}' Type='http://x/{kind}' Target='{target}'/>")
            })
            .collect();
        format!("<Relationships>{all}</Relationships>")
    };
    let bytes = zip_of(&[
        (
            "ppt/presentation.xml",
            "<p:p xmlns:p='p' xmlns:r='r'><p:sldId id='256' r:id='b'/><p:sldId id='257' r:id='a'/></p:p>",
        ),
        (
            "ppt/_rels/presentation.xml.rels",
            &relations(&[("a", "slide", "slides/slide1.xml"), ("b", "slide", "slides/slide2.xml")]),
        ),
        ("ppt/slides/slide1.xml", &slide(&format!("{}{tables}", shape("sldNum", "2")))),
        ("ppt/slides/slide2.xml", &slide(&format!("{}{}", shape("body", "要点"), shape("title", "概览")))),
        ("ppt/slides/_rels/slide2.xml.rels", &relations(&[("n", "notesSlide", "../notesSlides/n.xml")])),
        ("ppt/notesSlides/n.xml", &slide(&format!("{}{}", shape("sldImg", "x"), shape("body", "讲稿")))),
    ]);
    let (blocks, summary) = read(pptx::open, &bytes).unwrap();
    assert_eq!(
        shown(&blocks),
        [
            (Kind::Heading(1), "概览", Some(1)),
            (Kind::ListItem, "要点", Some(1)),
            (Kind::Paragraph, "讲稿", Some(1)),
            (Kind::Table, "| 年 | 额 |\n| --- | --- |\n| 2024 | 7 |", Some(2)),
        ]
    );
    assert_eq!(blocks[2].part.as_deref(), Some("notes"));
    assert_eq!(summary.title.as_deref(), Some("概览"));
}

#[test]
fn what_is_hostile_or_something_else_is_refused() {
    let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><w:document><w:body><w:p><w:t>&a;</w:t></w:p></w:body></w:document>";
    type Case = (&'static str, Vec<u8>, fn(&DocError) -> bool);
    let cases: [Case; 4] = [
        ("entities", zip_of(&[("word/document.xml", bomb)]), |error| matches!(error, DocError::Invalid(_))),
        ("other zip", zip_of(&[("a.txt", "x")]), |error| matches!(error, DocError::Unsupported(_))),
        ("depth", document(&"<w:p>".repeat(5_000)), |error| matches!(error, DocError::TooLarge(_))),
        ("text", b"plain".to_vec(), |error| matches!(error, DocError::Unsupported(_))),
    ];
    for (what, bytes, is_expected) in cases {
        let error = read(docx::open, &bytes).unwrap_err();
        assert!(is_expected(&error), "{what}: {error:?}");
    }
    let mut session =
        Session::new(docx::open(Memory::file("a", "b", document("")), Rc::new(NoOcr), "{}").unwrap());
    assert!(session.next(10).is_ok(), "a footnote alone is text");
    assert!(docx::open(Memory::file("a", "b", document("")), Rc::new(NoOcr), r#"{"x": 1}"#).is_err());
}
