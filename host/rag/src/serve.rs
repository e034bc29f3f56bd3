//! How the host runs: parts, job queue and HTTP until a signal, then an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rag_core::Rag;
use rag_http::{AppState, Settings, hosts_for};
use rag_tune::Tuner;
use tokio::net::TcpListener;

use crate::assemble::{self, Parts};
use crate::cli::{Role, Serve};
use crate::config::Config;
use crate::dropin;
use crate::logbook::LogBook;
use crate::output;
use crate::overview::ThisProcess;
use crate::roles;

/// Runs the role until SIGINT or SIGTERM.
pub(crate) async fn serve(config: Config, args: Serve, log: LogBook) -> Result<()> {
    match args.role {
        Role::All => {
            let engines = roles::load(&config)?;
            let parts = assemble::build(&config, engines.ports()).await?;
            // Models are not everywhere: a host without them answers that it does not tune.
            let tuner = assemble::tuner(&config);
            if let Err(error) = &tuner {
                tracing::warn!(%error, "this host does not tune");
            }
            let (tuner, no_tuning) = match tuner {
                Ok(tuner) => (Some(tuner), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            let offered = roles::offer(&config, &engines, &parts.rag, tuner.as_ref()).await?;
            let proxies = offered.watches();
            let overview = ThisProcess { log, llm: None, no_tuning, proxies };
            let result = http(&config, &args, &parts, tuner, overview).await;
            offered.finish(&config).await;
            result
        }
        Role::Web if !config.bus.web_keeps_data => pass_on(&config, &args).await,
        Role::Web => {
            let (engines, client) = roles::remote(&config).await?;
            let parts = assemble::build(&config, engines).await?;
            let no_tuning = Some("this role does not tune; roles `all` and `tuning` do".to_owned());
            let overview = ThisProcess { log, llm: Some(client), no_tuning, proxies: Vec::new() };
            http(&config, &args, &parts, None, overview).await
        }
        role => roles::run(&config, role, log).await,
    }
}

/// Serves HTTP with what the index service answers.
async fn pass_on(config: &Config, args: &Serve) -> Result<()> {
    let site = roles::site(config)?;
    let listener = listen(args.listen.unwrap_or(config.server.listen)).await?;
    let address = listener.local_addr()?;
    output::line(format_args!("listening on http://{address}"));
    let hosts = hosts_for(address.ip(), &config.server.allowed_hosts);
    rag_http::serve_site(listener, site, settings(config, hosts), stop_signal())
        .await
        .context("the HTTP server failed")
}

/// Creates the administrator's key on the very first start, and shows it.
pub(crate) async fn show_first_key(rag: &Rag) -> Result<()> {
    if let Some(secret) = assemble::first_admin_key(rag.keys.as_ref()).await? {
        output::line(format_args!("admin key: {secret}"));
        output::line(format_args!("           (shown this once; `rwkv-rag key create` makes further ones)"));
    }
    Ok(())
}

/// Serves HTTP and runs the job queue.
async fn http(
    config: &Config,
    args: &Serve,
    parts: &Parts,
    tuner: Option<Arc<Tuner>>,
    overview: ThisProcess,
) -> Result<()> {
    let address = args.listen.unwrap_or(config.server.listen);
    show_first_key(&parts.rag).await?;
    let listener = listen(address).await?;
    let address = listener.local_addr()?;
    output::line(format_args!("listening on http://{address}"));
    let jobs = tokio::spawn(assemble::run_jobs(parts.rag.clone(), parts.wake.clone()));
    let dropped_in =
        tokio::spawn(dropin::watch(config.plugins_dir(), parts.plugins.clone(), parts.rag.clone()));
    let mut state = AppState::new(
        parts.rag.clone(),
        settings(config, hosts_for(address.ip(), &config.server.allowed_hosts)),
    );
    state = state.with_overview(Arc::new(overview));
    if let Some(tuner) = tuner.clone() {
        state = state.with_tune(tuner);
    }
    let result = rag_http::serve(listener, state, stop_signal()).await;
    // A job cut here is taken up again by the next start.
    jobs.abort();
    dropped_in.abort();
    // A running job writes its checkpoint; the next start goes on with it.
    tokio::task::spawn_blocking(move || drop(tuner)).await?;
    result.context("the HTTP server failed")
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is in use: another host runs there, or choose another with --listen")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// `hosts` are the names that requests may come under; none takes every name.
pub(crate) fn settings(config: &Config, hosts: Vec<String>) -> Settings {
    Settings {
        document_bytes_max: config.data.document_bytes_max,
        requests_max: config.server.requests_max,
        allowed_hosts: hosts,
        cookie_secure: config.server.cookie_secure,
        session_minutes: config.server.session_minutes,
        shutdown_grace_ms: config.server.shutdown_grace_ms,
        ..Settings::default()
    }
}

pub(crate) async fn stop_signal() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be caught; SIGINT stops the host");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
