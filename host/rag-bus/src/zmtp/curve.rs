//! CURVE (RFC 26, CurveZMQ): both sides show who they are, then every frame is sealed.
//!
//! Interoperates with libzmq. What a stranger can cause before its key was checked: three box operations and the
//! fixed-size commands below; nothing is allocated by what it announces.

use std::sync::Arc;

use crypto_box::aead::rand_core::RngCore;
use crypto_box::aead::{Aead, AeadInPlace, OsRng};
use crypto_box::{PublicKey, SalsaBox, SecretKey, Tag};

use super::ZmtpError;
use super::frame::command;
use super::keys::{Public, Secret};

const HELLO_BYTES: usize = 200;
const WELCOME_BYTES: usize = 168;
const COOKIE_BYTES: usize = 96;
/// INITIATE without metadata.
const INITIATE_BYTES_MIN: usize = 257;
const MESSAGE: &[u8; 8] = b"\x07MESSAGE";
const TAG_BYTES: usize = 16;
/// MESSAGE, nonce, tag and flags around each body.
pub(crate) const MESSAGE_OVERHEAD: usize = 8 + 8 + TAG_BYTES + 1;

/// Who a side is, and whom it accepts.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) secret: Secret,
    pub(crate) peers: Peers,
}

/// Whom a side talks to.
#[derive(Debug, Clone)]
pub(crate) enum Peers {
    /// A server: clients with these keys.
    Clients(Vec<Public>),
    /// A client: the server with this key.
    Server(Public),
}

/// Seals and opens the frames of one connection.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
}

pub(crate) struct Sealer {
    shared: Arc<SalsaBox>,
    prefix: &'static [u8; 16],
    counter: u64,
}

pub(crate) struct Opener {
    shared: Arc<SalsaBox>,
    prefix: &'static [u8; 16],
    last: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A frame as the body of a MESSAGE.
    pub(crate) fn seal(&mut self, flags: u8, body: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let nonce = short_nonce(self.prefix, self.counter);
        let mut out = Vec::with_capacity(MESSAGE_OVERHEAD + body.len());
        out.extend_from_slice(MESSAGE);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&[0; TAG_BYTES]);
        out.push(flags);
        out.extend_from_slice(body);
        let (head, sealed) = out.split_at_mut(16 + TAG_BYTES);
        // Fails only beyond 256 GB, which no frame has; the empty tag would then be refused by the peer.
        if let Ok(tag) = self.shared.encrypt_in_place_detached(&nonce.into(), b"", sealed) {
            head[16..].copy_from_slice(&tag);
        }
        out
    }
}

impl Opener {
    /// Flags and body of a sealed frame.
    pub(crate) fn open(&mut self, message: &[u8]) -> Result<(u8, Vec<u8>), ZmtpError> {
        let rest = message.strip_prefix(MESSAGE.as_slice()).ok_or(ZmtpError::Forged)?;
        let (counter, rest) = rest.split_first_chunk::<8>().ok_or(ZmtpError::Forged)?;
        let (tag, sealed) = rest.split_first_chunk::<TAG_BYTES>().ok_or(ZmtpError::Forged)?;
        let counter = u64::from_be_bytes(*counter);
        // A frame that was recorded and sent again has an old counter.
        if counter <= self.last || sealed.is_empty() {
            return Err(ZmtpError::Forged);
        }
        let nonce = short_nonce(self.prefix, counter);
        let mut opened = sealed.to_vec();
        self.shared
            .decrypt_in_place_detached(&nonce.into(), b"", &mut opened, Tag::from_slice(tag))
            .map_err(|_| ZmtpError::Forged)?;
        self.last = counter;
        let flags = opened.remove(0);
        Ok((flags, opened))
    }
}

fn short_nonce(prefix: &[u8; 16], counter: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

fn long_nonce(prefix: &[u8; 8]) -> ([u8; 24], [u8; 16]) {
    let mut random = [0; 16];
    OsRng.fill_bytes(&mut random);
    (long_nonce_of(prefix, &random), random)
}

fn long_nonce_of(prefix: &[u8; 8], random: &[u8]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(prefix);
    nonce[8..].copy_from_slice(random);
    nonce
}

fn seal(with: &SalsaBox, nonce: [u8; 24], plain: &[u8]) -> Result<Vec<u8>, ZmtpError> {
    with.encrypt(&nonce.into(), plain).map_err(|_| ZmtpError::Forged)
}

fn open(with: &SalsaBox, nonce: [u8; 24], sealed: &[u8]) -> Result<Vec<u8>, ZmtpError> {
    with.decrypt(&nonce.into(), sealed).map_err(|_| ZmtpError::Forged)
}

fn key(bytes: &[u8]) -> Result<PublicKey, ZmtpError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| ZmtpError::Forged)?;
    Ok(PublicKey::from(bytes))
}

