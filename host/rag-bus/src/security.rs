//! Which connections are sealed, and with whose keys: nothing leaves the machine in the clear unless somebody says so.

use rag_core::{Error, Result};

use crate::endpoint::Endpoint;
use crate::zmtp::curve::{Identity, Peers};
use crate::zmtp::keys::{Public, Secret};

/// The keys of one process. The default has none and stays on this machine.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Who we are.
    pub secret: Option<Secret>,
    /// Whose connections we accept.
    pub allowed: Vec<Public>,
    /// Whom we connect to.
    pub server: Option<Public>,
    /// Talk beyond this machine although nothing is encrypted or authenticated.
    pub plaintext_beyond_loopback: bool,
    /// Seal what stays on this machine too.
    pub encrypt_loopback: bool,
}

impl Security {
    /// How connections to a bound endpoint are secured; none is plain text.
    pub(crate) fn listening(&self, endpoint: &Endpoint) -> Result<Option<Identity>> {
        if !self.sealed(endpoint, "the allowed keys of its peers")? {
            return Ok(None);
        }
        let secret = self.secret(endpoint)?;
        if self.allowed.is_empty() {
            return Err(Error::invalid(format!(
                "{endpoint} would let nobody in: list the public keys of its peers in bus.allowed_keys"
            )));
        }
        Ok(Some(Identity { secret, peers: Peers::Clients(self.allowed.clone()) }))
    }

    /// How a connection that we open is secured.
    pub(crate) fn connecting(&self, endpoint: &Endpoint) -> Result<Option<Identity>> {
        if !self.sealed(endpoint, "the server's key")? {
            return Ok(None);
        }
        let secret = self.secret(endpoint)?;
        let server = self.server.clone().ok_or_else(|| {
            Error::invalid(format!("no key of the proxy at {endpoint}: set bus.server_key to its public key"))
        })?;
        Ok(Some(Identity { secret, peers: Peers::Server(server) }))
    }

    fn sealed(&self, endpoint: &Endpoint, wanted: &str) -> Result<bool> {
        if endpoint.is_local() {
            return Ok(self.encrypt_loopback);
        }
        if self.secret.is_some() {
            return Ok(true);
        }
        if self.plaintext_beyond_loopback {
            return Ok(false);
        }
        Err(Error::Denied {
            message: format!(
                "{endpoint} is not on loopback: set bus.secret_key_file and {wanted}, or bus.plaintext_beyond_loopback"
            ),
        })
    }

    fn secret(&self, endpoint: &Endpoint) -> Result<Secret> {
        self.secret
            .clone()
            .ok_or_else(|| Error::invalid(format!("no secret key for {endpoint}: set bus.secret_key_file")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_in_the_clear_unasked() {
        let local: Endpoint = "tcp://127.0.0.1:1".parse().unwrap();
        let far: Endpoint = "tcp://0.0.0.0:1".parse().unwrap();
        let none = Security::default();
        assert!(none.listening(&local).unwrap().is_none());
        assert!(matches!(none.listening(&far), Err(Error::Denied { .. })));
        assert!(matches!(none.connecting(&far), Err(Error::Denied { .. })));
        let open = Security { plaintext_beyond_loopback: true, ..Security::default() };
        assert!(open.listening(&far).unwrap().is_none());
        let keyed = Security { secret: Some(Secret::generate()), ..open };
        assert!(matches!(keyed.listening(&far), Err(Error::InvalidInput { .. })), "nobody allowed");
        assert!(matches!(keyed.connecting(&far), Err(Error::InvalidInput { .. })), "no server's key");
        let peer = Secret::generate().public();
        let whole = Security { allowed: vec![peer.clone()], server: Some(peer), ..keyed };
        assert!(whole.listening(&far).unwrap().is_some() && whole.connecting(&far).unwrap().is_some());
        assert!(whole.listening(&local).unwrap().is_none());
        let sealed = Security { encrypt_loopback: true, ..whole };
        assert!(sealed.listening(&local).unwrap().is_some());
    }
}
