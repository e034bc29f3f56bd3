//! Components that knowledge bases mean by their digest, kept so that they are there whatever becomes of the plugins
//! folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rag_core::{Error, Result};
use sha2::{Digest, Sha256};

/// A folder of `{digest}.wasm`, each with its manifest beside it where it has one.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(failed)?;
        Ok(Shelf { dir: dir.to_owned() })
    }

    /// The components on it, by digest; a file of another name is no component of ours.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|extension| extension == "wasm") && is_digest(stem) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Whether a component is still what its name says. One that is damaged is put aside, so that a good one can be kept
    /// in its place.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).map_err(failed)?;
        if path.file_stem().is_some_and(|stem| *stem == *digest_of(&bytes)) {
            return Ok(());
        }
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside).map_err(failed)?;
        Err(Error::Storage {
            message: format!(
                "a kept component is damaged (its digest is not that of its name) and was put aside as {}; put this                  version into the plugins folder, or install it again",
                aside.display()
            ),
        })
    }

    /// Copies a component, unless it is there. `Conflict` when the file is no longer what it was.
    pub(crate) fn keep(&self, digest: &str, from: &Path) -> Result<()> {
        if self.path(digest).exists() {
            return Ok(());
        }
        let bytes = fs::read(from).map_err(failed)?;
        if digest_of(&bytes) != digest {
            return Err(Error::Conflict {
                message: format!(
                    "{} changed since it was checked; put the component there again",
                    from.display()
                ),
            });
        }
        self.put(&bytes)?;
        let manifest = from.with_extension("toml");
        if manifest.is_file() {
            let text = fs::read(&manifest).map_err(failed)?;
            self.write(&self.path(digest).with_extension("toml"), &text)?;
        }
        Ok(())
    }

    /// Keeps a component that came as bytes; returns where it is.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(&digest_of(bytes));
        self.write(&path, bytes)?;
        Ok(path)
    }

    pub(crate) fn remove(&self, digest: &str) -> Result<()> {
        for extension in ["wasm", "toml"] {
            match fs::remove_file(self.path(digest).with_extension(extension)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    /// Beside it first, so that a crash leaves no half of it under its name.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let fresh = path.with_extension(format!("new.{}", std::process::id()));
        let written = fs::File::create(&fresh)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&fresh, path))
            .and_then(|()| fs::File::open(&self.dir)?.sync_all());
        written.map_err(|err| {
            // What it left is overwritten by the next try.
            let _ = fs::remove_file(&fresh);
            failed(err)
        })
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_digest(word: &str) -> bool {
    word.len() == 64 && word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(err: std::io::Error) -> Error {
    Error::Storage { message: err.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_outlives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("shelf")).unwrap();
        let file = dir.path().join("plugin.wasm");
        fs::write(&file, "component").unwrap();
        fs::write(file.with_extension("toml"), "id = \"a\"").unwrap();
        let digest = digest_of(b"component");
        shelf.keep(&digest, &file).unwrap();
        fs::write(&file, "other").unwrap();
        shelf.keep(&digest, &file).unwrap();
        assert!(matches!(shelf.keep(&digest_of(b"third"), &file), Err(Error::Conflict { .. })));
        fs::write(dir.path().join("shelf/stranger.wasm"), "x").unwrap();
        let kept = shelf.paths().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), b"component");
        assert!(kept[0].with_extension("toml").is_file());
        shelf.remove(&digest).unwrap();
        shelf.remove(&digest).unwrap();
        assert!(shelf.paths().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_component_is_told_and_makes_room_for_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("shelf")).unwrap();
        let path = shelf.put(b"component").unwrap();
        shelf.check(&path).unwrap();
        fs::write(&path, "compOnent").unwrap();
        let error = shelf.check(&path).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("install it again"), "{error}");
        assert!(shelf.paths().unwrap().is_empty());
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), b"compOnent");
        let file = dir.path().join("plugin.wasm");
        fs::write(&file, "component").unwrap();
        shelf.keep(&digest_of(b"component"), &file).unwrap();
        assert_eq!(shelf.paths().unwrap(), [path]);
    }
}
