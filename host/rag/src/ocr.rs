//! Text recognition by tesseract, in a process of its own for each picture.

mod tsv;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rag_core::ports::{Ocr, OcrImage, OcrLine};
use rag_core::{Error, Result};
use tokio::sync::Semaphore;

use crate::child::{self, Bounds, Fault};
use crate::config;

/// Bytes of the table that tesseract writes for one picture.
const OUTPUT_BYTES_MAX: u64 = 32 << 20;
/// Tesseract's ways to find lines: any number of columns, or one block of text.
const COLUMNS: &str = "3";
const ONE_COLUMN: &str = "6";
/// A clear page is recognised with more than this confidence.
const SURE: f32 = 0.9;
/// Bytes of an encoded picture.
const IMAGE_BYTES_MAX: usize = 64 << 20;

/// The recogniser of this host.
pub(crate) struct Tesseract {
    config: config::outside::Ocr,
    permits: Semaphore,
    /// Found once; looked for again while it is not there, so that installing it needs no restart.
    program: Mutex<Option<Program>>,
}

/// What is installed.
#[derive(Debug, Clone)]
struct Program {
    version: String,
    languages: Vec<String>,
}

impl Tesseract {
    /// None where the configuration names no program.
    pub(crate) fn new(config: config::outside::Ocr) -> Option<Arc<Self>> {
        if config.command.is_empty() {
            return None;
        }
        let permits = Semaphore::new(config.processes.max(1));
        Some(Arc::new(Tesseract { config, permits, program: Mutex::new(None) }))
    }

    /// As one knowledge base uses it.
    pub(crate) fn for_languages(self: &Arc<Self>, languages: &[String]) -> Arc<dyn Ocr> {
        Arc::new(OfKb { engine: self.clone(), languages: languages.to_vec() })
    }

    /// Version and languages; none where it is not installed.
    pub(crate) fn installed(&self) -> Option<(String, Vec<String>)> {
        self.find(None).map(|program| (program.version, program.languages))
    }

    /// What is installed. Looks again when `wanted` was not among its languages.
    fn find(&self, wanted: Option<&[String]>) -> Option<Program> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let known = program.as_ref().is_some_and(|program| {
            wanted.is_none_or(|wanted| wanted.iter().all(|language| program.languages.contains(language)))
        });
        if !known {
            *program = probe(OsStr::new(&self.config.command));
        }
        program.clone()
    }

    async fn recognize(self: &Arc<Self>, image: OcrImage, languages: &[String]) -> Result<Vec<OcrLine>> {
        let word = |language: &String| language.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if languages.is_empty() || !languages.iter().all(|language| !language.is_empty() && word(language)) {
            return Err(Error::invalid("languages are named as tesseract does, such as chi_sim or eng"));
        }
        let program = self.find(Some(languages)).ok_or_else(|| Error::Unsupported {
            message: format!(
                "recognising text in pictures needs {}, which is not installed (Debian: apt install tesseract-ocr tesseract-ocr-chi-sim; setting ocr.command)",
                self.config.command
            ),
        })?;
        if let Some(missing) = languages.iter().find(|language| !program.languages.contains(*language)) {
            return Err(Error::Unsupported {
                message: format!(
                    "text recognition has no data for language '{missing}' (Debian: apt install tesseract-ocr-{})",
                    missing.replace('_', "-")
                ),
            });
        }
        let picture = encode(image)?;
        let _permit = self.permits.acquire().await.map_err(|_| Error::Cancelled)?;
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let (cancelled, engine, joined) = (cancel.0.clone(), self.clone(), languages.join("+"));
        let work = tokio::task::spawn_blocking(move || engine.read(&joined, picture, &cancelled));
        work.await.map_err(|error| Error::internal(error.to_string()))?
    }

    /// Looks for columns first. Where that leaves doubts, the picture is read as one column once more, and the surer
    /// reading is taken: what the search for columns tears apart comes out as noise.
    fn read(&self, languages: &str, picture: Vec<u8>, cancelled: &AtomicBool) -> Result<Vec<OcrLine>> {
        let columns = tsv::lines(&self.run(languages, COLUMNS, picture.clone(), cancelled)?);
        if confidence(&columns) >= SURE {
            return Ok(columns);
        }
        let one = tsv::lines(&self.run(languages, ONE_COLUMN, picture, cancelled)?);
        Ok(if confidence(&one) > confidence(&columns) { one } else { columns })
    }

    fn run(&self, languages: &str, mode: &str, picture: Vec<u8>, cancelled: &AtomicBool) -> Result<String> {
        let bounds = Bounds {
            time: Duration::from_millis(self.config.timeout_ms),
            cpu: Duration::from_millis(self.config.timeout_ms) + Duration::from_secs(1),
            memory_bytes: self.config.memory_bytes_max,
            output_bytes: OUTPUT_BYTES_MAX,
        };
        let command = PathBuf::from(&self.config.command);
        let arguments = ["stdin", "stdout", "-l", languages, "--psm", mode, "tsv"];
        match child::run(command.as_os_str(), &arguments, picture, bounds, cancelled) {
            Ok(table) => Ok(String::from_utf8_lossy(&table).into_owned()),
            Err(Fault::Cancelled) => Err(Error::Cancelled),
            Err(Fault::Time(_)) => Err(Error::Timeout {
                what: "recognising text in one picture".to_owned(),
                limit_ms: self.config.timeout_ms,
                setting: "ocr.timeout_ms",
            }),
            Err(fault) => Err(Error::invalid(format!("text recognition cannot read the picture: {fault}"))),
        }
    }
}

