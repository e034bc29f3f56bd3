//! The binidx pair: tokens back to back in `.bin`, where each document lies in `.idx`; all little endian.
//!
//! `.idx`: `MMIDIDX\0\0`, u64 version 1, u8 type 8 (u16), u64 n documents, u64 n + 1, i32 × n lengths in tokens,
//! i64 × n byte offsets into `.bin`, i64 × (n + 1) document numbers 0 … n.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{DatasetError, with_suffix};

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
const TYPE_U16: u8 = 8;
const HEADER_BYTES: usize = 34;
/// Bytes that each document takes in `.idx`, the last number of the third table not counted.
const ENTRY_BYTES: usize = 4 + 8 + 8;

/// Writes `.bin`.
pub(super) fn write_bin<'a>(
    file: &mut dyn Write,
    documents: impl Iterator<Item = &'a [u16]>,
) -> Result<(), DatasetError> {
    for document in documents {
        let bytes: Vec<u8> = document.iter().flat_map(|token| token.to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes `.idx` for documents of these lengths in tokens.
pub(super) fn write_idx(file: &mut dyn Write, lengths: &[usize]) -> Result<(), DatasetError> {
    let count = lengths.len() as u64;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&[TYPE_U16])?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(&(count + 1).to_le_bytes())?;
    for &length in lengths {
        let length = i32::try_from(length).map_err(|_| DatasetError::TooLarge)?;
        file.write_all(&length.to_le_bytes())?;
    }
    let mut offset = 0_i64;
    for &length in lengths {
        file.write_all(&offset.to_le_bytes())?;
        let bytes = length.checked_mul(2).and_then(|bytes| i64::try_from(bytes).ok());
        offset = bytes.and_then(|bytes| offset.checked_add(bytes)).ok_or(DatasetError::TooLarge)?;
    }
    for document in 0..=count {
        file.write_all(&document.to_le_bytes())?;
    }
    Ok(())
}

/// A pair on disk. Its index is in memory, its tokens are read when asked for.
#[derive(Debug)]
pub struct Binidx {
    bin: PathBuf,
    /// Byte offset and length in tokens of each document.
    documents: Vec<(u64, usize)>,
}

impl Binidx {
    /// Reads `<prefix>.idx` and checks that it fits `<prefix>.bin`.
    pub fn open(prefix: &Path) -> Result<Binidx, DatasetError> {
        let (bin, idx) = (with_suffix(prefix, "bin"), with_suffix(prefix, "idx"));
        let bytes = fs_err::read(&idx)?;
        let bin_bytes = fs_err::metadata(&bin)?.len();
        let documents =
            parse(&bytes, bin_bytes).map_err(|message| DatasetError::Corrupt { path: idx, message })?;
        Ok(Binidx { bin, documents })
    }

    /// Documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.documents.iter().map(|(_, tokens)| *tokens as u64).sum()
    }

    /// The tokens of one document, from 0.
    pub fn document(&self, number: usize) -> Result<Vec<u16>, DatasetError> {
        let corrupt = |message: String| DatasetError::Corrupt { path: self.bin.clone(), message };
        let (offset, tokens) =
            *self.documents.get(number).ok_or_else(|| corrupt(format!("no document {number}")))?;
        let mut file = fs_err::File::open(&self.bin)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; tokens * 2];
        file.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }
}

fn parse(idx: &[u8], bin_bytes: u64) -> Result<Vec<(u64, usize)>, String> {
    let header = idx.get(..HEADER_BYTES).ok_or("shorter than its header")?;
    if &header[..9] != MAGIC {
        return Err("not a binidx index".to_owned());
    }
    let version = number(&header[9..17]);
    if version != VERSION || header[17] != TYPE_U16 {
        return Err(format!("version {version} with type {}, not {VERSION} with {TYPE_U16}", header[17]));
    }
    let (count, entries) = (number(&header[18..26]), number(&header[26..34]));
    let count = usize::try_from(count).map_err(|_| "too many documents")?;
    let expected = count.checked_mul(ENTRY_BYTES).and_then(|bytes| bytes.checked_add(HEADER_BYTES + 8));
    if expected != Some(idx.len()) || entries != count as u64 + 1 {
        return Err(format!("{} bytes do not hold {count} documents and {entries} entries", idx.len()));
    }
    let (lengths, rest) = idx[HEADER_BYTES..].split_at(count * 4);
    let (offsets, numbers) = rest.split_at(count * 8);
    let mut documents = Vec::with_capacity(count);
    let mut end = 0;
    for (document, (length, offset)) in lengths.chunks_exact(4).zip(offsets.chunks_exact(8)).enumerate() {
        let (tokens, offset) = (number(length), number(offset));
        if offset != end || i32::try_from(tokens).is_err() {
            return Err(format!("document {document} does not follow the one before it"));
        }
        end += tokens * 2;
        documents.push((offset, usize::try_from(tokens).map_err(|_| "too long a document")?));
    }
    if end != bin_bytes {
        return Err(format!("it describes {end} bytes of tokens, and there are {bin_bytes}"));
    }
    if numbers.chunks_exact(8).enumerate().any(|(document, bytes)| number(bytes) != document as u64) {
        return Err("documents of more than one sequence are not supported".to_owned());
    }
    Ok(documents)
}

/// At most eight little-endian bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
