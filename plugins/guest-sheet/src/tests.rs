//! Workbooks and csv files made here, read back.

use std::io::{Cursor, Write};
use std::rc::Rc;

use guest_doc::{Block, DocError, Document, Kind, Memory, NoOcr, Result, Session};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{csv, workbook};

const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const ODS: &str = "application/vnd.oasis.opendocument.spreadsheet";

fn zip_of(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

type Opened = fn(Rc<dyn guest_doc::File>, Rc<dyn guest_doc::Ocr>, &str) -> Result<Box<dyn Document>>;

fn read(open: Opened, media_type: &str, bytes: &[u8], settings: &str) -> Result<Vec<Block>> {
    let mut session = Session::new(open(Memory::file("a", media_type, bytes), Rc::new(NoOcr), settings)?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok(blocks)
}

fn texts(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.text.as_str()).collect()
}

/// A workbook of one sheet `人员`; style 1 is a date.
fn xlsx(sheet: &str) -> Vec<u8> {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    zip_of(&[
        (
            "[Content_Types].xml",
            "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>",
        ),
        (
            "_rels/.rels",
            &format!(
                "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'><Relationship Id='r1' Type='{relation}/officeDocument' Target='xl/workbook.xml'/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            &format!(
                "<workbook xmlns='{main}' xmlns:r='{relation}'><sheets><sheet name='人员' sheetId='1' r:id='s1'/></sheets></workbook>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            &format!(
                "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'><Relationship Id='s1' Type='{relation}/worksheet' Target='worksheets/sheet1.xml'/></Relationships>"
            ),
        ),
        (
            "xl/styles.xml",
            &format!(
                "<styleSheet xmlns='{main}'><cellXfs count='2'><xf numFmtId='0'/><xf numFmtId='14'/></cellXfs></styleSheet>"
            ),
        ),
        ("xl/worksheets/sheet1.xml", &format!("<worksheet xmlns='{main}'>{sheet}</worksheet>")),
    ])
}

fn text_cell(place: &str, text: &str) -> String {
    format!("<c r='{place}' t='inlineStr'><is><t>{text}</t></is></c>")
}

fn people() -> Vec<u8> {
    let sheet = format!(
        "<sheetData><row r='1'>{}</row><row r='2'>{}{}{}</row><row r='4'>{}{}<c r='XFD4' s='1'><v>45366</v></c></row>\
         <row r='5'>{}<c r='XFD5'><v>0.1</v></c></row></sheetData><mergeCells count='1'><mergeCell ref='A4:A5'/></mergeCells>",
        text_cell("A1", "名册"),
        text_cell("A2", "部门"),
        text_cell("B2", "姓名"),
        text_cell("XFD2", "入职"),
        text_cell("A4", "研发"),
        "<c r='B4'><f>1+1</f><v>2</v></c>",
        text_cell("B5", "李|四"),
    );
    xlsx(&sheet)
}

#[test]
fn rows_stand_under_their_header() {
    let blocks = read(workbook::open, XLSX, &people(), "{}").unwrap();
    let table =
        "| 部门 | 姓名 | 入职 |\n| --- | --- | --- |\n| 研发 | 2 | 2024-03-15 |\n| 研发 | 李\\|四 | 0.1 |";
    assert_eq!(texts(&blocks), ["名册", table]);
    assert_eq!((blocks[1].kind, blocks[1].page, blocks[1].row), (Kind::Table, Some(1), Some(4)));
    assert_eq!(blocks[1].part.as_deref(), Some("人员"));
    let rows = read(workbook::open, XLSX, &people(), r#"{"mode": "row"}"#).unwrap();
    assert_eq!(
        texts(&rows)[1..],
        ["部门：研发；姓名：2；入职：2024-03-15", "部门：研发；姓名：李|四；入职：0.1"]
    );
    let cells = read(workbook::open, XLSX, &people(), r#"{"mode": "cell"}"#).unwrap();
    assert_eq!((cells.len(), cells[3].text.as_str()), (7, "入职：2024-03-15"));
}

#[test]
fn an_ods_is_read() {
    let office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0";
    let cell = |text: &str| {
        format!("<table:table-cell office:value-type='string'><text:p>{text}</text:p></table:table-cell>")
    };
    let content = format!(
        "<office:document-content xmlns:office='{office}' xmlns:table='urn:oasis:names:tc:opendocument:xmlns:table:1.0' \
         xmlns:text='urn:oasis:names:tc:opendocument:xmlns:text:1.0'><office:body><office:spreadsheet><table:table table:name='表'>\
         <table:table-row>{}{}</table:table-row><table:table-row>{}<table:table-cell office:value-type='float' office:value='7.5'/></table:table-row>\
         </table:table></office:spreadsheet></office:body></office:document-content>",
        cell("名"),
        cell("值"),
        cell("甲"),
    );
    let manifest = "<manifest:manifest xmlns:manifest='urn:oasis:names:tc:opendocument:xmlns:manifest:1.0'/>";
    let bytes = zip_of(&[("mimetype", ODS), ("META-INF/manifest.xml", manifest), ("content.xml", &content)]);
    let blocks = read(workbook::open, ODS, &bytes, "{}").unwrap();
    assert_eq!(texts(&blocks), ["| 名 | 值 |\n| --- | --- |\n| 甲 | 7.5 |"]);
}

#[test]
fn csv_is_read_in_its_encoding_and_by_its_separator() {
    let text = "姓名;备注;数\r\n张三;\"一; \"\"引\"\"\n次行\";1\r\n;;\r\n李四;无;2\r\n";
    let (gb, _, _) = encoding_rs_of(text);
    for bytes in [text.as_bytes(), &gb] {
        let blocks = read(csv::open, "text/csv", bytes, "{}").unwrap();
        let expected =
            "| 姓名 | 备注 | 数 |\n| --- | --- | --- |\n| 张三 | 一; \"引\" 次行 | 1 |\n| 李四 | 无 | 2 |";
        assert_eq!(texts(&blocks), [expected]);
        assert_eq!(blocks[0].row, Some(2));
    }
    let rows = read(csv::open, "text/csv", text.as_bytes(), r#"{"mode": "row"}"#).unwrap();
    assert_eq!(rows[1].text, "姓名：李四；备注：无；数：2");
    assert_eq!(rows[1].row, Some(5), "line of the file");
    assert_eq!(texts(&read(csv::open, "text/csv", b"only,a,header", "{}").unwrap()), ["only a header"]);
}

/// GB18030 by hand would be a table of its own: the bytes of these few characters.
fn encoding_rs_of(text: &str) -> (Vec<u8>, (), ()) {
    let code = |c: char| -> Vec<u8> {
        let (_, bytes) = [
            ('姓', [0xd0, 0xd5]),
            ('名', [0xc3, 0xfb]),
            ('备', [0xb1, 0xb8]),
            ('注', [0xd7, 0xa2]),
            ('数', [0xca, 0xfd]),
            ('张', [0xd5, 0xc5]),
            ('三', [0xc8, 0xfd]),
            ('一', [0xd2, 0xbb]),
            ('引', [0xd2, 0xfd]),
            ('次', [0xb4, 0xce]),
            ('行', [0xd0, 0xd0]),
            ('李', [0xc0, 0xee]),
            ('四', [0xcb, 0xc4]),
            ('无', [0xce, 0xde]),
        ]
        .into_iter()
        .find(|(known, _)| *known == c)
        .unwrap_or((c, [c as u8, 0]));
        if c.is_ascii() { vec![c as u8] } else { bytes.to_vec() }
    };
    (text.chars().flat_map(code).collect(), (), ())
}

#[test]
fn a_long_sheet_comes_in_parts_under_its_header() {
    let rows: String = (1..=4_000)
        .map(|row| {
            let cells: String = ["A", "B", "C", "D"]
                .iter()
                .map(|column| format!("<c r='{column}{row}'><v>{row}</v></c>"))
                .collect();
            format!("<row r='{row}'>{cells}</row>")
        })
        .collect();
    let blocks = read(workbook::open, XLSX, &xlsx(&format!("<sheetData>{rows}</sheetData>")), "{}").unwrap();
    let count: usize = blocks.iter().map(|block| block.text.lines().count() - 2).sum();
    assert!(blocks.len() > 2);
    assert_eq!(count, 3_999);
    assert!(blocks.iter().all(|block| block.text.starts_with("| 1 | 1 | 1 | 1 |\n")));
}

#[test]
fn what_is_hostile_or_something_else_is_refused() {
    let bomb = xlsx(&format!("<sheetData>{}</sheetData>", " ".repeat(9 << 20)));
    assert!(matches!(read(workbook::open, XLSX, &bomb, "{}"), Err(DocError::TooLarge(_))));
    let entities = zip_of(&[("xl/workbook.xml", "<!DOCTYPE a [<!ENTITY x 'xxx'>]><a>&x;</a>")]);
    assert!(matches!(read(workbook::open, XLSX, &entities, "{}"), Err(DocError::Invalid(_))));
    let good = people();
    assert!(matches!(read(workbook::open, XLSX, &good[..good.len() / 2], "{}"), Err(DocError::Invalid(_))));
    assert!(matches!(read(workbook::open, XLSX, b"plain words", "{}"), Err(DocError::Unsupported(_))));
    let locked = [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0; 4096]].concat();
    let error = read(workbook::open, XLSX, &locked, "{}").unwrap_err();
    assert!(matches!(&error, DocError::Unsupported(message) if message.contains("password")), "{error:?}");
    assert!(matches!(
        read(workbook::open, "application/vnd.ms-excel", &locked, "{}"),
        Err(DocError::Invalid(_))
    ));
    let open = format!("a,b\n\"{}", format!("{}\n", "x".repeat(1_000)).repeat(1_100));
    assert!(matches!(read(csv::open, "text/csv", open.as_bytes(), "{}"), Err(DocError::Invalid(_))));
    assert!(read(csv::open, "text/csv", b"a,b", r#"{"mode": "table", "x": 1}"#).is_err());
}
