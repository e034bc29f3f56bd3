//! Event files that TensorBoard reads: a job's curves as scalars.
//!
//! A file is records: length (u64), its checksum, bytes, their checksum (CRC-32C, masked). The bytes are an `Event`:
//! wall time (field 1, f64), step (2, integer), and either the format's version (3) or a summary (5) of values, each
//! a tag (1) and a number (2, f32).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rag_core::Result;
use rag_core::ports::TunePoint;

use crate::files::storage;
use crate::protobuf;

/// Appends to one event file.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
}

impl EventFile {
    /// A new file in `tensorboard/` of the job. A job that goes on after step S writes another one, in which
    /// TensorBoard's rule holds: of a step that stands twice the later counts.
    pub(crate) fn create(dir: &Path, step: u64, time_ms: i64) -> Result<Self> {
        let dir = dir.join("tensorboard");
        fs_err::create_dir_all(&dir).map_err(|e| storage(&dir, e))?;
        let path = dir.join(format!("events.out.tfevents.{:010}.rwkv-rag.{step}", time_ms / 1_000));
        let mut event = wall_time(time_ms);
        protobuf::bytes(&mut event, 3, b"brain.Event:2");
        let file = EventFile { path };
        file.append(&event)?;
        Ok(file)
    }

    pub(crate) fn point(&self, point: &TunePoint) -> Result<()> {
        let mut summary = Vec::new();
        let values = [
            ("loss", point.loss),
            ("lr", point.lr),
            ("gradient_norm", point.gradient_norm),
            ("tokens_per_s", point.tokens_per_s),
            ("memory_bytes", point.memory_bytes as f64),
        ];
        for (tag, value) in values {
            let mut entry = Vec::new();
            protobuf::bytes(&mut entry, 1, tag.as_bytes());
            protobuf::float(&mut entry, 2, value as f32);
            protobuf::bytes(&mut summary, 1, &entry);
        }
        let mut event = wall_time(point.time_ms);
        protobuf::integer(&mut event, 2, point.step);
        protobuf::bytes(&mut event, 5, &summary);
        self.append(&event)
    }

    fn append(&self, event: &[u8]) -> Result<()> {
        let mut record = (event.len() as u64).to_le_bytes().to_vec();
        record.extend(masked(&record).to_le_bytes());
        record.extend(event);
        record.extend(masked(event).to_le_bytes());
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&record)).map_err(|e| storage(&self.path, e))
    }
}

fn wall_time(time_ms: i64) -> Vec<u8> {
    let mut event = Vec::new();
    protobuf::double(&mut event, 1, time_ms as f64 / 1_000.0);
    event
}

/// Rotated and shifted, so that a checksum of data with checksums in it stays one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: i32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnoli_s() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// Byte by byte after the format's description.
    #[test]
    fn events_are_records_with_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let file = EventFile::create(dir.path(), 0, 1_700_000_000_000).unwrap();
        let point = TunePoint {
            step: 300,
            loss: 0.5,
            lr: 1.0,
            gradient_norm: 2.0,
            tokens: 9,
            tokens_per_s: 10.0,
            memory_bytes: 4_096,
            time_ms: 1_700_000_001_000,
        };
        file.point(&point).unwrap();
        let bytes = fs_err::read(&file.path).unwrap();
        let mut at = 0;
        let mut events = Vec::new();
        while at < bytes.len() {
            let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(bytes[at + 8..at + 12], masked(&bytes[at..at + 8]).to_le_bytes());
            let event = &bytes[at + 12..at + 12 + len];
            assert_eq!(bytes[at + 12 + len..at + 16 + len], masked(event).to_le_bytes());
            events.push(event);
            at += 16 + len;
        }
        assert_eq!(events.len(), 2);
        assert_eq!(events[0][9..], *b"\x1a\x0dbrain.Event:2");
        assert_eq!(events[1][1..9], 1_700_000_001f64.to_le_bytes());
        // Step 300 as 0xac 0x02, then the summary with its first value.
        assert_eq!(events[1][9..12], [0x10, 0xac, 0x02]);
        assert_eq!(events[1][14..27], *b"\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f");
    }
}
