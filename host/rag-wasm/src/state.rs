//! What the host keeps beside one instance: its bounds, what it may reach, and its output.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use rag_core::Error;
use rag_core::ports::{Blob, Embed, Generate, Http, KbSearch, KeyValue, Ocr, Rerank, Sql, VectorIndex};
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::ragkit::types::types as wit;
use crate::config::KindLimits;
use crate::convert;
use crate::imports::wasi_http::Outgoing;
use crate::meter::{HostNanos, OnHost};
use crate::sink::{LogSink, Stdio};

/// Refusals within one exported function after which the guest is stopped instead.
const DENIALS_MAX: u64 = 10;
/// Core instances, memories and tables of one component: one of Rust has four, one and two, one of Python some twenty of
/// the first.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
pub(crate) const MEMORIES_MAX: u32 = 2;
pub(crate) const TABLES_MAX: u32 = 8;

/// What an instance may reach through host functions. Which of them a kind may import is decided when it is linked.
#[derive(Clone, Default)]
pub(crate) struct Grants {
    pub(crate) embedder: Option<Arc<dyn Embed>>,
    pub(crate) reranker: Option<Arc<dyn Rerank>>,
    pub(crate) generator: Option<Arc<dyn Generate>>,
    pub(crate) search: Option<Arc<dyn KbSearch>>,
    pub(crate) kv: Option<Arc<dyn KeyValue>>,
    pub(crate) index: Option<Arc<dyn VectorIndex>>,
    pub(crate) http: Option<Arc<dyn Http>>,
    pub(crate) sql: Option<Arc<dyn Sql>>,
    pub(crate) ocr: Option<Arc<dyn Ocr>>,
}

/// A document lent to a parser.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenBlob {
    pub(crate) blob: Arc<dyn Blob>,
    /// Bytes that may still be read; reading a file over and over is a loop, not parsing.
    pub(crate) bytes_left: u64,
}

/// A host function ended the guest; the text says which bound it broke.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Stopped(pub(crate) String);

/// Data of a store.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) bounds: Bounds,
    pub(crate) sink: Arc<LogSink>,
    pub(crate) settings: Arc<str>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) limits: Arc<KindLimits>,
    /// Of `wasi:http`, once it was used.
    pub(crate) outgoing: Option<Outgoing>,
    /// Time that host functions spent in the present call.
    pub(crate) host_nanos: HostNanos,
    /// When the present call, or the making of the instance, began.
    pub(crate) call_began: Instant,
    host_calls: u64,
    denials: u64,
    pub(crate) generated_tokens: u32,
    /// The last failure of a port, with the text that the guest saw: a guest that hands it on has not failed itself.
    pub(crate) host_error: Option<(String, Error)>,
}

