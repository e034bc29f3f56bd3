//! Writes what `torch.load` reads: a ZIP of stored entries with a pickle that names tensors.
//!
//! `STEM/data/N` are the tensors' bytes, each at a multiple of 64; `STEM/data.pkl` is an ordered list of names and
//! how each tensor is rebuilt; `STEM/version` and `STEM/byteorder` say how to read them. Entries and offsets beyond
//! 4 GiB take ZIP's 64-bit fields.

use std::collections::BTreeSet;

use rag_core::{Error, Result};

use super::{Planned, Target, Type};

/// Where PyTorch wants storages to begin.
const ALIGNMENT: u64 = 64;
/// The largest number of ZIP's 32-bit fields says: see the 64-bit one.
const LARGE: u64 = 0xffff_ffff;

pub(crate) fn write(
    file: &mut dyn Target,
    stem: &str,
    planned: &[Planned],
    values: &mut dyn FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let mut zip = Zip { file, entries: Vec::new(), at: 0 };
    zip.add(&format!("{stem}/data.pkl"), &pickle(planned))?;
    zip.add(&format!("{stem}/byteorder"), b"little")?;
    for (number, tensor) in planned.iter().enumerate() {
        let bytes = tensor.kind.encode(&values(number)?);
        if bytes.len() != tensor.bytes() {
            return Err(Error::internal(format!("{} was announced with another size", tensor.name)));
        }
        zip.add(&format!("{stem}/data/{number}"), &bytes)?;
    }
    zip.add(&format!("{stem}/version"), b"3\n")?;
    zip.finish()
}

/// The program that `torch.load` runs: a dict of `_rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`.
fn pickle(planned: &[Planned]) -> Vec<u8> {
    let mut out = vec![0x80, 2, b'}', b'('];
    for (number, tensor) in planned.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(match tensor.kind {
            Type::F32 => b"ctorch\nFloatStorage\n".as_slice(),
            Type::Bf16 => b"ctorch\nBFloat16Storage\n",
        });
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        whole(&mut out, tensor.shape.iter().product());
        // Tuple, persistent id, offset.
        out.extend(b"tQK\0");
        sizes(&mut out, &tensor.shape);
        let strides: Vec<usize> =
            (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product()).collect();
        sizes(&mut out, &strides);
        // False; an empty OrderedDict of hooks; the call.
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'X');
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value.as_bytes());
}

fn whole(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            // Eight bytes and a sign byte of 0.
            out.extend([0x8a, 9]);
            out.extend((value as u64).to_le_bytes());
            out.push(0);
        }
    }
}

fn sizes(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    values.iter().for_each(|&value| whole(out, value));
    out.push(b't');
}

struct Zip<'a> {
    file: &'a mut dyn Target,
    entries: Vec<Entry>,
    at: u64,
}

struct Entry {
    name: String,
    crc: u32,
    bytes: u64,
    offset: u64,
}

impl Zip<'_> {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(
            self.entries.iter().map(|e| &e.name).collect::<BTreeSet<_>>().len(),
            self.entries.len()
        );
        let offset = self.at;
        let crc = crc32fast::hash(bytes);
        let large = bytes.len() as u64 >= LARGE;
        let mut header = Vec::new();
        header.extend(b"PK\x03\x04");
        header.extend(if large { 45u16 } else { 20 }.to_le_bytes());
        // No flags, stored, 1980-01-01: the same tensors give the same file.
        header.extend([0, 0, 0, 0, 0, 0, 0x21, 0]);
        header.extend(crc.to_le_bytes());
        let size = (bytes.len() as u64).min(LARGE) as u32;
        header.extend(size.to_le_bytes());
        header.extend(size.to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        let mut extra = Vec::new();
        if large {
            extra.extend([1, 0, 16, 0]);
            extra.extend((bytes.len() as u64).to_le_bytes());
            extra.extend((bytes.len() as u64).to_le_bytes());
        }
        // A field of PyTorch's own name, "FB", pads to the alignment.
        let start = self.at + 30 + name.len() as u64 + extra.len() as u64 + 4;
        let padding = start.next_multiple_of(ALIGNMENT) - start;
        extra.extend(b"FB");
        extra.extend((padding as u16).to_le_bytes());
        extra.extend(std::iter::repeat_n(b'Z', padding as usize));
        header.extend((extra.len() as u16).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(extra);
        self.put(&header)?;
        self.put(bytes)?;
        self.entries.push(Entry { name: name.to_owned(), crc, bytes: bytes.len() as u64, offset });
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let start = self.at;
        for entry in std::mem::take(&mut self.entries) {
            let mut extra = Vec::new();
            let large: Vec<u64> = [(entry.bytes >= LARGE).then_some(entry.bytes); 2]
                .into_iter()
                .chain([(entry.offset >= LARGE).then_some(entry.offset)])
                .flatten()
                .collect();
            if !large.is_empty() {
                extra.extend(1u16.to_le_bytes());
                extra.extend((8 * large.len() as u16).to_le_bytes());
                large.iter().for_each(|value| extra.extend(value.to_le_bytes()));
            }
            let version = if large.is_empty() { 20u16 } else { 45 };
            let mut header = Vec::new();
            header.extend(b"PK\x01\x02");
            header.extend(version.to_le_bytes());
            header.extend(version.to_le_bytes());
            header.extend([0, 0, 0, 0, 0, 0, 0x21, 0]);
            header.extend(entry.crc.to_le_bytes());
            let size = entry.bytes.min(LARGE) as u32;
            header.extend(size.to_le_bytes());
            header.extend(size.to_le_bytes());
            header.extend((entry.name.len() as u16).to_le_bytes());
            header.extend((extra.len() as u16).to_le_bytes());
            // Comment, disk, attributes.
            header.extend([0; 10]);
            header.extend((entry.offset.min(LARGE) as u32).to_le_bytes());
            header.extend(entry.name.as_bytes());
            header.extend(extra);
            self.put(&header)?;
            self.entries.push(entry);
        }
        let (count, bytes) = (self.entries.len() as u64, self.at - start);
        let end = self.at;
        let mut tail = Vec::new();
        if start >= LARGE || count >= 0xffff {
            tail.extend(b"PK\x06\x06");
            tail.extend(44u64.to_le_bytes());
            tail.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            [count, count, bytes, start].iter().for_each(|value| tail.extend(value.to_le_bytes()));
            tail.extend(b"PK\x06\x07\0\0\0\0");
            tail.extend(end.to_le_bytes());
            tail.extend(1u32.to_le_bytes());
        }
        tail.extend(b"PK\x05\x06\0\0\0\0");
        let short = count.min(0xffff) as u16;
        tail.extend(short.to_le_bytes());
        tail.extend(short.to_le_bytes());
        tail.extend((bytes.min(LARGE) as u32).to_le_bytes());
        tail.extend((start.min(LARGE) as u32).to_le_bytes());
        tail.extend([0, 0]);
        self.put(&tail)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::Storage { message: e.to_string() })?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
