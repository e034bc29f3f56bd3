//! Compiled components: made once a digest, kept in a private folder, mapped into memory only with our own mark.
//!
//! A compiled component is native code, so a file from elsewhere would run with all our rights. Each carries a keyed
//! BLAKE3 tag over engine, digest and content; the key never leaves the folder.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rag_core::{Error, Result};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::{CompileFault, Compiler};

const KEY_BYTES: usize = blake3::KEY_LEN;

/// The folder of compiled components for one engine.
#[derive(Debug)]
pub(crate) struct Artefacts {
    folder: PathBuf,
    engine_hash: String,
    key: [u8; KEY_BYTES],
    compiler: Compiler,
    /// One compilation at a time: each uses every processor and much memory.
    compiling: Mutex<()>,
}

/// Where a component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Compiled just now.
    Compiled,
    /// Found compiled.
    Cached,
}

impl Artefacts {
    /// Opens or creates the folder.
    pub(crate) fn open(cache_dir: &Path, engine: &Engine, compiler: Compiler) -> Result<Self> {
        let failed = |err: std::io::Error| Error::Storage { message: format!("plugin cache: {err}") };
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine_hash = format!("{:016x}", hasher.finish());
        let folder = cache_dir.join(&engine_hash);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let key = read_or_make_key(cache_dir).map_err(failed)?;
        Ok(Artefacts { folder, engine_hash, key, compiler, compiling: Mutex::new(()) })
    }

    /// The component with this digest, from the cache or compiled.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        digest: &str,
        wasm: &[u8],
    ) -> Result<(Component, Origin), CompileFault> {
        if let Some(component) = self.find(engine, digest) {
            return Ok((component, Origin::Cached));
        }
        let _turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have compiled it while this one waited.
        if let Some(component) = self.find(engine, digest) {
            return Ok((component, Origin::Cached));
        }
        tracing::debug!(digest, "compiling a component");
        let code = self.compiler.compile(wasm)?;
        if let Err(err) = self.keep(digest, &code) {
            tracing::warn!(
                "cannot keep a compiled plugin, it will be compiled again at the next start: {err}"
            );
            return Ok((copy(engine, &code).map_err(CompileFault::Invalid)?, Origin::Compiled));
        }
        let component = map(engine, &self.paths(digest).0).map_err(CompileFault::Invalid)?;
        Ok((component, Origin::Compiled))
    }

    fn paths(&self, digest: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{digest}.cwasm")), self.folder.join(format!("{digest}.tag")))
    }

    /// Maps the artefact when its tag is right; a wrong one is removed.
    pub(crate) fn find(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let (code_path, tag_path) = self.paths(digest);
        let tag = fs::read_to_string(&tag_path).ok()?;
        let code = fs::File::open(&code_path).ok()?;
        let tag = blake3::Hash::from_hex(tag.trim()).ok();
        // Comparing hashes takes the same time wherever they differ.
        let component = if tag.is_some() && tag == self.tag(digest, code).ok() {
            map(engine, &code_path)
                .inspect_err(|why| tracing::warn!("a compiled plugin cannot be used: {why}"))
                .ok()
        } else {
            tracing::warn!(path = %code_path.display(), "a compiled plugin does not carry our mark; compiling again");
            None
        };
        if component.is_none() {
            // Either may be gone already.
            let _ = fs::remove_file(&code_path);
            let _ = fs::remove_file(&tag_path);
        }
        component
    }

    /// Both files appear whole or not at all.
    fn keep(&self, digest: &str, code: &[u8]) -> std::io::Result<()> {
        let (code_path, tag_path) = self.paths(digest);
        write_whole(&code_path, code)?;
        write_whole(&tag_path, self.tag(digest, code)?.to_hex().as_bytes())
    }

    fn tag(&self, digest: &str, code: impl Read) -> std::io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // Both are of fixed length.
        hasher.update(self.engine_hash.as_bytes()).update(digest.as_bytes());
        Ok(hasher.update_reader(code)?.finalize())
    }
}

/// Fails when it was made for another engine or processor, or needs more than the pool of instances gives.
fn map(engine: &Engine, path: &Path) -> Result<Component, String> {
    #[expect(unsafe_code, reason = "mapping native code cannot be checked by the compiler")]
    // SAFETY: the file carries a tag made with our key, so this program wrote it from wasmtime's own output; the
    // folder belongs to the owner alone, and files in it are replaced by renaming and never changed in place.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.map_err(|err| format!("{err:#}"))
}

