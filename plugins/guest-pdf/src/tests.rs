//! PDFs made here, read back: order, headings, tables, encodings without fonts, pictures, and what is refused.

use std::cell::RefCell;
use std::rc::Rc;

use guest_doc::{
    Area, Block, DocError, HostError, Image, Kind, Memory, NoOcr, Ocr, OcrLine, Result, Session, Summary,
};

/// Writes numbered objects with their table of contents; object 1 is the catalog.
fn pdf(objects: &[String]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(objects) {
        places.push(bytes.len());
        bytes.extend_from_slice(format!("{number} 0 obj\n{object}\nendobj\n").as_bytes());
    }
    let start = bytes.len();
    bytes.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).as_bytes());
    for place in places {
        bytes.extend_from_slice(format!("{place:010} 00000 n \n").as_bytes());
    }
    let size = objects.len() + 1;
    bytes.extend_from_slice(
        format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").as_bytes(),
    );
    bytes
}

fn stream(dictionary: &str, content: &str) -> String {
    format!("<< {dictionary} /Length {} >>\nstream\n{content}\nendstream", content.len())
}

const HAN: &str = "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts \
    [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) \
    /Ordering (GB1) /Supplement 2 >> /DW 1000 >>] >>";
const LATIN: &str = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";
const FIXED: &str = "<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>";

/// A document of pages with Latin type `/L`, fixed type `/C` and Han type `/H` without a font file.
fn document(pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|at| format!("{} 0 R", 6 + 2 * at)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R /Lang (zh-CN) >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        LATIN.to_owned(),
        HAN.to_owned(),
        FIXED.to_owned(),
    ];
    for (at, content) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {} 0 R \
             /Resources << /Font << /L 3 0 R /H 4 0 R /C 5 0 R >> >> >>",
            7 + 2 * at
        ));
        objects.push(stream("", content));
    }
    pdf(&objects)
}

/// A line of Latin type.
fn latin(x: f32, y: f32, size: f32, text: &str) -> String {
    format!("BT /L {size} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET\n")
}

/// A line of Han type, as UTF-16 in hexadecimal.
fn han(x: f32, y: f32, size: f32, text: &str) -> String {
    let codes: String = text.encode_utf16().map(|unit| format!("{unit:04X}")).collect();
    format!("BT /H {size} Tf 1 0 0 1 {x} {y} Tm <{codes}> Tj ET\n")
}

fn read_with(bytes: &[u8], ocr: Rc<dyn Ocr>, settings: &str) -> Result<(Vec<Block>, Summary)> {
    let file = Memory::file("a.pdf", "application/pdf", bytes);
    let mut session = Session::new(crate::open(file, ocr, settings)?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 12)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

fn read(bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    read_with(bytes, Rc::new(NoOcr), "{}")
}

fn shown(blocks: &[Block]) -> Vec<(Kind, &str, u32)> {
    blocks.iter().map(|block| (block.kind, block.text.as_str(), block.page.unwrap())).collect()
}

/// A font of one empty glyph, in hexadecimal.
const FONT: &str = "\
    000100000006004000020020676c796600000000000000f000000001686561645f1640e00000006c00000036686865610322\
    0322000000a400000024686d747803e80000000000e8000000046c6f636100000000000000ec000000046d61787000020002\
    000000c80000002000010000000100006aea91bf5f0f3cf5000303e800000000000000000000000000000000000000000000\
    0000000000030002000000000000000100000320ff38000003e8000000000000000100000000000000000000000000000001\
    000100000001000000000000000000020000000000000000000000000000000003e800000000000000000000";

/// As TeX writes Chinese: an embedded font, codes that are places in Adobe-GB1, and no table of characters.
fn of_collection(encoding: &str, ordering: &str, content: &str, more: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /H 5 0 R >> >> >>"
            .to_owned(),
        stream("", content),
        format!(
            "<< /Type /Font /Subtype /Type0 /BaseFont /ABCDEF+FandolSong-Regular /Encoding /{encoding} \
             /DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /ABCDEF+FandolSong-Regular \
             /CIDSystemInfo << /Registry (Adobe) /Ordering ({ordering}) /Supplement 5 >> /DW 1000 \
             /FontDescriptor 6 0 R >>] >>"
        ),
        "<< /Type /FontDescriptor /FontName /ABCDEF+FandolSong-Regular /Flags 4 /FontFile2 7 0 R >>".to_owned(),
        stream("/Filter /ASCIIHexDecode", FONT),
    ];
    objects.extend(more.iter().map(|object| (*object).to_owned()));
    pdf(&objects)
}

