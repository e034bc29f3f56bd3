//! What is written is read back; what was cut, changed, added or lies about itself is refused before any part.

use std::io::{Cursor, Read as _, Write as _};

use futures_util::StreamExt as _;
use rag_core::ErrorCode;
use rag_core::document::{BlobHash, Chunk, ChunkId, Span};
use rag_core::kb::{KbName, KbSettings};
use rag_core::ports::{BundleChunk, BundleDocument, BundleHead, BundlePart, Origin};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::*;

const ORIGINAL: &[u8] = "# 灯塔\n\n灯塔每十二秒闪一次。".as_bytes();

fn files(bytes_max: u64) -> BundleFiles {
    BundleFiles { dir: std::env::temp_dir(), bytes_max }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parts() -> Vec<BundlePart> {
    let head = BundleHead {
        kb: KbName::parse("manuals").unwrap(),
        settings: KbSettings { rerank: false, ..KbSettings::default() },
        embedder: Some("e5@01".to_owned()),
        documents: 1,
        created_ms: 5,
    };
    let document = BundleDocument {
        name: "灯塔.md".to_owned(),
        media_type: "text/markdown".to_owned(),
        blob: BlobHash(hash(ORIGINAL)),
        size: ORIGINAL.len() as u64,
        pipeline: "p".to_owned(),
        title: Some("灯塔".to_owned()),
        language: None,
        attributes: vec![("url".to_owned(), "http://example.org/".to_owned())],
        metadata: vec![("owner".to_owned(), "王".to_owned())],
        origin: Origin { url: Some("http://example.org/".to_owned()), folder: None },
        disabled: false,
    };
    let chunk = |id: &str, text: &str, start: u64| BundleChunk {
        chunk: Chunk {
            id: ChunkId(id.to_owned()),
            ordinal: 0,
            text: text.to_owned(),
            span: Span { start, end: start + text.len() as u64 },
            parent: Some(ChunkId("parent".to_owned())),
            context: None,
            heading: Some("灯塔".to_owned()),
            page: Some(3),
            source: Some(Span { start: 1, end: 2 }),
        },
        disabled: id == "b",
        edited: false,
        vector: (id != "b").then(|| vec![0.5, -1.0e-20, f32::MAX]),
    };
    let first = "灯塔。";
    let mut edited = chunk("c", "闪", 9);
    (edited.chunk.text, edited.edited) = ("改过的".to_owned(), true);
    vec![
        BundlePart::Head(Box::new(head)),
        BundlePart::Original(BlobHash(hash(ORIGINAL))),
        BundlePart::Piece(Bytes::from_static(ORIGINAL)),
        BundlePart::Document(Box::new(document)),
        BundlePart::Section { text: first.to_owned(), chunks: vec![chunk("a", first, 0)] },
        BundlePart::Section { text: "闪一次".to_owned(), chunks: vec![edited, chunk("b", "一次", 12)] },
    ]
}

async fn written() -> Vec<u8> {
    let (mut writer, mut bytes) = files(1 << 20).write();
    let writing = async move {
        for part in parts() {
            writer.put(part).await.unwrap();
        }
        writer.finish().await.unwrap();
    };
    let reading = async move {
        let mut all = Vec::new();
        while let Some(piece) = bytes.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    };
    tokio::join!(writing, reading).1
}

async fn read(files: &BundleFiles, file: &[u8]) -> Result<Vec<BundlePart>> {
    let mut upload = files.upload()?;
    for piece in file.chunks(1_000) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    let mut reader = upload.open().await?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next().await? {
        parts.push(part);
    }
    Ok(parts)
}

/// The same file with its entries changed, and with the hashes that then belong in it.
fn changed(file: &[u8], change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut zip = ZipArchive::new(Cursor::new(file)).unwrap();
    let mut entries = Vec::new();
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = String::from_utf8(entry.name_raw().to_vec()).unwrap();
        if name != SUMS {
            entries.push((name, bytes));
        }
    }
    change(&mut entries);
    let sums: String = entries.iter().map(|(name, bytes)| format!("{}  {name}\n", hash(bytes))).collect();
    entries.push((SUMS.to_owned(), sums.into_bytes()));
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let file = written().await;
    assert_eq!(read(&files(1 << 20), &file).await.unwrap(), parts());
    // Anybody can open and check it.
    let mut zip = ZipArchive::new(Cursor::new(&file)).unwrap();
    let mut sums = String::new();
    zip.by_name(SUMS).unwrap().read_to_string(&mut sums).unwrap();
    assert!(sums.contains(&format!("{0}  originals/{0}\n", hash(ORIGINAL))), "{sums}");

    assert_eq!(read(&files(1 << 20), &changed(&file, |_| {})).await.unwrap(), parts());
}

