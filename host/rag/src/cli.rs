//! What can be typed: commands, their arguments and their help.

mod kb;
mod model;
mod plugin;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use kb::{Kb, KbEncoder};
pub(crate) use model::{ChangeModel, KindArg, Model, ModelNotes, Pull};
pub(crate) use plugin::{Lang, Plugin, PluginDev, PluginKind, PluginNew, PluginSwap, PluginSwapped};

/// Documents become knowledge bases; questions get answers with citations, on one's own machine.
#[derive(Debug, Parser)]
#[command(name = "rwkv-rag", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Configuration file (TOML); see etc/rag.toml for every setting
    #[arg(long, global = true, env = "RWKV_RAG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder; without --url, commands work on it directly
    #[arg(long, global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// A running host, e.g. http://127.0.0.1:8780
    #[arg(long, global = true, env = "RWKV_RAG_URL")]
    pub(crate) url: Option<String>,
    /// API key for --url
    #[arg(long, global = true, env = "RWKV_RAG_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Machine-readable output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the host: HTTP API, page, engines and job queue
    Serve(Serve),
    /// Create, list, show, delete, export or import knowledge bases
    #[command(subcommand)]
    Kb(Kb),
    /// Put documents into a knowledge base
    Ingest(Ingest),
    /// Find passages
    Search(Search),
    /// Ask a question
    Ask(Ask),
    /// Documents of a knowledge base
    #[command(subcommand)]
    Document(Document),
    /// Jobs: list, show, cancel, retry
    #[command(subcommand)]
    Job(Job),
    /// Models: list, fetch, add, choose, take on- and offline, convert
    #[command(subcommand)]
    Model(Model),
    /// Plugins: begin, build and check one's own; list, install, swap, go back
    #[command(subcommand)]
    Plugin(Plugin),
    /// API keys
    #[command(subcommand)]
    Key(Key),
    /// People who log in with a name and a password
    #[command(subcommand)]
    User(User),
    /// Training data
    #[command(subcommand)]
    Tune(Tune),
    /// Measure speed and quality on this machine
    Bench(Bench),
    /// Configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check that everything needed is there
    Doctor,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Turn a YAML file of RWKV-RAG's, old or new, into a configuration file; tells what became of each of its keys
    Import {
        /// ragq.yml, llm_service_config.yml, index_service_config.yml or proxy_service_config.yml
        file: PathBuf,
        /// Where to write; the standard output when left out
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Make a key for connections beyond this machine: the secret goes into a new file (bus.secret_key_file), the public
    /// key is shown (bus.server_key, bus.allowed_keys)
    Key { file: PathBuf },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Which part of the system this process is; the others are reached over ZeroMQ
    #[arg(long, value_enum, default_value = "all", env = "RWKV_RAG_ROLE")]
    pub(crate) role: Role,
    /// Address; port 0 takes a free one and prints it
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything in this process
    All,
    /// Between clients and workers of every service
    Proxy,
    /// Embeddings, scores and answers, for the proxy's clients
    Llm,
    /// Knowledge bases, for web roles and RWKV-RAG's clients, with the models of the llm service
    Index,
    /// Training data and training, for RWKV-RAG's clients
    Tuning,
    /// HTTP and the page, with the knowledge bases of the index service
    Web,
}

