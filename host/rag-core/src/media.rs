//! Which media type a file has, by its name and first bytes, and what a document may be called.

use crate::error::{Error, Result};
use crate::limits;

/// Anything not recognised.
pub const OCTETS: &str = "application/octet-stream";
/// Bytes of a file that `sniff` looks at.
pub const SNIFF_BYTES: u32 = 4096;

const TEXT: &str = "text/plain";
const MARKDOWN: &str = "text/markdown";

const HTML: &str = "text/html";
const CSV: &str = "text/csv";
/// Archives, whose files are documents.
pub const ZIP: &str = "application/zip";
const OLE: &str = "application/x-ole-storage";
const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const DOCM: &str = "application/vnd.ms-word.document.macroenabled.12";
const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
const PPTM: &str = "application/vnd.ms-powerpoint.presentation.macroenabled.12";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const XLSM: &str = "application/vnd.ms-excel.sheet.macroenabled.12";
const XLS: &str = "application/vnd.ms-excel";
const ODS: &str = "application/vnd.oasis.opendocument.spreadsheet";
const EPUB: &str = "application/epub+zip";
/// Mails, which files may be attached to.
pub const MAIL: &str = "message/rfc822";
const RTF: &str = "application/rtf";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/jsonl";
const SOURCE: &str = "text/x-source";

/// First bytes of formats that are never plain text, whatever the file is called.
const MAGIC: &[(&[u8], &str)] = &[
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"{\\rtf", RTF),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\x7fELF", "application/x-executable"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
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
    ("html", HTML),
    ("htm", HTML),
    ("xhtml", HTML),
    ("csv", CSV),
    ("tsv", CSV),
    ("json", JSON),
    ("jsonl", JSON_LINES),
    ("ndjson", JSON_LINES),
    ("eml", MAIL),
    ("pdf", "application/pdf"),
    ("rtf", RTF),
    ("zip", ZIP),
    ("docx", DOCX),
    ("docm", DOCM),
    ("pptx", PPTX),
    ("pptm", PPTM),
    ("xlsx", XLSX),
    ("xlsm", XLSM),
    ("xls", XLS),
    ("ods", ODS),
    ("epub", EPUB),
];

/// Extensions of source code and of settings. Text all of them; which language it is `parse-code` tells.
const SOURCES: &str = " asm bash bat c cc cfg cjs clj cljs cmake cmd conf cpp cs css cts cu cuh cxx dart erl ex exs f f90 \
    fs glsl go gradle graphql groovy h hh hpp hrl hs hxx ini java jl js jsx kt kts less lua m mjs ml mli mm mts nix php pl pm \
    properties proto ps1 py pyi r rb rs s scala scss sh sol sql svelte swift tcl tex toml ts tsx vue wgsl wit yaml yml zig zsh ";
/// Source files that have a name and no extension.
const SOURCE_NAMES: &[&str] = &["dockerfile", "makefile", "cmakelists.txt"];

/// Other names that browsers and systems give to media types.
const ALIASES: &[(&str, &str)] = &[
    ("text/x-markdown", MARKDOWN),
    ("text/rtf", RTF),
    ("text/json", JSON),
    ("application/x-ndjson", JSON_LINES),
    ("application/x-jsonlines", JSON_LINES),
    ("application/jsonlines", JSON_LINES),
    ("application/x-zip-compressed", ZIP),
    ("application/x-zip", ZIP),
    ("text/tab-separated-values", CSV),
    ("application/javascript", SOURCE),
    ("application/x-javascript", SOURCE),
    ("application/typescript", SOURCE),
    ("application/x-sh", SOURCE),
    ("application/x-python-code", SOURCE),
    ("application/x-httpd-php", SOURCE),
    ("application/sql", SOURCE),
    ("application/toml", SOURCE),
    ("application/yaml", SOURCE),
    ("application/x-yaml", SOURCE),
    ("text/javascript", SOURCE),
    ("text/css", SOURCE),
    ("text/yaml", SOURCE),
    // What systems take .ts for.
    ("video/mp2t", SOURCE),
    ("video/vnd.dlna.mpeg-tts", SOURCE),
];

/// The media type of a file. Content wins over the name: a program called `notes.txt` is a program.
pub fn sniff(name: &str, head: &[u8]) -> &'static str {
    let by_name = by_name(name);
    if let Some((_, media)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        // Office files and books are zip archives, those of Office 97 are OLE files: there the name tells more.
        return match by_name {
            Some(named @ (DOCX | DOCM | PPTX | PPTM | XLSX | XLSM | ODS | EPUB)) if *media == ZIP => named,
            // Encrypted ones are OLE files too; their parser says so.
            Some(named @ (XLS | DOCX | DOCM | PPTX | PPTM | XLSX | XLSM)) if *media == OLE => named,
            _ if *media == ZIP => by_first_entry(head),
            _ => media,
        };
    }
    by_name.unwrap_or_else(|| match looks_like_text(head) {
        true if looks_like_html(head) => HTML,
        true if looks_like_mail(head) => MAIL,
        true if head.starts_with(b"#!") => SOURCE,
        true => TEXT,
        false => OCTETS,
    })
}

