//! JSON as people have it: exports, settings, JSON lines under either name, and what is none.

use guest_doc::{Memory, NoOcr, Session};

use super::*;

fn read(media_type: &str, bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    let file = Memory::file("a.json", media_type, bytes);
    let mut session = Session::new(open(file, Rc::new(NoOcr), "")?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

fn texts(json: &str) -> Vec<String> {
    let (blocks, _) = read("application/json", json.as_bytes()).unwrap();
    blocks.into_iter().map(|block| block.text).collect()
}

#[test]
fn records_of_an_array_stay_together() {
    let json = r#"[{"姓名": "张三", "部门": "研发", "技能": ["Rust", "WASM"], "住址": {"市": "深圳"}, "空": null},
        {"姓名": "李四", "在职": true, "年龄": 1.50e1}]"#;
    let (blocks, summary) = read("application/json", json.as_bytes()).unwrap();
    let found: Vec<_> = blocks.iter().map(|block| (block.text.as_str(), block.part.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("姓名：张三；部门：研发；技能：Rust、WASM；住址.市：深圳", Some("[0]")),
            ("姓名：李四；在职：true；年龄：1.50e1", Some("[1]")),
        ]
    );
    assert_eq!(summary.attributes[0], ("records".to_owned(), "2".to_owned()));
}

#[test]
fn members_of_an_object_are_parted_and_name_their_path() {
    let json = r#"{"name": "rag", "version": "1.0", "scripts": {"build": "cargo", "test": "nextest"},
        "orders": [{"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2}], "last": "end"}"#;
    assert_eq!(
        texts(json),
        [
            "name：rag；version：1.0",
            "scripts.build：cargo；scripts.test：nextest",
            "orders.id：1；orders.items[0].sku：a；orders.items[1].sku：b",
            "orders.id：2",
            "last：end",
        ]
    );
    assert_eq!(texts("[[1, 2], [3, 4]]"), ["1、2", "3、4"]);
    assert_eq!(texts("[1, 2, 3]"), ["1、2、3"]);
    assert_eq!(texts("\"only\""), ["only"]);
}

#[test]
fn long_values_have_lines_of_their_own() {
    let json = format!(r#"[{{"标题": "一", "正文": "{}\n第二行"}}]"#, "很长的正文。".repeat(60));
    let found = texts(&json);
    assert!(found[0].starts_with("标题：一\n正文：很长") && found[0].ends_with("\n第二行"), "{found:?}");
}

#[test]
fn json_lines_are_known_by_media_type_or_content() {
    let lines = "{\"问\": \"年假几天\", \"答\": \"五天\"}\n\n{\"问\": \"病假\", \"答\": \"十天\"}\n";
    for media_type in ["application/jsonl", "application/json"] {
        let (blocks, _) = read(media_type, lines.as_bytes()).unwrap();
        let found: Vec<_> = blocks.iter().map(|block| (block.text.as_str(), block.row)).collect();
        assert_eq!(
            found,
            [("问：年假几天；答：五天", Some(1)), ("问：病假；答：十天", Some(3))],
            "{media_type}"
        );
    }
    let error = read("application/jsonl", b"{\"a\": 1}\n{\"b\": \n").unwrap_err();
    assert!(matches!(&error, DocError::Invalid(message) if message.contains("line 2")), "{error}");
}

#[test]
fn other_encodings_are_read() {
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain("{\"键\": \"值\"}".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let gbk = b"{\"\xbc\xfc\": \"\xd6\xb5\xb5\xc4\xcb\xb5\xc3\xf7\xce\xc4\xd7\xd6\"}";
    assert_eq!(read("application/json", &utf16).unwrap().0[0].text, "键：值");
    assert_eq!(read("application/json", gbk).unwrap().0[0].text, "键：值的说明文字");
}

#[test]
fn what_is_cut_off_deep_or_none_is_refused() {
    for (json, words) in
        [("{\"a\": [1, 2", "not valid JSON"), ("plain words", "not valid JSON"), ("[]", "no text")]
    {
        let Err(DocError::Invalid(message)) = read("application/json", json.as_bytes()) else {
            panic!("{json}")
        };
        assert!(message.contains(words), "{message}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(read("application/json", deep.as_bytes()), Err(DocError::TooLarge(_))));
    let long = format!("[\"{}\"]", "长".repeat(4 << 20));
    assert!(matches!(read("application/json", long.as_bytes()), Err(DocError::TooLarge(_))));
    assert!(matches!(read("application/json", b"\x7fELF\x02\0\0"), Err(DocError::Unsupported(_))));
}

#[test]
fn many_records_pass_one_by_one() {
    let json = format!("[{}{{}}]", "{\"编号\": 1, \"名称\": \"螺丝\"},\n".repeat(20_000));
    let (blocks, summary) = read("application/json", json.as_bytes()).unwrap();
    assert_eq!(blocks.len(), 20_000);
    assert_eq!(summary.attributes[0].1, "20001");
}