#[test]
fn embedded_fonts_without_characters_are_read_by_their_collection() {
    // Places of 中 and 文 in Adobe-GB1, and the same characters in GBK.
    let places = "BT /H 20 Tf 1 0 0 1 50 700 Tm <11CF0ED3> Tj ET\n";
    let codes = "BT /H 20 Tf 1 0 0 1 50 700 Tm <D6D0CEC4> Tj ET\n";
    for (encoding, content) in [("Identity-H", places), ("GBK-EUC-H", codes)] {
        let (blocks, _) = read(&of_collection(encoding, "GB1", content, &[])).unwrap();
        assert_eq!(blocks[0].text, "中文", "{encoding}");
    }
    // Places of nobody's collection say nothing.
    let (blocks, _) = read(&of_collection("Identity-H", "Identity", places, &[])).unwrap_or_default();
    assert!(blocks.is_empty(), "{blocks:?}");
    // Another of the name that says what its characters are takes nothing away.
    let told = "<< /Type /Font /Subtype /TrueType /BaseFont /XYZABC+FandolSong-Regular /ToUnicode 9 0 R >>";
    let map = stream("", "1 beginbfchar <20> <0020> endbfchar");
    let (blocks, _) = read(&of_collection("Identity-H", "GB1", places, &[told, &map])).unwrap();
    assert_eq!(blocks[0].text, "中文");
    // Another font of the same name, and the two cannot be told apart.
    let other = "<< /Type /Font /Subtype /TrueType /BaseFont /XYZABC+FandolSong-Regular >>";
    let (blocks, _) = read(&of_collection("Identity-H", "GB1", places, &[other])).unwrap_or_default();
    assert!(blocks.is_empty(), "{blocks:?}");
}

#[test]
fn headings_paragraphs_items_and_code_are_told_apart() {
    let first = [
        han(50.0, 700.0, 20.0, "第一章　总则"),
        han(50.0, 660.0, 10.0, "知识库问答系统把文档变成知识库并从中回答问题每个回答都附上引文文字"),
        han(50.0, 645.0, 10.0, "引文可以核对。"),
        latin(50.0, 600.0, 10.0, "The quick brown fox jumps over the lazy dog and then it goes on run-"),
        latin(50.0, 588.0, 10.0, "ning over two lines."),
        latin(60.0, 560.0, 10.0, "- first item"),
        latin(60.0, 548.0, 10.0, "- second item"),
        "BT /C 10 Tf 1 0 0 1 50 500 Tm (if \\(a\\) {) Tj 1 0 0 1 62 488 Tm (return b;) Tj 1 0 0 1 50 476 Tm (}) Tj ET\n".to_owned(),
    ]
    .concat();
    let (blocks, summary) = read(&document(&[&first])).unwrap();
    assert_eq!(
        shown(&blocks)[..5],
        [
            (Kind::Heading(1), "第一章 总则", 1),
            (
                Kind::Paragraph,
                "知识库问答系统把文档变成知识库并从中回答问题每个回答都附上引文文字引文可以核对。",
                1
            ),
            (
                Kind::Paragraph,
                "The quick brown fox jumps over the lazy dog and then it goes on running over two lines.",
                1
            ),
            (Kind::ListItem, "- first item", 1),
            (Kind::ListItem, "- second item", 1),
        ]
    );
    assert_eq!(blocks[5].kind, Kind::Code);
    assert!(blocks[5].text.starts_with("if (a) {\n  return b;"), "{:?}", blocks[5].text);
    assert_eq!(summary.language.as_deref(), Some("zh-CN"));
    let area = blocks[0].area.unwrap();
    assert!((area.x - 50.0).abs() < 1.0 && (area.y - 83.0).abs() < 2.0 && area.width > 100.0, "{area:?}");
}

