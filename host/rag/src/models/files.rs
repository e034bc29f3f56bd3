//! Which files may be models, what they hold, and whether they still are what was registered.

use std::path::{Path, PathBuf};

use rag_core::ports::{ModelEntry, ModelKind};
use rag_core::{Error, Result};
use rag_engine::inspect::{self, Inspected, Loading};

use super::shelf::{Known, Seen, stamp};
use crate::assemble;
use crate::config::Config;

const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=64;
const TEXT_CHARS_MAX: usize = 500;

/// Names stand in addresses and on the command line.
pub(super) fn check_name(name: &str) -> Result<()> {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let whole = NAME_CHARS.contains(&name.chars().count()) && name.chars().all(known);
    if !whole || name.starts_with(['.', '-']) {
        return Err(Error::invalid(format!(
            "'{}' cannot name a model: 3 to 64 letters, digits, '.', '_' or '-', beginning with no '.' or '-'",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// Notes for people.
pub(super) fn check_text(what: &str, text: &str) -> Result<()> {
    if text.chars().count() > TEXT_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} is a line of {TEXT_CHARS_MAX} characters at most")));
    }
    Ok(())
}

/// A file, or an encoder's folder, below the models folder, one of `models.roots`, the downloads or what tuning made,
/// links resolved. One answer for what is not there and what is not allowed: nobody learns which files exist.
pub(super) fn permitted(config: &Config, path: &str) -> Result<PathBuf> {
    let own = config.models_dir();
    let (downloads, tuned) = (config.downloads_dir().ok(), assemble::tuning_dir(config).ok());
    let further = config.models.roots.iter().chain(&downloads).chain(&tuned);
    let folders = std::iter::once(&own).chain(further);
    let folders: Vec<PathBuf> = folders.filter_map(|folder| fs_err::canonicalize(folder).ok()).collect();
    let is_model = |found: &PathBuf| found.is_file() || found.join("config.json").is_file();
    let found = fs_err::canonicalize(own.join(path)).ok().filter(is_model);
    let below = |found: &PathBuf| folders.iter().any(|folder| found.starts_with(folder) && found != folder);
    match found.filter(below) {
        Some(found) => Ok(found),
        None => Err(Error::Denied {
            message: format!(
                "there is no file or encoder's folder '{}' below {} (settings models.dir, models.roots)",
                path.escape_debug(),
                folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or ")
            ),
        }),
    }
}

/// Reads a file, or a folder's files, through. Takes seconds for gigabytes.
pub(super) fn see(path: &Path) -> Result<Seen> {
    let (bytes, modified_ms) = stamp(path).map_err(|error| gone(&error))?;
    Ok(Seen { sha256: inspect::sha256(path)?, bytes, modified_ms })
}

/// That a file is what was registered. It is read again only when its size or time changed.
pub(super) fn verify(known: &Known) -> Result<()> {
    let Some(seen) = &known.seen else { return Ok(()) };
    let unchanged = stamp(&known.path).map_err(|error| gone(&error))? == (seen.bytes, seen.modified_ms);
    // What the operator configures is theirs to change.
    if unchanged || known.configured || see(&known.path)?.sha256 == seen.sha256 {
        return Ok(());
    }
    Err(Error::Conflict {
        message: format!(
            "{} changed since '{}' was registered: `rwkv-rag model set {} --path {}` registers it anew",
            known.path.display(),
            known.name,
            known.name,
            known.path.display()
        ),
    })
}

fn gone(error: &std::io::Error) -> Error {
    Error::Unavailable { message: error.to_string() }
}

/// What a file holds, and that it is of this kind.
pub(super) fn inspect_as(config: &Config, known: &Known) -> Result<Inspected> {
    let found = inspect_file(config, &known.path, known.settings.quantize.as_deref())?;
    if found.kind == known.kind {
        return Ok(found);
    }
    Err(Error::invalid(format!(
        "{} is of kind {}, not {}",
        known.path.display(),
        found.kind.name(),
        known.kind.name()
    )))
}

pub(super) fn inspect_file(config: &Config, path: &Path, quantize: Option<&str>) -> Result<Inspected> {
    let quantize = assemble::formats(quantize.unwrap_or_default(), config.models.quantize_head)
        .map_err(|error| Error::invalid(error.to_string()))?;
    let loading =
        Loading { quantize, slots: config.models.slots, state_cache_bytes: config.models.state_cache_bytes };
    inspect::inspect(path, &loading)
}

/// A model as it is listed; reads its header.
pub(super) fn entry(config: &Config, known: &Known) -> ModelEntry {
    let (inspected, mut problem) = match inspect_as(config, known) {
        Ok(inspected) => (Some(inspected), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let size = stamp(&known.path).ok();
    let changed = match (&known.seen, size) {
        (Some(seen), Some(now)) => now != (seen.bytes, seen.modified_ms),
        _ => false,
    };
    if changed && !known.configured && problem.is_none() {
        problem = Some("the file changed since it was registered".to_owned());
    }
    ModelEntry {
        name: known.name.clone(),
        kind: known.kind,
        path: known.path.display().to_string(),
        settings: known.settings.clone(),
        online: known.online,
        configured: known.configured,
        chosen: false,
        in_use: false,
        memory_bytes: inspected.as_ref().map(|inspected| inspected.memory_bytes),
        architecture: inspected.map(|inspected| inspected.architecture).unwrap_or_default(),
        bytes: size.map_or(0, |(bytes, _)| bytes),
        sha256: known.seen.as_ref().filter(|_| !changed).map(|seen| seen.sha256.clone()),
        problem,
        created_ms: known.created_ms,
    }
}

/// Notes that do not fit the kind are refused, not ignored.
pub(super) fn check_settings(config: &Config, known: &Known) -> Result<()> {
    let settings = &known.settings;
    check_text("the licence", &settings.licence)?;
    check_text("the source", &settings.source)?;
    let language = known.kind == ModelKind::Language;
    let adapter = known.kind == ModelKind::Adapter;
    if settings.quantize.is_some() && !language {
        return Err(Error::invalid("only language models are quantised"));
    }
    if settings.demonstration && !language {
        return Err(Error::invalid("only language models demonstrate"));
    }
    if (settings.adapter_alpha.is_some() || settings.adapter_start.is_some()) && !adapter {
        return Err(Error::invalid("alpha and start are an adapter's"));
    }
    if adapter && settings.base.is_none() {
        return Err(Error::invalid("an adapter needs 'base': the language model that it was trained on"));
    }
    if settings.base.is_some() && !matches!(known.kind, ModelKind::State | ModelKind::Adapter) {
        return Err(Error::invalid("only states and adapters have a base"));
    }
    if let Some(start) = &settings.adapter_start {
        permitted(config, start)?;
    }
    inspect_as(config, known).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        for good in ["abc", "RWKV-x060-World-1B6-v2.1", "状态一", "a_b"] {
            check_name(good).unwrap();
        }
        for bad in ["", "ab", "a b", "../x", "a/b", ".abc", "-abc", "abc\n", &"x".repeat(65)] {
            assert!(matches!(check_name(bad), Err(Error::InvalidInput { .. })), "{bad:?}");
        }
    }
}
