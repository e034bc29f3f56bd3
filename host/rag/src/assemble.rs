//! Which part stands behind which port: the only place that knows every crate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rag_core::Rag;
use rag_core::generations::Strikes;
use rag_core::kb::{KB_INITIAL, KbName};
use rag_core::ports::{Catalog, Grants, Keys, Outside, Role};
use rag_engine::cpu::matrix::Format;
use rag_engine::encoder::EncoderConfig;
use rag_engine::profile::{AdapterConfig, DEFAULT_PROFILE, ProfileConfig, ReadOutConfig};
use rag_engine::rwkv::{AdapterScale, Formats};
use rag_engine::{Device, DiskCache, LanguageModelConfig};
use rag_store::{Store, StoreConfig};
use rag_tune::{Place, Tracker, Tuner, TunerConfig};
use rag_wasm::{PluginHost, WasmConfig};
use tokio::sync::Notify;

use crate::archive::ZipArchives;
use crate::bindings::PluginBindings;
use crate::bundle::BundleFiles;
use crate::compile;
use crate::config::{Config, TrackerKind};
use crate::egress::{Egress, SystemLookup};
use crate::grants::GrantBook;
use crate::ocr::Tesseract;
use crate::roles::Engines;
use crate::tracker::Wandb;
use crate::web::{ConfiguredEngines, WebReader};

/// The running system without its surfaces.
pub(crate) struct Parts {
    pub(crate) rag: Arc<Rag>,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) wake: Arc<Notify>,
}

/// Opens the data folder and loads plugins; the models are those given.
pub(crate) async fn build(config: &Config, engines: Engines) -> Result<Parts> {
    let data_dir = config.data_dir()?;
    let store = Store::open(StoreConfig {
        document_bytes_max: config.data.document_bytes_max,
        jobs_queued_max: config.data.jobs_queued_max,
        readers: config.data.readers,
        ingest_roots: config.data.ingest_roots.clone(),
        disk_free_min_bytes: config.data.disk_free_min_bytes,
        ..StoreConfig::new(&data_dir)
    })?;
    let plugins = load_plugins(config, &data_dir)?;
    let Engines { embedder, reranker, encoders, generator, models } = engines;
    let grants: Arc<dyn Grants> = Arc::new(GrantBook::open(config, &data_dir)?);
    let egress = Egress::new(config.egress.clone(), Arc::new(SystemLookup));
    let outside = Outside {
        web: Arc::new(WebReader::new(&config.web, &config.egress, &egress)?),
        engines: Arc::new(ConfiguredEngines::new(
            plugins.clone(),
            egress.clone(),
            config.web.engines.clone(),
        )),
        grants: grants.clone(),
    };
    let bindings = PluginBindings {
        plugins: plugins.clone(),
        store: store.clone(),
        encoders,
        retrieval: config.retrieval.clone(),
        generator: generator.clone(),
        grants,
        egress,
        ocr: Tesseract::new(config.ocr.clone()),
        sql_timeout_ms: config.egress.timeout_ms,
        bound: Mutex::new(HashMap::new()),
    };
    let wake = Arc::new(Notify::new());
    let waker = wake.clone();
    let rag = Rag {
        catalog: store.clone(),
        blobs: store.clone(),
        bindings: Arc::new(bindings),
        embedder,
        reranker,
        generator,
        keys: store.clone(),
        records: store,
        models,
        outside,
        archives: Arc::new(ZipArchives::new(&config.data)),
        bundles: Arc::new(BundleFiles::new(data_dir, &config.data)),
        strikes: Strikes::default(),
        wake_jobs: Box::new(move || waker.notify_one()),
        pause: Box::new(|time: Duration| Box::pin(tokio::time::sleep(time))),
    };
    ensure_initial(&rag).await?;
    Ok(Parts { rag: Arc::new(rag), plugins, wake })
}

/// Loads every component of the plugins folder; one that fails is logged and left out.
pub(crate) fn load_plugins(config: &Config, data_dir: &Path) -> Result<Arc<PluginHost>> {
    let dir = config.plugins_dir();
    let host = PluginHost::new(WasmConfig {
        threads: config.plugin_threads(),
        limits: config.plugins.limits.clone(),
        shelf_dir: Some(data_dir.join("components")),
        ..WasmConfig::new(data_dir.join("plugin-cache"), compile::compiler(&config.plugins.compile))
    })?;
    if !dir.is_dir() {
        bail!(
            "no plugins folder at {}: build it with `cargo xtask plugins`, or set plugins.dir",
            dir.display()
        );
    }
    let mut loaded = 0;
    for (path, result) in host.load_dir(&dir)?.into_iter().chain(host.load_kept()?) {
        match result {
            Ok(_) => loaded += 1,
            Err(error) => tracing::error!(path = %path.display(), %error, "not a usable plugin"),
        }
    }
    if loaded == 0 {
        bail!("no usable plugin in {}: build them with `cargo xtask plugins`", dir.display());
    }
    Ok(host)
}

