//! What a result's tensors do not say: method, rank, α, base and data, as JSON in `FILE.json` beside it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rag_core::Result;
use serde::{Deserialize, Serialize};

use crate::files::{replace, storage};
use crate::settings::Kept;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sidecar {
    pub(crate) settings: Kept,
    /// File name of the base model.
    pub(crate) base: String,
    pub(crate) base_sha256: String,
    pub(crate) data_sha256: String,
    pub(crate) documents: u64,
    /// PiSSA's first factors, beside the result.
    pub(crate) pissa_start: Option<String>,
    /// Updates done, and the last one's loss in nats.
    pub(crate) step: u64,
    pub(crate) loss: f64,
}

impl Sidecar {
    pub(crate) fn write(&self, result: &Path) -> Result<()> {
        let path = beside(result);
        replace(&path, |file| {
            serde_json::to_writer_pretty(&mut *file, self).map_err(|e| storage(&path, e))?;
            file.write_all(b"\n").map_err(|e| storage(&path, e))
        })
    }

    pub(crate) fn read(result: &Path) -> Result<Self> {
        let path = beside(result);
        let text = fs_err::read_to_string(&path).map_err(|e| storage(&path, e))?;
        serde_json::from_str(&text).map_err(|e| storage(&path, e))
    }
}

/// `rwkv-3.pth.json` of `rwkv-3.pth`.
fn beside(result: &Path) -> PathBuf {
    let mut path = result.as_os_str().to_owned();
    path.push(".json");
    path.into()
}
