//! A GPU through the driver's interface: memory, kernels, graphs. Every call says what went wrong as an `Error`.
//!
//! Work is queued on one stream a GPU and runs in order. The library is opened when it is first needed, so that a
//! program built with CUDA starts on a machine without it.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys;
use rag_core::{Error, Result};

/// The kernels: machine code for compute capability 9.0, and code that the driver compiles for any from 8.0 on.
static CUBIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rwkv6.cubin"));
static PTX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rwkv6.ptx"));
/// What is loaded instead, if anything.
static INSTEAD: OnceLock<Vec<u8>> = OnceLock::new();

/// Loads these kernels (a cubin, or PTX that ends in 0) from now on, to try changed ones without building all again.
/// Only the first call counts.
pub fn use_kernels(image: Vec<u8>) {
    // A second image is dropped.
    let _ = INSTEAD.set(image);
}

/// One GPU with its stream and the kernels.
pub(super) struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    pub(super) name: String,
    pub(super) multiprocessors: usize,
    /// Whether a kernel may start before the one ahead has ended (compute capability 9.0 on).
    pub(super) overlaps: bool,
}

// SAFETY: handles of the driver may be used from any thread; each call sets its context first.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("name", &self.name).finish_non_exhaustive()
    }
}

fn failed(what: &str, why: &str) -> Error {
    Error::Unavailable { message: format!("CUDA: {what}: {why}") }
}

fn check(result: sys::CUresult, what: &str) -> Result<()> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver writes a pointer to a static text, or leaves null.
    unsafe { sys::cuGetErrorString(result, &raw mut text) };
    let why = if text.is_null() {
        format!("{result:?}")
    } else {
        // SAFETY: a text that ends in 0, as above.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    Err(failed(what, &why))
}

/// How many GPUs there are; says why when there can be none.
pub fn count() -> Result<usize> {
    // SAFETY: opens libraries by their names.
    if !unsafe { sys::is_culib_present() } {
        return Err(failed("no GPU", "the driver's library (libcuda.so.1) is not on this machine"));
    }
    let mut count = 0;
    // SAFETY: the library is there.
    check(unsafe { sys::cuInit(0) }, "the driver does not start")?;
    // SAFETY: as above.
    check(unsafe { sys::cuDeviceGetCount(&raw mut count) }, "counting GPUs")?;
    Ok(usize::try_from(count).unwrap_or(0))
}

impl Gpu {
    pub(super) fn open(index: usize) -> Result<Arc<Self>> {
        let there = count()?;
        if index >= there {
            return Err(failed("no such GPU", &format!("cuda:{index} was asked for, {there} are there")));
        }
        let (mut device, mut context) = (0, null_mut());
        // SAFETY: the index exists; the driver writes the handles.
        unsafe {
            check(sys::cuDeviceGet(&raw mut device, index as c_int), "opening a GPU")?;
            check(sys::cuDevicePrimaryCtxRetain(&raw mut context, device), "opening a GPU")?;
            check(sys::cuCtxSetCurrent(context), "opening a GPU")?;
        }
        let mut name = [0; 128];
        // SAFETY: the buffer's length is given and its last byte stays 0.
        let name = unsafe {
            check(sys::cuDeviceGetName(name.as_mut_ptr(), 127, device), "naming a GPU")?;
            CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
        };
        use sys::CUdevice_attribute_enum as Attribute;
        let attribute = |attribute: Attribute| -> Result<c_int> {
            let mut value = 0;
            // SAFETY: the driver writes one number.
            check(unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) }, "asking a GPU")?;
            Ok(value)
        };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        if major < 8 {
            return Err(failed(&name, &format!("its compute capability is {major}.{minor}; 8.0 is needed")));
        }
        let (mut stream, mut module) = (null_mut(), null_mut());
        let text = CString::new(PTX).map_err(|e| failed("loading kernels", &e.to_string()))?;
        // SAFETY: the context is current; both images are whole, and the text ends in 0.
        unsafe {
            let own = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
            check(sys::cuStreamCreate(&raw mut stream, own), "making a stream")?;
            let image = if (major, minor) == (9, 0) { CUBIN } else { text.as_bytes_with_nul() };
            let image = INSTEAD.get().map_or(image, Vec::as_slice);
            check(sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()), "loading kernels")?;
        }
        let multiprocessors = usize::try_from(multiprocessors).unwrap_or(1).max(1);
        let overlaps = (major, minor) == (9, 0);
        Ok(Arc::new(Self { device, context, stream, module, name, multiprocessors, overlaps }))
    }

    /// Makes this GPU the calling thread's.
    pub(super) fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "choosing a GPU")
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Free and total bytes of the GPU's memory.
    pub(super) fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the driver writes two numbers.
        check(unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) }, "asking for free memory")?;
        Ok((free, total))
    }

    /// Waits for all that was queued.
    pub(super) fn wait(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "computing")
    }

    /// A kernel by its name in `rwkv6.cu`.
    pub(super) fn kernel(&self, name: &str) -> Result<Kernel> {
        let mut function = null_mut();
        let text = CString::new(name).map_err(|e| failed(name, &e.to_string()))?;
        self.enter()?;
        // SAFETY: the module is loaded; the name ends in 0.
        unsafe {
            check(sys::cuModuleGetFunction(&raw mut function, self.module, text.as_ptr()), name)?;
        }
        Ok(Kernel(function))
    }

    /// Queues a kernel whose only argument is `params`.
    ///
    /// # Safety
    /// `P` is the kernel's structure, its pointers fit what the kernel does, and live until it has run.
    pub(super) unsafe fn launch<P>(&self, kernel: Kernel, shape: Shape, params: &P) -> Result<()> {
        let mut attribute = MaybeUninit::<sys::CUlaunchAttribute>::zeroed();
        // SAFETY: all zeros are a valid attribute; the fields that count are written.
        let mut attribute = unsafe {
            let attributes = attribute.as_mut_ptr();
            (*attributes).id =
                sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
            (*attributes).value.programmaticStreamSerializationAllowed = 1;
            attribute.assume_init()
        };
        let config = sys::CUlaunchConfig {
            gridDimX: shape.blocks[0] as u32,
            gridDimY: shape.blocks[1] as u32,
            gridDimZ: 1,
            blockDimX: shape.threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shape.shared as u32,
            hStream: self.stream,
            attrs: &raw mut attribute,
            numAttrs: u32::from(self.overlaps && shape.overlap),
        };
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast::<c_void>()];
        // SAFETY: one argument, copied by the call; the rest by the caller's promise.
        let result =
            unsafe { sys::cuLaunchKernelEx(&raw const config, kernel.0, arguments.as_mut_ptr(), null_mut()) };
        check(result, "starting a kernel")
    }

    /// Records what `queue` queues, to be queued again at once later.
    pub(super) fn record(self: &Arc<Self>, queue: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is not recording.
        check(unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) }, "recording")?;
        let queued = queue();
        let (mut graph, mut whole) = (null_mut(), null_mut());
        // SAFETY: ends what began above, also after a failure; the graph is made into one that can run, then dropped.
        unsafe {
            let ended = check(sys::cuStreamEndCapture(self.stream, &raw mut graph), "recording");
            queued.and(ended)?;
            let made =
                check(sys::cuGraphInstantiateWithFlags(&raw mut whole, graph, 0), "preparing a recording");
            sys::cuGraphDestroy(graph);
            made?;
        }
        Ok(Graph { gpu: self.clone(), graph: whole })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: nothing that uses these is left: all of it holds the `Gpu`.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.context);
            let _ = sys::cuStreamDestroy_v2(self.stream);
            let _ = sys::cuModuleUnload(self.module);
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

