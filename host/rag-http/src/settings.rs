//! What an operator may set about HTTP; every limit has a name, a unit and a default.

use std::net::IpAddr;

/// Settings of the HTTP side. `Default` suits a loopback listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Bytes of one uploaded document at most.
    pub document_bytes_max: u64,
    /// Bytes of a JSON body at most.
    pub json_bytes_max: usize,
    /// Requests in work at once, streams included; more are answered 429.
    pub requests_max: usize,
    /// Connections open at once; more wait to be accepted.
    pub connections_max: usize,
    /// Milliseconds that a client has to send its request's head.
    pub header_timeout_ms: u64,
    /// Milliseconds that a body may stand still before the request is given up.
    pub body_idle_timeout_ms: u64,
    /// Milliseconds that running requests get when the server stops.
    pub shutdown_grace_ms: u64,
    /// Names accepted in the Host header, without port; empty accepts all. The check stops DNS rebinding, where a
    /// page of another site reaches a loopback server through a name that it controls.
    pub allowed_hosts: Vec<String>,
    /// Whether the session cookie is marked `Secure`: set it when a proxy in front speaks TLS.
    pub cookie_secure: bool,
    /// Minutes that a page's login lasts without a request.
    pub session_minutes: u64,
    /// Failed logins a minute and address, before further tries are refused.
    pub login_failures_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            document_bytes_max: 512 << 20,
            json_bytes_max: 1 << 20,
            requests_max: 256,
            connections_max: 1_024,
            header_timeout_ms: 10_000,
            body_idle_timeout_ms: 30_000,
            shutdown_grace_ms: 5_000,
            allowed_hosts: hosts_for(IpAddr::from([127, 0, 0, 1]), &[]),
            cookie_secure: false,
            session_minutes: 12 * 60,
            login_failures_max: 10,
        }
    }
}

/// The hosts to accept when listening on `address`: on loopback its own names and `extra`; elsewhere `extra` alone,
/// and every name when there is none, because the machine's public names are not known here.
pub fn hosts_for(address: IpAddr, extra: &[String]) -> Vec<String> {
    let own: &[&str] = if address.is_loopback() { &["localhost", "127.0.0.1", "[::1]"] } else { &[] };
    own.iter().map(|&name| name.to_owned()).chain(extra.iter().cloned()).collect()
}
