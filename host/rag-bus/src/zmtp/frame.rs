//! Frames out of a stream of bytes and into one, with limits that hold before memory is taken.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ZmtpError;

pub(crate) const MORE: u8 = 1;
const LONG: u8 = 2;
pub(crate) const COMMAND: u8 = 4;

/// Bodies up to this size are copied out, so that a small frame does not keep a whole read buffer alive.
const COPIED_MAX: usize = 8 << 10;

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Frame {
        flags: u8,
        body: Bytes,
    },
    /// Its body is skipped as it comes in and never held.
    Oversized {
        flags: u8,
        length: u64,
    },
}

/// Reads frames; holds no bytes itself.
#[derive(Debug)]
pub(crate) struct Decoder {
    frame_bytes_max: usize,
    /// Of the frame whose header was read.
    open: Option<(u8, usize)>,
    /// Bytes of an oversized frame still to come.
    skip: u64,
}

impl Decoder {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Decoder { frame_bytes_max, open: None, skip: 0 }
    }

    /// The next event in `buffer`; none when more bytes are needed.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ZmtpError> {
        if self.skip > 0 {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(buffer.len());
            buffer.advance(skipped);
            self.skip -= skipped as u64;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        let (flags, length) = match self.open {
            Some(open) => open,
            None => match self.header(buffer)? {
                Some((flags, length)) if length > self.frame_bytes_max as u64 => {
                    self.skip = length;
                    return Ok(Some(Event::Oversized { flags, length }));
                }
                // Not beyond `frame_bytes_max`, so it fits.
                Some((flags, length)) => *self.open.insert((flags, length as usize)),
                None => return Ok(None),
            },
        };
        if buffer.len() < length {
            return Ok(None);
        }
        self.open = None;
        let body = if length <= COPIED_MAX {
            let body = Bytes::copy_from_slice(&buffer[..length]);
            buffer.advance(length);
            body
        } else {
            buffer.split_to(length).freeze()
        };
        Ok(Some(Event::Frame { flags, body }))
    }

    /// Takes a header off the buffer when it is whole.
    fn header(&self, buffer: &mut BytesMut) -> Result<Option<(u8, u64)>, ZmtpError> {
        let Some(&flags) = buffer.first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(ZmtpError::Malformed);
        }
        let header = if flags & LONG == 0 { 2 } else { 9 };
        if buffer.len() < header {
            return Ok(None);
        }
        buffer.advance(1);
        let length = if flags & LONG == 0 { u64::from(buffer.get_u8()) } else { buffer.get_u64() };
        if length > i64::MAX as u64 {
            return Err(ZmtpError::Malformed);
        }
        Ok(Some((flags & !LONG, length)))
    }
}

/// Writes a frame's header; its body follows.
pub(crate) fn put_header(flags: u8, length: usize, out: &mut BytesMut) {
    match u8::try_from(length) {
        Ok(length) => {
            out.put_u8(flags);
            out.put_u8(length);
        }
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(length as u64);
        }
    }
}

/// A command's body: its name and data.
pub(crate) fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(1 + name.len() + data.len());
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    body
}

/// Name and data of a command's body.
pub(crate) fn split_command(body: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = body.split_first()?;
    let (name, data) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(name).ok()?, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(limit: usize, pieces: &[&[u8]]) -> Vec<Event> {
        let mut decoder = Decoder::new(limit);
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(event) = decoder.next(&mut buffer).unwrap() {
                found.push(event);
            }
        }
        found
    }

    fn written(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_header(flags, body.len(), &mut out);
        out.extend_from_slice(body);
        out.to_vec()
    }

    #[test]
    fn what_is_written_is_read_whatever_the_pieces() {
        let long = vec![7; 9000];
        let bytes = [written(MORE, b""), written(0, "你好".as_bytes()), written(COMMAND, &long)].concat();
        assert_eq!(bytes[..3], [1, 0, 0]);
        let frame = |flags, body: &[u8]| Event::Frame { flags, body: Bytes::copy_from_slice(body) };
        let expected = [frame(MORE, b""), frame(0, "你好".as_bytes()), frame(COMMAND, &long)];
        assert_eq!(events(10_000, &[&bytes]), expected);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(10_000, &single), expected);
    }

    #[test]
    fn an_oversized_frame_is_told_at_its_header_and_skipped() {
        let bytes = [written(0, &[1; 300]), written(0, b"after")].concat();
        let told = Event::Oversized { flags: 0, length: 300 };
        assert_eq!(events(100, &[&bytes[..9]]), [Event::Oversized { flags: 0, length: 300 }]);
        let after = Event::Frame { flags: 0, body: Bytes::from_static(b"after") };
        assert_eq!(events(100, &[&bytes[..50], &bytes[50..310], &bytes[310..]]), [told, after]);
    }

    #[test]
    fn an_announced_length_takes_no_memory_and_nonsense_is_refused() {
        let mut decoder = Decoder::new(64 << 20);
        let mut buffer = BytesMut::from(&[LONG, 0, 0, 0, 0, 3, 0, 0, 0][..]);
        let before = buffer.capacity();
        assert_eq!(decoder.next(&mut buffer).unwrap(), None);
        assert!(buffer.capacity() <= before);
        for bad in [&[8u8, 0][..], &[0xff, 0], &[MORE | COMMAND, 0], &[LONG, 0xff, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Decoder::new(10).next(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn commands_split_into_name_and_data() {
        assert_eq!(split_command(&command("PING", &[0, 9])), Some(("PING", &[0u8, 9][..])));
        assert_eq!(split_command(&[]), None);
        assert_eq!(split_command(&[5, b'P']), None);
    }
}