/// A kernel of a `Gpu`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel(sys::CUfunction);

// SAFETY: as `Gpu`.
unsafe impl Send for Kernel {}
// SAFETY: as `Gpu`.
unsafe impl Sync for Kernel {}

/// How many blocks of how many threads, bytes of shared memory, and whether it may start early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) blocks: [usize; 2],
    pub(super) threads: usize,
    pub(super) shared: usize,
    pub(super) overlap: bool,
}

/// A recording of kernels.
#[derive(Debug)]
pub(super) struct Graph {
    gpu: Arc<Gpu>,
    graph: sys::CUgraphExec,
}

// SAFETY: as `Gpu`.
unsafe impl Send for Graph {}

impl Graph {
    /// Queues it all. What the recorded kernels point at must still be there.
    pub(super) fn queue(&self) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: the recording lives as long as `self`.
        check(unsafe { sys::cuGraphLaunch(self.graph, self.gpu.stream) }, "starting a recording")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: dropped once.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.gpu.context);
            let _ = sys::cuGraphExecDestroy(self.graph);
        }
    }
}

/// Memory of a GPU.
#[derive(Debug)]
pub(super) struct Memory {
    gpu: Arc<Gpu>,
    at: sys::CUdeviceptr,
    bytes: usize,
}

impl Memory {
    /// Zeroed memory; `Error::Unavailable` when there is too little.
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
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

    pub(super) fn of<T: Copy>(gpu: &Arc<Gpu>, values: &[T]) -> Result<Self> {
        let memory = Self::new(gpu, size_of_val(values))?;
        memory.write(0, values)?;
        Ok(memory)
    }

    /// The address of byte `offset`, for a kernel.
    pub(super) fn at(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.bytes, "an address outside of the memory");
        self.at + offset as u64
    }

    /// Copies plain numbers here, from byte `offset` on; they are copied when this returns.
    pub(super) fn write<T: Copy>(&self, offset: usize, values: &[T]) -> Result<()> {
        self.queue_write(offset, values.as_ptr().cast(), size_of_val(values))?;
        self.gpu.wait()
    }

    /// Queues a copy of the first `bytes` of pinned memory.
    pub(super) fn write_pinned(&self, from: &Pinned, bytes: usize) -> Result<()> {
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
    pub(super) fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<()> {
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
    pub(super) fn read_pinned(&self, to: &Pinned, bytes: usize) -> Result<()> {
        assert!(bytes <= self.bytes.min(to.bytes), "more than there is");
        self.gpu.enter()?;
        // SAFETY: both ranges exist; the pinned memory's owner waits before reading.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.at.cast(), self.at, bytes, self.gpu.stream) };
        check(result, "copying from the GPU")
    }

    /// Queues a copy of another memory of the same size.
    pub(super) fn copy_from(&self, other: &Memory) -> Result<()> {
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
pub(super) struct Pinned {
    gpu: Arc<Gpu>,
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
        gpu.enter()?;
        let mut at = null_mut();
        // SAFETY: the driver writes an address.
        check(unsafe { sys::cuMemAllocHost_v2(&raw mut at, bytes) }, "taking pinned memory")?;
        // SAFETY: all of it is ours.
        unsafe { at.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { gpu: gpu.clone(), at: at.cast(), bytes })
    }

    /// `len` numbers from byte `offset` on, a multiple of their size. Nothing that is queued may use them.
    pub(super) fn values<T: Copy>(&mut self, offset: usize, len: usize) -> &mut [T] {
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
