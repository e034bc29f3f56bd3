//! `cargo xtask tutorial`: does word for word what plugins/README.md tells the author of a first plugin, against a fresh
//! server, and looks at what came of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde_json::Value;

use crate::plugins;
use crate::setup;
use crate::shell::{self, Project};

const DOCUMENT: &str = "plugins/README.md";
const CHAPTER: &str = "## Five minutes to your own chunker";
/// What comes after the part of a language.
const LAST: &str = "### Into a knowledge base";
/// Everything that a knowledge base needs; each is compiled by the fresh server.
const PLUGINS: [&str; 4] = ["parse-text", "chunk-sentence", "retrieve-hybrid", "store-local"];
/// The poem of the tutorial has so many paragraphs, and the host's own chunker would make one chunk of them.
const CHUNKS: u64 = 3;

/// A language of the tutorial, and the heading of its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lang {
    Rust,
    Js,
    Python,
}

impl Lang {
    const ALL: [Lang; 3] = [Lang::Rust, Lang::Js, Lang::Python];

    fn heading(self) -> &'static str {
        match self {
            Lang::Rust => "### In Rust",
            Lang::Js => "### In JavaScript",
            Lang::Python => "### In Python",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Lang::Rust => "rust",
            Lang::Js => "js",
            Lang::Python => "python",
        }
    }

    /// Other kinds whose templates must build and pass.
    fn other_kinds(self) -> &'static [&'static str] {
        match self {
            Lang::Rust => &["parser", "retriever", "vector-store", "connector"],
            Lang::Js | Lang::Python => &["retriever"],
        }
    }

    /// From `--lang NAME`, or `all`; Rust without it.
    fn of(args: &[String]) -> Result<Vec<Self>> {
        let langs = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => vec![Lang::Rust],
            ["--lang", "all"] => Lang::ALL.to_vec(),
            ["--lang", name] => Lang::ALL.into_iter().filter(|lang| lang.name() == name).collect(),
            _ => Vec::new(),
        };
        if langs.is_empty() {
            bail!("tutorial takes --lang rust, js, python or all");
        }
        Ok(langs)
    }
}

/// Builds the program, then follows the tutorial of one language.
pub(crate) fn run(project: &Project, args: &[String]) -> Result<()> {
    let langs = Lang::of(args)?;
    for lang in &langs {
        match lang {
            Lang::Rust => {}
            Lang::Js => setup::node(project)?,
            Lang::Python => setup::venv(project, &project.path("target/tutorial/venv")).map(|_| ())?,
        }
    }
    plugins::build(project)?;
    shell::check(project.cargo().args(["build", "--workspace", "--bins", "--locked", "--quiet"]))?;
    langs.into_iter().try_for_each(|lang| follow(project, lang))
}

/// Follows the tutorial with the program that is built. JavaScript and Python fetch their tools.
pub(crate) fn follow(project: &Project, lang: Lang) -> Result<()> {
    let text = fs::read_to_string(project.path(DOCUMENT))?;
    let folder = project.path("target/tutorial");
    if folder.join("work").exists() {
        fs::remove_dir_all(folder.join("work"))?;
    }
    let work = folder.join("work/desk");
    fs::create_dir_all(&work)?;
    let server = Server::start(project, &folder.join("work"))?;
    let began = Instant::now();
    for commands in [part(&text, lang.heading())?, part(&text, LAST)?] {
        for command in commands {
            println!("$ {command}");
            let started = Instant::now();
            shell::check(server.at_desk(project, &work).args(["-c", &command]))?;
            println!("  ({:.1} s)", started.elapsed().as_secs_f64());
        }
    }
    let seconds = began.elapsed();
    look(project, &server, &work, "verses")?;
    if lang == Lang::Rust {
        let develop = "rwkv-rag plugin dev my-chunker --once && rwkv-rag plugin bench my-chunker";
        println!("$ {develop}");
        shell::check(server.at_desk(project, &work).args(["-c", develop]))?;
        look(project, &server, &work, "dev_my_chunker")?;
    }
    other_kinds(project, &server, &work, lang)?;
    println!("the tutorial in {lang:?} took {:.0} s and ends as it says", seconds.as_secs_f64());
    Ok(())
}

/// What the one document of a knowledge base is made of now.
fn look(project: &Project, server: &Server, work: &Path, kb: &str) -> Result<()> {
    let ask = |command: &str| -> Result<Value> {
        let printed = shell::output(server.at_desk(project, work).args(["-c", command]))?;
        serde_json::from_str(&printed).with_context(|| format!("`{command}` printed no JSON"))
    };
    let shown = ask(&format!("rwkv-rag --json kb show {kb}"))?;
    if !shown.to_string().contains("\"my-chunker\"") {
        bail!("the knowledge base binds another chunker: {shown}");
    }
    let listed = ask(&format!("rwkv-rag --json document list --kb {kb}"))?;
    let chunks = listed["documents"][0]["chunks"].as_u64();
    if chunks != Some(CHUNKS) {
        bail!("the document should have {CHUNKS} chunks: {listed}");
    }
    Ok(())
}

