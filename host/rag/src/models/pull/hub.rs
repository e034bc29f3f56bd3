//! What a hub tells of a repository, and which of its files an engine needs.
//!
//! The usual hub and its mirrors answer `GET /api/models/OWNER/NAME/revision/REVISION?blobs=true` and serve files at
//! `/OWNER/NAME/resolve/REVISION/PATH`.

use rag_core::{Error, Result};
use rag_engine::encoder::folder::{NEEDED, USED, WEIGHTS};
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::way::Way;
use crate::commands::escape;

/// Endings of single files that the engines read.
const READABLE: [&str; 4] = [".pth", ".safetensors", ".st", ".state"];
/// Files of a description that are looked at.
const FILES_MAX: usize = 20_000;
const TEXT_CHARS_MAX: usize = 200;

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) commit: String,
    /// Of the repository's description; empty where it has none.
    pub(super) licence: String,
    /// Repository, commit and, for a single one, file.
    pub(super) source: String,
    /// The file's own name, or the folder's.
    pub(super) target: String,
    pub(super) is_folder: bool,
    /// Small ones first, so that a repository that is no encoder is noticed early.
    pub(super) files: Vec<Remote>,
}

/// One file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Remote {
    pub(super) url: Url,
    /// Below the target's folder, with `/`.
    pub(super) path: String,
    pub(super) bytes: Option<u64>,
    pub(super) hash: Hash,
}

/// What the bytes must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// Hexadecimal, as of large files.
    Sha256(String),
    /// Git's own of a small file.
    Git(String),
    /// Only for small files; their content is checked when they are read.
    Untold,
}

#[derive(Debug, Deserialize)]
struct Description {
    /// The commit.
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Card {
    license: Option<serde_json::Value>,
}

/// Asks the hub what a repository holds, and chooses.
pub(super) async fn plan(way: &Way, repository: &str, revision: &str, file: Option<&str>) -> Result<Plan> {
    check_repository(repository)?;
    check_revision(revision)?;
    let address = format!("api/models/{repository}/revision/{}?blobs=true", escape(revision));
    let text = way.text(&way.address(&address)?, "public repository", repository).await?;
    let described: Description = serde_json::from_slice(&text).map_err(|error| Error::Unavailable {
        message: format!("the hub's description makes no sense: {error}"),
    })?;
    let commit: String = described.sha.chars().take(64).collect();
    if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Unavailable { message: "the hub tells no commit".to_owned() });
    }
    let siblings = described.siblings.get(..FILES_MAX).unwrap_or(&described.siblings);
    let chosen = choose(siblings, file)?;
    let mut files = Vec::new();
    for sibling in &chosen.files {
        files.push(remote(way, repository, &commit, sibling, chosen.is_folder).await?);
    }
    let licence = described.card.and_then(|card| card.license);
    let source = match chosen.files.as_slice() {
        [only] if !chosen.is_folder => format!("{repository}@{commit}/{}", only.path),
        _ => format!("{repository}@{commit}"),
    };
    let target = match chosen.files.as_slice() {
        [only] if !chosen.is_folder => own_name(&only.path),
        _ => own_name(repository),
    };
    Ok(Plan {
        target: target.to_owned(),
        licence: licence.map(|licence| licence_text(&licence)).unwrap_or_default(),
        is_folder: chosen.is_folder,
        commit,
        source,
        files,
    })
}

struct Chosen<'a> {
    files: Vec<&'a Sibling>,
    is_folder: bool,
}

fn choose<'a>(siblings: &'a [Sibling], file: Option<&str>) -> Result<Chosen<'a>> {
    let named = |name: &str| siblings.iter().find(|sibling| sibling.path == name);
    let readable: Vec<&Sibling> = siblings
        .iter()
        .filter(|sibling| READABLE.iter().any(|ending| sibling.path.ends_with(ending)))
        .collect();
    let listed = || {
        let names: Vec<&str> = readable.iter().map(|sibling| sibling.path.as_str()).take(50).collect();
        names.join(", ")
    };
    let single = |only: &'a Sibling| {
        check_path(&only.path)?;
        Ok(Chosen { files: vec![only], is_folder: false })
    };
    if let Some(file) = file {
        let by_own_name = || siblings.iter().find(|sibling| own_name(&sibling.path) == file);
        let found = named(file).or_else(by_own_name);
        return single(found.ok_or_else(|| {
            Error::invalid(format!(
                "the repository has no file '{}'; it has: {}",
                file.escape_debug(),
                listed()
            ))
        })?);
    }
    if let Some(needed) = NEEDED.iter().map(|name| named(name)).collect::<Option<Vec<_>>>() {
        let weights = WEIGHTS.iter().find_map(|name| named(name)).ok_or_else(|| Error::Unsupported {
            message: format!(
                "it looks like an encoder, but has neither {} nor {}: weights in several files are not read",
                WEIGHTS[0], WEIGHTS[1]
            ),
        })?;
        let used = USED.iter().filter_map(|name| named(name));
        let mut files: Vec<&Sibling> = needed.into_iter().chain(used).collect();
        files.push(weights);
        return Ok(Chosen { files, is_folder: true });
    }
    match readable.as_slice() {
        [only] => single(only),
        [] => Err(Error::Unsupported {
            message: format!(
                "the repository has no file that the engines read ({}), and is no encoder ({})",
                READABLE.join(", "),
                NEEDED.join(", ")
            ),
        }),
        _ => Err(Error::invalid(format!("name one of the repository's files (--file): {}", listed()))),
    }
}

