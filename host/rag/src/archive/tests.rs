//! Archives as people pack them, and as nobody should.

use std::io::{Cursor, Write};

use rag_core::ErrorCode;
use rag_core::document::BlobHash;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

struct InMemory(Vec<u8>);

#[async_trait]
impl Blob for InMemory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn name(&self) -> &str {
        "a.zip"
    }
    fn media_type(&self) -> &str {
        "application/zip"
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes> {
        let rest = &self.0[(offset as usize).min(self.0.len())..];
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(len as usize)]))
    }
}

#[derive(Default)]
struct Written(Vec<u8>);

#[async_trait]
impl BlobWriter for Written {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<(BlobHash, u64)> {
        Err(Error::internal("not asked for"))
    }
}

fn zip_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn open(bytes: Vec<u8>) -> Result<Box<dyn Unpacked>> {
    let archives = ZipArchives { limits: UnpackLimits { files: 100, bytes: 64 << 20 } };
    archives.open(Arc::new(InMemory(bytes))).await
}

async fn copy(archive: &mut Box<dyn Unpacked>, at: usize, bytes_max: u64) -> Result<Vec<u8>> {
    let mut written = Written::default();
    let size = archive.copy(at, bytes_max, &mut written).await?;
    assert_eq!(size, written.0.len() as u64);
    Ok(written.0)
}

#[tokio::test]
async fn files_come_out_as_they_went_in() {
    let long: Vec<u8> = (0..3_000_000_u32).flat_map(|at| (at * 7).to_le_bytes()).collect();
    let mut archive =
        open(zip_of(&[("手册/a.md", "# 甲".as_bytes()), ("leer/", b""), ("b.bin", &long)])).await.unwrap();
    let names: Vec<&str> = archive.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["手册/a.md", "b.bin"]);
    assert_eq!(copy(&mut archive, 1, 64 << 20).await.unwrap(), long);
    assert_eq!(copy(&mut archive, 0, 64 << 20).await.unwrap(), "# 甲".as_bytes());
    assert_eq!(copy(&mut archive, 1, 1 << 20).await.unwrap_err().code(), ErrorCode::InvalidInput);
}

#[tokio::test]
async fn names_of_chinese_systems_are_read() {
    let name = b"\xca\xd6\xb2\xe1\\a.md";
    let mut bytes = zip_of(&[("xxxx\\a.md", b"words")]);
    while let Some(at) = bytes.windows(name.len()).position(|window| window == b"xxxx\\a.md") {
        bytes[at..at + name.len()].copy_from_slice(name);
    }
    assert_eq!(open(bytes).await.unwrap().files()[0].name, "手册/a.md");
}

#[tokio::test]
async fn a_bomb_ends_while_it_is_unpacked_whatever_its_directory_says() {
    let bytes = zip_of(&[("bomb.txt", &vec![b' '; 48 << 20])]);
    let mut archive = open(bytes).await.unwrap();
    assert!(is_bomb(archive.files()[0].size, archive.files()[0].packed));
    let error = copy(&mut archive, 0, 1 << 40).await.unwrap_err();
    assert!(error.to_string().contains("bomb"), "{error}");
}

#[tokio::test]
async fn what_is_damaged_or_none_is_refused() {
    let bytes = zip_of(&[("a.txt", &b"some text".repeat(1_000))]);
    for broken in [&bytes[..bytes.len() / 2], b"PK\x03\x04", b"plain words"] {
        assert_eq!(open(broken.to_vec()).await.err().unwrap().code(), ErrorCode::InvalidInput);
    }
    let many: Vec<String> = (0..500).map(|at| format!("{at}.txt")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    assert!(open(zip_of(&many)).await.err().unwrap().to_string().contains("archive_files_max"));
}
