//! From a component's bytes to native code: in this process, or in another one that is bounded.

use std::fmt;
use std::sync::Arc;

use wasmtime::Engine;

use crate::engine;

/// Compiles components in another process, which a component that is made to be hard to compile may bring down.
pub trait Compile: fmt::Debug + Send + Sync {
    /// Native code, as `compile_component` of this very program makes it: it will run with all rights of this process.
    /// Blocks.
    fn compile(&self, component: Vec<u8>) -> Result<Vec<u8>, CompileFault>;
}

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In this process, without bounds: a component can be made so that compiling it takes hours and all memory. For
    /// tests and benchmarks of components that are known.
    Here,
    /// In another process.
    Apart(Arc<dyn Compile>),
}

/// Why there is no native code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileFault {
    /// What the compiler says is wrong with it.
    #[error("it is not a valid component: {0}")]
    Invalid(String),
    /// It takes more than compiling may take; names the bound and its setting.
    #[error("compiling it {0}")]
    Bound(String),
    /// Nothing was compiled, through no fault of the component.
    #[error("components cannot be compiled: {0}")]
    Unavailable(String),
}

/// Compiles for the engines of this program on this machine; what a process for `Compile` does. Uses every processor.
pub fn compile_component(component: &[u8]) -> Result<Vec<u8>, CompileFault> {
    let engine = Engine::new(&engine::base());
    let engine = engine.map_err(|err| CompileFault::Unavailable(format!("{err:#}")))?;
    engine.precompile_component(component).map_err(|err| CompileFault::Invalid(format!("{err:#}")))
}

impl Compiler {
    pub(crate) fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileFault> {
        match self {
            Compiler::Here => compile_component(component),
            Compiler::Apart(other) => other.compile(component.to_vec()),
        }
    }
}
