//! What the trainer asks of a GPU: its kernels by name, and matrix products, one after another on one stream.
//!
//! Addresses come from buffers that live as long as what is queued; the sizes given with them are those that the
//! buffers were made for. That is checked in `Buffer::at` and kept by the few callers, all in this module's parent.

#![expect(unsafe_code, reason = "kernels read and write by address")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rag_core::Result;
use rag_engine::rwkv::cuda::{Blas, Element, Gemm, Gpu, Kernel, Kernels, Mark, Memory, Operand, Shape};

use crate::device::Timing;

/// Compiled from `kernels/train.cu`.
const KERNELS: Kernels = Kernels {
    machine_code: include_bytes!(concat!(env!("OUT_DIR"), "/train.cubin")),
    text: include_bytes!(concat!(env!("OUT_DIR"), "/train.ptx")),
};
/// Threads of kernels that work value by value, eight of them each, and row by row.
const THREADS: usize = 256;
/// Values that a thread takes.
pub(super) const EACH: usize = 8;

/// The arguments of a kernel, as `kernels/args.cuh` has them.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Args {
    at: [u64; 20],
    n: [i32; 8],
    f: [f32; 8],
}

impl Args {
    fn of(at: &[u64], n: &[usize], f: &[f32]) -> Self {
        let mut args = Self::default();
        args.at[..at.len()].copy_from_slice(at);
        args.n.iter_mut().zip(n).for_each(|(to, &from)| *to = from as i32);
        args.f[..f.len()].copy_from_slice(f);
        args
    }
}

/// Values of one type in the GPU's memory.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) memory: Memory,
    each: usize,
}

impl Buffer {
    /// The address of a value.
    pub(super) fn at(&self, value: usize) -> u64 {
        assert!(value * self.each <= self.memory.bytes(), "a value outside of its buffer");
        self.memory.at(value * self.each)
    }

    /// The address of the first.
    pub(super) fn first(&self) -> u64 {
        self.memory.at(0)
    }
}

/// A matrix that takes part in products, row-major.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    at: u64,
    row: usize,
    next: usize,
    turned: bool,
}

/// Rows of so many values, one behind the other.
pub(super) fn view(at: u64, row: usize) -> View {
    View { at, row, next: 0, turned: false }
}

impl View {
    /// With rows and columns exchanged.
    pub(super) fn turned(self) -> Self {
        Self { turned: true, ..self }
    }

    /// The first of several, each so many values behind the one before.
    pub(super) fn each(self, next: usize) -> Self {
        Self { next, ..self }
    }

    fn operand(self) -> Operand {
        Operand { at: self.at, row: self.row, next: self.next, turned: self.turned }
    }
}

/// What a product is added to, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) alpha: f32,
    /// Adds to what is there.
    pub(super) adds: bool,
    /// The result is f32 whatever the activations are.
    pub(super) exact: bool,
    /// Products at once.
    pub(super) count: usize,
}

/// A product that replaces what is there, in the activations' type.
pub(super) const SET: Sum = Sum { alpha: 1.0, adds: false, exact: false, count: 1 };
/// One that is added to a gradient.
pub(super) const GRADIENT: Sum = Sum { alpha: 1.0, adds: true, exact: true, count: 1 };

#[derive(Debug)]
pub(super) struct Ops {
    pub(super) gpu: Arc<Gpu>,
    blas: Blas,
    /// Of activations: f32 or bf16.
    pub(super) act: Element,
    kernels: RefCell<BTreeMap<String, Kernel>>,
    /// While work is timed: what was done from when to when.
    marks: RefCell<Option<Vec<(String, Mark, Mark)>>>,
}

impl Ops {
    pub(super) fn open(index: usize, act: Element) -> Result<Self> {
        let gpu = Gpu::open_with(index, KERNELS)?;
        let blas = Blas::new(&gpu)?;
        Ok(Self { gpu, blas, act, kernels: RefCell::default(), marks: RefCell::new(None) })
    }

    /// Zeros in f32.
    pub(super) fn exact(&self, values: usize) -> Result<Buffer> {
        Ok(Buffer { memory: Memory::new(&self.gpu, values * 4)?, each: 4 })
    }

    /// Zeros in the activations' type.
    pub(super) fn activations(&self, values: usize) -> Result<Buffer> {
        let each = self.act.bytes();
        Ok(Buffer { memory: Memory::new(&self.gpu, values * each)?, each })
    }

    /// These values; rounded up to a whole vector of a kernel.
    pub(super) fn upload<T: Copy>(&self, values: &[T]) -> Result<Buffer> {
        let bytes = size_of_val(values).next_multiple_of(64);
        let memory = Memory::new(&self.gpu, bytes)?;
        memory.write(0, values)?;
        Ok(Buffer { memory, each: size_of::<T>() })
    }

    /// Queues a kernel whose name ends in the activations' type.
    fn typed(&self, name: &str, blocks: [usize; 2], threads: usize, args: Args) -> Result<()> {
        let ending = if self.act == Element::F32 { "f32" } else { "bf16" };
        self.launch(&format!("{name}_{ending}"), (blocks, threads, 0), args)
    }

