//! From a fresh connection to one whose peer is known: greeting, then NULL or CURVE, all in fixed-size buffers.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ZmtpError;
use super::curve::{self, Identity, Keys, Peers};
use super::frame::{COMMAND, command, put_header, split_command};
use crate::endpoint::{ReadHalf, WriteHalf};

/// A command of a handshake, in bytes: all that a stranger can make us hold.
const HANDSHAKE_BYTES_MAX: usize = 1024;
/// A peer that takes longer is no peer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const GREETING_BYTES: usize = 64;

/// What the peer said of itself.
#[derive(Debug)]
pub(crate) struct Session {
    /// E.g. `REQ`; empty when not told.
    pub(crate) socket_type: String,
    /// ZMTP 3.x.
    pub(crate) minor: u8,
    /// Seals and opens frames, with CURVE.
    pub(crate) keys: Option<Keys>,
}

/// Does both sides' part; `identity` none is the NULL mechanism.
pub(crate) async fn handshake(
    read: &mut ReadHalf,
    write: &mut WriteHalf,
    socket_type: &str,
    identity: Option<&Identity>,
) -> Result<Session, ZmtpError> {
    let all = async {
        let minor = greet(read, write, identity).await?;
        match identity {
            None => null(read, write, socket_type, minor).await,
            Some(identity) => match &identity.peers {
                Peers::Clients(_) => curve_server(read, write, socket_type, identity, minor).await,
                Peers::Server(server) => {
                    let (state, hello) = curve::Client::hello(server)?;
                    send(write, &hello).await?;
                    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
                    let welcome = receive(read, &mut buffer).await?;
                    let ours = metadata(socket_type);
                    let (mut keys, initiate) = state.welcome(&identity.secret, welcome, &ours)?;
                    send(write, &initiate).await?;
                    let theirs = curve::ready(&mut keys, receive(read, &mut buffer).await?)?;
                    Ok(Session { socket_type: socket_type_of(&theirs), minor, keys: Some(keys) })
                }
            },
        }
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, all).await.map_err(|_| ZmtpError::Silent)?
}

async fn greet(
    read: &mut ReadHalf,
    write: &mut WriteHalf,
    identity: Option<&Identity>,
) -> Result<u8, ZmtpError> {
    let mechanism = if identity.is_some() { "CURVE" } else { "NULL" };
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[8] = 1;
    greeting[9] = 0x7f;
    greeting[10..12].copy_from_slice(&[3, 1]);
    greeting[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    greeting[32] = u8::from(identity.is_some_and(|identity| matches!(identity.peers, Peers::Clients(_))));
    write.write_all(&greeting).await?;
    write.flush().await?;
    let mut theirs = [0; GREETING_BYTES];
    // Ten bytes tell whether it is ZMTP at all: a browser sends no sixty-four.
    read.read_exact(&mut theirs[..10]).await?;
    if theirs[0] != 0xff || theirs[9] & 1 == 0 {
        return Err(ZmtpError::NotZmtp);
    }
    read.read_exact(&mut theirs[10..]).await?;
    if theirs[10] < 3 {
        return Err(ZmtpError::NotZmtp);
    }
    let named = theirs[12..32].split(|byte| *byte == 0).next().unwrap_or_default();
    if named != mechanism.as_bytes() {
        return Err(ZmtpError::Mechanism {
            ours: mechanism,
            theirs: String::from_utf8_lossy(named).escape_debug().to_string(),
        });
    }
    Ok(theirs[11])
}

async fn null(
    read: &mut ReadHalf,
    write: &mut WriteHalf,
    socket_type: &str,
    minor: u8,
) -> Result<Session, ZmtpError> {
    send(write, &command("READY", &metadata(socket_type))).await?;
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    let ready = receive(read, &mut buffer).await?;
    match split_command(ready) {
        Some(("READY", theirs)) => Ok(Session { socket_type: socket_type_of(theirs), minor, keys: None }),
        _ => Err(ZmtpError::Handshake("no READY")),
    }
}

async fn curve_server(
    read: &mut ReadHalf,
    write: &mut WriteHalf,
    socket_type: &str,
    identity: &Identity,
    minor: u8,
) -> Result<Session, ZmtpError> {
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    let hello = receive(read, &mut buffer).await?;
    let (state, welcome) = curve::Server::hello(&identity.secret, hello)?;
    send(write, &welcome).await?;
    let initiate = receive(read, &mut buffer).await?;
    match state.initiate(identity, initiate, &metadata(socket_type)) {
        Ok((keys, theirs, ready)) => {
            send(write, &ready).await?;
            Ok(Session { socket_type: socket_type_of(&theirs), minor, keys: Some(keys) })
        }
        Err(error) => {
            // As libzmq does for a key that it does not know: the client then stops trying at once.
            if matches!(error, ZmtpError::NotAllowed) {
                send(write, &command("ERROR", b"\x03400")).await?;
            }
            Err(error)
        }
    }
}

async fn send(write: &mut WriteHalf, body: &[u8]) -> Result<(), ZmtpError> {
    let mut out = BytesMut::with_capacity(body.len() + 9);
    put_header(COMMAND, body.len(), &mut out);
    out.put_slice(body);
    write.write_all(&out).await?;
    Ok(write.flush().await?)
}

/// One command, into a buffer that is there already.
async fn receive<'a>(
    read: &mut ReadHalf,
    buffer: &'a mut [u8; HANDSHAKE_BYTES_MAX],
) -> Result<&'a [u8], ZmtpError> {
    let flags = read.read_u8().await?;
    let length = match flags {
        COMMAND => u64::from(read.read_u8().await?),
        6 => read.read_u64().await?,
        _ => return Err(ZmtpError::Handshake("a frame before its end")),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let body = buffer.get_mut(..length).ok_or(ZmtpError::Handshake("a command beyond its size"))?;
    read.read_exact(body).await?;
    if let Some(("ERROR", reason)) = split_command(body) {
        let reason = reason.get(1..).unwrap_or_default();
        return Err(ZmtpError::Refused(String::from_utf8_lossy(reason).escape_debug().to_string()));
    }
    Ok(body)
}