/// The server's side of a handshake, from the client's HELLO on.
pub(crate) struct Server {
    transient: SecretKey,
    client_transient: PublicKey,
    cookie: [u8; COOKIE_BYTES],
    last: u64,
}

impl Server {
    /// Checks a HELLO; returns the WELCOME to send.
    pub(crate) fn hello(secret: &Secret, hello: &[u8]) -> Result<(Server, Vec<u8>), ZmtpError> {
        if hello.len() != HELLO_BYTES || !hello.starts_with(b"\x05HELLO\x01") {
            return Err(ZmtpError::Handshake("no HELLO of CURVE 1.0"));
        }
        let client_transient = key(&hello[80..112])?;
        let last = be64(&hello[112..120]);
        let with = SalsaBox::new(&client_transient, &secret.0);
        let signature = open(&with, short_nonce(b"CurveZMQHELLO---", last), &hello[120..])?;
        if signature.iter().any(|byte| *byte != 0) {
            return Err(ZmtpError::Forged);
        }
        let transient = SecretKey::generate(&mut OsRng);
        // Opaque to the client. We keep the connection's state, so it need not carry any.
        let mut cookie = [0; COOKIE_BYTES];
        OsRng.fill_bytes(&mut cookie);
        let plain = [transient.public_key().as_bytes().as_slice(), &cookie].concat();
        let (nonce, random) = long_nonce(b"WELCOME-");
        let welcome = [random.as_slice(), &seal(&with, nonce, &plain)?].concat();
        Ok((Server { transient, client_transient, cookie, last }, command("WELCOME", &welcome)))
    }

    /// Checks an INITIATE; returns the keys, the client's key and metadata, and the READY to send.
    pub(crate) fn initiate(
        self,
        identity: &Identity,
        initiate: &[u8],
        ready: &[u8],
    ) -> Result<(Keys, Vec<u8>, Vec<u8>), ZmtpError> {
        if initiate.len() < INITIATE_BYTES_MIN || !initiate.starts_with(b"\x08INITIATE") {
            return Err(ZmtpError::Handshake("no INITIATE"));
        }
        let counter = be64(&initiate[105..113]);
        if initiate[9..105] != self.cookie || counter <= self.last {
            return Err(ZmtpError::Forged);
        }
        let shared = Arc::new(SalsaBox::new(&self.client_transient, &self.transient));
        let plain = open(&shared, short_nonce(b"CurveZMQINITIATE", counter), &initiate[113..])?;
        let client = key(&plain[..32])?;
        let vouch = open(
            &SalsaBox::new(&client, &self.transient),
            long_nonce_of(b"VOUCH---", &plain[32..48]),
            &plain[48..128],
        )?;
        let server = identity.secret.public();
        if vouch[..32] != *self.client_transient.as_bytes() || vouch[32..] != *server.0.as_bytes() {
            return Err(ZmtpError::Forged);
        }
        let allowed = match &identity.peers {
            Peers::Clients(clients) => clients.iter().any(|known| known.0 == client),
            Peers::Server(_) => false,
        };
        if !allowed {
            return Err(ZmtpError::NotAllowed);
        }
        let sealed = seal(&shared, short_nonce(b"CurveZMQREADY---", 1), ready)?;
        let ready = command("READY", &[&1u64.to_be_bytes(), sealed.as_slice()].concat());
        let keys = Keys {
            sealer: Sealer { shared: shared.clone(), prefix: b"CurveZMQMESSAGES", counter: 1 },
            opener: Opener { shared, prefix: b"CurveZMQMESSAGEC", last: counter },
        };
        Ok((keys, plain[128..].to_vec(), ready))
    }
}

/// The client's side of a handshake.
pub(crate) struct Client {
    transient: SecretKey,
    server: PublicKey,
}

impl Client {
    /// Returns the HELLO to send.
    pub(crate) fn hello(server: &Public) -> Result<(Client, Vec<u8>), ZmtpError> {
        let transient = SecretKey::generate(&mut OsRng);
        let with = SalsaBox::new(&server.0, &transient);
        let signature = seal(&with, short_nonce(b"CurveZMQHELLO---", 1), &[0; 64])?;
        let mut hello = vec![1, 0];
        hello.resize(2 + 72, 0);
        hello.extend_from_slice(transient.public_key().as_bytes());
        hello.extend_from_slice(&1u64.to_be_bytes());
        hello.extend_from_slice(&signature);
        Ok((Client { transient, server: server.0.clone() }, command("HELLO", &hello)))
    }

