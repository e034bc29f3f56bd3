//! The `rwkv-rag` program: reads arguments and configuration, then runs one command.

mod archive;
mod assemble;
mod bench;
mod bindings;
mod bundle;
mod child;
mod cli;
mod client;
mod commands;
mod compile;
mod config;
mod dropin;
mod egress;
mod grants;
mod local;
mod logbook;
mod models;
mod ocr;
mod output;
mod overview;
mod roles;
mod serve;
mod sql;
mod tracker;
mod web;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use cli::{Cli, Command, Common};
use client::Client;
use config::Config;
use logbook::LogBook;

fn main() -> ExitCode {
    if compile::is_asked() {
        return compile::run();
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let mut config = Config::load(cli.common.config.as_deref(), std::env::vars())?;
    if let Some(dir) = &cli.common.data_dir {
        config.data.dir.clone_from(dir);
    }
    let serving = matches!(cli.command, Command::Serve(_));
    let log = log_to_stderr(&config, serving)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(cli, config, log));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

async fn dispatch(cli: Cli, config: Config, log: LogBook) -> Result<()> {
    let common = cli.common;
    match cli.command {
        Command::Serve(args) => serve::serve(config, args, log).await,
        Command::Bench(args) => bench::run(&config, &args, common.json).await,
        Command::Doctor => commands::doctor::run(&config, common.json).await,
        Command::Config(cli::ConfigCommand::Import { file, output }) => {
            commands::config::import(&file, output.as_deref(), common.json)
        }
        Command::Config(cli::ConfigCommand::Key { file }) => commands::config::key(&file, common.json),
        Command::Tune(cli::Tune::Prepare(args)) => commands::tune::prepare(&config, args, common.json),
        Command::Tune(cli::Tune::Merge(args)) if args.output.is_some() => commands::tune::merge_files(&args),
        Command::Model(cli::Model::Convert { input, output, format }) => {
            commands::model::convert(&input, &output, &format)
        }
        Command::Plugin(cli::Plugin::New(args)) => commands::plugin::new::run(&args, common.json),
        Command::Plugin(cli::Plugin::Build { dir }) => commands::plugin::build::run(&dir, common.json),
        Command::Plugin(cli::Plugin::Test { file }) => {
            commands::plugin::test::run(&config, &file, common.json).await
        }
        Command::Plugin(cli::Plugin::Bench { file }) => {
            commands::plugin::bench::run(&config, &file, common.json).await
        }
        Command::Plugin(cli::Plugin::Check { file }) => commands::plugin::check(&config, &file, common.json),
        Command::Model(cli::Model::Pull(args)) => {
            let client = connect(&common, &commands::pull::at(&config, &args, common.url.is_some())?).await?;
            let result = commands::pull::run(&client, args, common.json).await;
            client.close();
            result
        }
        command => {
            let client = connect(&common, &config).await?;
            let result = run_client(command, &client, common.json).await;
            client.close();
            result
        }
    }
}

async fn run_client(command: Command, client: &Client, json: bool) -> Result<()> {
    match command {
        Command::Kb(args) => commands::kb::run(client, args, json).await,
        Command::Ingest(args) => commands::ingest::run(client, args, json).await,
        Command::Search(args) => commands::ask::search(client, args, json).await,
        Command::Ask(args) => commands::ask::ask(client, args, json).await,
        Command::Document(args) => commands::document::run(client, args, json).await,
        Command::Job(args) => commands::job::run(client, args, json).await,
        Command::Model(args) => commands::model::run(client, args, json).await,
        Command::Plugin(cli::Plugin::Install { file, digest }) => {
            if let Some(digest) = &digest {
                commands::swap::check_digest(&file, digest)?;
            }
            commands::swap::install_and_tell(client, &file, json).await
        }
        Command::Plugin(cli::Plugin::Remove { plugin }) => {
            commands::swap::remove(client, &plugin, json).await
        }
        Command::Plugin(cli::Plugin::Dev(args)) => {
            if matches!(client, Client::Local(_)) {
                bail!("plugin dev swaps in a running host: name it with --url");
            }
            commands::plugin::dev::run(client, &args, json).await
        }
        Command::Plugin(cli::Plugin::Swap(args)) => commands::swap::swap(client, args, json).await,
        Command::Plugin(cli::Plugin::Swapped(command)) => commands::swap::run(client, command, json).await,
        Command::Plugin(_) => commands::plugin::list_installed(client, json).await,
        Command::Key(args) => commands::key::run(client, args, json).await,
        Command::User(args) => commands::user::run(client, args, json).await,
        Command::Tune(args) => commands::tune::run(client, args, json).await,
        Command::Serve(_) | Command::Bench(_) | Command::Doctor | Command::Config(_) => {
            bail!("this command takes no host")
        }
    }
}

/// A running host when one is named, else this process on the data folder.
async fn connect(common: &Common, config: &Config) -> Result<Client> {
    match &common.url {
        Some(url) => Client::remote(url, common.key.clone()),
        None => Ok(Client::Local(Box::new(local::Local::open(config).await?))),
    }
}

/// A server tells what it does; a command only what goes wrong.
fn log_to_stderr(config: &Config, serving: bool) -> Result<LogBook> {
    let filter = if serving { config.log.filter.as_str() } else { "error" };
    let filter = EnvFilter::try_new(filter)?;
    let book = LogBook::default();
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).with(book.clone()).init();
    Ok(book)
}
