//! Pages made here, read back.

use std::rc::Rc;

use guest_doc::{DocError, Kind, Memory, NoOcr, Session};

use crate::{open, page};

fn shown(html: &str) -> Vec<(Kind, String)> {
    page(html, false).unwrap().blocks.into_iter().map(|block| (block.kind, block.text)).collect()
}

fn check(html: &str, expected: &[(Kind, &str)]) {
    let expected: Vec<(Kind, String)> =
        expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
    assert_eq!(shown(html), expected);
}

#[test]
fn elements_become_blocks() {
    check(
        "<h1>知识库 <em>手册</em></h1><p>第一段，\n有<b>粗体</b>。<br>次行</p>text outside<ul><li>one<li>two<p>more</ul>
         <pre>fn main() {\n    x();\n}</pre><blockquote><p>引文</blockquote><h3>小节</h3>",
        &[
            (Kind::Heading(1), "知识库 手册"),
            (Kind::Paragraph, "第一段， 有粗体。\n次行"),
            (Kind::Paragraph, "text outside"),
            (Kind::ListItem, "one"),
            (Kind::ListItem, "two"),
            (Kind::ListItem, "more"),
            (Kind::Code, "fn main() {\n    x();\n}"),
            (Kind::Quote, "引文"),
            (Kind::Heading(3), "小节"),
        ],
    );
}

#[test]
fn tables_of_data_are_markdown_and_others_text() {
    check(
        "<table><caption>价目</caption><tr><th>品名<th>价<th>注<tr><td rowspan=2>茶<td>3<td>热<tr><td>4<td>冷\
         <tr><td colspan=2>合计<td>7</table><table><tr><td><p>左栏</p><td><p>右栏</p></table>",
        &[
            (Kind::Caption, "价目"),
            (
                Kind::Table,
                "| 品名 | 价 | 注 |\n| --- | --- | --- |\n| 茶 | 3 | 热 |\n| 茶 | 4 | 冷 |\n| 合计 |  | 7 |",
            ),
            (Kind::Paragraph, "左栏"),
            (Kind::Paragraph, "右栏"),
        ],
    );
}

#[test]
fn what_leads_elsewhere_and_scripts_are_left_out() {
    let html = "<html lang=zh><head><title> 标题 </title><meta name=author content='王'></head><body>\
        <header><a href=/>首页</a></header><nav>菜单</nav><div class='sidebar x'>旁栏</div>\
        <main><h1>正文</h1><p>这里是正文，比别处都长，所以可信。</p><script>alert(1)</script><p hidden>暗</p></main>\
        <footer>版权</footer></body></html>";
    check(html, &[(Kind::Heading(1), "正文"), (Kind::Paragraph, "这里是正文，比别处都长，所以可信。")]);
    let all = page(html, true).unwrap();
    assert!(all.blocks.iter().any(|block| block.text == "菜单"));
    assert!(!all.blocks.iter().any(|block| block.text.contains("alert")));
    assert_eq!(all.summary.title.as_deref(), Some("标题"));
    assert_eq!(all.summary.language.as_deref(), Some("zh"));
    assert_eq!(all.summary.attributes, [("author".to_owned(), "王".to_owned())]);
}

#[test]
fn a_page_of_navigation_alone_is_kept() {
    check("<body><nav><a>one</a> <a>two</a></nav></body>", &[(Kind::Paragraph, "one two")]);
}

#[test]
fn depth_and_binary_data_are_refused() {
    let deep = format!("{}x", "<div>".repeat(100_000));
    assert!(matches!(page(&deep, false), Err(DocError::TooLarge(_))));
    let deep = format!("{}words{}", "<div>".repeat(3_000), "</div>".repeat(3_000));
    assert_eq!(page(&deep, false).unwrap().blocks.len(), 1);
    let open = |bytes: &[u8], settings: &str| open(Memory::file("a", "b", bytes), Rc::new(NoOcr), settings);
    assert!(matches!(open(b"a\0b", "{}"), Err(DocError::Unsupported(_))));
    assert!(matches!(open(b"a", r#"{"x": 1}"#), Err(DocError::Invalid(_))));
    let mut session = Session::new(open(b"<p>words", "{}").unwrap());
    assert_eq!(session.next(10).unwrap().unwrap()[0].text, "words");
}
