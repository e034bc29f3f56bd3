//! The parts of a zip archive, each read within what is left of the archive's budget.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use guest_doc::{DocError, File, FileReader, HostError, Result};
use zip::ZipArchive;
use zip::result::ZipError;

/// Entries of an archive.
const ENTRIES_MAX: usize = 20_000;
/// Bytes that one part, and all parts read of an archive, may expand to.
const PART_BYTES_MAX: u64 = 96 << 20;
const EXPANDED_BYTES_MAX: u64 = 512 << 20;
/// A part that is larger than the first and expands more than the second times is a bomb. Real sheets reach 60.
const BOMB_BYTES: u64 = 8 << 20;
const RATIO_MAX: u64 = 150;

/// A part of an archive, as its directory names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Expanded bytes, as the directory claims.
    pub size: u64,
    pub is_folder: bool,
}

/// A zip archive.
#[expect(missing_debug_implementations, reason = "holds the host's file")]
pub struct Archive {
    zip: ZipArchive<FileReader>,
    failure: Rc<RefCell<Option<HostError>>>,
    expanded: u64,
}

impl Archive {
    /// Reads the directory. `Unsupported` when the file is no zip archive.
    pub fn open(file: Rc<dyn File>) -> Result<Self> {
        let head = file.read_at(0, 8)?;
        if head.starts_with(b"\xd0\xcf\x11\xe0") {
            return Err(DocError::unsupported(
                "the file is an Office file that is encrypted with a password, or of Office 97: save it without a \
                 password in today's format",
            ));
        }
        if !head.starts_with(b"PK") {
            return Err(DocError::unsupported("the file is not a zip archive, which this format is"));
        }
        let reader = FileReader::new(file);
        let failure = reader.failure();
        let zip = ZipArchive::new(reader).map_err(|error| failed(&failure, &error))?;
        if zip.len() > ENTRIES_MAX {
            return Err(DocError::too_large(format!(
                "the archive has {} entries, more than {ENTRIES_MAX}",
                zip.len()
            )));
        }
        Ok(Archive { zip, failure, expanded: 0 })
    }

    /// Everything in it, in the order of its directory.
    pub fn entries(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.zip.len());
        for at in 0..self.zip.len() {
            let part = self.zip.by_index_raw(at).map_err(|error| failed(&self.failure, &error))?;
            let name = part.name().map_or_else(|_| format!("entry {at}"), |name| name.to_string());
            entries.push(Entry { name, size: part.size(), is_folder: part.is_dir() });
        }
        Ok(entries)
    }

    /// A part by its name; none when there is no such part.
    pub fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.trim_start_matches('/');
        match self.zip.index_for_name(name) {
            Some(at) => self.part_at(at).map(Some),
            None => Ok(None),
        }
    }

    /// A part by its place in `entries`.
    pub fn part_at(&mut self, at: usize) -> Result<Vec<u8>> {
        self.expand(at, usize::MAX)
    }

    /// Expands a part within the limits and keeps its first bytes only.
    pub fn check(&mut self, at: usize, bytes_max: usize) -> Result<Vec<u8>> {
        self.expand(at, bytes_max)
    }

    fn expand(&mut self, at: usize, keep: usize) -> Result<Vec<u8>> {
        let part = self.zip.by_index(at).map_err(|error| failed(&self.failure, &error))?;
        if part.encrypted() {
            return Err(DocError::unsupported(
                "the archive is encrypted with a password; save it without one",
            ));
        }
        let packed = part.compressed_size().max(1);
        let limit = PART_BYTES_MAX.min(EXPANDED_BYTES_MAX.saturating_sub(self.expanded));
        let (mut bytes, mut size) = (Vec::new(), 0);
        // The directory may lie: what counts is what comes out.
        let mut rest = part.take(limit + 1);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = rest.read(&mut buffer).map_err(|error| broken(&self.failure, &error))?;
            if count == 0 {
                break;
            }
            size += count as u64;
            let kept = count.min(keep.saturating_sub(bytes.len()));
            bytes.extend_from_slice(buffer.get(..kept).unwrap_or_default());
            if size > limit {
                return Err(DocError::too_large(format!(
                    "a part of the archive expands to more than {} MiB",
                    limit >> 20
                )));
            }
            if size > BOMB_BYTES && size / packed > RATIO_MAX {
                return Err(DocError::too_large(format!(
                    "a part of the archive expands more than {RATIO_MAX} times: it is a bomb, or not text"
                )));
            }
        }
        self.expanded += size;
        Ok(bytes)
    }

    /// An XML part as text.
    pub fn xml(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.part(name)?.map(|bytes| crate::xml::decode(&bytes)))
    }
}

