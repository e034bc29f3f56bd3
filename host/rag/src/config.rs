//! Every setting: its default, its unit, and where it may come from (file, then environment, then flags).

pub(crate) mod bus;
pub(crate) mod outside;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rag_core::relevance::{Floor, RelevanceMin};
use serde::{Deserialize, Serialize};

use crate::compile::CompileLimits;

/// Identities of the encoder that the default floors were measured with begin so.
const MEASURED_WITH: &str = "multilingual-e5-small@";
/// Prefix of environment variables: `RWKV_RAG__SERVER__LISTEN` sets `server.listen`.
const ENV_PREFIX: &str = "RWKV_RAG__";

/// The whole configuration, as in `etc/rag.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) data: Data,
    pub(crate) models: Models,
    pub(crate) plugins: Plugins,
    pub(crate) egress: outside::Egress,
    pub(crate) web: outside::Web,
    pub(crate) ocr: outside::Ocr,
    pub(crate) retrieval: Retrieval,
    pub(crate) tuning: Tuning,
    pub(crate) bus: bus::Bus,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Address of the HTTP API and the page; port 0 takes a free one and prints it.
    pub(crate) listen: SocketAddr,
    /// Further names that the Host header may carry, e.g. the machine's name behind a proxy.
    pub(crate) allowed_hosts: Vec<String>,
    /// Whether the session cookie is for TLS only; set it behind a TLS proxy.
    pub(crate) cookie_secure: bool,
    pub(crate) requests_max: usize,
    pub(crate) session_minutes: u64,
    pub(crate) shutdown_grace_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Data {
    /// Where everything is kept; empty takes the user's data folder.
    pub(crate) dir: PathBuf,
    /// Size of one original at most, in bytes.
    pub(crate) document_bytes_max: u64,
    /// Files of an uploaded archive, and what they unpack to in bytes, archives within it included.
    pub(crate) archive_files_max: u64,
    pub(crate) archive_bytes_max: u64,
    /// Bytes of a knowledge base's file that is imported, and of what it unpacks to.
    pub(crate) bundle_bytes_max: u64,
    pub(crate) jobs_queued_max: usize,
    /// Ingest stops below this much free space, in bytes.
    pub(crate) disk_free_min_bytes: u64,
    /// Connections that read while one writes.
    pub(crate) readers: usize,
    /// Folders of this machine whose files may be ingested by path; each is known by its last part.
    pub(crate) ingest_roots: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Models {
    /// Folder of model files; empty looks beside the program, then in `./models`.
    pub(crate) dir: PathBuf,
    /// Further folders whose files may be added as models.
    pub(crate) roots: Vec<PathBuf>,
    /// The hub that `model pull` fetches from, or a mirror of it; empty fetches nothing.
    pub(crate) hub: String,
    /// Where fetched models are kept; empty is `models` in the data folder.
    pub(crate) downloads: PathBuf,
    /// Where added models and what was chosen are kept; empty is `models.json` in the data folder.
    pub(crate) registry: PathBuf,
    /// Embedding model, which reranks too: a file or an encoder's folder below the folder, or an absolute path.
    pub(crate) encoder: PathBuf,
    /// Cross-encoder that reranks, likewise; empty reranks with the encoder's token vectors.
    pub(crate) reranker: PathBuf,
    /// Further encoders and rerankers, chosen by knowledge bases, in memory at a time.
    pub(crate) encoders_max: usize,
    /// Language model, likewise: `.pth`, `.safetensors` or our quantised format.
    pub(crate) language: PathBuf,
    /// Format that a checkpoint's matrices are converted to at load: `int8`, `int4` or `nf4`; empty keeps them.
    pub(crate) quantize: String,
    /// Whether the language head gets this format too; else it gets 8 bits at least.
    pub(crate) quantize_head: bool,
    /// Where the language model computes: `auto`, `cpu`, `cuda:N`, several of these with commas between, or `cuda:all`.
    pub(crate) device: String,
    /// Where each encoder and reranker computes: `auto`, `cpu` or `cuda:N`.
    pub(crate) encoder_device: String,
    /// Tuned state that every answer starts from; empty is none.
    pub(crate) state: PathBuf,
    /// LoRA, PiSSA or bone adapter that answers are written under; empty is none.
    pub(crate) adapter: PathBuf,
    /// LoRA's alpha; 0 for PiSSA, which has none.
    pub(crate) adapter_alpha: f64,
    /// PiSSA's `init_pissa.pth`; empty for LoRA.
    pub(crate) adapter_start: PathBuf,
    /// World vocabulary.
    pub(crate) vocabulary: PathBuf,
    /// Whether answers are marked as a demonstration model's.
    pub(crate) demonstration: bool,
    /// Threads of each engine; 0 takes all cores.
    pub(crate) threads: usize,
    /// Requests that may wait for an engine.
    pub(crate) queue_max: usize,
    /// Answers written at the same time.
    pub(crate) slots: usize,
    /// For the states of known prompts, in bytes: memory, and disk in the data folder's `states` (0 keeps none there).
    pub(crate) state_cache_bytes: usize,
    pub(crate) state_cache_disk_bytes: u64,
    /// Tokens embedded in one batch at most.
    pub(crate) batch_tokens_max: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plugins {
    /// Folder of components; empty looks beside the program, then in `./plugins/dist`.
    pub(crate) dir: PathBuf,
    /// Threads that run components; 0 takes one less than the cores.
    pub(crate) threads: usize,
    /// Servers that plugins may ask.
    pub(crate) http: Vec<outside::HttpGrant>,
    /// Databases that plugins may use.
    pub(crate) sql: Vec<outside::SqlGrant>,
    /// Bounds of compiling a component.
    pub(crate) compile: CompileLimits,
    /// Bounds of every call of a component.
    pub(crate) limits: rag_wasm::Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retrieval {
    /// A reranked passage scoring below this is no match.
    pub(crate) relevance_min_rerank: f64,
    /// Likewise when question and passage are Chinese.
    pub(crate) relevance_min_rerank_chinese: f64,
    /// Likewise for the cosine of a passage that nothing reranked.
    pub(crate) relevance_min_dense: f64,
    pub(crate) relevance_min_dense_chinese: f64,
}

impl Retrieval {
    /// The floors for models of these identities. The defaults were measured with the shipped encoder and mean nothing
    /// for another one: there they are off, unless they were set to other values.
    pub(crate) fn floors(&self, embedder: &str, reranker: &str) -> RelevanceMin {
        let usual = Retrieval::default();
        let floor = |measured: bool, [other, chinese]: [(f64, f64); 2]| {
            let of = |(set, usual): (f64, f64)| {
                if measured || set != usual { set as f32 } else { f32::NEG_INFINITY }
            };
            Floor { chinese: of(chinese), other: of(other) }
        };
        let ours = |identity: &str| identity.starts_with(MEASURED_WITH);
        let reranks = ours(reranker.strip_prefix("maxsim:").unwrap_or_default());
        let rerank = [
            (self.relevance_min_rerank, usual.relevance_min_rerank),
            (self.relevance_min_rerank_chinese, usual.relevance_min_rerank_chinese),
        ];
        let dense = [
            (self.relevance_min_dense, usual.relevance_min_dense),
            (self.relevance_min_dense_chinese, usual.relevance_min_dense_chinese),
        ];
        RelevanceMin { rerank: floor(reranks, rerank), dense: floor(ours(embedder), dense) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tuning {
    /// What trains: auto, cpu or cuda:N.
    pub(crate) device: String,
    /// Threads that train; 0 takes half of the cores, so that answers go on meanwhile.
    pub(crate) threads: usize,
    /// Jobs that wait; more are refused.
    pub(crate) queue_max: usize,
    /// Where curves go beside the job's own files: nowhere, a folder for `wandb sync`, or to wandb itself as well.
    pub(crate) tracker: TrackerKind,
    pub(crate) tracker_project: String,
    pub(crate) tracker_url: String,
    /// A file with the key; needed for `wandb`.
    pub(crate) tracker_key_file: PathBuf,
}

/// Who follows trainings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrackerKind {
    None,
    WandbOffline,
    Wandb,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// As tracing's filters: `info`, `rag_wasm=debug,info`, …
    pub(crate) filter: String,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8780)),
            allowed_hosts: Vec::new(),
            cookie_secure: false,
            requests_max: 256,
            session_minutes: 720,
            shutdown_grace_ms: 5_000,
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            dir: PathBuf::new(),
            document_bytes_max: 256 << 20,
            archive_files_max: 5_000,
            archive_bytes_max: 2 << 30,
            bundle_bytes_max: 64 << 30,
            jobs_queued_max: 10_000,
            disk_free_min_bytes: 256 << 20,
            readers: 4,
            ingest_roots: Vec::new(),
        }
    }
}

impl Default for Models {
    fn default() -> Self {
        Models {
            dir: PathBuf::new(),
            roots: Vec::new(),
            hub: "https://huggingface.co".to_owned(),
            downloads: PathBuf::new(),
            registry: PathBuf::new(),
            encoder: "e5-small.safetensors".into(),
            reranker: PathBuf::new(),
            encoders_max: 2,
            language: "rwkv6-demo.safetensors".into(),
            quantize: String::new(),
            quantize_head: false,
            device: "auto".to_owned(),
            encoder_device: "auto".to_owned(),
            state: PathBuf::new(),
            adapter: PathBuf::new(),
            adapter_alpha: 0.0,
            adapter_start: PathBuf::new(),
            vocabulary: "rwkv_vocab_v20230424.txt".into(),
            demonstration: true,
            threads: 0,
            queue_max: 64,
            slots: 8,
            state_cache_bytes: 64 << 20,
            state_cache_disk_bytes: 0,
            batch_tokens_max: 4_096,
        }
    }
}

impl Default for Retrieval {
    fn default() -> Self {
        Retrieval {
            relevance_min_rerank: 0.77,
            relevance_min_rerank_chinese: 0.83,
            relevance_min_dense: 0.795,
            relevance_min_dense_chinese: 0.865,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            device: "auto".to_owned(),
            threads: 0,
            queue_max: 32,
            tracker: TrackerKind::None,
            tracker_project: "rwkv-rag".into(),
            tracker_url: "https://api.wandb.ai".into(),
            tracker_key_file: PathBuf::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into() }
    }
}

impl Config {
    /// Reads the file (or takes the defaults), then the environment.
    pub(crate) fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut given = match file {
            Some(path) => {
                let text = fs_err::read_to_string(path)?;
                text.parse::<toml::Table>()
                    .with_context(|| format!("{} is not valid TOML", path.display()))?
            }
            None => toml::Table::new(),
        };
        for (name, value) in env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                set(&mut given, key, &value).with_context(|| format!("environment variable {name}"))?;
            }
        }
        let shown = file.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
        let mut table = toml::Table::try_from(Config::default())?;
        merge(&mut table, given);
        let config: Config = toml::Value::Table(table).try_into().with_context(|| format!("in {shown}"))?;
        no_zero("plugins.compile", &toml::Value::try_from(&config.plugins.compile)?)
            .and_then(|()| no_zero("plugins.limits", &toml::Value::try_from(&config.plugins.limits)?))
            .with_context(|| format!("in {shown}"))?;
        Ok(config)
    }

    /// The data folder.
    pub(crate) fn data_dir(&self) -> Result<PathBuf> {
        if !self.data.dir.as_os_str().is_empty() {
            return Ok(self.data.dir.clone());
        }
        let home = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        match home("XDG_DATA_HOME").or_else(|| home("HOME").map(|home| home.join(".local/share"))) {
            Some(base) => Ok(base.join("rwkv-rag")),
            None => bail!("no data folder: set data.dir, RWKV_RAG__DATA__DIR or --data-dir"),
        }
    }

    /// The folder of model files.
    pub(crate) fn models_dir(&self) -> PathBuf {
        shipped(&self.models.dir, "models", "models")
    }

    /// The folder of fetched models.
    pub(crate) fn downloads_dir(&self) -> Result<PathBuf> {
        if self.models.downloads.as_os_str().is_empty() {
            return Ok(self.data_dir()?.join("models"));
        }
        Ok(self.models.downloads.clone())
    }

    /// The folder of components.
    pub(crate) fn plugins_dir(&self) -> PathBuf {
        shipped(&self.plugins.dir, "plugins", "plugins/dist")
    }

    /// Threads of an engine.
    pub(crate) fn engine_threads(&self) -> usize {
        match self.models.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Threads that run components.
    pub(crate) fn plugin_threads(&self) -> usize {
        match self.plugins.threads {
            0 => std::thread::available_parallelism()
                .map_or(1, |cores| usize::from(cores).saturating_sub(1).max(1)),
            threads => threads,
        }
    }
}