#[test]
fn columns_are_read_one_after_the_other() {
    // Written line by line across both columns, as some programs do.
    let mut page = latin(
        50.0,
        750.0,
        10.0,
        "A line above both columns that is as wide as the whole page and goes across the gap",
    );
    for line in 0..12 {
        let y = 700.0 - 12.0 * line as f32;
        page.push_str(&latin(50.0, y, 10.0, &format!("left column line {line} of running text here")));
        page.push_str(&latin(330.0, y, 10.0, &format!("right column line {line} of running text here")));
    }
    let (blocks, _) = read(&document(&[&page])).unwrap();
    let text: String = blocks.iter().map(|block| block.text.as_str()).collect::<Vec<_>>().join(" ");
    let (left, right) =
        (text.find("left column line 11").unwrap(), text.find("right column line 0").unwrap());
    assert!(text.find("above both").unwrap() < left && left < right, "{text}");
}

#[test]
fn ruled_tables_become_markdown() {
    let mut page = latin(50.0, 760.0, 10.0, "Before the table there is a sentence.");
    // Open at both sides, as many are.
    for y in [700.0, 680.0, 660.0, 640.0] {
        page.push_str(&format!("50 {y} m 450 {y} l S\n"));
    }
    for x in [200.0, 300.0] {
        page.push_str(&format!("{x} 640 m {x} 700 l S\n"));
    }
    let rows = [["Name", "Size", "Note"], ["alpha", "12", "first"], ["beta", "7", ""]];
    for (row, cells) in rows.iter().enumerate() {
        for (x, text) in [55.0, 205.0, 305.0].iter().zip(cells) {
            page.push_str(&latin(*x, 686.0 - 20.0 * row as f32, 10.0, text));
        }
    }
    page.push_str(&latin(50.0, 600.0, 10.0, "After the table there is another."));
    let (blocks, _) = read(&document(&[&page])).unwrap();
    let kinds: Vec<Kind> = blocks.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [Kind::Paragraph, Kind::Table, Kind::Paragraph]);
    assert_eq!(
        blocks[1].text,
        "| Name | Size | Note |\n| --- | --- | --- |\n| alpha | 12 | first |\n| beta | 7 |  |"
    );
}

#[test]
fn running_titles_go_unless_asked_for_and_sentences_cross_pages() {
    let pages: Vec<String> = (1..=4)
        .map(|number| {
            let body = "this sentence is as long as its line and goes on over the page until it";
            [
                latin(50.0, 780.0, 9.0, "User Manual"),
                latin(50.0, 700.0, 10.0, body),
                latin(50.0, 688.0, 10.0, body),
                latin(290.0, 20.0, 9.0, &format!("{number} / 4")),
            ]
            .concat()
        })
        .collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let bytes = document(&pages);
    let (blocks, _) = read(&bytes).unwrap();
    assert_eq!(blocks.len(), 1, "{:?}", shown(&blocks));
    assert_eq!(blocks[0].page, Some(1));
    let (kept, _) = read_with(&bytes, Rc::new(NoOcr), r#"{"page_headers": true}"#).unwrap();
    assert_eq!(kept.iter().filter(|block| block.text.contains("User Manual")).count(), 4);
}

struct Reader(RefCell<Vec<(u32, u32, u8)>>);

impl Ocr for Reader {
    fn recognize(&self, image: Image) -> Result<Vec<OcrLine>, HostError> {
        let Image::Grey { width, height, pixels } = image else { panic!("grey") };
        self.0.borrow_mut().push((width, height, pixels[0]));
        let area = Area { x: 0.0, y: 0.0, width: 10.0, height: 5.0 };
        Ok(vec![OcrLine { text: "扫描的文字".to_owned(), area, confidence: 0.9 }])
    }
}

/// One page that is a picture, and one with text.
fn scanned() -> Vec<u8> {
    pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>".to_owned(),
        stream("", "q 200 0 0 100 0 0 cm /I Do Q"),
        stream(
            "/Type /XObject /Subtype /Image /Width 20 /Height 10 /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /ASCIIHexDecode",
            &format!("{}>", "7F".repeat(200)),
        ),
    ])
}

