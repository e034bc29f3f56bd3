//! A GPU through the driver's interface: memory, kernels, graphs. Every call says what went wrong as an `Error`.
//!
//! Work is queued on one stream a GPU and runs in order. The library is opened when it is first needed, so that a
//! program built with CUDA starts on a machine without it.

mod memory;

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys;
pub use memory::Memory;
pub(super) use memory::Pinned;
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

static TEXT_ONLY: AtomicBool = AtomicBool::new(false);

/// Loads from now on what the driver compiles from text, as other GPUs get it, to try that on a GPU that has machine
/// code. (`CUDA_FORCE_PTX_JIT=1` says so to every library of the process, and cuBLAS does not start then.)
pub fn use_text() {
    TEXT_ONLY.store(true, Ordering::Relaxed);
}

/// Compiled kernels of a program.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// For compute capability 9.0.
    pub machine_code: &'static [u8],
    /// Text that the driver compiles for any from 8.0 on.
    pub text: &'static [u8],
}

/// The engine's own.
const OWN: Kernels = Kernels { machine_code: CUBIN, text: PTX };

/// One GPU with its stream and the kernels.
pub struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    pub name: String,
    pub multiprocessors: usize,
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

/// The kernels for the GPU whose context is current: machine code where there is some, unless the driver is told to go
/// without (`CUDA_FORCE_PTX_JIT=1`); else what the driver makes of the intermediate code. Says which.
fn load_kernels(kernels: Kernels, has_machine_code: bool) -> Result<(sys::CUmodule, bool)> {
    let forced = std::env::var_os("CUDA_FORCE_PTX_JIT").is_some_and(|value| value == "1")
        || TEXT_ONLY.load(Ordering::Relaxed);
    let machine_code = has_machine_code && !forced;
    let text = CString::new(kernels.text).map_err(|e| failed("loading kernels", &e.to_string()))?;
    let image = if machine_code { kernels.machine_code } else { text.as_bytes_with_nul() };
    let image = INSTEAD.get().filter(|_| kernels.machine_code == CUBIN).map_or(image, Vec::as_slice);
    let mut module = null_mut();
    // SAFETY: the images are whole, and the text ends in 0.
    let result = unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) };
    check(result, "loading kernels")?;
    Ok((module, machine_code))
}

impl Gpu {
    pub(super) fn open(index: usize) -> Result<Arc<Self>> {
        Self::open_with(index, OWN)
    }

    /// Opens a GPU for a program with kernels of its own, with a stream of its own.
    ///
    /// # Errors
    /// `Unavailable` when there is no such GPU, or it cannot run the kernels.
    pub fn open_with(index: usize, kernels: Kernels) -> Result<Arc<Self>> {
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
        let mut stream = null_mut();
        // SAFETY: the context is current.
        unsafe {
            let own = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
            check(sys::cuStreamCreate(&raw mut stream, own), "making a stream")?;
        }
        // Without machine code kernels do not wait for those ahead themselves.
        let (module, overlaps) = load_kernels(kernels, (major, minor) == (9, 0))?;
        let multiprocessors = usize::try_from(multiprocessors).unwrap_or(1).max(1);
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
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the driver writes two numbers.
        check(unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) }, "asking for free memory")?;
        Ok((free, total))
    }

    /// Waits for all that was queued.
    pub fn wait(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "computing")
    }

    /// A kernel by its name.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
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
    pub unsafe fn launch<P>(&self, kernel: Kernel, shape: Shape, params: &P) -> Result<()> {
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

    /// Notes the time at which all that was queued so far is done.
    pub fn mark(self: &Arc<Self>) -> Result<Mark> {
        self.enter()?;
        let mut event = null_mut();
        // SAFETY: the driver writes a handle, which is noted on a stream that lives as long as it.
        unsafe {
            check(sys::cuEventCreate(&raw mut event, 0), "making a mark")?;
            let mark = Mark { gpu: self.clone(), event };
            check(sys::cuEventRecord(event, self.stream), "setting a mark")?;
            Ok(mark)
        }
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
pub struct Kernel(sys::CUfunction);

// SAFETY: as `Gpu`.
unsafe impl Send for Kernel {}
// SAFETY: as `Gpu`.
unsafe impl Sync for Kernel {}

/// How many blocks of how many threads, bytes of shared memory, and whether it may start early.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub blocks: [usize; 2],
    pub threads: usize,
    pub shared: usize,
    pub overlap: bool,
}

/// A moment of a GPU's stream.
#[derive(Debug)]
pub struct Mark {
    gpu: Arc<Gpu>,
    event: sys::CUevent,
}

// SAFETY: as `Gpu`.
unsafe impl Send for Mark {}

impl Mark {
    /// Milliseconds from an earlier mark to this one; both have passed (`Gpu::wait`).
    pub fn since(&self, earlier: &Mark) -> Result<f32> {
        let mut time = 0.0;
        self.gpu.enter()?;
        // SAFETY: both events live; the driver writes a number.
        check(unsafe { sys::cuEventElapsedTime_v2(&raw mut time, earlier.event, self.event) }, "timing")?;
        Ok(time)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        unsafe {
            let _ = sys::cuCtxSetCurrent(self.gpu.context);
            let _ = sys::cuEventDestroy_v2(self.event);
        }
    }
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
