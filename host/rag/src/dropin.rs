//! Components put into the plugins folder of a running host, checked and offered within two seconds, and those taken out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rag_core::Rag;
use rag_wasm::PluginHost;

/// How often the folder is looked at. A file is read once its size and time stood still for this long, so that none is
/// read while it is being copied.
const EVERY: Duration = Duration::from_millis(500);

/// Size and time of last change.
type Stamp = (u64, SystemTime);

/// Files seen in the folder.
#[derive(Debug, Default)]
struct Seen {
    files: HashMap<PathBuf, File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    stamp: Stamp,
    settled: bool,
}

impl Seen {
    /// Takes in the folder's files as they are now; returns those that have come to rest since and those that are gone,
    /// in order.
    fn look(&mut self, now: HashMap<PathBuf, Stamp>) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut ready = Vec::new();
        let mut gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !now.contains_key(*path)).cloned().collect();
        let mut files = HashMap::with_capacity(now.len());
        for (path, stamp) in now {
            let before = self.files.get(&path).filter(|before| before.stamp == stamp);
            if before.is_some_and(|before| !before.settled) {
                ready.push(path.clone());
            }
            files.insert(path, File { stamp, settled: before.is_some() });
        }
        self.files = files;
        ready.sort();
        gone.sort();
        (ready, gone)
    }

    /// What the host loaded at its start needs no second look.
    fn settled(files: HashMap<PathBuf, Stamp>) -> Self {
        let settled = files.into_iter().map(|(path, stamp)| (path, File { stamp, settled: true }));
        Seen { files: settled.collect() }
    }
}

/// Watches the folder until the task is dropped. Every file that comes, changes or goes is told about in the log.
pub(crate) async fn watch(dir: PathBuf, plugins: Arc<PluginHost>, rag: Arc<Rag>) {
    let mut seen = Seen::settled(components(&dir));
    loop {
        tokio::time::sleep(EVERY).await;
        let (ready, gone) = seen.look(components(&dir));
        for path in ready {
            offer(&plugins, path).await;
        }
        for path in gone {
            withdraw(&plugins, &rag, &path).await;
        }
    }
}

async fn offer(plugins: &Arc<PluginHost>, path: PathBuf) {
    let plugins = plugins.clone();
    // Compiling takes a while, and this runs beside requests.
    let offered = tokio::task::spawn_blocking(move || (plugins.offer_file(&path), path)).await;
    match offered {
        Ok((Ok(loaded), path)) => tracing::info!(
            id = loaded.info.id,
            version = loaded.info.version,
            kind = loaded.kind.name(),
            path = %path.display(),
            "plugin offered"
        ),
        Ok((Err(error), path)) => {
            tracing::warn!(path = %path.display(), %error, "not a usable plugin");
        }
        Err(error) => tracing::error!(%error, "checking a plugin failed"),
    }
}

/// What a knowledge base binds stays installed, whatever becomes of its file.
async fn withdraw(plugins: &PluginHost, rag: &Rag, path: &Path) {
    for plugin in plugins.installed().into_iter().filter(|plugin| plugin.path == path) {
        match rag.remove_plugin(&plugin.info.digest).await {
            Ok(()) => tracing::info!(id = plugin.info.id, path = %path.display(), "plugin removed"),
            Err(error) => {
                tracing::warn!(id = plugin.info.id, path = %path.display(), %error, "the plugin stays installed");
            }
        }
    }
}

/// The folder's components; a folder or file that cannot be read has none.
fn components(dir: &Path) -> HashMap<PathBuf, Stamp> {
    let entries = fs_err::read_dir(dir).into_iter().flatten().flatten();
    let stamped = entries.filter_map(|entry| {
        let path = entry.path();
        let about = fs_err::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        (path.extension()? == "wasm").then_some((path, (about.len(), about.modified().ok()?)))
    });
    stamped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ready_once_it_rests_and_once_only() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = |files: &[(&str, u64, u64)]| {
            files.iter().map(|(name, size, time)| (PathBuf::from(name), (*size, at(*time)))).collect()
        };
        let mut seen = Seen::settled(now(&[("old.wasm", 9, 1)]));
        let mut look = |files: &[(&str, u64, u64)]| seen.look(now(files));
        let ready = |names: &[&str]| (names.iter().map(PathBuf::from).collect::<Vec<_>>(), Vec::new());
        assert_eq!(look(&[("old.wasm", 9, 1), ("new.wasm", 1, 2)]), ready(&[]), "it may still grow");
        assert_eq!(look(&[("old.wasm", 9, 1), ("new.wasm", 5, 2)]), ready(&[]), "it grew");
        assert_eq!(look(&[("old.wasm", 9, 1), ("new.wasm", 5, 2)]), ready(&["new.wasm"]));
        assert_eq!(look(&[("old.wasm", 9, 1), ("new.wasm", 5, 2)]), ready(&[]));
        assert_eq!(look(&[("old.wasm", 9, 3), ("new.wasm", 5, 2)]), ready(&[]), "changed");
        assert_eq!(look(&[("old.wasm", 9, 3), ("new.wasm", 5, 2)]), ready(&["old.wasm"]));
        let gone = ["new.wasm", "old.wasm"].map(PathBuf::from).to_vec();
        assert_eq!(look(&[]), (Vec::new(), gone));
        assert_eq!(look(&[]), ready(&[]));
    }
}