fn by_name(name: &str) -> Option<&'static str> {
    let file = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    if SOURCE_NAMES.contains(&file.as_str()) {
        return Some(SOURCE);
    }
    let (_, extension) = file.rsplit_once('.')?;
    let known = EXTENSIONS.iter().find(|(e, _)| *e == extension).map(|(_, media)| *media);
    let is_source = || !extension.is_empty() && SOURCES.split_whitespace().any(|one| one == extension);
    known.or_else(|| is_source().then_some(SOURCE))
}

/// Two headers of a mail at the start, one of which every mail has.
fn looks_like_mail(head: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"received:",
        b"return-path:",
        b"delivered-to:",
        b"from:",
        b"message-id:",
        b"mime-version:",
        b"date:",
        b"subject:",
    ];
    let head = head.to_ascii_lowercase();
    let is_one = |line: &&[u8]| NAMES.iter().any(|name| line.starts_with(name));
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').take_while(|line| line.len() > 1).collect();
    lines.first().is_some_and(is_one) && lines.iter().filter(|line| is_one(line)).count() >= 3
}

/// What an archive of these parts is, whatever it is called; none for one of documents.
pub fn of_parts<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<&'static str> {
    let known = [("word/document.xml", DOCX), ("ppt/presentation.xml", PPTX), ("xl/workbook.xml", XLSX)];
    names.find_map(|name| known.iter().find(|(part, _)| *part == name).map(|(_, media)| *media))
}

/// Books and OpenDocument files begin with an entry `mimetype` that holds it as it is.
fn by_first_entry(head: &[u8]) -> &'static str {
    let first = head.get(30..).unwrap_or_default();
    let first = first.strip_prefix(b"mimetype").unwrap_or_default();
    [EPUB, ODS].into_iter().find(|media| first.starts_with(media.as_bytes())).unwrap_or(ZIP)
}

/// A document type or root element of HTML at the start.
fn looks_like_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.trim_ascii_start();
    let start = start.get(..14).unwrap_or(start).to_ascii_lowercase();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

/// The type itself without parameters, when it is one that a parser could know; `sniff` decides otherwise.
pub fn known(media_type: &str) -> Option<&str> {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    if let Some((_, known)) = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(bare)) {
        return Some(known);
    }
    // `text/x-python` and its like: the name of the file says more.
    let is_told_by_name =
        bare == OCTETS || bare == "application/x-www-form-urlencoded" || bare.starts_with("text/x-");
    (bare.contains('/') && (!is_told_by_name || bare == SOURCE)).then_some(bare)
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
        check("b.xlsx", b"PK\x03\x04rest", XLSX);
        check("b.txt", b"PK\x03\x04rest", ZIP);
        let book = [&b"PK\x03\x04"[..], &[0; 26], b"mimetypeapplication/epub+zip"].concat();
        check("download", &book, EPUB);
        let ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest";
        check("old.xls", ole, XLS);
        check("locked.docx", ole, DOCX);
        check("a.msi", ole, OLE);
        check("page", b"\n<!DOCTYPE HTML><p>", HTML);
        check("letter", b"{\\rtf1 x}", "application/rtf");
        check("main.RS", b"fn main() {}", SOURCE);
        check("a/Dockerfile", b"FROM x", SOURCE);
        check("run", b"#!/bin/sh\n", SOURCE);
        check("数据.jsonl", b"{}", JSON_LINES);
        check("a.zip", b"PK\x03\x04rest", ZIP);
        check("信.EML", b"From: a", MAIL);
        check("saved", b"Return-Path: <a>\r\nFrom: a\r\nSubject: b\r\n\r\n", MAIL);
        check("notes", b"From: here\n\nSubject: b\nDate: c", TEXT);
    }

    #[test]
    fn office_files_under_another_name_are_told_by_their_parts() {
        assert_eq!(of_parts(["[Content_Types].xml", "word/document.xml"].into_iter()), Some(DOCX));
        assert_eq!(of_parts(["a/word/document.xml", "b.txt"].into_iter()), None);
    }

    #[test]
    fn other_names_of_media_types_are_known() {
        for (given, known_as) in [
            ("application/x-zip-compressed", Some(ZIP)),
            ("Text/JavaScript; charset=utf-8", Some(SOURCE)),
            ("text/x-source", Some(SOURCE)),
            ("text/x-python", None),
            ("application/octet-stream", None),
            ("text/plain", Some(TEXT)),
            ("nonsense", None),
        ] {
            assert_eq!(known(given), known_as, "{given}");
        }
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