#[test]
fn a_page_of_pictures_is_recognised_or_named() {
    let reader = Rc::new(Reader(RefCell::default()));
    let (blocks, summary) = read_with(&scanned(), Rc::clone(&reader) as Rc<dyn Ocr>, "{}").unwrap();
    assert_eq!(shown(&blocks), [(Kind::Paragraph, "扫描的文字", 1)]);
    assert_eq!(*reader.0.borrow(), [(20, 10, 0x7f)]);
    assert_eq!(blocks[0].area, Some(Area { x: 0.0, y: 0.0, width: 100.0, height: 50.0 }));
    assert!(!summary.attributes.iter().any(|(key, _)| key == "pages_without_text"));
    let error = read(&scanned()).unwrap_err();
    assert!(
        matches!(&error, DocError::Unsupported(message) if message.contains("not available")),
        "{error:?}"
    );
    let off = read_with(&scanned(), reader, r#"{"ocr": false}"#).unwrap_err();
    assert!(off.to_string().contains("'ocr'"), "{off}");
}

#[test]
fn what_is_damaged_endless_or_something_else_is_refused() {
    let good = document(&[&latin(50.0, 700.0, 10.0, "Some words.")]);
    assert!(read(&good).is_ok());
    assert!(matches!(read(&good[..good.len() / 2]), Err(DocError::Invalid(_))));
    assert!(matches!(read(b"plain text"), Err(DocError::Unsupported(_))));
    assert!(matches!(read(b""), Err(DocError::Unsupported(_))));
    let no_pages = pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [] /Count 0 >>".to_owned(),
    ]);
    assert!(matches!(read(&no_pages), Err(DocError::Invalid(_))));
    let cyclic = pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>".to_owned(),
    ]);
    assert!(read(&cyclic).is_err());
    assert!(crate::open(Memory::file("a", "b", good), Rc::new(NoOcr), r#"{"page_header": 1}"#).is_err());
}

#[test]
fn a_form_that_draws_itself_ends() {
    let bytes = pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /L 6 0 R >> /XObject << /F 5 0 R >> >> >>".to_owned(),
        stream("", "/F Do"),
        stream(
            "/Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << /Font << /L 6 0 R >> /XObject << /F 5 0 R >> >>",
            &format!("{} /F Do", latin(50.0, 700.0, 10.0, "Once is enough.")),
        ),
        LATIN.to_owned(),
    ]);
    let (blocks, _) = read(&bytes).unwrap();
    assert_eq!(shown(&blocks), [(Kind::Paragraph, "Once is enough.", 1)]);
}

/// As TeX embeds bitmap fonts: glyphs that are numbered, each with its width, and no name of a character.
fn of_bitmaps(fonts: &[&str], content: &str) -> Vec<u8> {
    let names: Vec<String> = (0..fonts.len()).map(|at| format!("/F{at} {} 0 R", 6 + at)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << {} >> >> >>",
            names.join(" ")
        ),
        stream("", content),
        stream("", "50 0 d0"),
    ];
    objects.extend(fonts.iter().map(|font| (*font).to_owned()));
    pdf(&objects)
}

/// A bitmap font whose glyphs are of one width; names are those of their codes.
fn bitmap_font(codes: &[u32], width: u32, name: impl Fn(u32) -> String) -> String {
    let differences: String = codes.iter().map(|code| format!("{code} /{} ", name(*code))).collect();
    let drawn: String = codes.iter().map(|code| format!("/{} 5 0 R ", name(*code))).collect();
    let widths = format!("{width} ").repeat(256);
    format!(
        "<< /Type /Font /Subtype /Type3 /FontMatrix [.01 0 0 .01 0 0] /FontBBox [0 0 60 60] /FirstChar 0 /LastChar 255 \
         /Widths [{widths}] /Encoding << /Type /Encoding /Differences [{differences}] >> /CharProcs << {drawn} >> >>"
    )
}