impl Role {
    /// As it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// Files, folders (searched recursively), and addresses of the web (http://… or https://…)
    #[arg(required_unless_present = "text")]
    pub(crate) paths: Vec<PathBuf>,
    /// Keep folders in step: upload what is new or changed, skip what is unchanged, delete documents that came from the
    /// folder and whose file is there no more
    #[arg(long, conflicts_with_all = ["text", "no_wait"])]
    pub(crate) sync: bool,
    /// With --sync: only list what would happen
    #[arg(long, requires = "sync")]
    pub(crate) dry_run: bool,
    /// For addresses: links followed one after the other; 0 reads the one page
    #[arg(long, default_value_t = 0)]
    pub(crate) depth: u32,
    /// For addresses: pages saved at most
    #[arg(long)]
    pub(crate) pages: Option<u32>,
    /// For addresses: follow links to other servers too
    #[arg(long)]
    pub(crate) other_hosts: bool,
    /// A text instead of files
    #[arg(long, conflicts_with = "paths", requires = "name")]
    pub(crate) text: Option<String>,
    /// Name of the document made from --text
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Return when everything is queued (needs --url)
    #[arg(long, requires = "url")]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// The question
    pub(crate) question: String,
    /// Passages wanted
    #[arg(short, long)]
    pub(crate) k: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// The question
    pub(crate) question: String,
    /// Continue a conversation under this name
    #[arg(long)]
    pub(crate) conversation: Option<String>,
    /// Sampling temperature; 0 is greedy
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// Tokens of the answer at most
    #[arg(long)]
    pub(crate) max_tokens: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Document {
    /// List documents
    List {
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
    },
    /// Delete a document by its id
    Delete {
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// List jobs, newest first
    List {
        #[arg(long)]
        kb: Option<String>,
    },
    /// Show one
    Show { id: String },
    /// Stop one
    Cancel { id: String },
    /// Queue a failed or cancelled one again
    Retry { id: String },
    /// Hold one back
    Pause { id: String },
    /// Let a paused one go on
    Resume { id: String },
    /// Change its place in the queue
    Priority {
        id: String,
        /// -100 to 100; higher runs earlier
        #[arg(allow_negative_numbers = true)]
        priority: i32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Create a key and print it once
    Create {
        name: String,
        #[arg(long, value_enum, default_value = "reader")]
        role: RoleArg,
        /// Reaches only these knowledge bases
        #[arg(long)]
        kb: Vec<String>,
    },
    /// List keys
    List,
    /// Revoke a key by its id
    Revoke { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Create a user; the password is the first line of the standard input
    Create {
        name: String,
        #[arg(long, value_enum, default_value = "reader")]
        role: RoleArg,
        /// Reaches only these knowledge bases
        #[arg(long)]
        kb: Vec<String>,
    },
    /// List users
    List,
    /// Set a user's password: the first line of the standard input
    Password { name: String },
    /// Lock a user out, conversations stay
    Disable { name: String },
    /// Let a user in again
    Enable { name: String },
    /// Delete a user with all conversations
    Delete { name: String },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    Reader,
    Editor,
    Admin,
}

impl RoleArg {
    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RoleArg::Reader => "reader",
            RoleArg::Editor => "editor",
            RoleArg::Admin => "admin",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tune {
    /// Turn jsonl texts into a binidx data set (PREFIX.bin, PREFIX.idx) for RWKV's own trainers
    Prepare(TunePrepare),
    /// Train a state or an adapter and follow it to its end
    Start(TuneStart),
    /// List jobs
    List,
    /// Follow a job to its end
    Watch { id: String },
    /// Stop a job; it writes a checkpoint first
    Stop { id: String },
    /// Go on with a stopped or failed job from its last checkpoint, and follow it
    Resume { id: String },
    /// Write base model and result as one model
    Merge(TuneMerge),
    /// Delete a job with everything it made
    Delete { id: String },
}

#[derive(Debug, Args)]
pub(crate) struct TunePrepare {
    pub(crate) input: PathBuf,
    #[arg(long, default_value_t = 3)]
    pub(crate) epochs: u32,
    #[arg(long, default_value_t = 1024)]
    pub(crate) context: u32,
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct TuneStart {
    /// A .jsonl file of {"text": …} lines, or the name of a data set that the host has
    pub(crate) data: String,
    /// Name of the job, for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A file of the models folder; else the model that answers
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// state, lora, pissa or bone; else what suits model and machine
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// A setting, e.g. --set epochs=3 --set precision=nf4; what is left out takes its default
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Say what the job would need and start nothing
    #[arg(long)]
    pub(crate) estimate: bool,
    /// Do not follow it (needs --url)
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TuneMerge {
    /// A job, or a result's file with its sidecar beside it
    pub(crate) result: String,
    /// The base model of a result's file
    #[arg(long, requires = "output")]
    pub(crate) base: Option<PathBuf>,
    /// The model to write, .pth or .safetensors
    #[arg(long, requires = "base")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: BenchWhat,
    /// Rows {context, question, answers} as jsonl, for search and answers
    #[arg(long)]
    pub(crate) questions: Option<PathBuf>,
    /// At most so many questions
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Files or folders to read, for parse and ingest
    #[arg(long)]
    pub(crate) paths: Vec<PathBuf>,
    /// For parse: parsers alone, a file at a time, as the native examples of their libraries measure it
    #[arg(long)]
    pub(crate) alone: bool,
    /// Retrieval strategy
    #[arg(long)]
    pub(crate) retriever: Option<String>,
    /// Its settings as JSON
    #[arg(long)]
    pub(crate) retriever_settings: Option<String>,
    /// Measure without the reranker too
    #[arg(long)]
    pub(crate) no_rerank: bool,
    /// For answers: from what is retrieved out of all contexts, not from the passage that holds the answer
    #[arg(long, conflicts_with = "shuffle")]
    pub(crate) retrieve: bool,
    /// For answers: a quarter of the questions get another's passage, where refusing is right
    #[arg(long)]
    pub(crate) shuffle: bool,
    /// For answers: passages given to the model, where the default is the knowledge base's
    #[arg(long)]
    pub(crate) passages: Option<u32>,
    /// For decode and prefill: a model of this size with random weights (0b1, 0b4, 1b6, 3b, 7b, 14b, or of RWKV-7
    /// v7-0b1, v7-0b4, v7-1b5, v7-2b9), nothing to download
    #[arg(long)]
    pub(crate) random: Option<String>,
    /// For decode, prefill, embed and rerank: cpu or cuda:N, where the default is the configuration's
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// For decode and prefill: formats to convert to, e.g. f32,int8,int4,nf4
    #[arg(long, value_delimiter = ',')]
    pub(crate) format: Vec<String>,
    /// For decode: sequences at once
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub(crate) batch: Vec<usize>,
    /// For prefill: tokens of a prompt
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    pub(crate) tokens: Vec<usize>,
    /// For swaps: how many
    #[arg(long, default_value_t = 10_000)]
    pub(crate) swaps: usize,
    /// For swaps and reindex: questions asked at once
    #[arg(long, default_value_t = 64)]
    pub(crate) asks: usize,
    /// For reindex: documents
    #[arg(long, default_value_t = 1_000)]
    pub(crate) documents: usize,
    /// For plugin: the component of the benchmarks, which `cargo xtask guests` builds
    #[arg(long)]
    pub(crate) guest: Option<PathBuf>,
    /// Seconds per measurement, about
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum BenchWhat {
    Decode,
    Prefill,
    Embed,
    Rerank,
    Parse,
    Ingest,
    Search,
    Answers,
    /// What the sandbox of plugins costs
    Plugin,
    /// Thousands of swaps under questions and ingests
    Swaps,
    /// A chunker's swap on a large knowledge base
    Reindex,
}
