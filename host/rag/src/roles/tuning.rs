//! Training data for RWKV-RAG's clients: jsonl in, binidx out, within folders that the configuration names.

use std::io::{BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rag_bus::commands::tuning::{MakeData, Method, Source, Tuning};
use rag_bus::{Request, Value};
use rag_core::{Error, Result};
use rag_engine::tokenizer::Tokenizer;
use rag_tune::{Settings, make_data};
use sha2::{Digest, Sha256};

use crate::assemble;
use crate::config::Config;

/// Makes data sets; what trains is not part of this system yet.
pub(super) struct DataSets {
    tokenizer: Arc<Tokenizer>,
    /// Where data sets are written, and read from.
    dir: PathBuf,
    /// Further folders to read from.
    roots: Vec<PathBuf>,
}

impl DataSets {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let dir = match config.bus.tuning_dir.as_os_str().is_empty() {
            true => config.data_dir()?.join("tuning"),
            false => config.bus.tuning_dir.clone(),
        };
        fs_err::create_dir_all(&dir)?;
        let roots = config.data.ingest_roots.iter().map(fs_err::canonicalize);
        Ok(DataSets {
            tokenizer: Arc::new(Tokenizer::load(&assemble::model_file(config, &config.models.vocabulary)?)?),
            dir: fs_err::canonicalize(dir)?,
            roots: roots.collect::<std::io::Result<_>>()?,
        })
    }

    /// An existing path below one of the folders, after links are resolved; relative ones are below the first.
    fn below(&self, path: &str, folders: &[PathBuf]) -> Result<PathBuf> {
        let path = self.dir.join(path);
        let found = fs_err::canonicalize(&path).map_err(|_| outside(&path, folders))?;
        if folders.iter().any(|folder| found.starts_with(folder)) {
            Ok(found)
        } else {
            Err(outside(&path, folders))
        }
    }

    fn prefix(&self, request: &MakeData) -> Result<PathBuf> {
        let own = std::slice::from_ref(&self.dir);
        let folder = match &request.output {
            None => self.dir.clone(),
            Some(output) => self.below(output, own)?,
        };
        Ok(match &request.source {
            Source::File(file) => folder.join(Path::new(file).file_stem().unwrap_or_default()),
            // The same text has the same name, so that a repeated request writes nothing new.
            Source::Lines(lines) => {
                let hash = Sha256::digest(lines.as_bytes());
                let hash: String = hash.iter().take(7).map(|byte| format!("{byte:02X}")).collect();
                folder.join(hash)
            }
        })
    }
}

/// One answer for what is not there and what is not allowed: nobody learns which files exist.
fn outside(path: &Path, folders: &[PathBuf]) -> Error {
    let listed: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Error::Denied {
        message: format!(
            "{} is not below {} (settings bus.tuning_dir, data.ingest_roots)",
            path.display(),
            listed.join(" or ")
        ),
    }
}

#[async_trait]
impl Tuning for DataSets {
    async fn make_data(&self, request: MakeData) -> Result<String> {
        let prefix = self.prefix(&request)?;
        let source: Box<dyn BufRead + Send> = match request.source {
            Source::Lines(lines) => Box::new(Cursor::new(lines)),
            Source::File(file) => {
                let folders: Vec<PathBuf> = std::iter::once(&self.dir).chain(&self.roots).cloned().collect();
                let file = fs_err::File::open(self.below(&file, &folders)?);
                let file = file.map_err(|error| Error::Storage { message: error.to_string() })?;
                Box::new(BufReader::new(file))
            }
        };
        let settings = Settings {
            copies: request.copies,
            context_tokens: u64::from(request.context_tokens),
            ..Settings::default()
        };
        let (tokenizer, to) = (self.tokenizer.clone(), prefix.clone());
        let making = tokio::task::spawn_blocking(move || {
            make_data(source, &|text| tokenizer.encode(text), &settings, &to)
        });
        making.await.map_err(|error| Error::internal(error.to_string()))??;
        Ok(prefix.display().to_string())
    }

    async fn train(&self, method: Method, _: &Request) -> Result<Value> {
        let method = match method {
            Method::State => "state tuning",
            Method::Lora => "LoRA",
            Method::Pissa => "PiSSA",
        };
        Err(Error::Unsupported {
            message: format!(
                "{method} is not part of this service yet: make the data here (MAKE_DATA) and train with RWKV-PEFT"
            ),
        })
    }

    fn config(&self) -> Value {
        Value::map([("output_path", self.dir.display().to_string().into())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_sets(dir: &Path) -> DataSets {
        let config = Config {
            models: crate::config::Models {
                dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"),
                ..Default::default()
            },
            data: crate::config::Data { dir: dir.to_owned(), ..Default::default() },
            ..Config::default()
        };
        DataSets::new(&config).unwrap()
    }

    fn request(source: Source, output: Option<&str>) -> MakeData {
        MakeData { source, output: output.map(str::to_owned), copies: 2, context_tokens: 8 }
    }

    #[tokio::test]
    async fn data_is_made_within_the_folder_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let sets = data_sets(dir.path());
        let line = r#"{"text": "User: 你好\n\nAssistant: hello"}"#;
        let lines = || Source::Lines(line.to_owned());
        let made = sets.make_data(request(lines(), None)).await.unwrap();
        let written = rag_tune::dataset::binidx::Binidx::open(Path::new(&made)).unwrap();
        assert_eq!(written.len(), 2);
        assert_eq!(sets.make_data(request(lines(), None)).await.unwrap(), made);
        fs_err::write(sets.dir.join("a.jsonl"), line).unwrap();
        let made = sets.make_data(request(Source::File("a.jsonl".into()), None)).await.unwrap();
        assert_eq!(Path::new(&made), sets.dir.join("a"));
        for bad in
            [request(lines(), Some("/etc")), request(lines(), Some("../..")), request(lines(), Some("none"))]
        {
            assert!(matches!(sets.make_data(bad).await, Err(Error::Denied { .. })));
        }
        let foreign = request(Source::File("/etc/passwd".into()), None);
        assert!(matches!(sets.make_data(foreign).await, Err(Error::Denied { .. })));
    }
}