    /// Checks a WELCOME; returns the keys and the INITIATE to send.
    pub(crate) fn welcome(
        self,
        secret: &Secret,
        welcome: &[u8],
        metadata: &[u8],
    ) -> Result<(Keys, Vec<u8>), ZmtpError> {
        if welcome.len() != WELCOME_BYTES || !welcome.starts_with(b"\x07WELCOME") {
            return Err(ZmtpError::Handshake("no WELCOME: is the server's key the one configured?"));
        }
        let with = SalsaBox::new(&self.server, &self.transient);
        let plain = open(&with, long_nonce_of(b"WELCOME-", &welcome[8..24]), &welcome[24..])?;
        let (server_transient, cookie) = (key(&plain[..32])?, &plain[32..]);
        let (nonce, random) = long_nonce(b"VOUCH---");
        let vouched = [self.transient.public_key().as_bytes().as_slice(), self.server.as_bytes()].concat();
        let vouch = seal(&SalsaBox::new(&server_transient, &secret.0), nonce, &vouched)?;
        let plain = [secret.public().0.as_bytes().as_slice(), &random, &vouch, metadata].concat();
        let shared = Arc::new(SalsaBox::new(&server_transient, &self.transient));
        let sealed = seal(&shared, short_nonce(b"CurveZMQINITIATE", 2), &plain)?;
        let initiate = command("INITIATE", &[cookie, &2u64.to_be_bytes(), &sealed].concat());
        let keys = Keys {
            sealer: Sealer { shared: shared.clone(), prefix: b"CurveZMQMESSAGEC", counter: 2 },
            opener: Opener { shared, prefix: b"CurveZMQMESSAGES", last: 0 },
        };
        Ok((keys, initiate))
    }
}

/// The metadata of a READY.
pub(crate) fn ready(keys: &mut Keys, ready: &[u8]) -> Result<Vec<u8>, ZmtpError> {
    let rest = ready.strip_prefix(b"\x05READY").ok_or(ZmtpError::Handshake("no READY"))?;
    let (counter, sealed) = rest.split_first_chunk::<8>().ok_or(ZmtpError::Handshake("no READY"))?;
    let counter = u64::from_be_bytes(*counter);
    let metadata = open(&keys.opener.shared, short_nonce(b"CurveZMQREADY---", counter), sealed)?;
    keys.opener.last = counter;
    Ok(metadata)
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(allow: bool) -> Result<(Keys, Keys), ZmtpError> {
        let (server, client) = (Secret::generate(), Secret::generate());
        let (hello_state, hello) = Client::hello(&server.public())?;
        let (welcome_state, welcome) = Server::hello(&server, &hello)?;
        let (mut client_keys, initiate) = hello_state.welcome(&client, &welcome, b"metadata")?;
        let clients = if allow { vec![client.public()] } else { vec![] };
        let identity = Identity { secret: server, peers: Peers::Clients(clients) };
        let (server_keys, metadata, sent) = welcome_state.initiate(&identity, &initiate, b"ready")?;
        assert_eq!(metadata, b"metadata");
        assert_eq!(ready(&mut client_keys, &sent)?, b"ready");
        Ok((server_keys, client_keys))
    }

    #[test]
    fn both_sides_agree_and_frames_pass_once_and_unchanged() {
        let (mut server, mut client) = agreed(true).unwrap();
        let sealed = client.sealer.seal(1, "知识".as_bytes());
        assert_eq!(sealed.len(), MESSAGE_OVERHEAD + 6);
        assert_eq!(server.opener.open(&sealed).unwrap(), (1, "知识".as_bytes().to_vec()));
        assert!(matches!(server.opener.open(&sealed), Err(ZmtpError::Forged)), "sent again");
        let mut back = server.sealer.seal(0, b"answer");
        *back.last_mut().unwrap() ^= 1;
        assert!(matches!(client.opener.open(&back), Err(ZmtpError::Forged)), "changed on the way");
        for short in [&b""[..], b"\x07MESSAGE", &back[..33]] {
            assert!(client.opener.open(short).is_err());
        }
    }

    #[test]
    fn strangers_get_nowhere() {
        assert!(matches!(agreed(false), Err(ZmtpError::NotAllowed)));
        let server = Secret::generate();
        assert!(Server::hello(&server, &[0; 200]).is_err());
        let (_, for_another) = Client::hello(&Secret::generate().public()).unwrap();
        assert!(matches!(Server::hello(&server, &for_another), Err(ZmtpError::Forged)));
        let (client, hello) = Client::hello(&server.public()).unwrap();
        let (state, mut welcome) = Server::hello(&server, &hello).unwrap();
        welcome[100] ^= 1;
        assert!(client.welcome(&Secret::generate(), &welcome, b"").is_err());
        let identity = Identity { secret: server, peers: Peers::Clients(vec![]) };
        assert!(state.initiate(&identity, &[8; 300], b"").is_err());
    }
}