/// Where the cache cannot be written.
fn copy(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    #[expect(unsafe_code, reason = "native code cannot be checked by the compiler")]
    // SAFETY: the compiler of this program made it just now.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|err| format!("{err:#}"))
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What was not renamed is of no use.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The first process makes the key; a damaged one is replaced, which only means to compile again.
fn read_or_make_key(cache_dir: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let path = cache_dir.join("key");
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let fresh = cache_dir.join(format!("key.{}", std::process::id()));
    write_whole(&fresh, &key)?;
    // Linking fails where another process was first: then its key is everybody's.
    let linked = fs::hard_link(&fresh, &path);
    if linked.is_err() && read_key(&path).is_none() {
        fs::rename(&fresh, &path)?;
    } else {
        fs::remove_file(&fresh)?;
    }
    read_key(&path).ok_or_else(|| std::io::Error::other("the key cannot be read back"))
}

/// None when there is none, or when others could have read or written it.
fn read_key(path: &Path) -> Option<[u8; KEY_BYTES]> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the key of the plugin cache; making a new one");
        return None;
    }
    fs::read(path).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn open(dir: &Path) -> (Engine, Artefacts) {
        let engine = crate::engine::new(&crate::Limits::default()).unwrap();
        let artefacts = Artefacts::open(dir, &engine, Compiler::Here).unwrap();
        (engine, artefacts)
    }

    #[test]
    fn a_second_load_is_cached_across_processes() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, artefacts) = open(dir.path());
        assert_eq!(artefacts.load(&engine, "d1", EMPTY).unwrap().1, Origin::Compiled);
        assert_eq!(artefacts.load(&engine, "d1", EMPTY).unwrap().1, Origin::Cached);
        let (engine, artefacts) = open(dir.path());
        assert_eq!(artefacts.load(&engine, "d1", EMPTY).unwrap().1, Origin::Cached);
    }

    #[test]
    fn tampered_moved_or_foreign_code_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, artefacts) = open(dir.path());
        let tamper = |change: &dyn Fn(&Path, &Path)| {
            artefacts.load(&engine, "d1", EMPTY).unwrap();
            let (code, tag) = artefacts.paths("d1");
            change(&code, &tag);
            artefacts.load(&engine, "d1", EMPTY).unwrap().1
        };
        assert_eq!(tamper(&|_, _| ()), Origin::Cached);
        let flip = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            write_whole(path, &bytes).unwrap();
        };
        assert_eq!(tamper(&|code, _| flip(code)), Origin::Compiled);
        assert_eq!(tamper(&|_, tag| flip(tag)), Origin::Compiled);
        assert_eq!(tamper(&|code, _| write_whole(code, b"").unwrap()), Origin::Compiled);
        assert_eq!(tamper(&|_, tag| fs::remove_file(tag).unwrap()), Origin::Compiled);
        // A good artefact under another digest is not that digest's.
        let moved = |code: &Path, tag: &Path| {
            artefacts.load(&engine, "d2", EMPTY).unwrap();
            let (other_code, other_tag) = artefacts.paths("d2");
            fs::copy(other_code, code).unwrap();
            fs::copy(other_tag, tag).unwrap();
        };
        assert_eq!(tamper(&moved), Origin::Compiled);
        // Another key: a cache that someone else made.
        fs::remove_file(dir.path().join("key")).unwrap();
        let (engine, artefacts) = open(dir.path());
        assert_eq!(artefacts.load(&engine, "d1", EMPTY).unwrap().1, Origin::Compiled);
    }

    #[test]
    fn the_key_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (_, artefacts) = open(dir.path());
        let key = dir.path().join("key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (_, again) = open(dir.path());
        assert_ne!(artefacts.key, again.key);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn rubbish_is_refused_and_a_full_cache_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, artefacts) = open(dir.path());
        assert!(artefacts.load(&engine, "d1", b"rubbish").is_err());
        // A folder in the file's place: writing fails as on a full disk.
        let (code, _) = artefacts.paths("d1");
        fs::create_dir_all(code.join("x")).unwrap();
        assert_eq!(artefacts.load(&engine, "d1", EMPTY).unwrap().1, Origin::Compiled);
    }
}
