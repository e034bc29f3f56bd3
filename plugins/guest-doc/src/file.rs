//! How is the file read? At random, through a few windows, or all of it when a format needs that.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use crate::{DocError, HostError, Result};

/// Bytes of a window. The host hands over at most 1 MiB at once.
const WINDOW_BYTES: u64 = 512 << 10;
/// Windows kept: archives are read at their end, then here and there.
const WINDOWS_MAX: usize = 12;

/// Random access to the original.
pub trait File {
    fn size(&self) -> u64;
    fn name(&self) -> String;
    fn media_type(&self) -> String;
    /// Up to `len` bytes (at most 1 MiB) from `offset`; fewer only at the end.
    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, HostError>;
}

/// All bytes of a file of at most `bytes_max`.
pub fn read_all(file: &dyn File, bytes_max: u64) -> Result<Vec<u8>> {
    let size = file.size();
    if size > bytes_max {
        let (size, limit) = (size >> 20, bytes_max >> 20);
        return Err(DocError::too_large(format!(
            "the file has {size} MiB, more than the {limit} MiB that are read of this format; split it"
        )));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    while (bytes.len() as u64) < size {
        let piece = file.read_at(bytes.len() as u64, 1 << 20)?;
        if piece.is_empty() {
            return Err(DocError::invalid(format!("the file ends at byte {} of {size}", bytes.len())));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads a file as archives need it. Keeps the host's failure, which `io::Error` cannot carry.
#[expect(missing_debug_implementations, reason = "holds the host's file")]
pub struct FileReader {
    file: Rc<dyn File>,
    at: u64,
    /// Windows by their start, the one used last at the back.
    windows: VecDeque<(u64, Rc<[u8]>)>,
    failure: Rc<std::cell::RefCell<Option<HostError>>>,
}

impl FileReader {
    /// From the start of the file.
    pub fn new(file: Rc<dyn File>) -> Self {
        FileReader { file, at: 0, windows: VecDeque::new(), failure: Rc::default() }
    }

    /// Where a failure of the host is found after an `io::Error`.
    pub fn failure(&self) -> Rc<std::cell::RefCell<Option<HostError>>> {
        Rc::clone(&self.failure)
    }

    fn window(&mut self, start: u64) -> io::Result<Rc<[u8]>> {
        if let Some(at) = self.windows.iter().position(|(from, _)| *from == start) {
            let found = self.windows.remove(at);
            if let Some(found) = found {
                let bytes = Rc::clone(&found.1);
                self.windows.push_back(found);
                return Ok(bytes);
            }
        }
        let bytes: Rc<[u8]> = match self.file.read_at(start, WINDOW_BYTES as u32) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                let message = error.message.clone();
                *self.failure.borrow_mut() = Some(error);
                return Err(io::Error::other(message));
            }
        };
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.pop_front();
        }
        self.windows.push_back((start, Rc::clone(&bytes)));
        Ok(bytes)
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.file.size() || buffer.is_empty() {
            return Ok(0);
        }
        let start = self.at - self.at % WINDOW_BYTES;
        let window = self.window(start)?;
        let rest = window.get((self.at - start) as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to before the file's start"))?;
        Ok(self.at)
    }
}

/// A file in memory: a member of an archive, or a test's.
#[derive(Debug, Clone)]
pub struct Memory {
    pub name: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Memory {
    /// Ready to be opened.
    pub fn file(name: &str, media_type: &str, bytes: impl Into<Vec<u8>>) -> Rc<dyn File> {
        Rc::new(Memory { name: name.to_owned(), media_type: media_type.to_owned(), bytes: bytes.into() })
    }
}

impl File for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn media_type(&self) -> String {
        self.media_type.clone()
    }

    fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, HostError> {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        Ok(rest.get(..len as usize).unwrap_or(rest).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_seeks_and_reads_across_windows() {
        let bytes: Vec<u8> = (0..(3 * WINDOW_BYTES + 7)).map(|at| (at % 251) as u8).collect();
        let mut reader = FileReader::new(Memory::file("a", "b", bytes.clone()));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
        reader.seek(SeekFrom::End(-9)).unwrap();
        let mut tail = [0; 9];
        reader.read_exact(&mut tail).unwrap();
        assert_eq!(tail, bytes[bytes.len() - 9..]);
        assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
    }

    #[test]
    fn the_failure_of_the_host_is_kept() {
        struct Failing;
        impl File for Failing {
            fn size(&self) -> u64 {
                10
            }
            fn name(&self) -> String {
                String::new()
            }
            fn media_type(&self) -> String {
                String::new()
            }
            fn read_at(&self, _: u64, _: u32) -> Result<Vec<u8>, HostError> {
                Err(HostError { code: 5, message: "disk".to_owned(), retryable: true })
            }
        }
        let mut reader = FileReader::new(Rc::new(Failing));
        let failure = reader.failure();
        assert!(reader.read(&mut [0; 4]).is_err());
        assert_eq!(failure.borrow().as_ref().map(|error| error.code), Some(5));
        assert!(matches!(read_all(&Failing, 100), Err(DocError::Host(_))));
        assert!(matches!(read_all(&Failing, 9), Err(DocError::TooLarge(_))));
    }
}
