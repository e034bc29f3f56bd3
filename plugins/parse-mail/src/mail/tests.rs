//! Mails as programs write them, Chinese ones above all.

use guest_doc::{Memory, NoOcr, Session};

use super::*;

fn read(bytes: &[u8]) -> Result<(Vec<Block>, Summary)> {
    let mut session = Session::new(open(Memory::file("a.eml", "message/rfc822", bytes), Rc::new(NoOcr), "")?);
    let mut blocks = Vec::new();
    while let Some(batch) = session.next(1 << 10)? {
        blocks.extend(batch);
    }
    Ok((blocks, session.summary()))
}

fn shown(blocks: &[Block]) -> Vec<(Kind, &str)> {
    blocks.iter().map(|block| (block.kind, block.text.as_str())).collect()
}

const HEAD: &str = "From: =?utf-8?B?546L5Lyf?= <wang@example.com>\r\nTo: Li <li@example.com>, z@example.com\r\n\
    Subject: =?gb2312?B?xOq82bCyxcU=?=\r\nDate: Tue, 3 Mar 2026 09:30:00 +0800\r\n";
const SHOWN: &str =
    "From: 王伟 <wang@example.com>\nTo: Li <li@example.com>, z@example.com\nDate: 2026-03-03T09:30:00+08:00";

#[test]
fn headers_and_plain_text_in_gbk() {
    let head =
        format!("{HEAD}Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    let body = b"\xc4\xea\xbc\xd9\xce\xe5\xcc\xec\xa1\xa3\r\nSee below.\r\n\r\n> quoted\r\n> lines\r\n";
    let (blocks, summary) = read(&[head.as_bytes(), body].concat()).unwrap();
    assert_eq!(
        shown(&blocks),
        [
            (Kind::Heading(1), "年假安排"),
            (Kind::Paragraph, SHOWN),
            (Kind::Paragraph, "年假五天。\nSee below."),
            (Kind::Quote, "quoted\nlines"),
        ]
    );
    assert_eq!(summary.title.as_deref(), Some("年假安排"));
    let attribute =
        |key: &str| summary.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(attribute("from"), Some("王伟 <wang@example.com>"));
    assert_eq!(attribute("date"), Some("2026-03-03T09:30:00+08:00"));
    // Likewise when it names no encoding at all.
    let (blocks, _) = read(&[HEAD.as_bytes(), b"\r\n", &body[..], &body[..]].concat()).unwrap();
    assert_eq!(blocks[2].text, "年假五天。\nSee below.");
}

#[test]
fn alternatives_attachments_and_forwarded_mail() {
    let text = format!(
        "{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\
         Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n正文在此。\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>正文<b>在此</b>。</p>\r\n--b--\r\n--a\r\n\
         Content-Type: application/pdf; name=\"x\"\r\nContent-Disposition: attachment; filename*=utf-8''%E6%8A%A5%E5%91%8A.pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n\
         From: z@example.com\r\nSubject: Inner\r\n\r\nForwarded words.\r\n--a--\r\n"
    );
    let (blocks, summary) = read(text.as_bytes()).unwrap();
    assert_eq!(
        shown(&blocks)[2..],
        [
            (Kind::Paragraph, "正文在此。"),
            (Kind::Paragraph, "Attachment: 报告.pdf"),
            (Kind::Heading(2), "Inner"),
            (Kind::Paragraph, "From: z@example.com"),
            (Kind::Paragraph, "Forwarded words."),
        ]
    );
    assert!(summary.attributes.contains(&("attachments".to_owned(), "报告.pdf".to_owned())));
}

#[test]
fn html_alone_or_behind_a_stub_is_read() {
    let html = format!(
        "<h1>通知</h1><table><tr><td>日期</td><td>地点</td></tr><tr><td>周一</td><td>深圳</td></tr></table><p>{}</p>",
        "详情如下。".repeat(9)
    );
    let alone = format!("{HEAD}Content-Type: text/html; charset=utf-8\r\n\r\n{html}");
    let (blocks, _) = read(alone.as_bytes()).unwrap();
    assert_eq!(blocks[2].text, "通知");
    assert_eq!(blocks[3].text, "| 日期 | 地点 |\n| --- | --- |\n| 周一 | 深圳 |");
    let stub = format!(
        "{HEAD}Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nUse HTML.\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--b--\r\n"
    );
    let (blocks, _) = read(stub.as_bytes()).unwrap();
    assert_eq!(blocks[2].text, "通知");
}

#[test]
fn what_is_no_mail_is_refused_and_depth_is_bounded() {
    for bytes in [&b"plain words"[..], b"\x00\x01\x02", b"%PDF-1.7 x"] {
        assert!(matches!(read(bytes), Err(DocError::Unsupported(_))), "{bytes:?}");
    }
    let mut nested = String::new();
    for at in 0..200 {
        nested.push_str(&format!(
            "From: a@example.com\r\nContent-Type: multipart/mixed; boundary=b{at}\r\n\r\n--b{at}\r\nContent-Type: message/rfc822\r\n\r\n"
        ));
    }
    // Whatever the library makes of it: bounded, and no trap.
    let _ = read(nested.as_bytes());
    let many = format!(
        "{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        "--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nx\r\n".repeat(3_000)
    );
    assert!(matches!(read(many.as_bytes()), Err(DocError::TooLarge(_))));
}