fn failed(failure: &RefCell<Option<HostError>>, error: &ZipError) -> DocError {
    if let Some(error) = failure.borrow_mut().take() {
        return DocError::Host(error);
    }
    match error {
        ZipError::UnsupportedArchive(what) if what.to_ascii_lowercase().contains("password") => {
            DocError::unsupported("the archive is encrypted with a password; save it without one")
        }
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            DocError::unsupported(format!("the archive cannot be unpacked: {error}"))
        }
        _ => DocError::invalid(format!("the archive is damaged or cut off: {error}")),
    }
}

fn broken(failure: &RefCell<Option<HostError>>, error: &std::io::Error) -> DocError {
    match failure.borrow_mut().take() {
        Some(error) => DocError::Host(error),
        None => DocError::invalid(format!("the archive is damaged: {error}")),
    }
}

/// A target relative to a folder: `../slides/a.xml` from `ppt/notes` is `ppt/slides/a.xml`.
pub fn resolve(folder: &str, target: &str) -> String {
    if let Some(absolute) = target.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut path: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in target.split('/') {
        match step {
            ".." => {
                path.pop();
            }
            "." | "" => {}
            step => path.push(step),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use guest_doc::Memory;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in parts {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn open(bytes: &[u8]) -> Result<Archive> {
        Archive::open(Memory::file("a.zip", "application/zip", bytes))
    }

    #[test]
    fn parts_are_found_by_name() {
        let bytes = zip_of(&[("a/b.xml", "<a>甲</a>".as_bytes()), ("c", b"")]);
        let mut archive = open(&bytes).unwrap();
        assert_eq!(archive.xml("/a/b.xml").unwrap().as_deref(), Some("<a>甲</a>"));
        assert_eq!(archive.part("nothing").unwrap(), None);
        let names: Vec<String> = archive.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a/b.xml", "c"]);
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let bytes = zip_of(&[("bomb", &vec![0; 32 << 20])]);
        assert!(bytes.len() < 64 << 10);
        let Err(DocError::TooLarge(message)) = open(&bytes).unwrap().part("bomb") else {
            panic!("not refused")
        };
        assert!(message.contains("bomb"), "{message}");
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        let bytes = zip_of(&[("a", &b"some text".repeat(100))]);
        assert!(matches!(open(&bytes[..bytes.len() / 2]), Err(DocError::Invalid(_))));
        assert!(matches!(open(b"plain words"), Err(DocError::Unsupported(_))));
        let ole = [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0; 600]].concat();
        assert!(matches!(open(&ole), Err(DocError::Unsupported(message)) if message.contains("password")));
        let mut damaged = bytes.clone();
        damaged[40] ^= 0xff;
        assert!(open(&damaged).and_then(|mut archive| archive.part("a")).is_err());
    }

    #[test]
    fn targets_resolve_within_the_archive() {
        assert_eq!(resolve("ppt/slides", "../notesSlides/n1.xml"), "ppt/notesSlides/n1.xml");
        assert_eq!(resolve("ppt", "slides/s1.xml"), "ppt/slides/s1.xml");
        assert_eq!(resolve("word", "/word/footnotes.xml"), "word/footnotes.xml");
        assert_eq!(resolve("a", "../../../etc/passwd"), "etc/passwd");
    }
}