/// What is installed with the program stands in `share/rwkv-rag` beside its `bin`; in a checkout, in the checkout.
fn shipped(configured: &Path, name: &str, in_checkout: &str) -> PathBuf {
    if !configured.as_os_str().is_empty() {
        return configured.to_owned();
    }
    let program = std::env::current_exe().ok();
    let share = program.and_then(|exe| Some(exe.parent()?.parent()?.join("share/rwkv-rag").join(name)));
    share.filter(|dir| dir.is_dir()).unwrap_or_else(|| PathBuf::from(in_checkout))
}

/// Puts `SECTION__KEY` into the table; the value is TOML where it parses as such, text otherwise.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let lower = key.to_ascii_lowercase();
    let Some((path, key)) = lower.rsplit_once("__") else {
        bail!("use {ENV_PREFIX}SECTION__KEY");
    };
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut section = table;
    for name in path.split("__") {
        let entry = section.entry(name.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(inner) = entry else { bail!("'{name}' is not a section") };
        section = inner;
    }
    section.insert(key.to_owned(), value);
    Ok(())
}

/// Puts what is given over the defaults, section by section.
fn merge(defaults: &mut toml::Table, given: toml::Table) {
    for (key, value) in given {
        match (defaults.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(given)) => merge(inner, given),
            (_, value) => {
                defaults.insert(key, value);
            }
        }
    }
}