impl State {
    /// `plugin` is "id version", as the log shows it.
    pub(crate) fn new(
        plugin: &Arc<str>,
        settings: &Arc<str>,
        grants: &Arc<Grants>,
        limits: &Arc<KindLimits>,
        memory: &Arc<MemoryBudget>,
    ) -> Self {
        let sink = Arc::new(LogSink::new(Arc::clone(plugin), limits.log_bytes_max));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles_max);
        // No environment, arguments, files or sockets. Fixed seeds: the same input gives the same output.
        let wasi = WasiCtx::builder()
            .stdout(Stdio::output(&sink))
            .stderr(Stdio::error(&sink))
            .secure_random(Deterministic::new(SEED.to_vec()))
            .insecure_random(Deterministic::new(SEED.to_vec()))
            .insecure_random_seed(0)
            .build();
        State {
            wasi,
            table,
            bounds: Bounds::new(limits, memory),
            sink,
            settings: Arc::clone(settings),
            grants: Arc::clone(grants),
            limits: Arc::clone(limits),
            outgoing: None,
            host_nanos: Arc::new(AtomicU64::new(0)),
            call_began: Instant::now(),
            host_calls: 0,
            denials: 0,
            generated_tokens: 0,
            host_error: None,
        }
    }

    /// What all plugins together may have, in bytes.
    pub(crate) fn memory_total(&self) -> usize {
        self.bounds.shared.max
    }

    /// Renews what is counted for each exported function; when it begins, which is now.
    pub(crate) fn begin_call(&mut self) -> Instant {
        self.call_began = Instant::now();
        self.host_calls = 0;
        self.denials = 0;
        self.generated_tokens = 0;
        self.host_error = None;
        if let Some(outgoing) = &self.outgoing {
            outgoing.begin_call();
        }
        self.sink.begin_call(self.limits.log_bytes_max);
        self.call_began
    }

    /// Counts one call of a host function: beyond the limit the guest is told `quota`, and stopped when it goes on.
    pub(crate) fn count_call(&mut self) -> wasmtime::Result<Result<(), wit::Error>> {
        let limit = self.limits.host_calls_max;
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls <= limit {
            return Ok(Ok(()));
        }
        if self.host_calls > limit.saturating_add(DENIALS_MAX) {
            return Err(wasmtime::Error::new(Stopped(format!(
                "it made more than {limit} calls of host functions"
            ))));
        }
        Ok(Err(refusal(wit::ErrorCode::Quota, &format!("more than {limit} host calls in one call"))))
    }

    /// Counts one refusal for want of a grant: a guest that goes on asking is stopped.
    pub(crate) fn count_denial(&mut self) -> wasmtime::Result<()> {
        self.denials = self.denials.saturating_add(1);
        if self.denials > DENIALS_MAX {
            return Err(wasmtime::Error::new(Stopped(format!(
                "it asked more than {DENIALS_MAX} times for what it is not granted"
            ))));
        }
        Ok(())
    }

    /// Performs a host function: counted, its time not charged to the guest, its failure remembered.
    pub(crate) async fn perform<T>(
        &mut self,
        work: impl Future<Output = rag_core::Result<T>> + Send,
    ) -> wasmtime::Result<Result<T, wit::Error>> {
        if let Err(refused) = self.count_call()? {
            return Ok(Err(refused));
        }
        let outcome = OnHost::new(work, Arc::clone(&self.host_nanos)).await;
        if matches!(&outcome, Err(Error::Denied { .. })) {
            self.count_denial()?;
        }
        Ok(outcome.map_err(|err| {
            let shown = convert::error_to_guest(&err);
            self.host_error = Some((shown.message.clone(), err));
            shown
        }))
    }
}

/// Fixed "random" bytes: enough for hash tables, and no plugin makes secrets.
const SEED: [u8; 32] = *b"ragkit: equal seeds, equal runs.";

/// A typed answer of the host to a guest's request.
pub(crate) fn refusal(code: wit::ErrorCode, message: &str) -> wit::Error {
    wit::Error { code, message: message.to_owned(), retryable: false }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Memory and tables of one store. Remembers that it refused, so that the abort which follows in the guest is
/// reported as what it is.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// What all stores share.
    shared: Arc<MemoryBudget>,
    /// All stores together have too much: no fault of this one.
    pub(crate) crowded: bool,
    memory_bytes_max: usize,
    table_elements_max: usize,
    memory_bytes: usize,
    /// What was refused first.
    pub(crate) refused: Option<String>,
}

impl Bounds {
    fn new(limits: &KindLimits, shared: &Arc<MemoryBudget>) -> Self {
        Bounds {
            shared: Arc::clone(shared),
            crowded: false,
            memory_bytes_max: limits.memory_bytes_max,
            table_elements_max: limits.table_elements_max,
            memory_bytes: 0,
            refused: None,
        }
    }

    /// Linear memory of the instance; never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        self.shared.give(self.memory_bytes);
    }
}

/// Linear memory that all instances of a process may have together, in bytes.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    used: AtomicUsize,
    pub(crate) max: usize,
}

impl MemoryBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(MemoryBudget { used: AtomicUsize::new(0), max })
    }

    /// Whether there was so much left; then it is taken.
    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.max;
        if !fits {
            self.give(bytes);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            let limit = self.memory_bytes_max >> 20;
            self.refused.get_or_insert_with(|| format!("it asked for more than {limit} MiB of memory"));
            return Ok(false);
        }
        if !self.shared.take(total - self.memory_bytes) {
            self.crowded = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.table_elements_max;
        if desired > limit {
            self.refused.get_or_insert_with(|| format!("it asked for a table of more than {limit} elements"));
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
