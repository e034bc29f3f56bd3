//! A run's folder as Weights & Biases' client keeps it offline: `wandb sync` uploads it at any time.
//!
//! The file is LevelDB's log (blocks of 32 KiB; pieces of a checksum, a length, a type and bytes) after a header of its
//! own, with CRC-32 of type and bytes, unmasked. Its records are messages `Record` of wandb's `wandb_internal.proto`,
//! whose field numbers stand beside their names here. Read with wandb 0.31.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rag_core::Result;
use rag_core::ports::{TuneJob, TunePoint};
use rag_core::time::utc;

use crate::files::storage;
use crate::protobuf::{bytes, integer};
use crate::tracker::{self, End};

const BLOCK: usize = 32 << 10;
const PIECE_HEADER: usize = 7;
/// Magic, and version 0.
const FILE_HEADER: &[u8; 7] = b":W&B\xe1\xbe\x00";
/// The oldest client that reads such records, as wandb's own files say.
const CONSUMER_MIN: &str = "0.70.0";

/// Appends to one run's file.
#[derive(Debug)]
pub(crate) struct RunFile {
    path: PathBuf,
    /// Bytes of the file.
    written: usize,
    /// Records so far; each carries its number.
    records: u64,
    run: String,
    start_ms: i64,
    last: Option<TunePoint>,
}

impl RunFile {
    /// A new folder in `wandb/` of the job. A job that goes on writes another one of the same run.
    pub(crate) fn create(dir: &Path, project: &str, job: &TuneJob, now_ms: i64) -> Result<Self> {
        let digits: String = utc(now_ms).chars().filter(|c| c.is_ascii_digit()).collect();
        let (day, time) = digits.split_at(8);
        let dir = dir.join("wandb").join(format!("offline-run-{day}_{time}-{}", job.id));
        fs_err::create_dir_all(dir.join("files")).map_err(|e| storage(&dir, e))?;
        let path = dir.join(format!("run-{}.wandb", job.id));
        fs_err::write(&path, FILE_HEADER).map_err(|e| storage(&path, e))?;
        let (run, written) = (job.id.clone(), FILE_HEADER.len());
        let mut file = RunFile { path, written, records: 0, run, start_ms: now_ms, last: None };
        // HeaderRecord.version_info (1) with producer (1) and min_consumer (2).
        let (mut version, mut header) = (Vec::new(), Vec::new());
        bytes(&mut version, 1, concat!("rwkv-rag ", env!("CARGO_PKG_VERSION")).as_bytes());
        bytes(&mut version, 2, CONSUMER_MIN.as_bytes());
        bytes(&mut header, 1, &version);
        file.record(Field::Header, &header)?;
        file.record(Field::Run, &run_record(project, job, now_ms))?;
        Ok(file)
    }

    pub(crate) fn point(&mut self, point: &TunePoint) -> Result<()> {
        // HistoryRecord: item (1), step (2) with num (1).
        let (mut history, mut step) = (Vec::new(), Vec::new());
        self.items(&mut history, point);
        integer(&mut step, 1, point.step);
        bytes(&mut history, 2, &step);
        self.last = Some(*point);
        self.record(Field::History, &history)
    }

    /// The run's last values and how it ended.
    pub(crate) fn end(&mut self, end: End) -> Result<()> {
        let mut exit = Vec::new();
        // RunExitRecord: exit_code (1), runtime in seconds (2).
        integer(&mut exit, 1, u64::from(end.exit_code()));
        if let Some(last) = self.last {
            // SummaryRecord.update (1).
            let mut summary = Vec::new();
            self.items(&mut summary, &last);
            self.record(Field::Summary, &summary)?;
            integer(&mut exit, 2, (last.time_ms - self.start_ms).max(0) as u64 / 1_000);
        }
        self.record(Field::Exit, &exit)
    }

    fn items(&self, out: &mut Vec<u8>, point: &TunePoint) {
        for (name, value) in tracker::values(point, self.start_ms) {
            bytes(out, 1, &item(name, &value));
        }
    }

    /// A `Record`: num (1), its content, and _info (200) with the stream's id (1).
    fn record(&mut self, field: Field, content: &[u8]) -> Result<()> {
        self.records += 1;
        let (mut record, mut info) = (Vec::new(), Vec::new());
        integer(&mut record, 1, self.records);
        bytes(&mut record, field as u32, content);
        bytes(&mut info, 1, self.run.as_bytes());
        bytes(&mut record, 200, &info);
        let framed = framed(self.written, &record);
        let file = fs_err::OpenOptions::new().append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&framed)).map_err(|e| storage(&self.path, e))?;
        self.written += framed.len();
        Ok(())
    }
}

/// Fields of `Record`.
#[derive(Clone, Copy)]
enum Field {
    History = 2,
    Summary = 3,
    Run = 17,
    Exit = 18,
    Header = 21,
}