/// Where a file is and what it must be; asks for what the description leaves out.
async fn remote(
    way: &Way,
    repository: &str,
    commit: &str,
    sibling: &Sibling,
    in_folder: bool,
) -> Result<Remote> {
    // The commit, so that a download that goes on later is of the same file although the branch moved.
    let parts: Vec<String> = sibling.path.split('/').map(escape).collect();
    let url = way.address(&format!("{repository}/resolve/{commit}/{}", parts.join("/")))?;
    let path = if in_folder { sibling.path.as_str() } else { own_name(&sibling.path) }.to_owned();
    let (mut bytes, mut hash) = match &sibling.lfs {
        Some(lfs) => (Some(lfs.size), as_hash(&lfs.sha256)),
        None => (sibling.size, sibling.blob.as_deref().map_or(Hash::Untold, as_hash)),
    };
    if hash == Hash::Untold || bytes.is_none() {
        let answer = way.head(&url).await?;
        let (told, size) = told(answer.headers());
        bytes = bytes.or(size);
        if hash == Hash::Untold {
            hash = told;
        }
    }
    Ok(Remote { url, path, bytes, hash })
}

/// Hash and size by the hub's own headers: `x-linked-…` are of the file that a redirect leads to.
fn told(headers: &HeaderMap) -> (Hash, Option<u64>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let hash = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
    let hash = as_hash(hash.trim_start_matches("W/").trim_matches('"'));
    (hash, text("x-linked-size").and_then(|size| size.parse().ok()))
}

/// A hash by its length; `Untold` for what is none.
pub(super) fn as_hash(text: &str) -> Hash {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        64 if digits => Hash::Sha256(text.to_ascii_lowercase()),
        40 if digits => Hash::Git(text.to_ascii_lowercase()),
        _ => Hash::Untold,
    }
}

fn own_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A file's name becomes one of ours: nothing but a plain one may.
fn check_path(path: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':']);
    let ends = READABLE.iter().any(|ending| path.ends_with(ending));
    if path.split('/').all(plain) && !path.chars().any(char::is_control) && path.len() <= 200 && ends {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "'{}' cannot name a model's file ({})",
        path.escape_debug(),
        READABLE.join(", ")
    )))
}

fn check_repository(repository: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 100
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if repository.split('/').count() == 2 && repository.split('/').all(part) {
        return Ok(());
    }
    Err(Error::invalid(format!("'{}' names no repository: OWNER/NAME", repository.escape_debug())))
}

fn check_revision(revision: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !revision.is_empty()
        && revision.len() <= 200
        && revision.chars().all(known)
        && !revision.contains("..")
    {
        return Ok(());
    }
    Err(Error::invalid(format!("'{}' names no branch, tag or commit", revision.escape_debug())))
}

fn licence_text(licence: &serde_json::Value) -> String {
    let text = match licence {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(several) => {
            several.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    };
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for good in ["a.pth", "weights/a b.safetensors", "模型.st"] {
            check_path(good).unwrap();
        }
        for bad in
            ["../a.pth", "/a.pth", "a/../b.pth", "a\\b.pth", ".a.pth", "c:a.pth", "a\n.pth", "a.bin", ""]
        {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        check_repository("BlinkDL/rwkv-6-world").unwrap();
        for bad in ["a", "a/b/c", "../b", "a/..", "a/b?c", "a/", "a/%2e", "-a/b"] {
            assert!(check_repository(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a..b", "../main", "main?x", "a b"] {
            assert!(check_revision(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hashes_are_told_by_their_length() {
        assert_eq!(as_hash(&"Ab".repeat(32)), Hash::Sha256("ab".repeat(32)));
        assert_eq!(as_hash(&"ab".repeat(20)), Hash::Git("ab".repeat(20)));
        for none in ["", "abc", &"xy".repeat(32)] {
            assert_eq!(as_hash(none), Hash::Untold);
        }
    }
}
