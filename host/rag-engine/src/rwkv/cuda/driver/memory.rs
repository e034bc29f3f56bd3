//! Memory of a GPU, and host memory that it copies from and to at full speed.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::sys;
use rag_core::Result;

use super::{Gpu, check, failed};

/// Memory of a GPU.
#[derive(Debug)]
pub struct Memory {
    gpu: Arc<Gpu>,
    at: sys::CUdeviceptr,
    bytes: usize,
}

impl Memory {
    /// Zeroed memory; `Error::Unavailable` when there is too little.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
        gpu.enter()?;
        let mut at = 0;
        let bytes = bytes.max(16);
        // SAFETY: the driver writes an address.
        let result = unsafe { sys::cuMemAlloc_v2(&raw mut at, bytes) };
        if result == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let (free, _) = gpu.memory()?;
            return Err(failed(
                &gpu.name,
                &format!(
                    "{} MiB of its memory are needed and {} are free; use fewer slots, int8 or nf4, or a smaller model",
                    bytes >> 20,
                    free >> 20
                ),
            ));
        }
        check(result, "taking memory")?;
        let memory = Self { gpu: gpu.clone(), at, bytes };
        // SAFETY: all of this memory is ours.
        check(unsafe { sys::cuMemsetD8Async(at, 0, bytes, gpu.stream) }, "clearing memory")?;
        Ok(memory)
    }

    pub fn of<T: Copy>(gpu: &Arc<Gpu>, values: &[T]) -> Result<Self> {
        let memory = Self::new(gpu, size_of_val(values))?;
        memory.write(0, values)?;
        Ok(memory)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of byte `offset`, for a kernel.
    pub fn at(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.bytes, "an address outside of the memory");
        self.at + offset as u64
    }

    /// Copies plain numbers here, from byte `offset` on; they are copied when this returns.
    pub fn write<T: Copy>(&self, offset: usize, values: &[T]) -> Result<()> {
        self.queue_write(offset, values.as_ptr().cast(), size_of_val(values))?;
        self.gpu.wait()
    }

    /// Queues a copy of the first `bytes` of pinned memory.
    pub(in super::super) fn write_pinned(&self, from: &Pinned, bytes: usize) -> Result<()> {
        assert!(bytes <= from.bytes, "more than there is");
        self.queue_write(0, from.at.cast(), bytes)
    }

    fn queue_write(&self, offset: usize, from: *const c_void, bytes: usize) -> Result<()> {
        assert!(offset + bytes <= self.bytes, "a copy beyond the memory's end");
        self.gpu.enter()?;
        // SAFETY: both ranges exist; the callers keep the source until the copy is done.
        let result =
            unsafe { sys::cuMemcpyHtoDAsync_v2(self.at + offset as u64, from, bytes, self.gpu.stream) };
        check(result, "copying to the GPU")
    }

    /// Copies plain numbers from byte `offset` on to `values` and waits for it.
    pub fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<()> {
        let bytes = size_of_val(values);
        assert!(offset + bytes <= self.bytes, "a copy beyond the memory's end");
        self.gpu.enter()?;
        // SAFETY: both ranges exist, and the copy is waited for.
        let result = unsafe {
            sys::cuMemcpyDtoHAsync_v2(
                values.as_mut_ptr().cast(),
                self.at + offset as u64,
                bytes,
                self.gpu.stream,
            )
        };
        check(result, "copying from the GPU")?;
        self.gpu.wait()
    }

    /// Queues a copy to the start of pinned memory.
    pub(in super::super) fn read_pinned(&self, to: &Pinned, bytes: usize) -> Result<()> {
        assert!(bytes <= self.bytes.min(to.bytes), "more than there is");
        self.gpu.enter()?;
        // SAFETY: both ranges exist; the pinned memory's owner waits before reading.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.at.cast(), self.at, bytes, self.gpu.stream) };
        check(result, "copying from the GPU")
    }

    /// Queues zeros for so many bytes from byte `offset` on.
    pub fn clear(&self, offset: usize, bytes: usize) -> Result<()> {
        assert!(offset + bytes <= self.bytes, "clearing beyond the memory's end");
        self.gpu.enter()?;
        // SAFETY: the range exists.
        let result = unsafe { sys::cuMemsetD8Async(self.at + offset as u64, 0, bytes, self.gpu.stream) };
        check(result, "clearing memory")
    }

    /// Queues a copy of another memory of the same size.
    pub fn copy_from(&self, other: &Memory) -> Result<()> {
        assert_eq!(self.bytes, other.bytes, "memory of another size");
        self.gpu.enter()?;
        // SAFETY: both ranges exist and are used by the same stream only.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(self.at, other.at, self.bytes, self.gpu.stream) };
        check(result, "copying on the GPU")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: freed once; the driver waits for kernels that use it.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.gpu.context);
            let _ = sys::cuMemFree_v2(self.at);
        }
    }
}

/// Host memory that the GPU copies from and to at full speed.
#[derive(Debug)]
pub(in super::super) struct Pinned {
    gpu: Arc<Gpu>,
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(in super::super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
        gpu.enter()?;
        let mut at = null_mut();
        // SAFETY: the driver writes an address.
        check(unsafe { sys::cuMemAllocHost_v2(&raw mut at, bytes) }, "taking pinned memory")?;
        // SAFETY: all of it is ours.
        unsafe { at.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { gpu: gpu.clone(), at: at.cast(), bytes })
    }

    /// `len` numbers from byte `offset` on, a multiple of their size. Nothing that is queued may use them.
    pub(in super::super) fn values<T: Copy>(&mut self, offset: usize, len: usize) -> &mut [T] {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + len * size_of::<T>() <= self.bytes);
        // SAFETY: in bounds, aligned (the start is page-aligned), and any bits are numbers.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(offset).cast(), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.gpu.context);
            let _ = sys::cuMemFreeHost(self.at.cast());
        }
    }
}
