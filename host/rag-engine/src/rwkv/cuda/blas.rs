//! Products of many rows, by cuBLAS: opened when a model is loaded, on the GPU's stream, with memory of our own.

use std::ffi::c_int;
use std::fmt;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::cublas::sys;
use rag_core::{Error, Result};

use super::driver::{Gpu, Memory};

/// What the library asks for on this generation of GPUs.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

/// The type of a matrix's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    Bf16,
    /// IEEE's half precision; encoders have it.
    F16,
    /// With an f32 scale for each 16; inputs of our own products only.
    Int8,
}

impl Element {
    /// Bytes of an element in a buffer; int8 leaves room, so that a part of a buffer may hold f32 as well.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::Int8 => 4,
            Element::Bf16 | Element::F16 => 2,
        }
    }

    fn code(self) -> sys::cudaDataType {
        match self {
            Element::F32 => sys::cudaDataType::CUDA_R_32F,
            Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            Element::F16 => sys::cudaDataType::CUDA_R_16F,
            Element::Int8 => sys::cudaDataType::CUDA_R_8I,
        }
    }
}

pub struct Blas {
    handle: sys::cublasHandle_t,
    /// In use as long as the handle.
    _workspace: Memory,
    gpu: Arc<Gpu>,
}

// SAFETY: a handle may be used from any thread, by one at a time: `Blas` is not `Sync`.
unsafe impl Send for Blas {}

impl fmt::Debug for Blas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blas").finish_non_exhaustive()
    }
}

/// out [rows, outputs] (+)= x [rows, inputs] · weightsᵀ, `count` times at the strides given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    /// Addresses.
    pub(super) x: u64,
    pub(super) weights: u64,
    pub(super) out: u64,
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Between rows of `x`, and between the inputs of one product and the next.
    pub(super) x_strides: [usize; 2],
    /// Weights are [outputs, inputs], or the other way round.
    pub(super) outputs_first: bool,
    /// Of `x` and the weights, and of `out`.
    pub(super) element: Element,
    pub(super) out_element: Element,
    /// Between rows of `out`.
    pub(super) out_stride: usize,
    /// Adds to what is in `out`.
    pub(super) add: bool,
    /// Products with the weights and outputs of each directly behind those of the one before.
    pub(super) count: usize,
}

/// A matrix on the GPU, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// Its address.
    pub at: u64,
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one product's matrix to the next's.
    pub next: usize,
    /// Whether it takes part with rows and columns exchanged; never for what is written.
    pub turned: bool,
}

/// out [rows, columns] ← alpha · left [rows, inner] · right [inner, columns] + beta · out.
#[derive(Debug, Clone, Copy)]
pub struct Gemm {
    pub left: Operand,
    pub right: Operand,
    pub out: Operand,
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub alpha: f32,
    pub beta: f32,
    /// Of `left` and `right`, and of `out`.
    pub element: Element,
    pub out_element: Element,
    pub count: usize,
}

fn check(status: sys::cublasStatus_t, what: &str) -> Result<()> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    Err(Error::Unavailable { message: format!("cuBLAS: {what}: {status:?}") })
}

impl Blas {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Self> {
        // SAFETY: opens libraries by their names.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Unavailable {
                message:
                    "CUDA: libcublas is not on this machine; install it (CUDA toolkit, or the PyPI package \
                          nvidia-cublas with its folder in LD_LIBRARY_PATH)"
                        .to_string(),
            });
        }
        gpu.enter()?;
        let workspace = Memory::new(gpu, WORKSPACE_BYTES)?;
        let mut handle = null_mut();
        // SAFETY: the library is there; stream and workspace live as long as the handle.
        unsafe {
            check(sys::cublasCreate_v2(&raw mut handle), "starting")?;
            check(sys::cublasSetStream_v2(handle, gpu.stream().cast()), "choosing the stream")?;
            let at = workspace.at(0) as *mut _;
            check(sys::cublasSetWorkspace_v2(handle, at, WORKSPACE_BYTES), "lending memory")?;
        }
        Ok(Self { handle, _workspace: workspace, gpu: gpu.clone() })
    }

    /// Queues out ← α · left · right + β · out, `count` times at the strides given.
    ///
    /// # Safety
    /// The addresses hold as many elements as the sizes say, until the product is done.
    pub unsafe fn multiply(&self, product: &Gemm) -> Result<()> {
        let Gemm { left, right, out, rows, inner, columns, alpha, beta, count, .. } = *product;
        let operation = |turned| match turned {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let [m, n, k] = [columns, rows, inner].map(|n| n as c_int);
        let element = product.element.code();
        self.gpu.enter()?;
        // The library's matrices are column by column: ours, read so, are turned, and so is the product.
        // SAFETY: by the caller's promise; the factors are read before the call returns.
        let status = unsafe {
            sys::cublasGemmStridedBatchedEx(
                self.handle,
                operation(right.turned),
                operation(left.turned),
                m,
                n,
                k,
                (&raw const alpha).cast(),
                right.at as *const _,
                element,
                right.row as c_int,
                right.next as i64,
                left.at as *const _,
                element,
                left.row as c_int,
                left.next as i64,
                (&raw const beta).cast(),
                out.at as *mut _,
                product.out_element.code(),
                out.row as c_int,
                out.next as i64,
                count as c_int,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        check(status, "multiplying")
    }

    /// Queues a product.
    ///
    /// # Safety
    /// The addresses hold as many elements as the sizes say, until the product is done.
    pub(super) unsafe fn queue(&self, product: &Product) -> Result<()> {
        let Product { x, x_strides, weights, out, rows, inputs, outputs, out_stride, count, .. } = *product;
        let (one, beta) = (1.0f32, if product.add { 1.0f32 } else { 0.0 });
        // The library's matrices are column by column: ours, read so, are turned.
        let (turn, leading) = if product.outputs_first {
            (sys::cublasOperation_t::CUBLAS_OP_T, inputs)
        } else {
            (sys::cublasOperation_t::CUBLAS_OP_N, outputs)
        };
        let [m, n, k, leading, x_row, out_stride_int] =
            [outputs, rows, inputs, leading, x_strides[0], out_stride].map(|n| n as c_int);
        let element = product.element.code();
        let strides = [outputs * inputs, x_strides[1], rows * out_stride].map(|n| n as i64);
        self.gpu.enter()?;
        // SAFETY: by the caller's promise; the factors are read before the call returns.
        let status = unsafe {
            sys::cublasGemmStridedBatchedEx(
                self.handle,
                turn,
                sys::cublasOperation_t::CUBLAS_OP_N,
                m,
                n,
                k,
                (&raw const one).cast(),
                weights as *const _,
                element,
                leading,
                strides[0],
                x as *const _,
                element,
                x_row,
                strides[1],
                (&raw const beta).cast(),
                out as *mut _,
                product.out_element.code(),
                out_stride_int,
                strides[2],
                count as c_int,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        check(status, "multiplying")
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        // SAFETY: destroyed once, before its workspace.
        unsafe {
            let _ = sys::cublasDestroy_v2(self.handle);
        }
    }
}
