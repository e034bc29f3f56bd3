//! Books, mail, data, code and archives become documents through the whole program.

use std::io::{Cursor, Write as _};

use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::host::{Data, Host};

fn zip_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Waits until nothing is queued; returns every job.
async fn settled(host: &Host) -> Vec<Value> {
    loop {
        let jobs = host.get("/api/v1/jobs?limit=1000").await["jobs"].as_array().unwrap().clone();
        let open = jobs.iter().find(|job| job["state"] == "queued" || job["state"] == "running");
        match open.cloned() {
            Some(job) => drop(host.follow(&job).await),
            None => return jobs,
        }
    }
}

async fn names(host: &Host) -> Vec<String> {
    let listed = host.get("/api/v1/kbs/initial/documents?limit=1000").await;
    let documents = listed["documents"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        documents.map(|document| document["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

const MAIL: &str = "From: wang@example.com\r\nSubject: =?utf-8?B?54Gv5aGU55qE6aKc6Imy?=\r\n\
    Date: Tue, 3 Mar 2026 09:30:00 +0800\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n灯塔去年漆成了绿色。\r\n";
const CODE: &str = "#!/usr/bin/env python3\n\ndef 灯塔周期():\n    return 12\n";

#[tokio::test]
async fn an_archive_becomes_its_files_each_a_document_of_its_own() {
    let mut data = Data::new();
    let host = data.start();
    let book = zip_of(&[
        ("META-INF/container.xml", b"<container><rootfile full-path='a.opf'/></container>"),
        (
            "a.opf",
            b"<package><manifest><item id='a' href='a.xhtml' media-type='application/xhtml+xml'/></manifest>\
              <spine><itemref idref='a'/></spine></package>",
        ),
        ("a.xhtml", "<html><title/><body><h1>潮汐</h1><p>大潮在满月之后。</p></body></html>".as_bytes()),
    ]);
    let inner = zip_of(&[("data.jsonl", "{\"港口\": \"北港\", \"水深\": 12}\n".as_bytes())]);
    let archive = zip_of(&[
        ("信/灯塔.eml", MAIL.as_bytes()),
        ("code/beacon.py", CODE.as_bytes()),
        ("潮汐.epub", &book),
        ("inner.zip", &inner),
        ("a.rtf", br"{\rtf1\ansi\ansicpg936 \'b5\'c6\'cb\'fe\par}"),
        ("__MACOSX/._a.rtf", b"\0\0"),
        ("empty.txt", b""),
    ]);
    let job = host.ingest("initial", "资料.zip", archive.clone()).await;
    assert_eq!((&job["state"], &job["document"]), (&json!("done"), &Value::Null), "{job}");
    let jobs = settled(&host).await;
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    let expected = [
        "资料.zip/a.rtf",
        "资料.zip/code/beacon.py",
        "资料.zip/inner.zip/data.jsonl",
        "资料.zip/信/灯塔.eml",
        "资料.zip/潮汐.epub",
    ];
    assert_eq!(names(&host).await, expected);
    let found = host.post("/api/v1/kbs/initial/search", &json!({"question": "灯塔是什么颜色？"})).await;
    assert!(found.to_string().contains("漆成了绿色"), "{found}");

    // The same archive again embeds nothing.
    host.ingest("initial", "资料.zip", archive).await;
    let jobs = settled(&host).await;
    let again = jobs.iter().filter(|job| job["unchanged"] == true).count();
    assert_eq!(again, expected.len(), "{jobs:?}");

    // An Office file that lost its name is a document, not an archive.
    let docx = zip_of(&[(
        "word/document.xml",
        "<w:document xmlns:w='w'><w:body><w:p><w:r><w:t>年假五天。</w:t></w:r></w:p></w:body></w:document>"
            .as_bytes(),
    )]);
    let job = host.ingest("initial", "download", docx).await;
    assert!(job["document"].is_string(), "{job}");
}

/// Base64 in lines, as mails have it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in bytes.chunks(3).enumerate() {
        let value =
            three.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let place = (value >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[place as usize]) } else { '=' });
        }
        if at % 19 == 18 {
            text.push_str("\r\n");
        }
    }
    text
}

/// A mail with files attached: name, media type, content.
fn mail_with(files: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut mail = "From: wang@example.com\r\nSubject: tides\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n大潮的表格见附件。\r\n"
        .to_owned();
    for (name, media_type, bytes) in files {
        mail.push_str(&format!(
            "--b\r\nContent-Type: {media_type}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            base64(bytes)
        ));
    }
    (mail + "--b--\r\n").into_bytes()
}

