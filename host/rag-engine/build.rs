//! Compiles a crate's GPU kernels, each `kernels/NAME.cu`, with nvcc where the feature `cuda` is asked for; else it does
//! nothing. Of this crate and of `rag-tune`, whose kernels include headers of this one's.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), String> {
    for path in ["../rag-engine/build.rs", "../rag-engine/kernels", "kernels"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let nvcc = nvcc();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for file in std::fs::read_dir("kernels").map_err(|e| format!("kernels: {e}"))? {
        let source = file.map_err(|e| format!("kernels: {e}"))?.path();
        if source.extension().is_some_and(|ending| ending == "cu") {
            let made = out.join(source.file_name().ok_or("a file without a name")?);
            // Machine code for the GPUs that the kernels are tuned for; for others the driver compiles the
            // intermediate code.
            let (machine, text) = (made.with_extension("cubin"), made.with_extension("ptx"));
            compile(&nvcc, &["-gencode=arch=compute_90,code=sm_90", "-cubin"], &source, &machine)?;
            compile(&nvcc, &["-gencode=arch=compute_80,code=compute_80", "-ptx"], &source, &text)?;
        }
    }
    Ok(())
}

/// `$NVCC`, the one in `$CUDA_HOME` or `$CUDA_PATH`, or whichever is on the path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = std::env::var_os("NVCC") {
        return nvcc.into();
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let in_home = homes.map(|home| Path::new(&home).join("bin/nvcc")).find(|path| path.is_file());
    in_home.unwrap_or_else(|| "nvcc".into())
}

fn compile(nvcc: &Path, target: &[&str], source: &Path, output: &Path) -> Result<(), String> {
    let status = Command::new(nvcc)
        .args(["-O3", "-std=c++17"])
        .args(target)
        .arg(source)
        .arg("-o")
        .arg(output)
        .status()
        .map_err(|e| {
            format!(
                "the feature cuda needs nvcc, and {} does not start ({e}): install a CUDA toolkit (12.4 or later, no \
                 newer than the driver) and set CUDA_HOME, see README.md",
                nvcc.display()
            )
        })?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", nvcc.display())) }
}
