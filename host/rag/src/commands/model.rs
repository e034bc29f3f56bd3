//! Models: what is in use, and quantised copies.

use super::cell;
use crate::client::Client;
use crate::output;
use std::path::Path;

use anyhow::{Context, Result};
use rag_engine::cpu::matrix::Format;

pub(crate) async fn list(client: &Client, json: bool) -> Result<()> {
    let answer = client.get("/api/v1/models").await?;
    if json {
        output::json(&answer);
        return Ok(());
    }
    let row = |role: &str| vec![role.to_owned(), cell(&answer[role]["id"])];
    output::table(&["role", "model"], &["generator", "embedder", "reranker"].map(row));
    Ok(())
}

/// Writes a quantised copy of a checkpoint.
pub(crate) fn convert(input: &Path, target: &Path, format: &str) -> Result<()> {
    let format =
        Format::parse(format).with_context(|| format!("--format {format} is none of int8, int4, nf4"))?;
    rag_engine::quantize(input, target, format)?;
    let bytes = fs_err::metadata(target)?.len();
    output::line(format_args!("{}: {:.1} MB", target.display(), bytes as f64 / 1e6));
    Ok(())
}