/// Mean confidence of the characters.
fn confidence(lines: &[OcrLine]) -> f32 {
    let chars = |line: &OcrLine| line.text.chars().count() as f32;
    let all: f32 = lines.iter().map(chars).sum();
    lines.iter().map(|line| line.confidence * chars(line)).sum::<f32>() / all.max(1.0)
}

/// Ends the child when the call is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs the program twice to see what it is.
fn probe(command: &OsStr) -> Option<Program> {
    let said = |argument: &str| {
        let output = Command::new(command).arg(argument).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
    };
    let version = said("--version")?.lines().next().unwrap_or_default().trim().to_owned();
    let listed = said("--list-langs")?;
    // The first line says where they lie.
    let languages = listed.lines().skip(1).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
    Some(Program { version, languages: languages.collect() })
}

/// As the program reads it; grey pixels need no compression to pass through a pipe.
fn encode(image: OcrImage) -> Result<Vec<u8>> {
    let bytes = match image {
        OcrImage::Encoded(bytes) => bytes,
        OcrImage::Grey { width, height, pixels } => {
            let mut file = format!("P5\n{width} {height}\n255\n").into_bytes();
            file.extend_from_slice(&pixels);
            file
        }
    };
    if bytes.len() > IMAGE_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "a picture".to_owned(),
            size: bytes.len() as u64,
            limit: IMAGE_BYTES_MAX as u64,
            unit: "bytes",
            setting: "none: this limit is fixed",
        });
    }
    Ok(bytes)
}

/// The recogniser with a knowledge base's languages.
struct OfKb {
    engine: Arc<Tesseract>,
    languages: Vec<String>,
}

#[async_trait]
impl Ocr for OfKb {
    fn identity(&self) -> String {
        let version = self.engine.find(None).map_or_else(|| "none".to_owned(), |program| program.version);
        format!("ocr {version} {}", self.languages.join("+"))
    }

