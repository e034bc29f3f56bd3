//! Project chores, each one word after `cargo xtask`: start the program, test everything, build the components.
#![expect(clippy::print_stdout, reason = "a command-line tool for people: its output is the terminal")]

mod nix;
mod oracle;
mod plugins;
mod run;
mod setup;
mod shell;
mod test;
mod tidy;
mod tutorial;
mod ui;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::shell::Project;

const USAGE: &str = "usage: cargo xtask COMMAND

  run [ARGS]     build what changed and start `rwkv-rag serve`; ARGS are passed to it
  test [STEP…]   everything that CI runs, or only the named steps (`test --list` names them)
  plugins        build plugins/* for wasm32-wasip2 into plugins/dist/
  ui             build the page (host/rag-http/web) that the binary embeds, when it changed
  ui-types       write the page's types anew after a change of the API
  oracle         compare the engine with PyPI `rwkv` on random models, where that can be installed
  tutorial       follow plugins/README.md to a first chunker; --lang js, python or all fetches their tools
  guests         build the hostile components of tests/guests
  tidy           check the rules that no compiler knows
  setup          install what building and testing need
  nix            evaluate the flake against local stand-ins for its inputs";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let project = Project::find()?;
    let (command, rest) = args.split_first().map_or(("", &[][..]), |(c, rest)| (c.as_str(), rest));
    if !rest.is_empty() && !matches!(command, "run" | "test" | "tutorial") {
        bail!("`{command}` takes no arguments\n{USAGE}");
    }
    match command {
        "run" => run::run(&project, rest),
        "test" => test::run(&project, rest),
        "plugins" => plugins::build(&project),
        "ui" => ui::build(&project),
        "ui-types" => ui::write_types(&project),
        "oracle" => oracle::run(&project),
        "tutorial" => tutorial::run(&project, rest),
        "guests" => plugins::build_guests(&project),
        "tidy" => tidy::run(&project),
        "setup" => setup::everything(&project),
        "nix" => nix::evaluate(&project),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("no command '{other}'\n{USAGE}"),
    }
}
