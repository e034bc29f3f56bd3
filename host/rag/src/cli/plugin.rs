//! What can be typed about plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Installed plugins
    List,
    /// Begin a plugin of one's own: a folder with sources that build
    New(PluginNew),
    /// Make the component of a plugin's folder: dist/<id>.wasm
    Build {
        /// Its folder
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Load a component file and say what it is and what it asks for
    Check { file: PathBuf },
    /// Hold a component to the contract of its kind
    Test {
        /// The component, or its plugin's folder once it is built
        #[arg(default_value = ".")]
        file: PathBuf,
    },
    /// Measure how long a component takes to compile, to start and to work
    Bench {
        /// The component, or its plugin's folder once it is built
        #[arg(default_value = ".")]
        file: PathBuf,
    },
    /// Build at every change and swap into a knowledge base of a running host (--url), showing what the plugin logs
    Dev(PluginDev),
    /// Put a component file into the host, for every knowledge base to bind
    Install {
        file: PathBuf,
        /// SHA-256 that it must have, or its beginning of at least 16 digits
        #[arg(long)]
        digest: Option<String>,
    },
    /// Take a component out that no knowledge base binds
    Remove {
        /// Its id, or the beginning of its digest
        plugin: String,
    },
    /// Bind another plugin, or another version: tried, compared with what answers now, then published
    Swap(PluginSwap),
    #[command(flatten)]
    Swapped(PluginSwapped),
}

#[derive(Debug, Args)]
pub(crate) struct PluginNew {
    /// Its id: lower-case words joined by hyphens
    pub(crate) name: String,
    /// What it decides
    #[arg(long, value_enum)]
    pub(crate) kind: PluginKind,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) lang: Lang,
    /// Folder to make; the id's name when left out
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginDev {
    /// The plugin's folder
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Knowledge base; `dev_` and its id with a sample in it when left out
    #[arg(long)]
    pub(crate) kb: Option<String>,
    /// The plugin's settings as JSON
    #[arg(long)]
    pub(crate) settings: Option<String>,
    /// Build and swap once, and end
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum PluginKind {
    Chunker,
    Parser,
    Retriever,
    /// Vectors in a database
    #[value(alias = "store")]
    VectorStore,
    Connector,
}

impl PluginKind {
    /// As the host names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PluginKind::Chunker => "chunker",
            PluginKind::Parser => "parser",
            PluginKind::Retriever => "retriever",
            PluginKind::VectorStore => "vector-store",
            PluginKind::Connector => "connector",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(crate) enum Lang {
    Rust,
    Js,
    Python,
}

impl Lang {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lang::Rust => "rust",
            Lang::Js => "js",
            Lang::Python => "python",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PluginSwap {
    /// Id (its newest version), beginning of a digest, or a component file, which is installed first
    pub(crate) plugin: String,
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// Its settings as JSON
    #[arg(long)]
    pub(crate) settings: Option<String>,
    /// For a parser, by its id: fix it no longer. All documents are read again into a second index
    #[arg(long, conflicts_with = "settings")]
    pub(crate) release: bool,
    /// Publish without asking
    #[arg(long, conflicts_with = "hold")]
    pub(crate) yes: bool,
    /// Only try and compare
    #[arg(long)]
    pub(crate) hold: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginSwapped {
    /// Let a generation answer that is ready
    Publish {
        generation: u64,
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
    },
    /// Give up a generation that does not answer yet
    Abandon {
        generation: u64,
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
    },
    /// Go back to the plugins and the index before, at once
    Rollback {
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
        /// For the history
        #[arg(long)]
        reason: Option<String>,
    },
    /// Which plugins answered when, and why they changed
    History {
        #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
        kb: String,
    },
}