    async fn recognize(&self, image: OcrImage, languages: &[String]) -> Result<Vec<OcrLine>> {
        let languages = if languages.is_empty() { &self.languages } else { languages };
        self.engine.recognize(image, languages).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the program that answers with a table, whatever it gets.
    fn fake(dir: &std::path::Path, body: &str) -> config::outside::Ocr {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join("tesseract");
        let script = format!(
            "#!/bin/sh\ncase $1 in\n--version) echo 'fake 1.0';;\n--list-langs) printf 'List (2):\\nchi_sim\\neng\\n';;\n*) {body};;\nesac\n"
        );
        fs_err::write(&path, script).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let command = path.display().to_string();
        config::outside::Ocr { command, ..Default::default() }
    }

    fn grey() -> OcrImage {
        OcrImage::Grey { width: 2, height: 1, pixels: vec![0, 255] }
    }

    #[tokio::test]
    async fn a_picture_passes_through_the_program() {
        let dir = tempfile::tempdir().unwrap();
        // Answers with what it was given: arguments and the picture's first line.
        let config = fake(dir.path(), r#"printf "5\t1\t1\t1\t1\t1\t3\t4\t50\t20\t96.5\t$4 $(head -n 1)\n""#);
        let engine = Tesseract::new(config).unwrap();
        let ocr = engine.for_languages(&["chi_sim".to_owned(), "eng".to_owned()]);
        assert_eq!(ocr.identity(), "ocr fake 1.0 chi_sim+eng");
        let lines = ocr.recognize(grey(), &[]).await.unwrap();
        assert_eq!(lines[0].text, "chi_sim+eng P5");
        assert_eq!((lines[0].area.x, lines[0].area.height), (3.0, 20.0));
        let missing = ocr.recognize(grey(), &["jpn".to_owned()]).await.unwrap_err();
        assert!(missing.to_string().contains("tesseract-ocr-jpn"), "{missing}");
        let bad = ocr.recognize(grey(), &["../x".to_owned()]).await.unwrap_err();
        assert!(matches!(bad, Error::InvalidInput { .. }), "{bad}");
    }

    #[tokio::test]
    async fn a_doubtful_reading_is_tried_as_one_column() {
        let dir = tempfile::tempdir().unwrap();
        // Mode 3 is torn apart, mode 6 is clear: the mode is the sixth argument.
        let row =
            |sure: u32, text: &str| format!(r#"printf "5\t1\t1\t1\t1\t1\t3\t4\t50\t20\t{sure}\t{text}\n""#);
        for (three, six, expected) in [(60, 95, "six"), (60, 50, "three"), (95, 99, "three")] {
            let body = format!("if [ $6 = 3 ]; then {}; else {}; fi", row(three, "three"), row(six, "six"));
            let ocr = Tesseract::new(fake(dir.path(), &body)).unwrap().for_languages(&["eng".to_owned()]);
            assert_eq!(ocr.recognize(grey(), &[]).await.unwrap()[0].text, expected);
        }
    }

    #[tokio::test]
    async fn its_failures_have_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let config = fake(dir.path(), "echo 'Error in pixReadMem: no pix' >&2; exit 1");
        let error =
            Tesseract::new(config).unwrap().for_languages(&["eng".to_owned()]).recognize(grey(), &[]).await;
        assert!(error.as_ref().unwrap_err().to_string().contains("no pix"), "{error:?}");
        let mut config = fake(dir.path(), "while :; do :; done");
        config.timeout_ms = 50;
        let error =
            Tesseract::new(config).unwrap().for_languages(&["eng".to_owned()]).recognize(grey(), &[]).await;
        assert!(matches!(error, Err(Error::Timeout { .. })), "{error:?}");
        let absent = config::outside::Ocr { command: "/no/such/program".to_owned(), ..Default::default() };
        let engine = Tesseract::new(absent).unwrap();
        assert!(engine.installed().is_none());
        let ocr = engine.for_languages(&["eng".to_owned()]);
        assert_eq!(ocr.identity(), "ocr none eng");
        let error = ocr.recognize(grey(), &[]).await.unwrap_err();
        assert!(error.to_string().contains("apt install tesseract-ocr"), "{error}");
        let off = config::outside::Ocr { command: String::new(), ..Default::default() };
        assert!(Tesseract::new(off).is_none());
    }
}
