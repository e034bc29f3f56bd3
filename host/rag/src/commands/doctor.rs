//! Whether everything needed is there, and what to do about what is not.

use anyhow::{Result, bail};
use rag_engine::inspect;
use serde_json::{Value, json};

use crate::assemble;
use crate::bench::processor;
use crate::config::Config;
use crate::output;

/// One check with what was found, or what to do.
struct Check {
    name: &'static str,
    result: Result<String>,
}

pub(crate) async fn run(config: &Config, json: bool) -> Result<()> {
    let mut checks = vec![
        Check { name: "data folder", result: data_folder(config) },
        Check { name: "processor", result: Ok(processor()) },
        Check { name: "encoder file", result: file(config, &config.models.encoder) },
        Check { name: "language model file", result: file(config, &config.models.language) },
        Check { name: "vocabulary file", result: file(config, &config.models.vocabulary) },
    ];
    if !config.models.reranker.as_os_str().is_empty() {
        checks.push(Check { name: "reranker file", result: file(config, &config.models.reranker) });
    }
    checks.push(Check { name: "text recognition", result: Ok(recognition(config)) });
    checks.push(Check { name: "whole system", result: whole(config).await });
    let failed = checks.iter().filter(|check| check.result.is_err()).count();
    if json {
        output::json(&json!({"checks": checks.iter().map(view).collect::<Vec<_>>()}));
    } else {
        let rows: Vec<Vec<String>> = checks
            .iter()
            .map(|check| match &check.result {
                Ok(found) => vec!["ok".into(), check.name.into(), found.clone()],
                Err(error) => vec!["FAILED".into(), check.name.into(), format!("{error:#}")],
            })
            .collect();
        output::table(&["", "check", "found"], &rows);
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} checks failed", checks.len()),
    }
}

fn view(check: &Check) -> Value {
    match &check.result {
        Ok(found) => json!({"check": check.name, "ok": true, "found": found}),
        Err(error) => json!({"check": check.name, "ok": false, "error": format!("{error:#}")}),
    }
}

fn data_folder(config: &Config) -> Result<String> {
    let dir = config.data_dir()?;
    fs_err::create_dir_all(&dir)?;
    let probe = dir.join(".doctor");
    fs_err::write(&probe, b"written by `rwkv-rag doctor`")?;
    fs_err::remove_file(&probe)?;
    Ok(dir.display().to_string())
}

fn file(config: &Config, name: &std::path::Path) -> Result<String> {
    let path = assemble::model_file(config, name)?;
    Ok(format!("{} ({:.1} MB)", path.display(), inspect::bytes(&path)? as f64 / 1e6))
}

/// Needed for scanned pages and pictures only, so that its absence is no failure.
fn recognition(config: &Config) -> String {
    let engine = crate::ocr::Tesseract::new(config.ocr.clone());
    match engine.and_then(|engine| engine.installed()) {
        Some((version, languages)) => format!("{version} ({})", languages.join(", ")),
        None => "none: scanned pages stay unread (Debian: apt install tesseract-ocr tesseract-ocr-chi-sim)"
            .to_owned(),
    }
}

/// Starts everything but HTTP: what `serve` would fail on, fails here.
async fn whole(config: &Config) -> Result<String> {
    let parts = assemble::build(config, crate::roles::local(config)?).await?;
    let kbs = assemble::check_catalog(parts.rag.catalog.as_ref()).await?;
    Ok(format!(
        "{} plugins, {kbs} knowledge bases, model {}",
        parts.plugins.installed().len(),
        parts.rag.generator.identity()
    ))
}
