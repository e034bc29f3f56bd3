//! What can be typed about the encoder of a knowledge base.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct KbEncoder {
    /// Encoder of the registry (`rwkv-rag model list`); left out: the one for all
    pub(crate) model: Option<String>,
    /// Knowledge base
    #[arg(long, default_value = rag_core::kb::KB_INITIAL)]
    pub(crate) kb: String,
    /// Publish without asking
    #[arg(long, conflicts_with = "hold")]
    pub(crate) yes: bool,
    /// Only fill and compare
    #[arg(long)]
    pub(crate) hold: bool,
}