/// A limit of 0 would refuse everything; with two instances, two parsers could wait for their chunkers for ever.
fn no_zero(name: &str, value: &toml::Value) -> Result<()> {
    let least = if name == "plugins.limits.instances_max" { 3 } else { 1 };
    match value {
        toml::Value::Table(table) => {
            table.iter().try_for_each(|(key, v)| no_zero(&format!("{name}.{key}"), v))
        }
        toml::Value::Integer(number) if *number < least => {
            bail!("{name} must be at least {least}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("rag.toml");
        fs_err::write(&path, text)?;
        Config::load(Some(&path), env.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_file_the_defaults() {
        let env =
            [("RWKV_RAG__SERVER__LISTEN", "127.0.0.1:1"), ("RWKV_RAG__MODELS__SLOTS", "3"), ("HOME", "x")];
        let config = load("[server]\nlisten = '127.0.0.1:2'\n[models]\nthreads = 5", &env).unwrap();
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!((config.models.slots, config.models.threads), (3, 5));
        assert_eq!(config.data, Data::default());
    }

    #[test]
    fn one_limit_of_one_kind_can_be_changed() {
        let env = [("RWKV_RAG__PLUGINS__LIMITS__PARSER__CPU_MS_MAX", "90000")];
        let limits =
            load("[plugins.limits]\ntick_ms = 5\n[plugins.limits.chunker]\ncpu_ms_max = 9", &env).unwrap();
        let mut expected = rag_wasm::Limits::default();
        (expected.tick_ms, expected.chunker.cpu_ms_max, expected.parser.cpu_ms_max) = (5, 9, 90_000);
        assert_eq!(limits.plugins.limits, expected);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, env: &[(&str, &str)], want: &str| {
            let error = format!("{:#}", load(text, env).unwrap_err());
            assert!(error.contains(want), "{error}");
        };
        check("[server]\nlisen = 'x'", &[], "lisen");
        check("[server]\nlisten = 'x'", &[], "listen");
        check("[server", &[], "rag.toml");
        check("", &[("RWKV_RAG__SERVER", "x")], "RWKV_RAG__SECTION__KEY");
        check("", &[("RWKV_RAG__MODELS__SLOTS", "many")], "slots");
        check("[plugins.limits.chunker]\ncpu_ms = 1", &[], "cpu_ms");
        check("[plugins.limits.chunker]\ncpu_ms_max = 0", &[], "chunker.cpu_ms_max must be at least 1");
        check("[plugins.limits]\ninstances_max = 2", &[], "instances_max must be at least 3");
        check("[plugins]\ndir = 'x'", &[("RWKV_RAG__PLUGINS__DIR__X", "1")], "'dir' is not a section");
    }

    #[test]
    fn every_example_file_loads() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc"));
        let files = fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let examples: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
        assert!(examples.len() > 1);
        for path in examples {
            Config::load(Some(&path), [("HOME".to_owned(), "/tmp".to_owned())].into_iter()).unwrap();
        }
    }

    #[test]
    fn the_example_file_holds_exactly_the_defaults() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/rag.toml"));
        let text = fs_err::read_to_string(path).unwrap();
        let shown: toml::Value = text.parse::<toml::Table>().map(toml::Value::Table).unwrap();
        let defaults = toml::Value::try_from(Config::default()).unwrap();
        assert_eq!(shown, defaults, "etc/rag.toml and the defaults in config.rs differ");
    }
}
