//! Pictures of text become documents: with tesseract where it is installed, with a stand-in for the plumbing, and with
//! a reason that says what to install where there is none.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::host::{Data, Host, root};

/// What stands in the picture: rendered at 300 dpi from WenQuanYi Micro Hei.
const TEXT: &str = "知识库把文档变成可以引用的答案。每一段文字都保留它在原文中的位置，读者随时可以回到原文核对。\
    扫描的页面里没有文字，需要先识别图片中的字。识别在本机完成，文件不会离开这台机器。";
/// Share of its characters that must be recognised in order.
const SIMILARITY_MIN: f64 = 0.95;

fn picture() -> Vec<u8> {
    fs_err::read(root().join("tests/e2e/fixtures/scan-zh.jpg")).unwrap()
}

/// A page that is nothing but the picture, as scanners make them.
fn scanned() -> Vec<u8> {
    let jpeg = picture();
    let mut pdf = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    let paint = "q 312 0 0 154 0 0 cm /I Do Q";
    let objects: [(String, &[u8]); 5] = [
        ("<</Type/Catalog/Pages 2 0 R>>".to_owned(), b""),
        ("<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(), b""),
        (
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 312 154]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>"
                .to_owned(),
            b"",
        ),
        (format!("<</Length {}>>", paint.len()), paint.as_bytes()),
        (
            format!(
                "<</Type/XObject/Subtype/Image/Width 1300/Height 640/ColorSpace/DeviceGray/BitsPerComponent 8/Filter/DCTDecode/Length {}>>",
                jpeg.len()
            ),
            &jpeg,
        ),
    ];
    for (at, (dictionary, stream)) in objects.iter().enumerate() {
        places.push(pdf.len());
        pdf.extend(format!("{} 0 obj\n{dictionary}\n", at + 1).bytes());
        if !stream.is_empty() {
            pdf.extend(b"stream\n");
            pdf.extend(*stream);
            pdf.extend(b"\nendstream\n");
        }
        pdf.extend(b"endobj\n");
    }
    let start = pdf.len();
    pdf.extend(b"xref\n0 6\n0000000000 65535 f \n");
    places.iter().for_each(|place| pdf.extend(format!("{place:010} 00000 n \n").bytes()));
    pdf.extend(format!("trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n").bytes());
    pdf
}

async fn text_of(host: &Host, job: &Value) -> String {
    assert_eq!(job["state"], "done", "{job}");
    let id = job["document"].as_str().unwrap();
    let got = host.get(&format!("/api/v1/kbs/initial/documents/{id}/text")).await;
    got["text"].as_str().unwrap().to_owned()
}

/// Twice the longest common subsequence through both lengths, white space left out.
fn similarity(found: &str, wanted: &str) -> f64 {
    let chars = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
    let (a, b) = (chars(found), chars(wanted));
    let mut row = vec![0_usize; b.len() + 1];
    for x in &a {
        let mut before = 0;
        for (at, y) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if x == y { before + 1 } else { above.max(row[at]) };
            before = above;
        }
    }
    2.0 * row[b.len()] as f64 / (a.len() + b.len()) as f64
}

fn installed() -> bool {
    let listed = Command::new("tesseract").arg("--list-langs").output();
    listed.is_ok_and(|output| {
        let languages = String::from_utf8_lossy(&output.stdout).into_owned();
        ["chi_sim", "eng"].iter().all(|wanted| languages.lines().any(|line| line == *wanted))
    })
}

#[tokio::test]
async fn a_scanned_page_is_read_where_tesseract_is_and_else_refused_with_advice() {
    let mut data = Data::new();
    let host = data.start();
    for (name, bytes) in [("扫描.jpg", picture()), ("扫描.pdf", scanned())] {
        let job = host.ingest("initial", name, bytes).await;
        if installed() {
            let text = text_of(&host, &job).await;
            let share = similarity(&text, TEXT);
            assert!(share >= SIMILARITY_MIN, "{name}: {share:.3} of {text}");
        } else {
            assert_eq!(job["state"], "failed", "{job}");
            let reason = job["error"].as_str().unwrap();
            assert!(reason.contains("tesseract") || reason.contains("no text"), "{name}: {reason}");
        }
    }
}

#[tokio::test]
async fn recognised_lines_become_citable_text() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("stand-in");
    let row = |line: u32, text: &str| {
        format!("5\\t1\\t1\\t1\\t{line}\\t1\\t10\\t{}\\t300\\t40\\t95\\t{text}\\n", line * 45)
    };
    let table = [row(1, "灯塔的 灯每"), row(2, "十二秒闪一次。")].concat();
    let script = format!(
        "#!/bin/sh\ncase $1 in\n--version) echo 'stand-in 1';;\n--list-langs) printf 'List:\\nchi_sim\\neng\\n';;\n*) cat > /dev/null; printf '{table}';;\nesac\n"
    );
    fs_err::write(&program, script).unwrap();
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut data = Data::new().set("OCR", "COMMAND", program.display());
    let host = data.start();
    for (name, bytes) in [("a.jpg", picture()), ("a.pdf", scanned())] {
        let job = host.ingest("initial", name, bytes.clone()).await;
        assert_eq!(text_of(&host, &job).await.trim(), "灯塔的灯每十二秒闪一次。", "{name}");
        let again = host.ingest("initial", name, bytes).await;
        assert_eq!(again["unchanged"], true, "{again}");
    }
}

#[tokio::test]
async fn without_a_program_the_reason_says_what_to_install() {
    let mut data = Data::new().set("OCR", "COMMAND", "/no/such/tesseract");
    let host = data.start();
    let job = host.ingest("initial", "a.jpg", picture()).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["attempts"], 0, "trying again would not help: {job}");
    assert!(job["error"].as_str().unwrap().contains("apt install tesseract-ocr"), "{job}");
}
