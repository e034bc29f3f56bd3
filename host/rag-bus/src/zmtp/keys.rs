//! CURVE keys and their 40-character text form (Z85), as `zmq.curve_keypair()` prints them.

use std::fmt;
use std::str::FromStr;

use crypto_box::aead::OsRng;
use crypto_box::{PublicKey, SecretKey};
use rag_core::{Error, Result};

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Who a peer is. May be shown to anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Public(pub(crate) PublicKey);

/// What proves who we are; never shown by `Debug`.
#[derive(Clone)]
pub struct Secret(pub(crate) SecretKey);

impl Secret {
    /// A new key from the system's random numbers.
    pub fn generate() -> Secret {
        Secret(SecretKey::generate(&mut OsRng))
    }

    pub fn public(&self) -> Public {
        Public(self.0.public_key())
    }

    /// The secret itself, to be written to its file.
    pub fn reveal(&self) -> String {
        encode(&self.0.to_bytes())
    }
}

impl FromStr for Secret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(text).map(|bytes| Secret(SecretKey::from(bytes)))
    }
}

impl FromStr for Public {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(text).map(|bytes| Public(PublicKey::from(bytes)))
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Public({self})")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", self.public())
    }
}

fn encode(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(40);
    for group in bytes.chunks_exact(4) {
        let value = group.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        for power in (0..5).rev() {
            text.push(char::from(ALPHABET[(value / 85u32.pow(power) % 85) as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Result<[u8; 32]> {
    let wrong = || Error::invalid("a key has 40 characters, as zmq.curve_keypair() makes them");
    let mut bytes = Vec::with_capacity(32);
    if text.len() != 40 {
        return Err(wrong());
    }
    for group in text.as_bytes().chunks_exact(5) {
        let mut value = 0u64;
        for char in group {
            let digit = ALPHABET.iter().position(|known| known == char).ok_or_else(wrong)?;
            value = value * 85 + digit as u64;
        }
        bytes.extend_from_slice(&u32::try_from(value).map_err(|_| wrong())?.to_be_bytes());
    }
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_text_form_of_rfc_32_and_the_pair_of_libzmq() {
        // The test keys that libzmq's documentation gives for clients.
        let secret: Secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs".parse().unwrap();
        assert_eq!(secret.public().to_string(), "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID");
        assert_eq!(secret.reveal(), "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs");
        assert!(!format!("{secret:?}").contains("D:)Q"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "short", "\"ne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", &"#".repeat(40)] {
            assert!(bad.parse::<Public>().is_err(), "{bad}");
        }
        assert_ne!(Secret::generate().reveal(), Secret::generate().reveal());
    }
}
