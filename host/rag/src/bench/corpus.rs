//! A scratch system with a knowledge base of given documents, gone when dropped.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rag_core::kb::{KbSettings, PluginChoice};
use rag_core::ports::JobState;
use serde::Deserialize;

use crate::assemble::{self, Parts};
use crate::cli::Bench;
use crate::config::Config;
use crate::roles::Engines;

/// Name of the scratch knowledge base.
pub(super) const KB: &str = "bench";

/// A row of a question set; further fields are left alone.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    pub(super) context: String,
    pub(super) question: String,
    /// Reference answers; empty when the context holds none.
    #[serde(default)]
    pub(super) answers: Vec<String>,
}

/// A running system on a folder of its own.
pub(super) struct Scratch {
    pub(super) parts: Parts,
    dir: PathBuf,
}

impl Scratch {
    /// Starts the system and creates the knowledge base with the strategy asked for.
    pub(super) async fn open(config: &Config, args: &Bench) -> Result<Self> {
        Self::with(config, args, crate::roles::local(config)?).await
    }

    /// The same with these engines.
    pub(super) async fn with(config: &Config, args: &Bench, engines: Engines) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("rwkv-rag-bench-{}", std::process::id()));
        let mut config = config.clone();
        config.data.dir.clone_from(&dir);
        let parts = assemble::build(&config, engines).await?;
        let mut settings = KbSettings::default();
        if let Some(id) = &args.retriever {
            let own = args.retriever_settings.clone().unwrap_or_else(|| "{}".to_owned());
            settings.retriever = PluginChoice::any(id.clone(), own);
        }
        parts.rag.create_kb(KB, Some(settings)).await?;
        Ok(Scratch { parts, dir })
    }

    /// Ingests documents by name and text; returns the seconds it took.
    pub(super) async fn ingest(&self, documents: &[(String, Bytes)]) -> Result<f64> {
        let start = Instant::now();
        for (name, text) in documents {
            let mut writer = self.parts.rag.upload().await?;
            writer.write(text.clone()).await?;
            let job = self.parts.rag.submit(KB, name, None, writer).await?;
            while rag_core::jobs::run_next(&self.parts.rag).await? {}
            let job = self.parts.rag.catalog.job(&job.id).await?;
            if let JobState::Failed { message } = job.state {
                bail!("{name}: {message}");
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary folder harms nobody.
        let _ = fs_err::remove_dir_all(&self.dir);
    }
}

/// At most `limit` rows, evenly spread.
pub(super) fn thin(rows: &[Row], limit: Option<usize>) -> Vec<&Row> {
    let step = limit.map_or(1, |limit| rows.len().div_ceil(limit.max(1))).max(1);
    rows.iter().step_by(step).collect()
}

/// Rows of a question set, at most `limit`, evenly spread over the file.
pub(super) fn rows(args: &Bench) -> Result<Vec<Row>> {
    let path = args.questions.as_ref().context("this needs --questions FILE.jsonl")?;
    let text = fs_err::read_to_string(path)?;
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str::<Row>(line).with_context(|| format!("{} line {}", path.display(), at + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}
