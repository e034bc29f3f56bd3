//! What can be typed after `rwkv-rag model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Known models, what answers, and what was chosen
    List,
    /// Add a model's file; it starts offline
    Add {
        /// 3 to 64 letters, digits, '.', '_' or '-'
        name: String,
        /// Below the models folder or one of models.roots
        #[arg(long)]
        path: PathBuf,
        /// Found from the file unless given
        #[arg(long, value_enum)]
        kind: Option<KindArg>,
        /// What the file's SHA-256 must be
        #[arg(long)]
        sha256: Option<String>,
        #[command(flatten)]
        notes: ModelNotes,
    },
    /// Fetch a model from the hub and add it: an encoder's files, or one file
    Pull(Pull),
    /// Change a model's file or what is known of it
    Set(ChangeModel),
    /// Let a model be chosen, and named by requests
    Online { name: String },
    /// Take it back
    Offline { name: String },
    /// Choose what answers, now and after every start
    Choose {
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// None of this kind (reranker, state or adapter)
        #[arg(long, value_enum, conflicts_with = "name")]
        none: Option<KindArg>,
        /// Only keep the choice: for a machine that cannot hold two models at once
        #[arg(long)]
        next_start: bool,
    },
    /// Load the chosen language model, state and adapter anew
    Restart,
    /// Forget a model; its file stays
    Rm { name: String },
    /// Write a quantised copy of an RWKV-6 or RWKV-7 checkpoint
    Convert {
        /// `.pth` or `.safetensors`
        input: PathBuf,
        output: PathBuf,
        /// `int8`, `int4` or `nf4`
        #[arg(long, default_value = "int8")]
        format: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// OWNER/NAME on the hub, e.g. BAAI/bge-m3
    pub(crate) repository: String,
    /// One file of it, e.g. a .pth; needed where there are several
    #[arg(long)]
    pub(crate) file: Option<String>,
    /// Branch, tag or commit
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// What it is called here; else after the file or the repository
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the SHA-256 of the file, or of an encoder's weights, must be
    #[arg(long)]
    pub(crate) sha256: Option<String>,
    /// Another server than models.hub, for a command without --url
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Take it online as soon as it is here
    #[arg(long)]
    pub(crate) online: bool,
    #[command(flatten)]
    pub(crate) notes: ModelNotes,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeModel {
    pub(crate) name: String,
    /// Another file, or the same one after it changed
    #[arg(long)]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) notes: ModelNotes,
}

/// What is known of a model beside its file; an empty text takes a value back.
#[derive(Debug, Default, Args)]
pub(crate) struct ModelNotes {
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// Where it comes from
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Format to convert a language model's matrices to at load: int8, int4 or nf4
    #[arg(long)]
    pub(crate) quantize: Option<String>,
    /// The language model that a state or adapter was made for
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// LoRA's alpha; none for PiSSA
    #[arg(long)]
    pub(crate) alpha: Option<f64>,
    /// PiSSA's init_pissa.pth
    #[arg(long)]
    pub(crate) adapter_start: Option<String>,
    /// Whether answers are marked as a demonstration model's
    #[arg(long)]
    pub(crate) demonstration: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    Language,
    Encoder,
    Reranker,
    State,
    Adapter,
}

impl KindArg {
    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KindArg::Language => "language",
            KindArg::Encoder => "encoder",
            KindArg::Reranker => "reranker",
            KindArg::State => "state",
            KindArg::Adapter => "adapter",
        }
    }
}