/// RunRecord: run_id (1), project (3), config (4), display_name (8), starting_step (14), start_time (17), resume (24).
fn run_record(project: &str, job: &TuneJob, now_ms: i64) -> Vec<u8> {
    let mut config = Vec::new();
    for (name, value) in tracker::config(job) {
        // ConfigRecord.update (1).
        bytes(&mut config, 1, &item(&name, &value));
    }
    let mut start = Vec::new();
    // Timestamp: seconds (1), nanos (2).
    integer(&mut start, 1, now_ms.max(0) as u64 / 1_000);
    integer(&mut start, 2, now_ms.max(0) as u64 % 1_000 * 1_000_000);
    let mut run = Vec::new();
    bytes(&mut run, 1, job.id.as_bytes());
    bytes(&mut run, 3, project.as_bytes());
    bytes(&mut run, 4, &config);
    bytes(&mut run, 8, job.request.name.as_bytes());
    if job.step > 0 {
        integer(&mut run, 14, job.step);
        integer(&mut run, 24, 1);
    }
    bytes(&mut run, 17, &start);
    run
}

/// HistoryItem, SummaryItem and ConfigItem alike: key (1), value_json (16).
fn item(name: &str, value: &serde_json::Value) -> Vec<u8> {
    let mut item = Vec::new();
    bytes(&mut item, 1, name.as_bytes());
    bytes(&mut item, 16, value.to_string().as_bytes());
    item
}

/// A record in pieces that no block's edge cuts, for a file of `at` bytes.
fn framed(at: usize, record: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len() + 2 * PIECE_HEADER);
    let (mut rest, mut first) = (record, true);
    loop {
        let left = BLOCK - (at + out.len()) % BLOCK;
        if left < PIECE_HEADER {
            out.resize(out.len() + left, 0);
            continue;
        }
        let (piece, after) = rest.split_at(rest.len().min(left - PIECE_HEADER));
        // Whole, first, middle, last.
        let kind = match (first, after.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&[kind]);
        checksum.update(piece);
        out.extend(checksum.finalize().to_le_bytes());
        // A piece is shorter than a block.
        out.extend((piece.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend(piece);
        if after.is_empty() {
            return out;
        }
        (rest, first) = (after, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of a framed file, each piece's checksum compared.
    fn records(file: &[u8]) -> Vec<Vec<u8>> {
        let (mut at, mut records, mut record) = (FILE_HEADER.len(), Vec::new(), Vec::new());
        while at < file.len() {
            let left = BLOCK - at % BLOCK;
            if left < PIECE_HEADER {
                at += left;
                continue;
            }
            let length = usize::from(u16::from_le_bytes([file[at + 4], file[at + 5]]));
            let piece = &file[at + 6..at + 7 + length];
            assert_eq!(file[at..at + 4], crc32fast::hash(piece).to_le_bytes());
            record.extend(&piece[1..]);
            if matches!(piece[0], 1 | 4) {
                records.push(std::mem::take(&mut record));
            }
            at += PIECE_HEADER + length;
        }
        assert!(record.is_empty());
        records
    }

    #[test]
    fn records_survive_every_edge_of_a_block() {
        for last in 32_700..32_800 {
            let wanted = [vec![7; last], vec![8; 3], vec![], vec![9; 70_000], vec![1]];
            let mut file = FILE_HEADER.to_vec();
            for record in &wanted {
                let framed = framed(file.len(), record);
                file.extend(framed);
            }
            assert_eq!(records(&file), wanted, "{last}");
        }
    }

    #[test]
    fn a_run_s_file_has_its_settings_points_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let job = crate::testing::job("tune-1");
        let mut file = RunFile::create(dir.path(), "项目", &job, 1_700_000_000_250).unwrap();
        assert!(file.path.ends_with("wandb/offline-run-20231114_221320-tune-1/run-tune-1.wandb"));
        let point = TunePoint {
            step: 300,
            loss: 0.5,
            lr: 1.0,
            gradient_norm: 2.0,
            tokens: 9,
            tokens_per_s: 10.0,
            memory_bytes: 4_096,
            time_ms: 1_700_000_001_250,
        };
        file.point(&point).unwrap();
        file.end(End::Done).unwrap();
        let bytes = fs_err::read(&file.path).unwrap();
        assert_eq!(bytes.len(), file.written);
        let records = records(&bytes);
        let fields: Vec<&[u8]> = records.iter().map(|record| &record[2..4]).collect();
        // Tags of fields 21 and 17 have two bytes.
        assert_eq!(fields[..2], [&[0xaa, 0x01], &[0x8a, 0x01]]);
        assert_eq!((fields[2][0], fields[3][0], records.len()), (0x12, 0x1a, 5));
        let has = |record: &[u8], part: &str| record.windows(part.len()).any(|at| at == part.as_bytes());
        for part in ["tune-1", "项目", "method", "\"state\"", "context_tokens"] {
            assert!(has(&records[1], part), "{part}");
        }
        for record in &records[2..4] {
            assert!(has(record, "loss") && has(record, "0.5") && has(record, "_step") && has(record, "300"));
        }
    }
}