fn metadata(socket_type: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [("Socket-Type", socket_type), ("Identity", "")] {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out
}

fn socket_type_of(mut metadata: &[u8]) -> String {
    while let Some((&length, rest)) = metadata.split_first() {
        let Some((name, rest)) = rest.split_at_checked(usize::from(length)) else { break };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { break };
        let Some((value, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return String::from_utf8_lossy(value).into_owned();
        }
        metadata = rest;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::keys::Secret;

    type Sides = (Result<Session, ZmtpError>, Result<Session, ZmtpError>);

    async fn meet(server: Option<Identity>, client: Option<Identity>) -> Sides {
        let (a, b) = tokio::io::duplex(4096);
        let side = |stream, kind: &'static str, identity: Option<Identity>| async move {
            let (read, write) = tokio::io::split(stream);
            let (mut read, mut write): (ReadHalf, WriteHalf) = (Box::new(read), Box::new(write));
            handshake(&mut read, &mut write, kind, identity.as_ref()).await
        };
        tokio::join!(side(a, "ROUTER", server), side(b, "REQ", client))
    }

    #[tokio::test]
    async fn null_peers_learn_each_others_socket_type() {
        let (server, client) = meet(None, None).await;
        assert_eq!(server.unwrap().socket_type, "REQ");
        assert_eq!(client.unwrap().socket_type, "ROUTER");
    }

    #[tokio::test]
    async fn curve_peers_need_the_right_keys_on_both_sides() {
        let (server, client, other) = (Secret::generate(), Secret::generate(), Secret::generate());
        let serve = |allowed: &Secret| {
            Some(Identity { secret: server.clone(), peers: Peers::Clients(vec![allowed.public()]) })
        };
        let connect =
            |to: &Secret| Some(Identity { secret: client.clone(), peers: Peers::Server(to.public()) });
        let (good, known) = meet(serve(&client), connect(&server)).await;
        assert_eq!(good.unwrap().socket_type, "REQ");
        assert!(known.unwrap().keys.is_some());
        let (refused, told) = meet(serve(&other), connect(&server)).await;
        assert!(matches!(refused, Err(ZmtpError::NotAllowed)));
        assert!(matches!(told, Err(ZmtpError::Refused(_))));
        assert!(matches!(meet(serve(&client), connect(&other)).await.0, Err(ZmtpError::Forged)));
        assert!(matches!(meet(serve(&client), None).await.0, Err(ZmtpError::Mechanism { .. })));
    }

    #[tokio::test]
    async fn a_stranger_gets_no_more_than_the_fixed_buffer() {
        for (sent, expected) in
            [(&b"GET / HTTP/1.1\r\n"[..], "does not speak ZMTP"), (&[0xff; 64], "mechanism")]
        {
            let (mut ours, theirs) = tokio::io::duplex(4096);
            let (read, write) = tokio::io::split(theirs);
            let (mut read, mut write): (ReadHalf, WriteHalf) = (Box::new(read), Box::new(write));
            ours.write_all(sent).await.unwrap();
            let error = handshake(&mut read, &mut write, "ROUTER", None).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let mut greeting = [0; 64];
        greeting[..14].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NU");
        greeting[14..16].copy_from_slice(b"LL");
        let (mut ours, theirs) = tokio::io::duplex(4096);
        let (read, write) = tokio::io::split(theirs);
        let (mut read, mut write): (ReadHalf, WriteHalf) = (Box::new(read), Box::new(write));
        ours.write_all(&greeting).await.unwrap();
        ours.write_all(&[6, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
        let error = handshake(&mut read, &mut write, "ROUTER", None).await.unwrap_err();
        assert!(error.to_string().contains("beyond its size"), "{error}");
    }
}
