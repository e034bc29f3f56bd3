//! Which part of the system this process is, and how long it runs: one role a process, or all in one.

mod engines;
mod metrics;
mod models;
mod tuning;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rag_bus::commands::index::IndexService;
use rag_bus::commands::llm::LlmService;
use rag_bus::proxy::Watch;
use rag_bus::site::RemoteSite;
use rag_bus::worker::{self, Service, WorkerSettings};
use rag_bus::{Client, ClientSettings, Proxy, ProxySettings, Value};
use rag_core::Rag;
use rag_core::ports::Site;
use rag_http::{AppState, LocalSite};
use rag_tune::Tuner;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use engines::{Engines, LocalEngines, load, local, remote};

use crate::assemble;
use crate::cli::Role;
use crate::config::Config;
use crate::config::bus::SERVICES;
use crate::dropin;
use crate::logbook::LogBook;
use crate::output;
use crate::overview::ThisProcess;
use crate::serve::{self, stop_signal};
use models::EngineModels;

/// Ends everything that was started when it is sent or dropped.
type Stop = watch::Sender<bool>;

/// Runs one of the roles without HTTP until SIGINT or SIGTERM.
pub(crate) async fn run(config: &Config, role: Role, log: LogBook) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut tuner = None;
    match role {
        Role::Proxy => {
            let further = config.bus.services.keys().map(String::as_str);
            let services: Vec<&str> = SERVICES.into_iter().chain(further).collect();
            drop(start_proxies(config, &services, &stopped, &mut running).await?);
        }
        Role::Llm => {
            let engines = load(config)?;
            spawn_until_stopped(engines.registry.clone().follow(), &stopped, &mut running);
            work(config, "llm", llm(config, engines), &stopped, &mut running)?;
        }
        Role::Index => {
            let (engines, client) = remote(config).await?;
            let parts = assemble::build(config, engines).await?;
            serve::show_first_key(&parts.rag).await?;
            let jobs = assemble::run_jobs(parts.rag.clone(), parts.wake.clone());
            spawn_until_stopped(jobs, &stopped, &mut running);
            let dropped_in = dropin::watch(config.plugins_dir(), parts.plugins.clone(), parts.rag.clone());
            spawn_until_stopped(dropped_in, &stopped, &mut running);
            // Who may ask under which name is the web roles' to say: they are the ones who listen.
            let state = AppState::new(parts.rag.clone(), serve::settings(config, Vec::new()));
            let no_tuning = Some(
                "the tuning service answers RWKV-RAG's commands; the page tunes with role `all`".to_owned(),
            );
            let overview = ThisProcess { log, llm: Some(client), no_tuning, proxies: Vec::new() };
            let site: Arc<dyn Site> = Arc::new(LocalSite::new(state.with_overview(Arc::new(overview))));
            work(config, "index", index(config, parts.rag, Some(site)), &stopped, &mut running)?;
        }
        Role::Tuning => {
            let opened = assemble::tuner(config)?;
            let service = Arc::new(tuning::service(config, opened.clone())?);
            tuner = Some(opened);
            work(config, "tuning", service, &stopped, &mut running)?;
        }
        Role::All | Role::Web => bail!("this role serves HTTP"),
    }
    output::line(format_args!("role {} is running", role.name()));
    stop_signal().await;
    finish(stop, running, config).await;
    // A running training writes its checkpoint; the next start goes on with it.
    tokio::task::spawn_blocking(move || drop(tuner)).await?;
    Ok(())
}

/// The page and the API of the index service, for role `web`.
pub(crate) fn site(config: &Config) -> Result<Arc<dyn Site>> {
    /// A stream of events lasts as long as what it tells of.
    const STREAM: Duration = Duration::from_secs(3600);
    let bus = &config.bus;
    let client = Client::start(ClientSettings {
        front: bus.ends("index")?.0,
        security: bus.security()?,
        heartbeat: bus.heartbeat(),
        timeout: STREAM,
    })?;
    Ok(Arc::new(RemoteSite { client }))
}

/// What role `all` offers on ZeroMQ beside HTTP.
pub(crate) struct Offered {
    stop: Stop,
    running: JoinSet<()>,
    proxies: Vec<Watch>,
}

/// Starts proxies and workers for the services in `bus.offer`, within this process.
pub(crate) async fn offer(
    config: &Config,
    engines: &LocalEngines,
    rag: &Arc<Rag>,
    tuner: Option<&Arc<Tuner>>,
) -> Result<Offered> {
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    spawn_until_stopped(engines.registry.clone().follow(), &stopped, &mut running);
    let services: Vec<&str> = config.bus.offer.iter().map(String::as_str).collect();
    let mut proxies = Vec::new();
    if !services.is_empty() {
        proxies = start_proxies(config, &services, &stopped, &mut running).await?;
    }
    for service in services {
        let offered: Arc<dyn Service> = match service {
            "llm" => llm(config, engines.clone()),
            "index" => index(config, rag.clone(), None),
            "tuning" => {
                let tuner = tuner.context("bus.offer names 'tuning', which needs the models to tune")?;
                Arc::new(tuning::service(config, tuner.clone())?)
            }
            other => bail!("bus.offer names '{other}': known are llm, index, tuning"),
        };
        work(config, service, offered, &stopped, &mut running)?;
    }
    Ok(Offered { stop, running, proxies })
}

