//! Where a request goes, parsed once and strictly, and whether a grant covers it.

use std::net::IpAddr;

use rag_core::{Error, Result};
use url::{Host, Url};

/// Bytes of an address.
const URL_BYTES_MAX: usize = 8 << 10;

/// A checked address of the web.
#[derive(Debug)]
pub(super) struct Target {
    /// Without fragment.
    pub(super) url: Url,
    host: Host<String>,
    port: u16,
}

impl Target {
    /// Only http and https; no user, no control characters, no characters that other parsers read otherwise.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown: String = text.chars().take(120).collect();
            Err(Error::invalid(format!("'{}' is not an address to ask: {why}", shown.escape_debug())))
        };
        if text.len() > URL_BYTES_MAX {
            return refuse("it is too long");
        }
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return refuse("it holds spaces, control characters or backslashes");
        }
        if authority(text).is_empty() {
            return refuse("it names no server");
        }
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(&error.to_string()),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("it is neither http nor https");
        }
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return refuse("it names a user");
        }
        url.set_fragment(None);
        let (Some(host), Some(port)) = (url.host().map(|host| host.to_owned()), url.port_or_known_default())
        else {
            return refuse("it names no server");
        };
        if port == 0 {
            return refuse("no server has port 0");
        }
        Ok(Target { url, host, port })
    }

    /// Scheme, host and port, for messages.
    pub(super) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The address itself, where no name is to be looked up.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        }
    }

    /// Whether the path lies at or below `prefix`. An encoded separator could mean another path to the server.
    pub(super) fn is_below(&self, prefix: &str) -> bool {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return true;
        }
        let path = self.url.path();
        let lower = path.to_ascii_lowercase();
        let plain = !lower.contains("%2f") && !lower.contains("%5c") && !lower.contains("%2e");
        let rest = path.strip_prefix(prefix);
        plain && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What stands between the scheme and the path.
