//! Which files the page is made of: what `cargo xtask ui` built into web/dist, copied beside a table of them; without
//! it, none, and the page says how to build it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// Always there, so that cargo looks at it again only when something in it changed.
const DIST: &str = "web/dist";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={DIST}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Copied, so that a build of the page at the same time pulls no file away from the compiler.
    let copies = out.join("page");
    if copies.exists() {
        fs::remove_dir_all(&copies)?;
    }
    fs::create_dir_all(&copies)?;

    let mut table = String::from("&[\n");
    let dist = Path::new(DIST);
    let mut names = Vec::new();
    if dist.join("index.html").is_file() {
        collect(dist, "", &mut names)?;
    }
    names.sort();
    for (number, name) in names.iter().enumerate().filter(|(_, name)| !name.ends_with(".gz")) {
        let plain = include(&dist.join(name), &copies.join(format!("{number}")))?;
        let packed = names.binary_search(&format!("{name}.gz")).ok();
        let gzip = match packed {
            Some(at) => format!("Some({})", include(&dist.join(&names[at]), &copies.join(format!("{at}")))?),
            None => "None".to_owned(),
        };
        writeln!(table, "    File {{ path: \"/{name}\", plain: {plain}, gzip: {gzip} }},")?;
    }
    table.push_str("]\n");
    fs::write(out.join("page.rs"), table)?;
    Ok(())
}

/// Names of all files below a folder, relative to `web/dist`.
fn collect(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| "a file of the page has a strange name")?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else if !name.starts_with('.') {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// Copies a file; returns the expression that is its bytes.
fn include(from: &Path, to: &Path) -> Result<String, Box<dyn Error>> {
    fs::copy(from, to)?;
    Ok(format!("include_bytes!({:?})", to.display().to_string()))
}
