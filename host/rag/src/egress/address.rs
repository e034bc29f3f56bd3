//! Which addresses may be connected to: those of the public internet, private ones by grant, the others never.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The error says what the address is.
pub(crate) fn check(address: IpAddr, private: bool) -> Result<(), &'static str> {
    match kind(address) {
        Kind::Public => Ok(()),
        Kind::Private(_) if private => Ok(()),
        Kind::Private(what) | Kind::Never(what) => Err(what),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    /// This machine, or a network that only its members reach.
    Private(&'static str),
    /// Nothing that a request has any business with.
    Never(&'static str),
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, _, _) => Kind::Never("an address of no host"),
        // Azure answers its machines' secrets there, outside every reserved range.
        (168, 63, 129) if address.octets()[3] == 16 => Kind::Never("a cloud's metadata service"),
        // Alibaba's, within the range of carriers.
        (100, 100, 100) if address.octets()[3] == 200 => Kind::Never("a cloud's metadata service"),
        (169, 254, _) => Kind::Never("link-local, where clouds keep their metadata"),
        (127, _, _) => Kind::Private("on this machine"),
        (10, _, _) | (172, 16..=31, _) | (192, 168, _) => Kind::Private("in a private network"),
        (100, 64..=127, _) => Kind::Private("in a carrier's network"),
        (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _) => Kind::Never("reserved"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Kind::Never("for documentation only"),
        (224..=239, _, _) => Kind::Never("a multicast group"),
        (240..=255, _, _) => Kind::Never("reserved or broadcast"),
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let parts = address.segments();
    if let Some(inner) = embedded_v4(address) {
        return kind_v4(inner);
    }
    if address.is_loopback() {
        return Kind::Private("on this machine");
    }
    match parts {
        // The metadata service of AWS lies within the private range.
        [0xfd00, 0x0ec2, ..] => Kind::Never("a cloud's metadata service"),
        [0xfc00..=0xfdff, ..] => Kind::Private("in a private network"),
        [0xfe80..=0xfebf, ..] => Kind::Never("link-local"),
        [0xff00..=0xffff, ..] => Kind::Never("a multicast group"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => Kind::Never("for documentation only"),
        // Teredo and other assignments of protocols: tunnels to somewhere else.
        [0x2001, 0x0000..=0x01ff, ..] => Kind::Never("reserved"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("not an address of the internet"),
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let of = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if (high, low) != (0, 0) && (high, low) != (0, 1) => {
            Some(of(high, low))
        }
        // Translated addresses of RFC 6145 and NAT64's well-known and local prefixes.
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, _, _, _, _, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: [&str; 20] = [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "::1",
        "fc00::1",
        "fd12::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::127.0.0.1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "::ffff:0:127.0.0.1",
    ];
    const NEVER: [&str; 36] = [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "2001::1",
        "2001:10::1",
        "100::1",
        "5f00::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "::ffff:0.0.0.0",
        "4000::1",
        "64:ff9b::",
    ];

    #[test]
    fn only_the_public_internet_needs_no_grant() {
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111"] {
            assert_eq!(kind(public.parse().unwrap()), Kind::Public, "{public}");
        }
        for public in ["::ffff:1.1.1.1", "64:ff9b::8.8.8.8", "2002:808:808::1"] {
            assert_eq!(kind(public.parse().unwrap()), Kind::Public, "{public}");
        }
        for address in PRIVATE {
            assert!(matches!(kind(address.parse().unwrap()), Kind::Private(_)), "{address}");
            assert!(check(address.parse().unwrap(), false).is_err(), "{address}");
            assert!(check(address.parse().unwrap(), true).is_ok(), "{address}");
        }
        for address in NEVER {
            assert!(matches!(kind(address.parse().unwrap()), Kind::Never(_)), "{address}");
            assert!(check(address.parse().unwrap(), true).is_err(), "{address}");
        }
    }
}
