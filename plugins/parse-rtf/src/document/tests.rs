//! RTF as word processors write it, and as nobody should.

use guest_doc::{Kind, Memory, NoOcr, Session};

use super::*;

fn read(bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    let mut session =
        Session::new(open(Memory::file("a.rtf", "application/rtf", bytes), Rc::new(NoOcr), "")?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

fn shown(rtf: &str) -> Vec<(Kind, String)> {
    let (blocks, _) = read(rtf.as_bytes()).unwrap();
    blocks.into_iter().map(|block| (block.kind, block.text)).collect()
}

fn texts(rtf: &str) -> Vec<String> {
    shown(rtf).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn chinese_is_read_by_code_page_font_and_unicode() {
    // 知识库 in GBK, its second bytes escaped or not; 知 by font in a Western file; by number with a stand-in.
    assert_eq!(texts(r"{\rtf1\ansi\ansicpg936 \'d6\'aa\'ca\'b6\'bf\'e2 ok\par}"), ["知识库 ok"]);
    assert_eq!(texts(r"{\rtf1\ansicpg936 \'81A\'d6\'aa\par}"), ["丄知"]);
    let fonts =
        r"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fnil\fcharset134 \'cb\'ce\'cc\'e5;}{\f2\fcharset136 x;}}";
    assert_eq!(
        texts(&format!(r"{{\rtf1\ansicpg1252{fonts}\f0 caf\'e9 \f1\'d6\'aa{{\f2\'aa\'be}}\f0\'e9\par}}")),
        ["café 知知é"]
    );
    assert_eq!(
        texts(r"{\rtf1\ansi\uc1\u30693?\u-29486\'3f{\uc0\u24211}\u-10179?\u-8704?\par}"),
        ["知\u{8cd2}库😀"]
    );
    assert_eq!(texts(r"{\rtf1\ansi\uc2\u30693\'d6\'aa.\par}"), ["知."]);
}

#[test]
fn headings_lists_tables_and_notes_are_told_apart() {
    let rtf = r"{\rtf1\ansi\ansicpg936{\fonttbl{\f0 Arial;}}{\colortbl;\red0\green0\blue0;}
{\stylesheet{\s0 Normal;}{\s1\outlinelevel0 heading 1;}{\s2 \'b1\'ea\'cc\'e2 2;}{\*\cs10 Default;}}
{\info{\title \'cf\'ee\'c4\'bf}{\author Wang}{\creatim\yr2026}}{\header Page \chpgn}
\pard\s1 Title One\par\pard\s2 Two\par\pard Some {\b bold} text.{\footnote A note.\par} More\line here.\par
\pard{\listtext\'b7\tab}First\par{\pntext 2.\tab}Second\par
\trowd\cellx100\cellx200\pard\intbl Name\cell Value\cell\row\trowd\pard\intbl a|b\par c\cell\'d6\'aa\cell\row
\pard After {\v hidden}{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}{\pict\pngblip 89504e47}\par}";
    let (blocks, summary) = read(rtf.as_bytes()).unwrap();
    let found: Vec<_> = blocks.iter().map(|block| (block.kind, block.text.as_str())).collect();
    assert_eq!(
        found,
        [
            (Kind::Heading(1), "Title One"),
            (Kind::Heading(2), "Two"),
            (Kind::Paragraph, "Some bold text. More\nhere."),
            (Kind::Footnote, "A note."),
            (Kind::ListItem, "First"),
            (Kind::ListItem, "Second"),
            (Kind::Table, "| Name | Value |\n| --- | --- |\n| a\\|b c | 知 |"),
            (Kind::Paragraph, "After link"),
        ]
    );
    assert_eq!(summary.title.as_deref(), Some("项目"));
    assert_eq!(summary.attributes, [("author".to_owned(), "Wang".to_owned())]);
}

#[test]
fn text_in_drawings_is_read_and_pictures_in_binary_are_not() {
    let rtf = r"{\rtf1 a{\shp{\*\shpinst{\sp{\sn fill}{\sv 1}}{\shptxt boxed\par}}{\shprslt boxed}}\par{\pict\bin4 }{}x}b\par}";
    assert_eq!(texts(rtf), ["aboxed", "b"]);
}

#[test]
fn what_is_cut_off_deep_or_none_is_refused() {
    assert!(matches!(read(br"{\rtf1 some words\par and"), Err(DocError::Invalid(_))));
    assert!(matches!(read(br"{\rtf1\par}"), Err(DocError::Invalid(_))));
    assert!(matches!(read(b"plain words"), Err(DocError::Unsupported(_))));
    let deep = format!(r"{{\rtf1 {}", "{".repeat(100_000));
    assert!(matches!(read(deep.as_bytes()), Err(DocError::TooLarge(_))));
    // A number that no reader could skip, half a character, half a pair, a group too many.
    for odd in [
        r"{\rtf1 a\bin2147483647 b",
        r"{\rtf1\ansicpg936 a\'d6}",
        r"{\rtf1 a\u-10179?}",
        r"{\rtf1 a}}}{",
        r"{\rtf1 a\u99999999999 b}",
    ] {
        let _ = read(odd.as_bytes());
    }
}