#[tokio::test]
async fn what_is_attached_to_a_mail_is_a_document_of_its_own() {
    let mut data =
        Data::new().set("DATA", "ARCHIVE_BYTES_MAX", 40 << 20).set("DATA", "ARCHIVE_FILES_MAX", 20);
    let host = data.start();
    let rtf = br"{\rtf1\ansi\ansicpg936 \'b5\'c6\'cb\'fe\par}";
    let inner = zip_of(&[("data.jsonl", "{\"港口\": \"北港\", \"水深\": 12}\n".as_bytes())]);
    let mail = mail_with(&[
        ("../../tides.rtf", "application/rtf", rtf),
        ("tides.rtf", "application/rtf", b"{\\rtf1 Spring tides follow the full moon.\\par}"),
        ("inner.zip", "application/zip", &inner),
        ("broken.zip", "application/zip", b"PK\x03\x04 and then nothing"),
    ]);
    let job = host.ingest("initial", "潮汐.eml", mail.clone()).await;
    assert!(job["document"].is_string(), "the mail itself is one: {job}");
    let jobs = settled(&host).await;
    let failed: Vec<&Value> = jobs.iter().filter(|job| job["state"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{jobs:?}");
    assert_eq!(failed[0]["name"], "潮汐.eml/broken.zip");
    let attached = ["inner.zip/data.jsonl", "tides (2).rtf", "tides.rtf"];
    let expected = |prefix: &str| {
        let mut names = vec![prefix.to_owned()];
        names.extend(attached.iter().map(|name| format!("{prefix}/{name}")));
        names
    };
    assert_eq!(names(&host).await, expected("潮汐.eml"));
    let body = json!({"question": "When are spring tides?"});
    let found = host.post("/api/v1/kbs/initial/search", &body).await;
    assert!(found.to_string().contains("Spring tides follow the full moon"), "{found}");

    // A mail in an archive, whose limits count what is attached as well.
    host.ingest("initial", "box.zip", zip_of(&[("a/潮汐.eml", &mail)])).await;
    settled(&host).await;
    let all = names(&host).await;
    assert!(expected("box.zip/a/潮汐.eml").iter().all(|name| all.contains(name)), "{all:?}");
    let bomb = zip_of(&[("bomb.txt", &vec![b' '; 36 << 20])]);
    let many: Vec<String> = (0..21).map(|at| format!("{at}.rtf")).collect();
    let many: Vec<(&str, &str, &[u8])> =
        many.iter().map(|name| (name.as_str(), "application/rtf", &rtf[..])).collect();
    for (name, mail, words) in [
        ("bomb.eml", mail_with(&[("bomb.zip", "application/zip", &bomb)]), "bomb"),
        ("many.eml", mail_with(&many), "archive_files_max"),
    ] {
        let job = host.ingest("initial", name, mail).await;
        assert!(job["error"].as_str().is_some_and(|error| error.contains(words)), "{name}: {job}");
    }
}

#[tokio::test]
async fn archives_that_lead_elsewhere_explode_or_nest_without_end_are_refused() {
    let mut data =
        Data::new().set("DATA", "ARCHIVE_BYTES_MAX", 40 << 20).set("DATA", "ARCHIVE_FILES_MAX", 20);
    let host = data.start();
    let many: Vec<String> = (0..21).map(|at| format!("{at}.txt")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let mut nested = zip_of(&[("a.txt", b"deep down")]);
    for at in 0..8 {
        nested = zip_of(&[(&format!("{at}.zip"), &nested)]);
    }
    // Each of them is small; together they are not.
    let half: Vec<u8> =
        (0..6_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let half = zip_of(&[("half.txt", &half)]);
    let nested_large = zip_of(&[("1.zip", &half), ("2.zip", &half)]);
    for (name, bytes, words) in [
        ("up.zip", zip_of(&[("good.txt", b"words"), ("../../etc/cron.d/x", b"x")]), "'..'"),
        ("root.zip", zip_of(&[("/etc/passwd", b"x")]), "relative name"),
        ("bomb.zip", zip_of(&[("bomb.txt", &vec![b' '; 36 << 20])]), "bomb"),
        ("large.zip", zip_of(&[("zeros.txt", &vec![b'0'; 64 << 20])]), "archive_bytes_max"),
        ("together.zip", nested_large, "archive_bytes_max"),
        ("many.zip", zip_of(&many), "archive_files_max"),
        ("nested.zip", nested, "archives deep"),
        ("cut.zip", b"PK\x03\x04 and then nothing".to_vec(), "damaged"),
    ] {
        let job = host.ingest("initial", name, bytes).await;
        assert_eq!(job["state"], "failed", "{name}: {job}");
        let error = job["error"].as_str().unwrap();
        assert!(error.contains(words), "{name}: {error}");
    }
    settled(&host).await;
    assert_eq!(names(&host).await, Vec::<String>::new(), "nothing of a refused archive is kept");
}
