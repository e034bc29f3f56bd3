//! MessagePack: bytes to a tree of values and back, with limits that hold before memory is taken.
//!
//! The format is that of Python's `msgpack.packb(x, use_bin_type=True)`, byte for byte. Extension types are refused:
//! RWKV-RAG's protocol has none.

use bytes::Bytes;

use crate::wire::WireError;

/// Bytes of one frame. A thousand passages with their vectors fit.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Arrays and maps inside each other. Vectors need three.
pub const DEPTH_MAX: usize = 32;
/// Values of one frame, each of which costs some 32 bytes here and as little as one on the wire.
pub const VALUES_MAX: usize = 4 << 20;

/// Elements reserved ahead for a container: nested ones could otherwise each reserve for the whole frame.
const RESERVED_MAX: usize = 1024;

/// What a frame can hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    /// Any integer from −2⁶³ to 2⁶⁴ − 1.
    Int(i128),
    Float(f64),
    Str(String),
    Bin(Bytes),
    Array(Vec<Value>),
    /// In the order of the frame; keys may be of any type and may repeat.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Reads exactly one value; what follows it is an error.
    pub fn decode(frame: &[u8]) -> Result<Value, WireError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { bytes: frame.len() });
        }
        let mut reader = Reader { rest: frame, values_left: VALUES_MAX };
        let value = reader.value(0)?;
        match reader.rest.len() {
            0 => Ok(value),
            bytes => Err(WireError::Trailing { bytes }),
        }
    }

    /// The shortest form of each value, as Python's msgpack writes it. An integer outside its range becomes nil: the
    /// constructors of this crate never make one.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Float(_) => None,
            Value::Bin(_) | Value::Array(_) | Value::Map(_) => None,
        }
    }

    /// A map with text keys.
    pub fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
        Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// An array of what becomes a value.
    pub fn list<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Value {
        Value::Array(values.into_iter().map(Into::into).collect())
    }

    /// The value under a text key of a map, the last when it repeats.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Value::Map(pairs) = self else { return None };
        pairs.iter().rev().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i128> {
        if let Value::Int(value) = self { Some(*value) } else { None }
    }

    /// The number, whole or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Nil | Value::Bool(_) | Value::Str(_) => None,
            Value::Bin(_) | Value::Array(_) | Value::Map(_) => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::Array(values) = self { Some(values) } else { None }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Nil => out.push(0xc0),
            Value::Bool(value) => out.push(0xc2 + u8::from(*value)),
            Value::Int(value) => write_int(*value, out),
            Value::Float(value) => {
                out.push(0xcb);
                out.extend(value.to_be_bytes());
            }
            Value::Str(text) => {
                write_length(text.len(), Some((0xa0, 32)), [Some(0xd9), Some(0xda), Some(0xdb)], out);
                out.extend(text.as_bytes());
            }
            Value::Bin(bytes) => {
                write_length(bytes.len(), None, [Some(0xc4), Some(0xc5), Some(0xc6)], out);
                out.extend(bytes.as_ref());
            }
            Value::Array(values) => {
                write_length(values.len(), Some((0x90, 16)), [None, Some(0xdc), Some(0xdd)], out);
                values.iter().for_each(|value| value.write(out));
            }
            Value::Map(pairs) => {
                write_length(pairs.len(), Some((0x80, 16)), [None, Some(0xde), Some(0xdf)], out);
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Str(text)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Value::Float(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

fn write_int(value: i128, out: &mut Vec<u8>) {
    if let Ok(value) = u64::try_from(value) {
        let bytes = value.to_be_bytes();
        match value {
            0..=0x7f => out.push(bytes[7]),
            0x80..=0xff => out.extend([0xcc, bytes[7]]),
            0x100..=0xffff => tagged(0xcd, &bytes[6..], out),
            0x1_0000..=0xffff_ffff => tagged(0xce, &bytes[4..], out),
            _ => tagged(0xcf, &bytes, out),
        }
    } else if let Ok(value) = i64::try_from(value) {
        let bytes = value.to_be_bytes();
        match value {
            -0x20.. => out.push(bytes[7]),
            -0x80..-0x20 => out.extend([0xd0, bytes[7]]),
            -0x8000..-0x80 => tagged(0xd1, &bytes[6..], out),
            -0x8000_0000..-0x8000 => tagged(0xd2, &bytes[4..], out),
            _ => tagged(0xd3, &bytes, out),
        }
    } else {
        out.push(0xc0);
    }
}

/// `short`: first byte and number of lengths that fit into it; `long`: the tags for 1, 2 and 4 bytes of length.
fn write_length(length: usize, short: Option<(u8, u8)>, long: [Option<u8>; 3], out: &mut Vec<u8>) {
    let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match (short, long) {
        (Some((first, count)), _) if length < usize::from(count) => out.push(first | bytes[3]),
        (_, [Some(tag), ..]) if length <= 0xff => out.extend([tag, bytes[3]]),
        (_, [_, Some(tag), _]) if length <= 0xffff => tagged(tag, &bytes[2..], out),
        (_, [_, _, tag]) => tagged(tag.unwrap_or(0xc0), &bytes, out),
    }
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(bytes);
}

struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, WireError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(WireError::TooMany)?;
        let [tag] = self.array()?;
        Ok(match tag {
            0x00..=0x7f => Value::Int(i128::from(tag)),
            0x80..=0x8f => self.map(usize::from(tag & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(tag & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(tag & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 => self.binary(1)?,
            0xc5 => self.binary(2)?,
            0xc6 => self.binary(4)?,
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Value::Int(i128::from(u8::from_be_bytes(self.array()?))),
            0xcd => Value::Int(i128::from(u16::from_be_bytes(self.array()?))),
            0xce => Value::Int(i128::from(u32::from_be_bytes(self.array()?))),
            0xcf => Value::Int(i128::from(u64::from_be_bytes(self.array()?))),
            0xd0 => Value::Int(i128::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Value::Int(i128::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Value::Int(i128::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Value::Int(i128::from(i64::from_be_bytes(self.array()?))),
            0xd9 => self.length(1).and_then(|length| self.text(length))?,
            0xda => self.length(2).and_then(|length| self.text(length))?,
            0xdb => self.length(4).and_then(|length| self.text(length))?,
            0xdc => self.length(2).and_then(|length| self.list(length, depth))?,
            0xdd => self.length(4).and_then(|length| self.list(length, depth))?,
            0xde => self.length(2).and_then(|length| self.map(length, depth))?,
            0xdf => self.length(4).and_then(|length| self.map(length, depth))?,
            0xe0..=0xff => Value::Int(i128::from(i8::from_be_bytes([tag]))),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(WireError::Extension { tag }),
        })
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<Value, WireError> {
        let depth = self.enter(length, depth)?;
        let mut values = Vec::with_capacity(length.min(RESERVED_MAX));
        for _ in 0..length {
            values.push(self.value(depth)?);
        }
        Ok(Value::Array(values))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, WireError> {
        let depth = self.enter(length.saturating_mul(2), depth)?;
        let mut pairs = Vec::with_capacity(length.min(RESERVED_MAX));
        for _ in 0..length {
            pairs.push((self.value(depth)?, self.value(depth)?));
        }
        Ok(Value::Map(pairs))
    }

    /// Checks a container before memory is taken for it: each of its values costs at least one byte that must be
    /// there, and one of the values that the frame may have.
    fn enter(&self, values: usize, depth: usize) -> Result<usize, WireError> {
        if depth >= DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        if values > self.rest.len() {
            return Err(WireError::Truncated);
        }
        if values > self.values_left {
            return Err(WireError::TooMany);
        }
        Ok(depth + 1)
    }

    fn text(&mut self, length: usize) -> Result<Value, WireError> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| WireError::NotUtf8)?;
        Ok(Value::Str(text.to_owned()))
    }

    fn binary(&mut self, length_bytes: usize) -> Result<Value, WireError> {
        let length = self.length(length_bytes)?;
        Ok(Value::Bin(Bytes::copy_from_slice(self.take(length)?)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, WireError> {
        Ok(self.take(bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
