//! A folder of the server is brought in, and again: what changed is replaced, what is new comes in, what is unchanged
//! costs nothing, and what vanished goes when that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::document::{BlobHash, DocumentId};
use crate::error::{Error, ErrorCode, Result};
use crate::kb::KbName;
use crate::limits;
use crate::ports::{DocumentInfo, FolderEntry, Job, Origin};
use crate::rag::Rag;

/// Documents asked for at once.
const PAGE: u32 = 1_000;
/// Errors that say something of one file: too large, no longer there, not to be read.
const OF_THE_FILE: [ErrorCode; 5] = [
    ErrorCode::Quota,
    ErrorCode::InvalidInput,
    ErrorCode::Unsupported,
    ErrorCode::Denied,
    ErrorCode::NotFound,
];

/// What to bring in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderOrder {
    /// A file or folder below a root, as `Folders` names it.
    pub path: String,
    /// Whether documents go whose file is there no more.
    pub delete_missing: bool,
    /// Only tells what would happen.
    pub dry_run: bool,
}

/// What became of a folder's files, or would become; names in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FolderReport {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    /// Archives, whose files are documents of their own: looked into again.
    pub archives: Vec<String>,
    pub unchanged: u64,
    /// Documents that came from this folder and whose file is there no more.
    pub vanished: Vec<String>,
    /// Whether those were deleted.
    pub deleted: bool,
    /// Files that found no place in the queue: bring the folder in again once it is shorter.
    pub postponed: u64,
    /// Files that were not taken.
    pub refused: Vec<Refused>,
    pub jobs: Vec<Job>,
}

/// A file that was not taken, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub name: String,
    pub reason: String,
}

impl Rag {
    /// Brings in what is new or changed below a path of the server, as jobs; deletes what vanished when asked.
    ///
    /// A folder without any file is refused: a disk that is not mounted must not delete a knowledge base.
    pub async fn sync_folder(&self, kb: &str, order: &FolderOrder) -> Result<FolderReport> {
        let kb = self.kb(kb).await?.name;
        let path = order.path.trim_end_matches('/');
        let files = self.records.files_under(path, limits::FOLDER_FILES_MAX).await?;
        if files.is_empty() {
            return Err(Error::invalid(format!("there is no file below '{path}'")));
        }
        let mut work = Work {
            rag: self,
            kb: kb.as_str(),
            order,
            folder: label(path),
            known: self.documents_below(&kb, path).await?,
            report: FolderReport::default(),
        };
        for file in &files {
            work.file(file).await?;
        }
        work.vanished(&files).await?;
        Ok(work.report)
    }

    /// Documents that are called like a path or like something below it, by name.
    async fn documents_below(&self, kb: &KbName, path: &str) -> Result<BTreeMap<String, DocumentInfo>> {
        // Names are in the order of their bytes: from just before the path to the end of what lies below it.
        let mut after = path.to_owned();
        after.pop();
        let end = format!("{path}0");
        let mut known = BTreeMap::new();
        loop {
            let page = self.catalog.documents(kb, Some(&after), PAGE).await?;
            let Some(last) = page.last() else { return Ok(known) };
            after.clone_from(&last.name);
            known.extend(
                page.into_iter()
                    .filter(|document| document.name == path || is_below(&document.name, path))
                    .map(|document| (document.name.clone(), document)),
            );
            if after >= end {
                return Ok(known);
            }
        }
    }
}

/// What the documents of a server's folder say they came from: its root, since their names tell the rest.
fn label(path: &str) -> String {
    format!("server:{}", path.split('/').next().unwrap_or(path))
}

fn is_below(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

struct Work<'a> {
    rag: &'a Rag,
    kb: &'a str,
    order: &'a FolderOrder,
    folder: String,
    known: BTreeMap<String, DocumentInfo>,
    report: FolderReport,
}

impl Work<'_> {
    async fn file(&mut self, file: &FolderEntry) -> Result<()> {
        let name = file.path.clone();
        let mut list = List::Added;
        if let Some(known) = self.known.get(&name) {
            if known.size == file.size && known.blob == self.hash(&name).await? {
                if known.folder.as_ref() == Some(&self.folder) || self.order.dry_run {
                    self.report.unchanged += 1;
                    return Ok(());
                }
                list = List::Unchanged;
            } else {
                list = List::Changed;
            }
        } else if self.known.keys().any(|known| is_below(known, &name)) {
            list = List::Archives;
        }
        if !self.order.dry_run {
            match self.queue(&name).await {
                Ok(job) => self.report.jobs.push(job),
                Err(Error::Busy { .. }) if !self.report.jobs.is_empty() => {
                    self.report.postponed += 1;
                    return Ok(());
                }
                // One bad file does not keep the others out.
                Err(error) if OF_THE_FILE.contains(&error.code()) => {
                    self.report.refused.push(Refused { name, reason: error.to_string() });
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        match list {
            List::Added => self.report.added.push(name),
            List::Changed => self.report.changed.push(name),
            List::Archives => self.report.archives.push(name),
            List::Unchanged => self.report.unchanged += 1,
        }
        Ok(())
    }

    async fn hash(&self, path: &str) -> Result<BlobHash> {
        let mut file = self.rag.records.open_file(path).await?;
        let mut hasher = Sha256::new();
        while let Some(bytes) = file.read().await? {
            hasher.update(&bytes);
        }
        Ok(BlobHash(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    async fn queue(&self, path: &str) -> Result<Job> {
        let mut file = self.rag.records.open_file(path).await?;
        let mut writer = self.rag.upload().await?;
        while let Some(bytes) = file.read().await? {
            writer.write(bytes).await?;
        }
        let origin = Origin { url: None, folder: Some(self.folder.clone()) };
        self.rag.submit_from(self.kb, path, None, writer, origin).await
    }

    /// Documents of this folder whose file is gone, or the file that they were unpacked from.
    async fn vanished(&mut self, files: &[FolderEntry]) -> Result<()> {
        let there: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let holds = |name: &str| {
            let parts = name.match_indices('/').map(|(at, _)| &name[..at]).chain([name]);
            parts.into_iter().any(|part| there.contains(part))
        };
        let gone = |document: &&DocumentInfo| {
            document.folder.as_ref() == Some(&self.folder) && !holds(&document.name)
        };
        let gone: Vec<(String, DocumentId)> = self
            .known
            .values()
            .filter(gone)
            .map(|document| (document.name.clone(), document.id.clone()))
            .collect();
        self.report.deleted = self.order.delete_missing && !self.order.dry_run;
        for (name, id) in gone {
            if self.report.deleted {
                match self.rag.delete_document(&id).await {
                    // Somebody was faster.
                    Err(error) if error.code() == ErrorCode::NotFound => {}
                    result => result?,
                }
            }
            self.report.vanished.push(name);
        }
        Ok(())
    }
}

/// Where a file is told of.
enum List {
    Added,
    Changed,
    Archives,
    Unchanged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_path_is_told_from_its_neighbours() {
        assert!(is_below("papers/a.md", "papers") && is_below("papers/年/a.zip/b", "papers/年/a.zip"));
        for other in ["papers", "papers2/a.md", "papers-old/a.md", "paper"] {
            assert!(!is_below(other, "papers"), "{other}");
        }
        assert_eq!(
            (label("papers").as_str(), label("papers/年/a.md").as_str()),
            ("server:papers", "server:papers")
        );
    }
}
