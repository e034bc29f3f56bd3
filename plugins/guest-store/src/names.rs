//! Which name does a collection get on a server that allows few characters? One that can be read back.

use crate::{Error, Result};

/// Bytes of a name on a server.
const BYTES_MAX: usize = 255;

/// A server's rule. A name that is `plain` stays as it is, so that collections made by other programs are found under
/// their own names; any other becomes `prefix` and its bytes, those that are no letter or digit as `escape` and two
/// hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    pub plain: fn(&str) -> bool,
    pub prefix: &'static str,
    pub escape: char,
    /// Letters are kept in lower case only.
    pub lower: bool,
}

impl Names {
    /// The name on the server.
    pub fn encode(&self, name: &str) -> Result<String> {
        if (self.plain)(name) && !name.starts_with(self.prefix) {
            return Ok(name.to_owned());
        }
        let mut encoded = self.prefix.to_owned();
        for byte in name.bytes() {
            if byte.is_ascii_digit()
                || byte.is_ascii_lowercase()
                || (byte.is_ascii_uppercase() && !self.lower)
            {
                encoded.push(char::from(byte));
            } else {
                encoded.push(self.escape);
                encoded.push_str(&format!("{byte:02x}"));
            }
        }
        if encoded.len() > BYTES_MAX {
            return Err(Error::invalid(format!("the name '{name}' is too long for this server: shorten it")));
        }
        Ok(encoded)
    }

    /// The name that became `encoded`.
    pub fn decode(&self, encoded: &str) -> String {
        let Some(rest) = encoded.strip_prefix(self.prefix) else { return encoded.to_owned() };
        self.bytes(rest).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| encoded.to_owned())
    }

    fn bytes(&self, encoded: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(encoded.len());
        let mut rest = encoded;
        while let Some(next) = rest.chars().next() {
            if next == self.escape {
                bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
                rest = rest.get(3..)?;
            } else {
                bytes.push(u8::try_from(next).ok()?);
                rest = rest.get(1..)?;
            }
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let names = Names { plain, prefix: "rk_", escape: '_', lower: true };
        for (name, encoded) in [
            ("notes", "notes"),
            ("notes-g1", "rk_notes_2dg1"),
            ("A_b", "rk__41_5fb"),
            ("欧", "rk__e6_ac_a7"),
            ("rk_x", "rk_rk_5fx"),
            ("", ""),
        ] {
            assert_eq!(names.encode(name).unwrap(), encoded);
            assert_eq!(names.decode(encoded), name);
        }
        // Made by somebody else.
        for strange in ["rk_x_", "rk_x_zz", "rk_x_ff", "rk_é"] {
            assert_eq!(names.decode(strange), strange);
        }
        assert!(names.encode(&"欧".repeat(60)).is_err());
    }
}