impl Offered {
    /// What the proxies count.
    pub(crate) fn watches(&self) -> Vec<Watch> {
        self.proxies.clone()
    }

    pub(crate) async fn finish(self, config: &Config) {
        finish(self.stop, self.running, config).await;
    }
}

async fn finish(stop: Stop, mut running: JoinSet<()>, config: &Config) {
    let _ = stop.send(true);
    drop(stop);
    // Each keeps to its own time; this only bounds a defect. What is still there is dropped with the set.
    let ended = async { while running.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(config.bus.drain() * 2, ended).await;
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// For what has no end of its own.
fn spawn_until_stopped(
    work: impl Future<Output = ()> + Send + 'static,
    stopped: &watch::Receiver<bool>,
    running: &mut JoinSet<()>,
) {
    let stopped = until(stopped.clone());
    running.spawn(async move {
        tokio::select! {
            () = work => {}
            () = stopped => {}
        }
    });
}

async fn start_proxies(
    config: &Config,
    services: &[&str],
    stopped: &watch::Receiver<bool>,
    running: &mut JoinSet<()>,
) -> Result<Vec<Watch>> {
    let bus = &config.bus;
    let mut watches = Vec::new();
    for service in services {
        let (front, back) = bus.ends(service)?;
        let proxy = Proxy::bind(ProxySettings {
            service: (*service).to_owned(),
            front,
            back,
            queue_max: bus.queue_max,
            queue_bytes_max: bus.queue_bytes_max,
            request_timeout: bus.request_timeout(),
            worker_wait: Duration::from_millis(bus.worker_wait_ms),
            heartbeat: bus.heartbeat(),
            drain: bus.drain(),
            security: bus.security()?,
        })
        .await
        .with_context(|| format!("the proxy of '{service}'"))?;
        output::line(format_args!("{service}: clients {} workers {}", proxy.front(), proxy.back()));
        watches.push(proxy.watch());
        running.spawn(proxy.run(until(stopped.clone())));
    }
    if !bus.metrics_listen.is_empty() {
        let (address, serving) = metrics::bind(&bus.metrics_listen, watches.clone()).await?;
        spawn_until_stopped(serving, stopped, running);
        output::line(format_args!("metrics on http://{address}/metrics"));
    }
    Ok(watches)
}

/// Serves behind the proxy of this service.
fn work(
    config: &Config,
    name: &str,
    service: Arc<dyn Service>,
    stopped: &watch::Receiver<bool>,
    running: &mut JoinSet<()>,
) -> Result<()> {
    let settings = WorkerSettings {
        back: config.bus.ends(name)?.1,
        security: config.bus.security()?,
        heartbeat: config.bus.heartbeat(),
        drain: config.bus.drain(),
    };
    let stopped = until(stopped.clone());
    running.spawn(async move {
        let mut serving = pin!(worker::serve(service, settings, stopped));
        if let Err(error) = (&mut serving).await {
            tracing::error!(%error, "this worker cannot serve");
        }
    });
    Ok(())
}

fn llm(config: &Config, engines: LocalEngines) -> Arc<dyn Service> {
    Arc::new(LlmService {
        name: config.bus.worker_name(),
        capacity: config.bus.worker_requests_max,
        embedder: engines.encoder.clone(),
        reranker: engines.reranker.clone(),
        encoders: Arc::new(engines.pool.clone()),
        models: Arc::new(EngineModels::new(config, engines.registry)),
    })
}

fn index(config: &Config, rag: Arc<Rag>, site: Option<Arc<dyn Site>>) -> Arc<dyn Service> {
    let settings = Value::map([
        ("vectordb_name", "store-local".into()),
        ("front_end", config.bus.index_front.as_str().into()),
        ("back_end", config.bus.index_back.as_str().into()),
        ("embedding", rag.embedder.identity().into()),
    ]);
    Arc::new(IndexService {
        name: config.bus.worker_name(),
        // Requests of web roles may be streams that last: as many as an HTTP server takes.
        capacity: match site {
            Some(_) => config.bus.worker_requests_max.max(config.server.requests_max as u32),
            None => config.bus.worker_requests_max,
        },
        rag,
        site,
        config: settings,
        writing: tokio::sync::Mutex::new(()),
    })
}