/// The templates of the other kinds build, and their components keep the contract of their kind. A retriever answers a
/// question of the tutorial's knowledge base.
fn other_kinds(project: &Project, server: &Server, work: &Path, lang: Lang) -> Result<()> {
    // What the chunker's build fetched serves its like.
    let tools = match lang {
        Lang::Rust => None,
        Lang::Js => Some("node_modules"),
        Lang::Python => Some(".venv"),
    };
    for kind in lang.other_kinds() {
        let name = lang.name();
        let mut command = format!("rwkv-rag plugin new my-{kind} --kind {kind} --lang {name}");
        if let Some(tools) = tools {
            command += &format!(" && ln -s ../my-chunker/{tools} my-{kind}/{tools}");
        }
        command += &format!(
            " && rwkv-rag plugin build my-{kind} && rwkv-rag plugin test my-{kind}/dist/my-{kind}.wasm"
        );
        if *kind == "retriever" {
            command += " && rwkv-rag plugin install my-retriever/dist/my-retriever.wasm \
                && rwkv-rag plugin swap my-retriever --kb verses --yes";
        }
        println!("$ {command}");
        let started = Instant::now();
        shell::check(server.at_desk(project, work).args(["-c", &command]))?;
        println!("  ({:.1} s)", started.elapsed().as_secs_f64());
    }
    let search = "rwkv-rag --json search --kb verses '夜来风雨声'";
    let found: Value =
        serde_json::from_str(&shell::output(server.at_desk(project, work).args(["-c", search]))?)?;
    let best = &found["hits"][0];
    if !best["text"].to_string().contains("夜来风雨声") || best["arms"]["lexical"].is_object() {
        bail!("my-retriever, which asks vectors alone, should find the second paragraph first: {found}");
    }
    Ok(())
}

/// The commands in the `sh` blocks below a heading of the chapter, to the next heading.
fn part(text: &str, heading: &str) -> Result<Vec<String>> {
    let (_, chapter) = text.split_once(CHAPTER).with_context(|| format!("{DOCUMENT} has no '{CHAPTER}'"))?;
    let (_, part) = chapter.split_once(heading).with_context(|| format!("{CHAPTER} has no '{heading}'"))?;
    let mut commands = Vec::new();
    let mut inside = false;
    for line in part.lines().skip(1) {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if !inside && line.starts_with('#') => break,
            line if inside && !line.trim().is_empty() => commands.push(line.to_owned()),
            _ => {}
        }
    }
    if commands.is_empty() {
        bail!("'{heading}' has no commands");
    }
    Ok(commands)
}

/// A running host, and how its users reach it. Dropping it ends it.
struct Server {
    child: Child,
    program: PathBuf,
    url: String,
    key: String,
}

impl Server {
    fn start(project: &Project, folder: &Path) -> Result<Self> {
        let offered = folder.join("plugins");
        fs::create_dir_all(&offered)?;
        for id in PLUGINS {
            let name = format!("{id}.wasm");
            fs::copy(project.path(plugins::DIST).join(&name), offered.join(&name))?;
        }
        let program = project.path("target/debug/rwkv-rag");
        let mut command = project.command(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
        command.env("RWKV_RAG__PLUGINS__DIR", &offered).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take();
        let mut server = Server { child, program, url: String::new(), key: String::new() };
        let mut lines = BufReader::new(stdout.context("the server has no output")?).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(key) = line.strip_prefix("admin key: ") {
                server.key = key.trim().to_owned();
            }
            if let Some(url) = line.strip_prefix("listening on ") {
                server.url = url.trim().to_owned();
                break;
            }
        }
        if server.url.is_empty() || server.key.is_empty() {
            bail!("the server did not start");
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// A shell where the reader of the tutorial sits: the program on the path, the server named.
    fn at_desk(&self, project: &Project, work: &Path) -> Command {
        let mut shell = project.command("sh");
        // With the tree's own Node.js, where there is one.
        let set = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
        let path = set.map(ToOwned::to_owned).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        let programs = self.program.parent().map(Path::to_path_buf);
        if let Ok(path) = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path))) {
            shell.env("PATH", path);
        }
        shell.current_dir(work).arg("-eu");
        shell.env("RWKV_RAG_URL", &self.url).env("RWKV_RAG_KEY", &self.key);
        // Built before by the step `guests` with the same flags; and no run after the first waits for the network.
        shell.env("CARGO_TARGET_DIR", project.path("target/guests"));
        shell.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        shell
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It keeps nothing that is wanted; a kill that comes too late is none.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_its_commands_and_the_end_is_shared() {
        let text = fs::read_to_string(Project::find().unwrap().path(DOCUMENT)).unwrap();
        for lang in Lang::ALL {
            let commands = part(&text, lang.heading()).unwrap();
            assert!(commands[0].starts_with("rwkv-rag plugin new my-chunker --kind chunker"), "{commands:?}");
            assert!(commands.last().unwrap().starts_with("rwkv-rag plugin test "), "{commands:?}");
        }
        let last = part(&text, LAST).unwrap();
        assert!(last[0].starts_with("rwkv-rag plugin install my-chunker/dist/"), "{last:?}");
        assert!(part(&text, "### In Cobol").is_err());
    }

    #[test]
    fn a_part_ends_at_the_next_heading() {
        let text = format!("x\n{CHAPTER}\n### In A\n\n```sh\na b\n# note\n```\n### In C\n```sh\nd\n```\n");
        assert_eq!(part(&text, "### In A").unwrap(), ["a b", "# note"]);
    }
}
