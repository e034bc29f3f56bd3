//! Settings of the services over ZeroMQ, shared by all roles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rag_bus::{Endpoint, Security};
use serde::{Deserialize, Serialize};

/// The services that this program knows, in the order of their ports.
pub(crate) const SERVICES: [&str; 3] = ["llm", "index", "tuning"];

/// Section `[bus]`; a role reads what concerns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bus {
    /// Services that role `all` offers too; none opens no socket.
    pub(crate) offer: Vec<String>,
    /// Where clients of a service connect, and its workers.
    pub(crate) llm_front: String,
    pub(crate) llm_back: String,
    pub(crate) index_front: String,
    pub(crate) index_back: String,
    pub(crate) tuning_front: String,
    pub(crate) tuning_back: String,
    /// Further services that role `proxy` passes on: name = [front, back].
    pub(crate) services: BTreeMap<String, [String; 2]>,
    /// Role `web` keeps knowledge bases itself and asks only the llm service, instead of passing everything on to the
    /// index service.
    pub(crate) web_keeps_data: bool,
    /// Name of this worker in logs; empty takes the process id.
    pub(crate) worker_name: String,
    /// Requests that one worker takes at once.
    pub(crate) worker_requests_max: u32,
    /// Requests under way in a proxy before further ones are refused, and their bytes.
    pub(crate) queue_max: usize,
    pub(crate) queue_bytes_max: usize,
    /// Answers take no longer; RWKV-RAG's clients wait 300 s.
    pub(crate) request_timeout_ms: u64,
    /// How long requests wait while a service has no worker at all.
    pub(crate) worker_wait_ms: u64,
    /// Between two signs of life of an idle connection; four missing ones end it.
    pub(crate) heartbeat_ms: u64,
    /// What is under way gets this long when a role stops.
    pub(crate) drain_ms: u64,
    /// Where proxies show their numbers (`/metrics`); empty shows none.
    pub(crate) metrics_listen: String,
    /// Language models that clients may name, by name: a file of the models folder or an absolute path.
    pub(crate) base_models: BTreeMap<String, PathBuf>,
    /// Where role `tuning` keeps data sets; empty is `tuning` in the data folder.
    pub(crate) tuning_dir: PathBuf,
    /// This process's secret key for connections beyond loopback (40 characters, as zmq.curve_keypair() makes them).
    pub(crate) secret_key_file: PathBuf,
    /// Public key of the proxy, for workers and clients.
    pub(crate) server_key: String,
    /// Public keys that a proxy lets in.
    pub(crate) allowed_keys: Vec<String>,
    /// Talks beyond loopback in the clear, to anybody.
    pub(crate) plaintext_beyond_loopback: bool,
    /// Seals connections on this machine too.
    pub(crate) encrypt_loopback: bool,
}

impl Default for Bus {
    fn default() -> Self {
        let port = |port: u16| format!("tcp://127.0.0.1:{port}");
        Bus {
            offer: Vec::new(),
            llm_front: port(7781),
            llm_back: port(7782),
            index_front: port(7783),
            index_back: port(7784),
            tuning_front: port(7787),
            tuning_back: port(7788),
            services: BTreeMap::new(),
            web_keeps_data: false,
            worker_name: String::new(),
            worker_requests_max: 16,
            queue_max: 4096,
            queue_bytes_max: 256 << 20,
            request_timeout_ms: 290_000,
            worker_wait_ms: 20_000,
            heartbeat_ms: 2_000,
            drain_ms: 20_000,
            metrics_listen: "127.0.0.1:7780".to_owned(),
            base_models: BTreeMap::new(),
            tuning_dir: PathBuf::new(),
            secret_key_file: PathBuf::new(),
            server_key: String::new(),
            allowed_keys: Vec::new(),
            plaintext_beyond_loopback: false,
            encrypt_loopback: false,
        }
    }
}

impl Bus {
    /// Front and back end of a service.
    pub(crate) fn ends(&self, service: &str) -> Result<(Endpoint, Endpoint)> {
        let (front, back) = match service {
            "llm" => (&self.llm_front, &self.llm_back),
            "index" => (&self.index_front, &self.index_back),
            "tuning" => (&self.tuning_front, &self.tuning_back),
            other => match self.services.get(other) {
                Some([front, back]) => (front, back),
                None => {
                    bail!("no service '{other}': known are llm, index, tuning and those in [bus] services")
                }
            },
        };
        Ok((front.parse()?, back.parse()?))
    }

    /// The keys of this process.
    pub(crate) fn security(&self) -> Result<Security> {
        let secret = match self.secret_key_file.as_os_str().is_empty() {
            true => None,
            false => {
                let text = fs_err::read_to_string(&self.secret_key_file)?;
                let secret = text.trim().parse();
                Some(secret.with_context(|| self.secret_key_file.display().to_string())?)
            }
        };
        let server = match self.server_key.as_str() {
            "" => None,
            key => Some(key.parse().context("bus.server_key")?),
        };
        let allowed = self.allowed_keys.iter().map(|key| key.parse().context("bus.allowed_keys"));
        Ok(Security {
            secret,
            server,
            allowed: allowed.collect::<Result<_>>()?,
            plaintext_beyond_loopback: self.plaintext_beyond_loopback,
            encrypt_loopback: self.encrypt_loopback,
        })
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.max(10))
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.max(1))
    }

    /// Name of this process as a worker.
    pub(crate) fn worker_name(&self) -> String {
        match self.worker_name.as_str() {
            "" => format!("pid-{}", std::process::id()),
            name => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_those_of_rwkv_rag() {
        let bus = Bus::default();
        for (service, front, back) in [("llm", 7781, 7782), ("index", 7783, 7784), ("tuning", 7787, 7788)] {
            let (found_front, found_back) = bus.ends(service).unwrap();
            assert_eq!(found_front.to_string(), format!("tcp://127.0.0.1:{front}"));
            assert_eq!(found_back.to_string(), format!("tcp://127.0.0.1:{back}"));
        }
        assert!(bus.ends("other").unwrap_err().to_string().contains("no service 'other'"));
    }

    #[test]
    fn keys_come_from_their_file_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let secret = rag_bus::Secret::generate();
        fs_err::write(&file, format!("{}\n", secret.reveal())).unwrap();
        let bus = Bus { secret_key_file: file, ..Bus::default() };
        assert_eq!(bus.security().unwrap().secret.unwrap().public(), secret.public());
        let wrong = Bus { server_key: "short".into(), ..Bus::default() };
        assert!(format!("{:#}", wrong.security().unwrap_err()).contains("bus.server_key"));
    }
}
