//! Which media type a file has, by its name and first bytes, and what a document may be called.

use crate::error::{Error, Result};
use crate::limits;

/// Anything not recognised.
pub const OCTETS: &str = "application/octet-stream";
/// Bytes of a file that `sniff` looks at.
pub const SNIFF_BYTES: u32 = 4096;

const TEXT: &str = "text/plain";
const MARKDOWN: &str = "text/markdown";

/// First bytes of formats that are never plain text, whatever the file is called.
const MAGIC: &[(&[u8], &str)] = &[
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\x7fELF", "application/x-executable"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"\0asm", "application/wasm"),
];

/// Media types by extension, lower case.
const EXTENSIONS: &[(&str, &str)] = &[
    ("txt", TEXT),
    ("text", TEXT),
    ("log", TEXT),
    ("md", MARKDOWN),
    ("markdown", MARKDOWN),
    ("mdown", MARKDOWN),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("csv", "text/csv"),
    ("json", "application/json"),
    ("pdf", "application/pdf"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
];

/// The media type of a file. Content wins over the name: a program called `notes.txt` is a program.
pub fn sniff(name: &str, head: &[u8]) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    let by_name = EXTENSIONS.iter().find(|(e, _)| *e == extension).map(|(_, media)| *media);
    if let Some((_, media)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        // Office files are zip archives: there the name tells more.
        return match by_name {
            Some(office) if *media == "application/zip" && office.contains("openxmlformats") => office,
            _ => media,
        };
    }
    by_name.unwrap_or(if looks_like_text(head) { TEXT } else { OCTETS })
}

/// The type itself without parameters, when it is one that a parser could know; `sniff` decides otherwise.
pub fn known(media_type: &str) -> Option<&str> {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    (bare.contains('/') && bare != OCTETS && bare != "application/x-www-form-urlencoded").then_some(bare)
}

/// A document's name as people may give it: relative, `/`-separated, without control characters or `..`.
pub fn document_name(name: &str) -> Result<String> {
    let clean = name.trim().replace('\\', "/");
    let bad =
        |why: &str| Err(Error::invalid(format!("'{}' cannot name a document: {why}", name.escape_debug())));
    if clean.is_empty() {
        return bad("it is empty");
    }
    if clean.len() > limits::DOCUMENT_NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a document's name has at most {} bytes; this one has {}",
            limits::DOCUMENT_NAME_BYTES_MAX,
            clean.len()
        )));
    }
    if clean.chars().any(char::is_control) {
        return bad("it contains control characters");
    }
    if clean.starts_with('/') || clean.split('/').any(|part| part == ".." || part.is_empty()) {
        return bad("use a relative name without empty parts or '..'");
    }
    Ok(clean)
}

/// No NUL bytes outside UTF-16, which has them at every other place.
fn looks_like_text(head: &[u8]) -> bool {
    let utf16 = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    utf16 || !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_wins_over_the_name() {
        let check = |name: &str, head: &[u8], want: &str| assert_eq!(sniff(name, head), want, "{name}");
        check("a.txt", "你好".as_bytes(), TEXT);
        check("README.MD", b"# Hi", MARKDOWN);
        check("a.txt", b"%PDF-1.7", "application/pdf");
        check("a.txt", b"\x7fELF\x02", "application/x-executable");
        check("noextension", b"plain words", TEXT);
        check("noextension", b"\x01\x00\x02", OCTETS);
        check("utf16", b"\xff\xfea\x00b\x00", TEXT);
        check(
            "b.xlsx",
            b"PK\x03\x04rest",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        );
    }

    #[test]
    fn names_stay_inside() {
        for good in ["a.md", "手册/第一章.md", " b.txt "] {
            assert!(document_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "a/../b", "a//b", "a\nb", &"x".repeat(600)] {
            assert!(document_name(bad).is_err(), "{bad}");
        }
    }
}
