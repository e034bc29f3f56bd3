//! A machine a role, as Linux' network namespaces make them: an address each, one wire between all, CURVE on it.
//!
//! Everything is within a namespace of the test's own, which takes all of it along when it ends.

use std::path::PathBuf;
use std::process::Command;

use crate::host::{binary, run};

/// Made before the test runs in it; needs root, or a system that lets users be root in a namespace.
const ENTER: &str = "mount -t tmpfs none /run && ip link set lo up && ip link add rag0 type bridge && \
                     ip addr add 10.77.0.1/24 dev rag0 && ip link set rag0 up && exec \"$@\"";
/// Roles with a namespace of their own; the web role stands beside the test, whose requests it answers.
const ROLES: [&str; 4] = ["proxy", "llm", "index", "tuning"];
const PROXY: &str = "10.77.0.2";

pub struct Namespaces {
    dir: PathBuf,
    /// Public keys: the proxy's, and everybody else's, who share one here.
    server: String,
    peers: String,
}

/// This test binary again, within a namespace; none where the system makes none.
pub fn enter(test: &str) -> Option<Command> {
    let command = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rnm", "--propagation", "private", "sh", "-c", ENTER, "sh", program]);
        command
    };
    if !command("true").output().is_ok_and(|made| made.status.success()) {
        return None;
    }
    let mut inner = command(std::env::current_exe().unwrap().to_str().unwrap());
    inner.args([test, "--exact", "--nocapture"]).env("RAG_IN_NAMESPACE", "1");
    Some(inner)
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn new_key(file: &std::path::Path) -> String {
    let made = run(&["config", "key", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

impl Namespaces {
    pub fn new(dir: PathBuf) -> Self {
        for (at, role) in ROLES.iter().enumerate() {
            ip(&format!("netns add {role}"));
            ip(&format!("link add wire-{role} type veth peer name eth0 netns {role}"));
            ip(&format!("link set wire-{role} master rag0 up"));
            ip(&format!("-n {role} addr add 10.77.0.{}/24 dev eth0", at + 2));
            ip(&format!("-n {role} link set eth0 up"));
            ip(&format!("-n {role} link set lo up"));
        }
        let (server, peers) = (new_key(&dir.join("server.key")), new_key(&dir.join("peer.key")));
        Namespaces { dir, server, peers }
    }

    pub fn end(&self, service: &str, end: &str) -> String {
        let port = match service {
            "llm" => 7781,
            "index" => 7783,
            "tuning" => 7787,
            _ => 7791,
        };
        format!("tcp://{PROXY}:{}", port + u16::from(end == "back"))
    }

    pub fn keys(&self, role: &str) -> Vec<(String, String)> {
        let set = |key: &str, value: String| (format!("RWKV_RAG__BUS__{key}"), value);
        let file = |name: &str| self.dir.join(name).display().to_string();
        match role {
            "proxy" => vec![
                set("SECRET_KEY_FILE", file("server.key")),
                set("ALLOWED_KEYS", format!("[\"{}\"]", self.peers)),
            ],
            _ => vec![
                set("SECRET_KEY_FILE", file("peer.key")),
                set("SERVER_KEY", format!("\"{}\"", self.server)),
            ],
        }
    }

    /// What a libzmq client needs to be let in.
    pub fn client_keys(&self) -> Vec<(String, String)> {
        let secret = fs_err::read_to_string(self.dir.join("peer.key")).unwrap().trim().to_owned();
        vec![
            ("RAG_SERVER_KEY".to_owned(), self.server.clone()),
            ("RAG_PUBLIC_KEY".to_owned(), self.peers.clone()),
            ("RAG_SECRET_KEY".to_owned(), secret),
        ]
    }

    /// The program within a role's namespace.
    pub fn command(&self, role: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", role]).arg(binary());
        command
    }
}