/// How the configured encoder is loaded.
pub(crate) fn encoder_config(config: &Config) -> Result<EncoderConfig> {
    encoder_of(config, model_file(config, &config.models.encoder)?)
}

/// How an encoder's or a reranker's file or folder is loaded.
pub(crate) fn encoder_of(config: &Config, weights: PathBuf) -> Result<EncoderConfig> {
    Ok(EncoderConfig {
        weights,
        threads: config.engine_threads(),
        queue_max: config.models.queue_max,
        batch_tokens_max: config.models.batch_tokens_max,
        device: device(&config.models.encoder_device).context("models.encoder_device")?,
    })
}

/// How the configured language model is loaded.
pub(crate) fn language_config(config: &Config) -> Result<LanguageModelConfig> {
    let weights = model_file(config, &config.models.language)?;
    Ok(LanguageModelConfig {
        name: stem(&weights),
        weights,
        profiles: default_profile(config)?.into_iter().collect(),
        quantize: formats(&config.models.quantize, config.models.quantize_head)?,
        ..language_base(config)?
    })
}

/// What holds for every language model: slots, queues, caches; the file is not named yet.
pub(crate) fn language_base(config: &Config) -> Result<LanguageModelConfig> {
    let models = &config.models;
    Ok(LanguageModelConfig {
        weights: PathBuf::new(),
        vocabulary: model_file(config, &models.vocabulary)?,
        name: String::new(),
        slots: models.slots,
        queue_max: models.queue_max,
        threads: config.engine_threads(),
        state_cache_bytes: models.state_cache_bytes,
        state_cache_disk: match models.state_cache_disk_bytes {
            0 => None,
            bytes_max => Some(DiskCache { dir: config.data_dir()?.join("states"), bytes_max }),
        },
        profiles: Vec::new(),
        quantize: None,
        device: device(&models.device)?,
        demonstration: models.demonstration,
    })
}

/// What plain generation starts from and is written under, where that is configured.
fn default_profile(config: &Config) -> Result<Option<ProfileConfig>> {
    let models = &config.models;
    let file = |path: &Path| -> Result<Option<PathBuf>> {
        if path.as_os_str().is_empty() { Ok(None) } else { model_file(config, path).map(Some) }
    };
    let (state, adapter) = (file(&models.state)?, file(&models.adapter)?);
    if state.is_none() && adapter.is_none() {
        return Ok(None);
    }
    let pissa_start = file(&models.adapter_start)?;
    let scale = match models.adapter_alpha {
        0.0 => AdapterScale::One,
        alpha => AdapterScale::Alpha(alpha as f32),
    };
    let adapter = adapter.map(|path| AdapterConfig { path, pissa_start, scale });
    let (name, read_out) = (DEFAULT_PROFILE.to_owned(), ReadOutConfig::Language);
    Ok(Some(ProfileConfig { name, state, adapter, read_out }))
}

/// Where a model computes by the configured name.
pub(crate) fn device(name: &str) -> Result<Device> {
    Device::parse(name).with_context(|| format!("the device '{name}' is none of auto, cpu, cuda:N, cuda:all, or several cuda:N with commas between"))
}

/// What tunes: in `tuning` of the data folder, or where `bus.tuning_dir` says.
pub(crate) fn tuner(config: &Config) -> Result<Arc<Tuner>> {
    Ok(Tuner::open(TunerConfig {
        dir: tuning_dir(config)?,
        models: config.models_dir(),
        base: model_file(config, &config.models.language)?,
        vocabulary: model_file(config, &config.models.vocabulary)?,
        place: Place::parse(&config.tuning.device, tuning_threads(config.tuning.threads))?,
        queue_max: config.tuning.queue_max,
        wandb: tracker_project(config).map(str::to_owned),
        tracker: tracker(config)?,
    })?)
}