    fn launch(
        &self,
        name: &str,
        (blocks, threads, shared): ([usize; 2], usize, usize),
        args: Args,
    ) -> Result<()> {
        let known = self.kernels.borrow().get(name).copied();
        let kernel = match known {
            Some(kernel) => kernel,
            None => {
                let kernel = self.gpu.kernel(name)?;
                self.kernels.borrow_mut().insert(name.to_owned(), kernel);
                kernel
            }
        };
        let shape = Shape { blocks, threads, shared, overlap: false };
        // SAFETY: all kernels take `Args`; addresses and sizes fit as the head of this file says.
        self.timed(name, || unsafe { self.gpu.launch(kernel, shape, &args) })
    }

    /// Value by value over `count` values; `width` is a third size.
    pub(super) fn map(&self, name: &str, count: usize, at: &[u64], width: usize, f: &[f32]) -> Result<()> {
        let n = [count % (1 << 30), count >> 30, width];
        let blocks = [count.div_ceil(EACH * THREADS).max(1), 1];
        self.typed(name, blocks, THREADS, Args::of(at, &n, f))
    }

    /// As `map`, for kernels that know no type of activations; blocks of `y` do the same at other places.
    pub(super) fn map_any(
        &self,
        name: &str,
        (count, y): (usize, usize),
        at: &[u64],
        width: usize,
        f: &[f32],
    ) -> Result<()> {
        let n = [count % (1 << 30), count >> 30, width];
        let blocks = [count.div_ceil(EACH * THREADS).max(1), y];
        self.launch(&format!("{name}_any"), (blocks, THREADS, 0), Args::of(at, &n, f))
    }

    /// A block a row.
    pub(super) fn rows(&self, name: &str, rows: usize, at: &[u64], n: &[usize], f: &[f32]) -> Result<()> {
        self.typed(name, [rows, 1], THREADS, Args::of(at, n, f))
    }

    /// As `rows`, for f32 whatever the activations are.
    pub(super) fn exact_rows(
        &self,
        name: &str,
        rows: usize,
        at: &[u64],
        n: &[usize],
        f: &[f32],
    ) -> Result<()> {
        self.launch(name, ([rows, 1], THREADS, 0), Args::of(at, n, f))
    }

    /// Another shape of blocks, threads and bytes of shared memory.
    pub(super) fn shaped(
        &self,
        name: &str,
        shape: ([usize; 2], usize, usize),
        at: &[u64],
        n: &[usize],
        f: &[f32],
    ) -> Result<()> {
        self.launch(name, shape, Args::of(at, n, f))
    }

    /// As `shaped`, of the activations' type.
    pub(super) fn typed_shaped(
        &self,
        name: &str,
        shape: ([usize; 2], usize, usize),
        at: &[u64],
        n: &[usize],
        f: &[f32],
    ) -> Result<()> {
        let ending = if self.act == Element::F32 { "f32" } else { "bf16" };
        self.launch(&format!("{name}_{ending}"), shape, Args::of(at, n, f))
    }

    /// out [rows, columns] ← left [rows, inner] · right [inner, columns].
    pub(super) fn multiply(
        &self,
        [left, right, out]: [View; 3],
        [rows, inner, columns]: [usize; 3],
        sum: Sum,
    ) -> Result<()> {
        let gemm = Gemm {
            left: left.operand(),
            right: right.operand(),
            out: out.operand(),
            rows,
            inner,
            columns,
            alpha: sum.alpha,
            beta: if sum.adds { 1.0 } else { 0.0 },
            element: self.act,
            out_element: if sum.exact { Element::F32 } else { self.act },
            count: sum.count,
        };
        let timing = self.marks.borrow().is_some();
        let name = if timing { format!("product {rows}x{inner}x{columns}") } else { String::new() };
        // SAFETY: as the head of this file says.
        self.timed(&name, || unsafe { self.blas.multiply(&gemm) })
    }

    fn timed(&self, name: &str, queue: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.marks.borrow().is_none() {
            return queue();
        }
        let before = self.gpu.mark()?;
        queue()?;
        let after = self.gpu.mark()?;
        if let Some(marks) = self.marks.borrow_mut().as_mut() {
            marks.push((name.to_owned(), before, after));
        }
        Ok(())
    }

    /// From now on all work is timed apart.
    pub(super) fn start_timing(&self) {
        *self.marks.borrow_mut() = Some(Vec::new());
    }

    /// What it took, by kind.
    pub(super) fn timings(&self) -> Result<Vec<Timing>> {
        self.gpu.wait()?;
        let mut kinds: BTreeMap<String, (f64, u32)> = BTreeMap::new();
        for (name, before, after) in self.marks.take().unwrap_or_default() {
            let entry = kinds.entry(name).or_default();
            entry.0 += f64::from(after.since(&before)?);
            entry.1 += 1;
        }
        let timing = |(name, (milliseconds, times))| Timing { name, milliseconds, times };
        let mut timings: Vec<Timing> = kinds.into_iter().map(timing).collect();
        timings.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        Ok(timings)
    }
}

/// Bytes of a GPU's memory that are free once it is open.
pub(super) fn free_bytes(index: usize) -> Result<u64> {
    let (free, _) = Gpu::open_with(index, KERNELS)?.memory()?;
    Ok(free as u64)
}
