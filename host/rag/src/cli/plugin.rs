//! What can be typed about plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Installed plugins
    List,
    /// Load a component file and say what it is
    Check { file: PathBuf },
    /// Put a component file into the host, for every knowledge base to bind
    Install { file: PathBuf },
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
pub(crate) struct PluginSwap {
    /// Id (its newest version), beginning of a digest, or a component file, which is installed first
    pub(crate) plugin: String,
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// Its settings as JSON
    #[arg(long)]
    pub(crate) settings: Option<String>,
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
