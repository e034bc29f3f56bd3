//! The one engine of the process: what compiled code may do and how instances get their memory.

use std::num::NonZeroUsize;

use rag_core::{Error, Result};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::config::Limits;
use crate::state::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};

/// Stack of guest code, in bytes; the rest of the fibre's stack is left to host functions.
const GUEST_STACK_BYTES: usize = 512 << 10;
const FIBRE_STACK_BYTES: usize = 2 << 20;
/// Wasm frames named in the report of a trap.
const BACKTRACE_FRAMES_MAX: usize = 20;
/// Host data of one core or component instance, in bytes.
const INSTANCE_BYTES_MAX: usize = 10 << 20;
/// Memory of a freed instance that stays mapped for the next one, in bytes.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// Slots that keep the image of the component they last held.
const WARM_SLOTS_MAX: u32 = 32;
/// Core instances that one component uses on average, at most.
const CORE_INSTANCES_MEAN: u32 = 6;

/// Instances come from a pool reserved at start, which makes a new one cost microseconds; where the system does not
/// give that much address space (small containers), they are allocated one by one.
pub(crate) fn new(limits: &Limits) -> Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(err) => {
            tracing::warn!("no pool of plugin instances ({err:#}); they are allocated one by one");
            Engine::new(&base()).map_err(|err| Error::internal(format!("cannot start wasmtime: {err:#}")))
        }
    }
}

/// What compiled code depends on; the pool is not part of it.
pub(crate) fn base() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(FIBRE_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .memory_init_cow(true);
    config
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let instances = limits.instances_max.saturating_add(limits.store_instances_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MEAN))
        .total_memories(instances.saturating_mul(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(1)
        .max_tables_per_module(2)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(limits.memory_bytes_max())
        .table_elements(limits.chunker.table_elements_max)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .pagemap_scan(Enabled::Auto);
    pool
}
