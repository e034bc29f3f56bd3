//! `cargo xtask test`: the steps of CI in their order, each with its time, and the sum of all tests at the end.

mod counting;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::shell::{self, Project};
use crate::{nix, plugins, setup, tidy, tutorial, ui};
use counting::Tally;

/// A step of the pipeline; cheap ones first, so that a slip is told in seconds.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Project, &mut Tally) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", about: "every Rust file is formatted", run: fmt },
    Step { name: "tidy", about: "dependency rules, file rules, licences", run: |p, _| tidy::run(p) },
    Step { name: "deny", about: "cargo-deny: licences, bans and sources, offline", run: deny },
    Step {
        name: "flake",
        about: "the flake evaluates, against stand-ins for its inputs",
        run: |p, _| nix::evaluate(p),
    },
    Step { name: "plugins", about: "the components build", run: |p, _| plugins::build(p) },
    Step { name: "guests", about: "the hostile components build", run: |p, _| plugins::build_guests(p) },
    Step {
        name: "ui",
        about: "the page builds, its types are strict and the API's",
        run: |p, _| ui::check(p),
    },
    Step { name: "clippy", about: "no warning in any target", run: clippy },
    Step { name: "unit", about: "tests beside the code, and numerics", run: unit },
    Step { name: "doc", about: "examples in the documentation", run: doc },
    Step {
        name: "conformance",
        about: "every plugin keeps its contract",
        run: |p, t| suite(p, t, "conformance"),
    },
    Step { name: "stores", about: "adapters to vector databases against the real servers", run: stores },
    Step { name: "hostile", about: "bad components harm nobody", run: |p, t| suite(p, t, "hostile") },
    Step {
        name: "sweep",
        about: "every step of both flows fails once, nothing is lost",
        run: |p, t| suite(p, t, "sweep"),
    },
    Step { name: "e2e", about: "documents in, cited answers out, over HTTP", run: e2e },
    Step {
        name: "tutorial",
        about: "the tutorial for plugin authors, word for word, in Rust",
        run: |p, _| tutorial(p),
    },
    Step { name: "bus", about: "roles in processes of their own, and RWKV-RAG's Python client", run: bus },
    Step { name: "browser", about: "the page in Chromium, and the OpenAI client", run: browser },
];

/// Runs the named steps, or all. Goes on after a failed step: one run tells everything that is wrong.
pub(crate) fn run(project: &Project, names: &[String]) -> Result<()> {
    if names.iter().any(|name| name == "--list") {
        for step in STEPS {
            println!("{:12} {}", step.name, step.about);
        }
        return Ok(());
    }
    if let Some(unknown) = names.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        bail!("no step '{unknown}'; `cargo xtask test --list` names them");
    }
    let chosen = |step: &&Step| names.is_empty() || names.iter().any(|name| name == step.name);
    let mut tally = Tally::default();
    let mut report = Vec::new();
    for step in STEPS.iter().filter(chosen) {
        println!("\n== {}: {}", step.name, step.about);
        let began = Instant::now();
        let outcome = tally.step(|tally| (step.run)(project, tally));
        let seconds = began.elapsed().as_secs_f64();
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        if let Err(error) = outcome {
            eprintln!("{}: {error:#}", step.name);
        }
        report.push(format!("{:12} {word:7} {seconds:7.1} s", step.name));
        println!("-- {}: {word} in {seconds:.1} s", step.name);
    }
    println!("\n{}", report.join("\n"));
    if !tally.names.is_empty() {
        println!("\nfailed:\n  {}", tally.names.join("\n  "));
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("the tests failed");
    }
    Ok(())
}

fn fmt(project: &Project, _: &mut Tally) -> Result<()> {
    shell::check(project.cargo().args(["fmt", "--all", "--check"]))?;
    let guests = project.path("tests/guests/Cargo.toml");
    shell::check(project.cargo().args(["fmt", "--all", "--check", "--manifest-path"]).arg(guests))
}

fn clippy(project: &Project, _: &mut Tally) -> Result<()> {
    let mut cargo = project.cargo();
    shell::check(cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

/// Security advisories need a download of their list, so they are not part of this; `cargo deny check advisories`.
fn deny(project: &Project, _: &mut Tally) -> Result<()> {
    if !shell::has("cargo-deny") {
        println!("cargo-deny is not installed: bans and sources were not checked (licences were, by tidy)");
        return Ok(());
    }
    let mut cargo = project.cargo();
    cargo.args(["deny", "--offline", "check", "--config", ".deny.toml", "bans", "licenses", "sources"]);
    shell::check(&mut cargo)
}

fn unit(project: &Project, tally: &mut Tally) -> Result<()> {
    if has_nextest() {
        return nextest(project, tally, "not (package(rag-tests) & kind(test))");
    }
    let mut cargo = project.cargo();
    cargo.args(["test", "--workspace", "--exclude", "rag-tests", "--locked", "--no-fail-fast"]);
    counting::run(cargo.args(["--lib", "--bins", "--tests"]), tally)
}

fn doc(project: &Project, tally: &mut Tally) -> Result<()> {
    counting::run(project.cargo().args(["test", "--workspace", "--doc", "--locked", "--quiet"]), tally)
}

/// One test binary of the package in tests/, in one process: its tests share the compiled components. The whole
/// workspace is named in every step: cargo then resolves the
/// same features each time and compiles each dependency once.
fn suite(project: &Project, tally: &mut Tally, name: &str) -> Result<()> {
    shell::check(project.cargo().args(["build", "--workspace", "--bins", "--locked", "--quiet"]))?;
    let mut cargo = project.cargo();
    counting::run(cargo.args(["test", "--workspace", "--locked", "--no-fail-fast", "--test", name]), tally)
}

/// Its other languages fetch tools: `cargo xtask tutorial --lang js`.
fn tutorial(project: &Project) -> Result<()> {
    shell::check(project.cargo().args(["build", "--workspace", "--bins", "--locked", "--quiet"]))?;
    tutorial::follow(project, tutorial::Lang::Rust)
}

/// A new machine gets a browser, its driver and a Python with the client first. The program under test has its page.
fn browser(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::debian(project, setup::BROWSER_TOOLS)?;
    setup::npm_packages(project, setup::BROWSER_TESTS)?;
    ui::build(project)?;
    setup::python(project)?;
    suite(project, tally, "browser")
}

/// The servers first.
fn stores(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::stores(project)?;
    suite(project, tally, "stores")
}

/// Text recognition first, for the scanned pages.
fn e2e(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::text_recognition(project)?;
    suite(project, tally, "e2e")
}

/// A Python with the ZeroMQ client first.
fn bus(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::python(project)?;
    suite(project, tally, "bus")
}

fn nextest(project: &Project, tally: &mut Tally, filter: &str) -> Result<()> {
    let mut cargo = project.cargo();
    cargo.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "-E", filter]);
    counting::run(&mut cargo, tally)
}

fn has_nextest() -> bool {
    shell::has("cargo-nextest")
}
