//! Where a socket listens or connects: `tcp://host:port` or `ipc://path`, in ZeroMQ's words.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rag_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// One end of a connection that can be named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or address without brackets, and a port; port 0 takes a free one.
    Tcp { host: String, port: u16 },
    /// A socket file; only its owner may connect.
    Ipc(PathBuf),
}

/// The two directions of a connection.
pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A bound endpoint. Dropping it removes the socket file.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener, PathBuf),
}

impl Endpoint {
    /// Whether only programs on this machine can be at the other end.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Ipc(_) => true,
            Endpoint::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => host == "localhost",
            },
        }
    }

    pub(crate) async fn bind(&self) -> Result<Listener> {
        let failed = |error: std::io::Error| Error::Unavailable {
            message: format!("cannot listen on {self}: {error}"),
        };
        match self {
            Endpoint::Tcp { host, port } => {
                TcpListener::bind((host.as_str(), *port)).await.map(Listener::Tcp).map_err(failed)
            }
            Endpoint::Ipc(path) => {
                // A dead process leaves its file behind; a living one answers.
                if UnixStream::connect(path).await.is_err() {
                    let _ = fs_err::remove_file(path);
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs_err::set_permissions(path, owner_only).map_err(failed)?;
                Ok(Listener::Ipc(listener, path.clone()))
            }
        }
    }

    pub(crate) async fn connect(&self) -> std::io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Endpoint::Tcp { host, port } => Ok(tcp_halves(TcpStream::connect((host.as_str(), *port)).await?)),
            Endpoint::Ipc(path) => Ok(ipc_halves(UnixStream::connect(path).await?)),
        }
    }
}

impl Listener {
    /// The endpoint with the port that was taken.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        match self {
            Listener::Tcp(listener) => {
                let address = listener.local_addr().map_err(|error| Error::internal(error.to_string()))?;
                Ok(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Listener::Ipc(_, path) => Ok(Endpoint::Ipc(path.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> std::io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Listener::Tcp(listener) => Ok(tcp_halves(listener.accept().await?.0)),
            Listener::Ipc(listener, _) => Ok(ipc_halves(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Ipc(_, path) = self {
            let _ = fs_err::remove_file(path);
        }
    }
}

fn tcp_halves(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    // Replies are small and awaited: never hold them back. Without it they only come later.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

fn ipc_halves(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("endpoint '{text}' is neither tcp://HOST:PORT nor ipc:///PATH/TO/SOCKET"))
        };
        if let Some(path) = text.strip_prefix("ipc://") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Endpoint::Ipc(path.into())) };
        }
        let (host, port) =
            text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
        let host = match host {
            "*" => "0.0.0.0",
            host => host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Endpoint::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Endpoint::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_as_zeromq_does() {
        for (text, shown, local) in [
            ("tcp://127.0.0.1:7781", "tcp://127.0.0.1:7781", true),
            ("tcp://*:7781", "tcp://0.0.0.0:7781", false),
            ("tcp://[::1]:0", "tcp://[::1]:0", true),
            ("tcp://localhost:1", "tcp://localhost:1", true),
            ("tcp://llm.example.org:1", "tcp://llm.example.org:1", false),
            ("ipc:///run/a.sock", "ipc:///run/a.sock", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.is_local()), (shown, local));
        }
        for wrong in
            ["", "carrier-pigeon", "tcp://", "tcp://x", "tcp://:1", "tcp://x:99999", "ipc://", "udp://x:1"]
        {
            assert!(matches!(wrong.parse::<Endpoint>(), Err(Error::InvalidInput { .. })), "{wrong}");
        }
    }
}