/// The project that trainings are followed in, if they are.
pub(crate) fn tracker_project(config: &Config) -> Option<&str> {
    (config.tuning.tracker != TrackerKind::None).then_some(&config.tuning.tracker_project)
}

fn tracker(config: &Config) -> Result<Option<Arc<dyn Tracker>>> {
    let tuning = &config.tuning;
    if tuning.tracker != TrackerKind::Wandb {
        return Ok(None);
    }
    let file = &tuning.tracker_key_file;
    if file.as_os_str().is_empty() {
        bail!(
            "tuning.tracker = \"wandb\" needs a key: put it into a file and name that in tuning.tracker_key_file"
        );
    }
    let key = fs_err::read_to_string(file).context("tuning.tracker_key_file")?;
    let egress = Egress::new(config.egress.clone(), Arc::new(SystemLookup));
    let wandb = Wandb::start(&egress, &tuning.tracker_url, &tuning.tracker_project, key.trim())
        .context("tuning.tracker_url")?;
    Ok(Some(Arc::new(wandb)))
}

/// Threads that train where the processor does: half of the cores unless a number is given.
fn tuning_threads(given: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if given > 0 { given } else { (cores / 2).max(1) }
}

/// Where data sets and jobs of tuning are kept.
pub(crate) fn tuning_dir(config: &Config) -> Result<PathBuf> {
    Ok(match config.bus.tuning_dir.as_os_str().is_empty() {
        true => config.data_dir()?.join("tuning"),
        false => config.bus.tuning_dir.clone(),
    })
}

/// The formats of a configured name; none keeps what a file has.
pub(crate) fn formats(name: &str, head: bool) -> Result<Option<Formats>> {
    if name.is_empty() {
        return Ok(None);
    }
    let format = Format::parse(name)
        .with_context(|| format!("quantize is '{name}'; it may be int8, int4, nf4 or empty"))?;
    let formats = Formats::of(format);
    Ok(Some(if head { Formats { head: format, ..formats } } else { formats }))
}

/// A file's name without its ending, as a model's name.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "rwkv".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// A model's name by its path; a folder's may have dots.
pub(crate) fn model_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) if path.is_dir() => name.to_string_lossy().into_owned(),
        _ => stem(path),
    }
}

/// A model's file, or an encoder's folder, by its configured name; the error says where it was looked for.
pub(crate) fn model_file(config: &Config, file: &Path) -> Result<PathBuf> {
    let path = config.models_dir().join(file);
    if !path.is_file() && !path.join("config.json").is_file() {
        bail!("no model file at {}: set models.dir or the file's setting in [models]", path.display());
    }
    Ok(path)
}

/// The knowledge base that exists from the first start, until somebody deletes it.
async fn ensure_initial(rag: &Rag) -> Result<()> {
    if rag.catalog.kbs().await?.is_empty() && rag.keys.list().await?.is_empty() {
        rag.create_kb(KB_INITIAL, None).await?;
    }
    Ok(())
}

/// Creates the administrator's key on the very first start.
pub(crate) async fn first_admin_key(keys: &dyn Keys) -> Result<Option<String>> {
    if !keys.list().await?.is_empty() {
        return Ok(None);
    }
    let (secret, _) = keys.create("admin", Role::Admin, None::<&[KbName]>).await?;
    Ok(Some(secret))
}

/// Runs queued jobs until told to stop; an error of the catalogue itself is logged and waited out.
pub(crate) async fn run_jobs(rag: Arc<Rag>, wake: Arc<Notify>) {
    /// Wait after a failure of the catalogue, and between looks for jobs whose next try is due.
    const RETRY: Duration = Duration::from_secs(5);
    match rag_core::jobs::recover(&rag).await {
        Ok(alarms) => alarms.iter().for_each(|alarm| tracing::error!("{alarm}")),
        Err(error) => tracing::error!(%error, "the knowledge bases could not be looked through"),
    }
    let mut queue = rag_core::ahead::Queue::new(rag);
    loop {
        match queue.run_next().await {
            Ok(true) => {}
            Ok(false) => {
                let _ = tokio::time::timeout(RETRY, wake.notified()).await;
            }
            Err(error) => {
                tracing::error!(%error, "the job queue could not go on");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Fails with the reason when a catalogue cannot be read at all.
pub(crate) async fn check_catalog(catalog: &dyn Catalog) -> Result<usize> {
    Ok(catalog.kbs().await.context("the catalogue cannot be read")?.len())
}