#[test]
fn bitmap_fonts_of_tex_are_read_by_their_numbers() {
    let text = |page: &[u8]| {
        let (blocks, _) = read(page).unwrap_or_default();
        blocks.iter().map(|block| block.text.as_str()).collect::<String>()
    };
    let show = |codes: &str| format!("BT /F0 10 Tf 1 0 0 1 50 700 Tm <{codes}> Tj ET");
    let by_code = |code: u32| format!("a{code}");
    let roman: Vec<u32> = (0x61..0x7b).chain([0x0c, 0x2c, 0x2e]).collect();
    let page = of_bitmaps(&[&bitmap_font(&roman, 50, by_code)], &show("6F 66 0C 63 65 2E"));
    assert_eq!(text(&page), "office.");
    // The same of dvips, which counts from 360 in digits and capitals: `AE` is 14, a ligature, and no Æ.
    let of_dvips = |code: u32| {
        let digit = |value: u32| char::from_digit(value, 36).unwrap().to_ascii_uppercase();
        format!("{}{}", digit((code + 360) / 36), digit((code + 360) % 36))
    };
    let roman: Vec<u32> = (0x61..0x7b).chain([0x0e, 0x2e]).collect();
    let page = of_bitmaps(&[&bitmap_font(&roman, 50, of_dvips)], &show("6F 0E 63 65 2E"));
    assert_eq!(text(&page), "office.");
    // Ghostscript makes characters of those names, in a table of its own.
    let table =
        stream("", "1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <0e> <00c6> endbfchar");
    let font = bitmap_font(&roman, 50, of_dvips).replace("/Subtype", "/ToUnicode 7 0 R /Subtype");
    let page = of_bitmaps(&[&font, &table], &show("6F 0E 63 65 2E"));
    assert_eq!(text(&page), "office.");
    // Eight bits: Russian by its letters, and a title in few letters of the same document.
    let russian: Vec<u32> = (0xe0..0x100).chain([0xcf, 0x2e]).collect();
    let title = [0xcf, 0xf0, 0xe8, 0xe2, 0xe5, 0xf2];
    let page = of_bitmaps(
        &[&bitmap_font(&title, 70, by_code), &bitmap_font(&russian, 50, by_code)],
        &show("CFF0E8E2E5F2"),
    );
    assert_eq!(text(&page), "Привет");
    let page = of_bitmaps(&[&bitmap_font(&[0x63, 0x61, 0x66, 0xe9], 50, by_code)], &show("636166E9"));
    assert_eq!(text(&page), "café");
    // Numbered anew as they came, or by other names: nothing is known of them.
    let anew: Vec<u32> = (0..0x70).collect();
    assert_eq!(text(&of_bitmaps(&[&bitmap_font(&anew, 50, by_code)], &show("616263"))), "");
    let page = of_bitmaps(&[&bitmap_font(&roman, 50, |code| format!("g{code}"))], &show("616263"));
    assert_eq!(text(&page), "");
}

#[test]
fn marks_become_part_of_the_letter_that_they_are_drawn_over() {
    // An acute is 333 wide in Helvetica, an e and an o 556: each is drawn over the middle of its letter.
    let acute = |x: f32, y: f32| format!("BT /L 10 Tf 1 0 0 1 {x} {y} Tm <B4> Tj ET\n");
    let page = [
        latin(50.0, 700.0, 10.0, "caf"),
        acute(66.2, 700.0),
        latin(65.0, 700.0, 10.0, "e or "),
        // After its letter, and raised over a capital.
        latin(100.0, 700.0, 10.0, "o"),
        acute(101.1, 700.0),
        acute(122.6, 702.5),
        latin(120.0, 700.0, 10.0, "Angstrom"),
        // Beside a letter it stays a mark.
        acute(200.0, 700.0),
        latin(203.4, 700.0, 10.0, "e"),
    ]
    .concat();
    let (blocks, _) = read(&document(&[&page])).unwrap();
    let text: String = blocks.iter().map(|block| block.text.as_str()).collect();
    assert_eq!(text, "café or ó Ángstrom ´e");
}