fn authority(text: &str) -> &str {
    let after = text.split_once("://").map_or("", |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Servers that a grant covers.
#[derive(Debug)]
pub(super) struct Pattern {
    scheme: String,
    port: u16,
    host: Hosts,
}

#[derive(Debug)]
enum Hosts {
    /// Every one; only the configuration of the web makes this.
    Any,
    /// `.example.org`: whatever ends so.
    Below(String),
    Exactly(Host<String>),
}

impl Pattern {
    /// From `https://example.org`, `https://*.example.org:8443` or `http://127.0.0.1:8000`.
    pub(super) fn parse(origin: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::invalid(format!("'{origin}' cannot be granted: {why}")));
        let Some((scheme, rest)) = origin.split_once("://") else {
            return refuse("write scheme, host and port, such as https://example.org");
        };
        // A star is no character of a host: take it out while the rest is parsed.
        let (host, wild) = match rest {
            _ if rest == "*" => ("any.invalid".to_owned(), Some(String::new())),
            _ => match rest.strip_prefix("*.") {
                Some(suffix) => (suffix.to_owned(), Some(format!(".{suffix}"))),
                None => (rest.to_owned(), None),
            },
        };
        let target = Target::parse(&format!("{scheme}://{host}"))?;
        if target.url.path() != "/" || target.url.query().is_some() || rest.contains(['/', '?', '#']) {
            return refuse("a grant names a server; put the path into 'path'");
        }
        let host = match (wild, target.host) {
            (Some(suffix), _) if suffix.is_empty() => Hosts::Any,
            (Some(_), Host::Domain(suffix)) => Hosts::Below(format!(".{suffix}")),
            (Some(_), _) => return refuse("an address has nothing below it"),
            (None, host) => Hosts::Exactly(host),
        };
        Ok(Pattern { scheme: target.url.scheme().to_owned(), port: target.port, host })
    }

    pub(super) fn matches(&self, target: &Target) -> bool {
        let host = match (&self.host, &target.host) {
            (Hosts::Any, _) => true,
            (Hosts::Below(suffix), Host::Domain(name)) => name.ends_with(suffix),
            (Hosts::Below(_), _) => false,
            (Hosts::Exactly(granted), host) => granted == host,
        };
        host && self.port == target.port && self.scheme == target.url.scheme()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_one_way_only() {
        for (text, shown) in [
            ("http://example.org", "http://example.org"),
            ("HTTPS://EXAMPLE.org:443/a#b", "https://example.org"),
            // Every spelling of an address becomes that address.
            ("http://2130706433/", "http://127.0.0.1"),
            ("http://0x7f000001/", "http://127.0.0.1"),
            ("http://0177.0.0.1/", "http://127.0.0.1"),
            ("http://127.1/", "http://127.0.0.1"),
            ("http://0x7f.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://127.0.0.1./", "http://127.0.0.1"),
            ("http://１２７.０.０.１/", "http://127.0.0.1"),
            ("http://127。0。0。1/", "http://127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]"),
            ("http://例え.jp/", "http://xn--r8jz45g.jp"),
            ("http://exam%70le.org/", "http://example.org"),
        ] {
            assert_eq!(Target::parse(text).unwrap().shown(), shown, "{text}");
        }
        for text in [
            "",
            "example.org",
            "//example.org",
            "file:///etc/passwd",
            "gopher://example.org/",
            "ftp://example.org/",
            "data:text/plain,x",
            "javascript:alert(1)",
            "http://user@example.org/",
            "http://user:pass@example.org/",
            "http://@example.org/",
            "http://a@b@example.org/",
            "http://example.org\\@evil.org/",
            "http://example.org:0/",
            "http://example.org:99999/",
            "http://exam ple.org/",
            "http://example.org/\r\nHost: x",
            "http://example.org/\0",
            "http:///path",
            "http:example.org",
            "http://",
            "http://[::1",
            "http://1.2.3.4.5/",
            "http://256.1.1.1/",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_grant_covers_what_it_names() {
        let covers =
            |origin: &str, url: &str| Pattern::parse(origin).unwrap().matches(&Target::parse(url).unwrap());
        for (origin, url, expected) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api", true),
            ("http://127.0.0.1:8000", "http://127.0.0.1/api", false),
            ("http://127.0.0.1:8000", "https://127.0.0.1:8000/api", false),
            ("http://127.0.0.1:8000", "http://localhost:8000/", false),
            ("https://example.org", "https://example.org:443/", true),
            ("https://example.org", "https://example.org.evil.net/", false),
            ("https://example.org", "https://sub.example.org/", false),
            ("https://example.org", "https://example.org./", false),
            ("https://*.example.org", "https://zh.example.org/", true),
            ("https://*.example.org", "https://a.b.example.org/", true),
            ("https://*.example.org", "https://example.org/", false),
            ("https://*.example.org", "https://badexample.org/", false),
            ("https://*", "https://anything.net/", true),
            ("https://*", "https://anything.net:8443/", false),
        ] {
            assert_eq!(covers(origin, url), expected, "{url} under {origin}");
        }
        for origin in [
            "example.org",
            "https://",
            "https://*.1.2.3.4",
            "https://a/b",
            "ftp://a",
            "https://*",
            "https://u@a",
        ] {
            assert_eq!(Pattern::parse(origin).is_ok(), origin == "https://*", "{origin}");
        }
    }

    #[test]
    fn a_path_is_compared_as_it_is_sent() {
        for (prefix, url, expected) in [
            ("/api/v2", "http://a/api/v2", true),
            ("/api/v2/", "http://a/api/v2/x", true),
            ("/api/v2", "http://a/api/v20", false),
            ("/api", "http://a/api/../admin", false),
            ("/api", "http://a/api/%2e%2e/admin", false),
            ("/api", "http://a/api/..%2fadmin", false),
            ("/api", "http://a/api/%252e/x", true),
            ("", "http://a/..%2f", true),
        ] {
            assert_eq!(Target::parse(url).unwrap().is_below(prefix), expected, "{url} below {prefix}");
        }
    }
}
