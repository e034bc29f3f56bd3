//! Every bound that a plugin runs under, with its unit and its default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::manifest::Profile;
use crate::{Compiler, Kind};

const MIB: usize = 1 << 20;

/// How plugins are run.
#[derive(Debug, Clone)]
pub struct WasmConfig {
    /// Worker threads of the runtime that runs plugin code; it is apart from every other runtime of the process.
    pub threads: usize,
    /// Folder of compiled components and of the key that marks them as ours; created with access for the owner only.
    pub cache_dir: PathBuf,
    /// Folder of the components that knowledge bases mean by their digest; none keeps none.
    pub shelf_dir: Option<PathBuf>,
    /// Who compiles components that are not in the cache.
    pub compiler: Compiler,
    pub limits: Limits,
}

impl WasmConfig {
    /// All processors but one, and the default limits.
    pub fn new(cache_dir: impl Into<PathBuf>, compiler: Compiler) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        WasmConfig {
            threads: processors.saturating_sub(1).max(1),
            cache_dir: cache_dir.into(),
            shelf_dir: None,
            compiler,
            limits: Limits::default(),
        }
    }
}

/// Limits of all plugins together and of each kind. Read from a table that names every one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Size of a component's file.
    pub component_bytes_max: u64,
    /// A plugin's settings for one knowledge base.
    pub settings_bytes_max: usize,
    /// Live instances of parsers, chunkers and retrievers; a call beyond waits for one to end.
    pub instances_max: u32,
    /// Live instances of vector stores. Apart from the others, because a retriever waits for a store.
    pub store_instances_max: u32,
    /// Linear memory of all instances together; a call that would take more is refused as busy.
    pub total_memory_bytes_max: usize,
    /// Calls that wait for an instance; one more is refused as busy.
    pub queue_max: usize,
    /// Parallel instances of one knowledge base's retriever.
    pub retriever_lanes: usize,
    /// Time between two looks at a running guest.
    pub tick_ms: u64,
    /// Time of one document whose parser may have text recognised, which takes seconds a page.
    pub ocr_wall_ms_max: u64,
    pub parser: KindLimits,
    pub chunker: KindLimits,
    pub vector_store: KindLimits,
    pub retriever: KindLimits,
    pub connector: KindLimits,
    pub lang: LangLimits,
}

/// What a guest that brings the run time of a language (JavaScript, Python) has at least, whatever its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LangLimits {
    /// Linear memory of an instance.
    pub memory_bytes_max: usize,
    /// Memory above which a warm instance is not used again.
    pub warm_memory_bytes_max: usize,
    /// Processor time of the guest in one call.
    pub cpu_ms_max: u64,
    /// Time of one call, waits included.
    pub wall_ms_max: u64,
}

/// Limits of one kind of plugin. "Call" is one document for a parser and one exported function for the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindLimits {
    /// Linear memory of an instance.
    pub memory_bytes_max: usize,
    /// Memory above which a warm instance is not used again.
    pub warm_memory_bytes_max: usize,
    /// Calls after which a warm instance is not used again.
    pub warm_calls_max: u64,
    /// Processor time of the guest in one call; what the host does for it is not counted.
    pub cpu_ms_max: u64,
    /// Time of one call, waits included.
    pub wall_ms_max: u64,
    /// Bytes that the guest hands over in one crossing.
    pub crossing_bytes_max: usize,
    /// Handles and resources alive at once.
    pub handles_max: usize,
    /// Elements of a table.
    pub table_elements_max: usize,
    /// Calls of host functions in one exported function.
    pub host_calls_max: u64,
    /// Log messages and standard output in one exported function.
    pub log_bytes_max: usize,
    /// Text of one batch of blocks (parsers).
    pub batch_bytes_max: usize,
    /// Text of a document beyond ten times its size (parsers).
    pub document_bytes_extra: u64,
    /// Tokens that a language model writes in one call (retrievers).
    pub generate_tokens_max: u32,
}

impl Limits {
    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> &KindLimits {
        match kind {
            Kind::Parser => &self.parser,
            Kind::Chunker => &self.chunker,
            Kind::VectorStore => &self.vector_store,
            Kind::Connector => &self.connector,
            Kind::Retriever => &self.retriever,
        }
    }

    /// Those of one kind under a profile.
    pub(crate) fn under(&self, kind: Kind, profile: Profile) -> KindLimits {
        let (limits, lang) = (self.of(kind).clone(), &self.lang);
        match profile {
            Profile::Plain => limits,
            Profile::Lang => KindLimits {
                memory_bytes_max: limits.memory_bytes_max.max(lang.memory_bytes_max),
                warm_memory_bytes_max: limits.warm_memory_bytes_max.max(lang.warm_memory_bytes_max),
                cpu_ms_max: limits.cpu_ms_max.max(lang.cpu_ms_max),
                wall_ms_max: limits.wall_ms_max.max(lang.wall_ms_max),
                ..limits
            },
        }
    }

    /// The largest linear memory that any plugin may have.
    pub(crate) fn memory_bytes_max(&self) -> usize {
        let kinds = [&self.parser, &self.chunker, &self.vector_store, &self.retriever, &self.connector];
        kinds.iter().map(|kind| kind.memory_bytes_max).fold(self.lang.memory_bytes_max, usize::max)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let base = KindLimits {
            memory_bytes_max: 128 * MIB,
            warm_memory_bytes_max: 32 * MIB,
            warm_calls_max: 10_000,
            cpu_ms_max: 2_000,
            wall_ms_max: 5_000,
            crossing_bytes_max: 16 * MIB,
            handles_max: 256,
            table_elements_max: 100_000,
            host_calls_max: 10_000,
            log_bytes_max: 256 << 10,
            batch_bytes_max: 16 * MIB,
            document_bytes_extra: 64 << 20,
            generate_tokens_max: 1_024,
        };
        Limits {
            component_bytes_max: 64 << 20,
            settings_bytes_max: 256 << 10,
            instances_max: 64,
            store_instances_max: 64,
            total_memory_bytes_max: 4096 * MIB,
            queue_max: 256,
            retriever_lanes: 4,
            tick_ms: 2,
            parser: KindLimits {
                memory_bytes_max: 512 * MIB,
                cpu_ms_max: 60_000,
                wall_ms_max: 120_000,
                crossing_bytes_max: 32 * MIB,
                handles_max: 1_024,
                ..base.clone()
            },
            vector_store: KindLimits {
                // A store may hold its index in memory: throwing that away would cost more than it saves.
                warm_memory_bytes_max: 128 * MIB,
                warm_calls_max: 1_000_000_000,
                wall_ms_max: 30_000,
                crossing_bytes_max: 32 * MIB,
                handles_max: 4_096,
                ..base.clone()
            },
            retriever: KindLimits {
                cpu_ms_max: 1_000,
                wall_ms_max: 20_000,
                handles_max: 1_024,
                ..base.clone()
            },
            connector: KindLimits { wall_ms_max: 60_000, crossing_bytes_max: 32 * MIB, ..base.clone() },
            lang: LangLimits {
                memory_bytes_max: 256 * MIB,
                warm_memory_bytes_max: 256 * MIB,
                cpu_ms_max: 10_000,
                wall_ms_max: 60_000,
            },
            ocr_wall_ms_max: 3_600_000,
            // It may ask for the vectors of every sentence.
            chunker: KindLimits { wall_ms_max: 60_000, ..base },
        }
    }
}
