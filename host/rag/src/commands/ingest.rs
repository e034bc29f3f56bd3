//! Documents in: files, folders or a text become jobs, and the jobs are followed to their end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{cell, escape, sync};
use crate::cli::Ingest;
use crate::client::Client;
use crate::output::{self, Progress};

/// Documents that are handed over before the first of them is done, so that the host is never without one.
const HANDED_OVER: usize = 32;
/// What is a zip archive to look at and one document all the same.
const ZIPPED: [&str; 9] = ["docx", "docm", "pptx", "xlsx", "xlsm", "odt", "ods", "odp", "epub"];

/// What one document is made of.
pub(crate) enum Source {
    /// Without a type the host finds it out.
    File {
        path: PathBuf,
        name: String,
        media_type: Option<String>,
        /// The folder that it was found in.
        folder: Option<String>,
    },
    Text {
        text: String,
        name: String,
    },
    Web(Crawl),
}

/// An address of the web, and how far to go from there.
pub(crate) struct Crawl {
    url: String,
    depth: u32,
    pages: Option<u32>,
    other_hosts: bool,
}

pub(crate) async fn run(client: &Client, args: Ingest, json: bool) -> Result<()> {
    if args.sync {
        return sync::run(client, &args, json).await;
    }
    let (results, failed) = put_all(client, &args.kb, sources(&args)?, !args.no_wait).await;
    if json {
        output::json(&json!({"kb": args.kb, "jobs": results}));
    } else {
        summary(&args, &results);
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} documents failed", results.len()),
    }
}

/// Hands documents over in their order and follows their jobs to the end, or only hands them over. A row for each, and
/// how many failed: one bad file does not keep the others out.
pub(crate) async fn put_all(
    client: &Client,
    kb: &str,
    sources: Vec<Source>,
    wait: bool,
) -> (Vec<Value>, usize) {
    let (mut sources, mut handed) = (sources.into_iter().peekable(), VecDeque::new());
    let (mut rows, mut failed) = (Vec::new(), 0);
    loop {
        // What brings further documents stands alone: they are told from others by their place in the queue.
        let alone = handed.front().is_some_and(|handed: &Handed| handed.brings);
        let brings = sources.peek().is_some_and(Source::brings_others);
        let room = handed.is_empty() || (!alone && !brings && handed.len() < HANDED_OVER);
        if let Some(source) = sources.next_if(|_| room) {
            handed.push_back(Handed::over(client, kb, source).await);
            continue;
        }
        let Some(next) = handed.pop_front() else { return (rows, failed) };
        let name = next.name.clone();
        let result = if wait { next.ended(client, kb).await } else { next.job };
        rows.push(result.unwrap_or_else(|error| {
            failed += 1;
            output::error(&error.context(name.clone()));
            json!({"name": name, "state": "failed"})
        }));
    }
}

/// A document that the host has, or refused.
struct Handed {
    name: String,
    crawl: bool,
    brings: bool,
    job: Result<Value>,
}

impl Handed {
    async fn over(client: &Client, kb: &str, source: Source) -> Self {
        let (name, crawl) = (source.name().to_owned(), matches!(source, Source::Web(_)));
        let brings = source.brings_others();
        Handed { name, crawl, brings, job: submit(client, kb, source).await }
    }

    async fn ended(self, client: &Client, kb: &str) -> Result<Value> {
        let job = self.job?;
        let mut last = follow(client, &self.name, &job).await?;
        if self.crawl {
            last["pages"] = queued_by(client, kb, &job).await?.into();
        } else if self.brings
            && last["kind"] == "ingest"
            && (last["document"].is_null() || is_mail(&self.name))
        {
            last["files"] = queued_by(client, kb, &job).await?.into();
        }
        Ok(last)
    }
}

impl Source {
    /// Whether it may hold documents of its own: a part of the web, an archive, a mail.
    fn brings_others(&self) -> bool {
        match self {
            Source::Web(_) => true,
            Source::Text { .. } => false,
            Source::File { path, name, .. } => is_mail(name) || is_archive(path),
        }
    }
}

fn is_archive(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    let mut head = [0; 2];
    let read = fs_err::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head == *b"PK" && !ZIPPED.contains(&end.as_str())
}

/// What may hold files that are documents of their own, though it is one itself.
fn is_mail(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("eml"))
}

/// The jobs of the pages that a crawl saved, or of the files of an archive, each followed to its end.
async fn queued_by(client: &Client, kb: &str, cause: &Value) -> Result<Vec<Value>> {
    let (mut ended, mut failed) = (Vec::new(), 0);
    // One list holds 1000 jobs: what it left out is still queued when those are done.
    let mut filter = "";
    loop {
        let listed = client.get(&format!("/api/v1/jobs?kb={}&limit=1000{filter}", escape(kb))).await?;
        // Newest first; what came after the cause in this knowledge base is mostly its own.
        let later = |job: &&Value| job["kind"] == "ingest" && cell(&job["id"]) > cell(&cause["id"]);
        let jobs: Vec<&Value> = super::list(&listed, "jobs").iter().filter(later).collect();
        for job in jobs.iter().rev() {
            match follow(client, &cell(&job["name"]), job).await {
                Ok(last) => ended.push(last),
                Err(error) => {
                    failed += 1;
                    output::error(&error.context(cell(&job["name"])));
                }
            }
        }
        if jobs.is_empty() || (filter.is_empty() && jobs.len() < 900) {
            break;
        }
        filter = "&state=queued";
    }
    match failed {
        0 => Ok(ended),
        _ => bail!("{failed} of {} documents failed", ended.len() + failed),
    }
}

