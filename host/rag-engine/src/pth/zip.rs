//! Finds the entries of a ZIP file whose entries are stored, not compressed (ZIP64 included).
//!
//! Offsets are followed from the end of the file, each one checked. Entries that are compressed, encrypted, overlap
//! or come twice are refused: PyTorch writes none, and they are how archives lie about their size.

use std::collections::BTreeMap;
use std::ops::Range;

/// The largest RWKV-6 has 1 714 tensors.
const ENTRIES_MAX: u64 = 1 << 16;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const CUT_SHORT: &str = "the file is cut short";

/// Byte range of each entry's data by name.
pub(super) fn entries(file: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    if !file.starts_with(&LOCAL.to_le_bytes()) {
        return Err("not a ZIP file: only checkpoints of PyTorch 1.6 and later are read".to_string());
    }
    let (count, mut at) = directory(file)?;
    if count > ENTRIES_MAX {
        return Err(format!("it claims {count} entries, more than {ENTRIES_MAX}"));
    }
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, range, next) = central_entry(file, at)?;
        if entries.insert(name.clone(), range).is_some() {
            return Err(format!("the entry {name} comes twice"));
        }
        at = next;
    }
    let mut ranges: Vec<&Range<usize>> = entries.values().filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    if ranges.windows(2).any(|pair| pair[1].start < pair[0].end) {
        return Err("its entries overlap".to_string());
    }
    Ok(entries)
}

/// Number of entries and place of the central directory.
fn directory(file: &[u8]) -> Result<(u64, usize), String> {
    // The end record has 22 bytes and a comment of up to 65 535.
    let last = file.len().checked_sub(22).ok_or(CUT_SHORT)?;
    let first = last.saturating_sub(0xffff);
    let end = (first..=last)
        .rev()
        .find(|&at| u32_at(file, at) == Ok(END) && u16_at(file, at + 20).map(usize::from) == Ok(last - at))
        .ok_or(CUT_SHORT)?;
    let count = u64::from(u16_at(file, end + 10)?);
    let offset = u64::from(u32_at(file, end + 16)?);
    if count != 0xffff && offset != 0xffff_ffff {
        return Ok((count, to_usize(offset)?));
    }
    let locator = end.checked_sub(20).ok_or(CUT_SHORT)?;
    if u32_at(file, locator)? != END_64_LOCATOR {
        return Ok((count, to_usize(offset)?));
    }
    let end = to_usize(u64_at(file, locator + 8)?)?;
    if u32_at(file, end)? != END_64 {
        return Err("its ZIP64 directory is damaged".to_string());
    }
    Ok((u64_at(file, end + 32)?, to_usize(u64_at(file, end + 48)?)?))
}

/// Name and data of the central entry at `at`, and where the next one starts.
fn central_entry(file: &[u8], at: usize) -> Result<(String, Range<usize>, usize), String> {
    if u32_at(file, at)? != CENTRAL {
        return Err("its directory is damaged".to_string());
    }
    let name_len = usize::from(u16_at(file, at + 28)?);
    let extra_len = usize::from(u16_at(file, at + 30)?);
    let comment_len = usize::from(u16_at(file, at + 32)?);
    let name_bytes = slice(file, at + 46, name_len)?;
    let name = std::str::from_utf8(name_bytes).map_err(|_| "an entry's name is not UTF-8")?.to_string();
    if u16_at(file, at + 10)? != 0 {
        return Err(format!("the entry {name} is compressed; PyTorch stores its entries"));
    }
    if u16_at(file, at + 8)? & 1 != 0 {
        return Err(format!("the entry {name} is encrypted"));
    }
    let mut packed = u64::from(u32_at(file, at + 20)?);
    let mut size = u64::from(u32_at(file, at + 24)?);
    let mut local = u64::from(u32_at(file, at + 42)?);
    let extra = slice(file, at + 46 + name_len, extra_len)?;
    widen(extra, &mut [&mut size, &mut packed, &mut local])?;
    if packed != size {
        return Err(format!("the entry {name} has two sizes"));
    }
    let local = to_usize(local)?;
    if u32_at(file, local)? != LOCAL || slice(file, local + 30, name_len)? != name_bytes {
        return Err(format!("the entry {name} is not where the directory says"));
    }
    let start = local + 30 + name_len + usize::from(u16_at(file, local + 28)?);
    let data =
        slice(file, start, to_usize(size)?).map_err(|_| format!("{CUT_SHORT}: {name} is incomplete"))?;
    Ok((name, start..start + data.len(), at + 46 + name_len + extra_len + comment_len))
}

/// Replaces fields that do not fit 32 bits by those of the ZIP64 extra record, which holds just these, in order.
fn widen(mut extra: &[u8], fields: &mut [&mut u64]) -> Result<(), String> {
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let body = slice(extra, 4, len)?;
        if id == 1 {
            let mut at = 0;
            for field in fields.iter_mut().filter(|field| ***field == 0xffff_ffff) {
                **field = u64_at(body, at)?;
                at += 8;
            }
            return Ok(());
        }
        extra = &extra[4 + len..];
    }
    Ok(())
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], String> {
    let end = at.checked_add(len).ok_or(CUT_SHORT)?;
    bytes.get(at..end).ok_or_else(|| CUT_SHORT.to_string())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    slice(bytes, at, N)?.try_into().map_err(|_| CUT_SHORT.to_string())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn to_usize(value: u64) -> Result<usize, String> {
    // Half the range, so that the small sums above cannot overflow.
    usize::try_from(value).ok().filter(|&v| v < usize::MAX / 2).ok_or_else(|| CUT_SHORT.to_string())
}
