//! Roles in processes of their own: where their sockets are, how they start and how they end.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::host::{binary, compiled, copy, root};
use crate::namespaces::Namespaces;

pub const SERVICES: [&str; 3] = ["llm", "index", "tuning"];

/// Where the processes of one system are.
pub enum Place {
    /// On this machine, with sockets in a folder: no ports to collide.
    Folder(PathBuf),
    /// Each in a network of its own, sealed.
    Networks(Namespaces),
}

impl Place {
    /// A service's end, as its peers reach it.
    pub fn end(&self, service: &str, end: &str) -> String {
        match self {
            Place::Folder(dir) => format!("ipc://{}", dir.join(format!("{service}-{end}")).display()),
            Place::Networks(networks) => networks.end(service, end),
        }
    }

    /// Settings of every role.
    pub fn settings(&self, role: &str) -> Vec<(String, String)> {
        let fixed = [("METRICS_LISTEN", "127.0.0.1:0"), ("WORKER_WAIT_MS", "2000")];
        let fixed = fixed.map(|(key, value)| (format!("RWKV_RAG__BUS__{key}"), value.to_owned()));
        let mut settings = Vec::from(fixed);
        for service in SERVICES {
            for end in ["front", "back"] {
                let name = format!("RWKV_RAG__BUS__{}_{}", service.to_uppercase(), end.to_uppercase());
                settings.push((name, self.end(service, end)));
            }
        }
        let further =
            format!("{{further = [{:?}, {:?}]}}", self.end("further", "front"), self.end("further", "back"));
        settings.push(("RWKV_RAG__BUS__SERVICES".to_owned(), further));
        if let Place::Networks(networks) = self {
            settings.extend(networks.keys(role));
        }
        settings
    }

    fn command(&self, role: &str) -> Command {
        match self {
            Place::Folder(_) => Command::new(binary()),
            Place::Networks(networks) => networks.command(role),
        }
    }
}

/// A role without HTTP. Dropping it kills it.
pub struct Role {
    child: Child,
    /// What its first start shows.
    pub admin_key: Option<String>,
    /// Of a proxy's numbers.
    pub metrics: Option<String>,
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Role {
    /// Starts a role and waits until it says that it runs.
    pub fn start(name: &str, data: &Path, place: &Place) -> Role {
        Role::start_with(name, data, place, &[])
    }

    /// Likewise with further settings, as environment variables.
    pub fn start_with(name: &str, data: &Path, place: &Place, further: &[(String, String)]) -> Role {
        if name == "index" && compiled().exists() {
            copy(&compiled(), &data.join("plugin-cache"));
        }
        let mut command = place.command(name);
        command.current_dir(root()).args(["serve", "--role", name, "--data-dir"]).arg(data);
        command.envs(place.settings(name)).envs(further.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut role = Role { child, admin_key: None, metrics: None };
        let ready = format!("role {name} is running");
        let mut lines = lines.map_while(Result::ok);
        let runs = lines.by_ref().any(|line| {
            if let Some(key) = line.strip_prefix("admin key: ") {
                role.admin_key = Some(key.trim().to_owned());
            }
            if let Some(url) = line.strip_prefix("metrics on ") {
                role.metrics = Some(url.trim().to_owned());
            }
            line == ready
        });
        assert!(runs, "role {name} did not start");
        std::thread::spawn(move || lines.for_each(drop));
        role
    }

    /// Ends it in order; it must succeed.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

/// The interpreter that has `tests/requirements.txt`: RAG_PYTHON, else the one that `cargo xtask test` prepares.
pub fn python() -> PathBuf {
    let given = std::env::var_os("RAG_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join("target/python/bin/python"));
    assert!(python.is_file(), "{} is not there: `cargo xtask test bus` makes it", python.display());
    python
}