/// Shows a job's progress until it ends; an error when it fails.
async fn follow(client: &Client, name: &str, job: &Value) -> Result<Value> {
    let mut progress = Progress::new(name);
    let mut last = job.clone();
    let events = client.get_stream(&format!("/api/v1/jobs/{}/events", cell(&job["id"]))).await?;
    events
        .events(|name, job| {
            progress
                .set(job["percent"].as_u64().unwrap_or_default(), job["stage"].as_str().unwrap_or_default());
            if let Some(reason) = waits_for(&job) {
                progress.waits(reason);
            }
            last = job;
            Ok(name != "end")
        })
        .await?;
    match last["state"].as_str() {
        Some("done") if last["unchanged"] == true => progress.finish("unchanged"),
        Some("done") => progress.finish("done"),
        Some("cancelled") => bail!("the job was cancelled"),
        Some("failed") => bail!("{}", cell(&last["error"])),
        _ => bail!("the host stopped while the job ran; it goes on with the next start"),
    }
    Ok(last)
}

/// What a queued job failed at before; it is tried again.
fn waits_for(job: &Value) -> Option<&str> {
    job["error"].as_str().filter(|_| job["state"] == "queued")
}

async fn submit(client: &Client, kb: &str, source: Source) -> Result<Value> {
    let mut target = format!("/api/v1/kbs/{}/documents?name={}", escape(kb), escape(source.name()));
    let body = match source {
        Source::Text { text, .. } => {
            target.push_str("&media_type=text%2Fplain");
            reqwest::Body::from(text)
        }
        Source::Web(crawl) => {
            let order = json!({
                "url": crawl.url,
                "depth": crawl.depth,
                "pages_max": crawl.pages,
                "same_host": !crawl.other_hosts,
            });
            return client.post(&format!("/api/v1/kbs/{}/web", escape(kb)), &order).await;
        }
        Source::File { path, media_type, folder, .. } => {
            if let Some(folder) = folder {
                target.push_str(&format!("&folder={}", escape(&folder)));
            }
            if let Some(media_type) = media_type {
                target.push_str(&format!("&media_type={}", escape(&media_type)));
            }
            let file = tokio::fs::File::open(&path).await.with_context(|| path.display().to_string())?;
            reqwest::Body::from(file)
        }
    };
    let mut answer = client.post_file(&target, body).await?;
    Ok(answer["jobs"][0].take())
}

fn sources(args: &Ingest) -> Result<Vec<Source>> {
    if let (Some(text), Some(name)) = (&args.text, &args.name) {
        return Ok(vec![Source::Text { text: text.clone(), name: name.clone() }]);
    }
    let mut found = Vec::new();
    for path in &args.paths {
        let address =
            path.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"));
        if let Some(url) = address {
            found.push(Source::Web(Crawl {
                url: url.to_owned(),
                depth: args.depth,
                pages: args.pages,
                other_hosts: args.other_hosts,
            }));
        } else if path.is_dir() {
            found.extend(files_below(path)?);
        } else if path.is_file() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            found.push(Source::File { path: path.clone(), name, media_type: None, folder: None });
        } else {
            bail!("{} is neither a file, a folder nor an address", path.display());
        }
    }
    if found.is_empty() {
        bail!("there is no file to ingest");
    }
    Ok(found)
}

/// Files below a folder in name order, named by their path within it; hidden ones and links are left out.
pub(crate) fn files_below(root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    folder(root, root, &folder_label(root)?, &mut found)?;
    Ok(found)
}

/// What documents say of the folder that they came from: this computer's name and the folder's place.
pub(crate) fn folder_label(root: &Path) -> Result<String> {
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(format!("{}:{}", host.trim(), fs_err::canonicalize(root)?.display()))
}

fn folder(root: &Path, dir: &Path, label: &str, found: &mut Vec<Source>) -> Result<()> {
    let mut entries: Vec<_> = fs_err::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if entry.file_name().to_string_lossy().starts_with('.') || kind.is_symlink() {
            continue;
        }
        let path = entry.path();
        if kind.is_dir() {
            folder(root, &path, label, found)?;
        } else if kind.is_file() {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            found.push(Source::File { path, name, media_type: None, folder: Some(label.to_owned()) });
        }
    }
    Ok(())
}

fn summary(args: &Ingest, results: &[Value]) {
    let count = |want: &dyn Fn(&Value) -> bool| results.iter().filter(|row| want(row)).count();
    let unchanged = count(&|row| row["unchanged"] == true);
    let done = count(&|row| row["state"] == "done") - unchanged;
    let queued = count(&|row| row["state"] == "queued" || row["state"] == "running");
    let mut words = vec![format!("{done} ingested")];
    if unchanged > 0 {
        words.push(format!("{unchanged} unchanged"));
    }
    if queued > 0 {
        words.push(format!("{queued} queued"));
    }
    output::line(format_args!("{}: {}", args.kb, words.join(", ")));
}

impl Source {
    pub(crate) fn name(&self) -> &str {
        match self {
            Source::File { name, .. } | Source::Text { name, .. } => name,
            Source::Web(crawl) => &crawl.url,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::waits_for;

    #[test]
    fn a_job_that_is_tried_again_says_why_and_one_that_ended_or_is_new_does_not() {
        for (state, error, expected) in [
            ("queued", json!("granted no server"), Some("granted no server")),
            ("queued", json!(null), None),
            ("running", json!("granted no server"), None),
            ("failed", json!("granted no server"), None),
        ] {
            assert_eq!(waits_for(&json!({ "state": state, "error": error })), expected, "{state} {error}");
        }
    }
}
