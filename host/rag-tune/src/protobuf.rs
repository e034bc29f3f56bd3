//! Protocol Buffers' wire format, as far as files that other programs read need it
//! (protobuf.dev, "Encoding").

/// Field `number` of bytes, a text or another message.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Field `number` of a whole number.
pub(crate) fn integer(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number << 3));
    varint(out, value);
}

/// Field `number` of an f32.
pub(crate) fn float(out: &mut Vec<u8>, number: u32, value: f32) {
    varint(out, u64::from(number << 3 | 5));
    out.extend(value.to_le_bytes());
}

/// Field `number` of an f64.
pub(crate) fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    varint(out, u64::from(number << 3 | 1));
    out.extend(value.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