#[tokio::test]
async fn a_file_that_is_cut_or_changed_anywhere_is_refused() {
    let file = written().await;
    for at in (0..file.len()).step_by(7) {
        let error = read(&files(1 << 20), &file[..at]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "cut at {at}: {error}");
    }
    let mut survived = 0;
    for at in 0..file.len() {
        let mut bent = file.clone();
        bent[at] ^= 0x20;
        match read(&files(1 << 20), &bent).await {
            // Dates and the like of the zip's own directory say nothing of the content.
            Ok(read) => {
                assert_eq!(read, parts(), "byte {at}");
                survived += 1;
            }
            Err(error) => {
                let known = [ErrorCode::InvalidInput, ErrorCode::Quota, ErrorCode::Unsupported];
                assert!(known.contains(&error.code()), "byte {at}: {error}");
            }
        }
    }
    assert!(survived < file.len() / 3, "{survived} of {}", file.len());
}

#[tokio::test]
async fn names_that_lead_elsewhere_and_lies_are_refused() {
    let file = written().await;
    let add = |name: &'static str, bytes: &'static [u8]| {
        move |entries: &mut Vec<(String, Vec<u8>)>| entries.push((name.to_owned(), bytes.to_vec()))
    };
    for name in [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "originals/../../x",
        "originals/short",
        "originals/..\\..\\x",
        "documents/x.jsonl",
        "documents/../00000009.jsonl",
        "readme.txt",
    ] {
        let error = read(&files(1 << 20), &changed(&file, add(name, b"x"))).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{name}: {error}");
    }
    let other = "0000000000000000000000000000000000000000000000000000000000000000";
    let rename = |entries: &mut Vec<(String, Vec<u8>)>| {
        for (name, _) in entries.iter_mut().filter(|(name, _)| name.starts_with(ORIGINALS)) {
            *name = format!("{ORIGINALS}{other}");
        }
    };
    let error = read(&files(1 << 20), &changed(&file, rename)).await.unwrap_err();
    assert!(error.to_string().contains("not what was written there"), "{error}");
    let drop_original =
        |entries: &mut Vec<(String, Vec<u8>)>| entries.retain(|(name, _)| !name.starts_with(ORIGINALS));
    let error = read(&files(1 << 20), &changed(&file, drop_original)).await.unwrap_err();
    assert!(error.to_string().contains("original is missing"), "{error}");
    let newer = |entries: &mut Vec<(String, Vec<u8>)>| {
        let head = entries.iter_mut().find(|(name, _)| name == HEAD).unwrap();
        head.1 = br#"{"format": 3, "whatever": "comes"}"#.to_vec();
    };
    let error = read(&files(1 << 20), &changed(&file, newer)).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { message } if message.contains("format 3")), "{error}");
    let outside = |entries: &mut Vec<(String, Vec<u8>)>| {
        let document = entries.iter_mut().find(|(name, _)| name.starts_with(DOCUMENTS)).unwrap();
        let text = String::from_utf8(std::mem::take(&mut document.1)).unwrap();
        document.1 = text.replace("\"end\":9", "\"end\":8").into_bytes();
    };
    let error = read(&files(1 << 20), &changed(&file, outside)).await.unwrap_err();
    assert!(error.to_string().contains("not part of its document's text"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_too_large_or_unpacks_to_too_much_is_refused() {
    let file = written().await;
    let error = read(&files(file.len() as u64 - 1), &file).await.unwrap_err();
    assert!(error.to_string().contains("data.bundle_bytes_max"), "{error}");
    let bomb = changed(&file, |entries| {
        let zeros = vec![0; 1 << 20];
        entries.push((format!("{ORIGINALS}{}", hash(&zeros)), zeros));
    });
    let error = read(&files(1 << 20), &bomb).await.unwrap_err();
    assert!(bomb.len() < 1 << 16 && error.to_string().contains("data.bundle_bytes_max"), "{error}");
    assert!(read(&files(2 << 20), &bomb).await.is_ok(), "room enough, and the hash is right");
}

#[tokio::test]
async fn a_file_whose_writer_failed_or_went_away_ends_in_an_error() {
    for told in [true, false] {
        let (mut writer, mut bytes) = files(1 << 20).write();
        writer.put(parts().remove(0)).await.unwrap();
        if told {
            writer.fail(Error::Storage { message: "the disk is gone".to_owned() }).await;
        } else {
            drop(writer);
        }
        let mut last = None;
        while let Some(piece) = bytes.next().await {
            last = Some(piece);
        }
        assert!(last.unwrap().is_err());
    }
    // A reader that goes away ends the writer.
    let (mut writer, bytes) = files(1 << 20).write();
    drop(bytes);
    let piece = BundlePart::Piece(Bytes::from(vec![7; 1 << 20]));
    writer.put(parts().remove(0)).await.unwrap();
    let ended = async { while writer.put(piece.clone()).await.is_ok() {} };
    ended.await;
}
