#![forbid(unsafe_code)]
//! [`Host`]: the Host of a request, as routes are looked up by it.

use std::fmt;
use std::io::Write;
use std::net::Ipv6Addr;

use super::pattern::{HOST_MAX, LABEL_MAX};

/// Bytes of the longest text of an IPv6 address (`INET6_ADDRSTRLEN`).
const IP6_MAX: usize = 45;

/// Bytes that the processor looks at together.
const BLOCK: usize = 16;

/// A dot, a host, another dot, and what fills the last block.
const SIZE: usize = (1 + HOST_MAX + 1).next_multiple_of(BLOCK);

/// The host of a request: in lower case, without port and final dot, and checked. On the stack.
#[derive(Clone)]
pub struct Host {
    /// Between two dots, so that the hosts of all routes for it (`route_text`) are parts of it; the
    /// rest are letters.
    text: [u8; SIZE],
    /// Bytes of the host.
    len: usize,
    /// Where the dot after the first label is.
    first_dot: usize,
    is_address: bool,
}

impl Host {
    /// Returns the host that the value of a Host field names (RFC 9110, section 7.2); `None` if it
    /// is empty, or neither a name of letters, digits, hyphens and underscores nor an IP address.
    #[inline]
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        let mut host = Self { text: [b'a'; SIZE], len: 0, first_dot: 0, is_address: false };
        host.read(field).map(|()| host)
    }

    /// Makes it the host of a field. In place, since to copy it would cost as much as to read it.
    fn read(&mut self, field: &[u8]) -> Option<()> {
        let host = without_port(field)?;
        if let Some(literal) = host.strip_prefix(b"[") {
            return self.read_ip6(literal.strip_suffix(b"]")?);
        }
        self.set(host.strip_suffix(b".").unwrap_or(host))?;
        if !is_name(&mut self.text, self.len) {
            return None;
        }
        let mut labels = self.as_bytes().split(|&byte| byte == b'.');
        // The rule of WHATWG's URLs: what ends in a number is an IPv4 address, or a bad one.
        let is_address = labels.clone().next_back()?.iter().all(u8::is_ascii_digit);
        let is_short = self.len <= LABEL_MAX || labels.all(|label| label.len() <= LABEL_MAX);
        self.is_address = is_address;
        is_short.then_some(())
    }

    fn read_ip6(&mut self, literal: &[u8]) -> Option<()> {
        let address: Ipv6Addr = std::str::from_utf8(literal).ok()?.parse().ok()?;
        let mut text = [0; "[]".len() + IP6_MAX];
        let mut rest = &mut text[..];
        // One address has one text, whatever the client has written.
        write!(rest, "[{address}]").ok()?;
        let unused = rest.len();
        self.is_address = true;
        self.set(text.get(..text.len() - unused)?)
    }

    fn set(&mut self, text: &[u8]) -> Option<()> {
        if text.len() > HOST_MAX {
            return None;
        }
        let (first, rest) = self.text.split_first_mut()?;
        *first = b'.';
        rest.get_mut(..text.len())?.copy_from_slice(text);
        *rest.get_mut(text.len())? = b'.';
        self.len = text.len();
        self.first_dot = 1 + rest.iter().position(|&byte| byte == b'.')?;
        Some(())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(1..=self.len).unwrap_or_default()
    }

    /// Returns whether it is an IP address, or ends in a number as none but addresses do.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.is_address
    }

    /// Returns the first label and its dot, unless it is an address.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.text.get(1..=self.first_dot).filter(|_| !self.is_address)
    }

    /// Returns what follows the first label, with its dot, unless it is an address or has one label
    /// only.
    pub(super) fn parent(&self) -> Option<&[u8]> {
        self.text.get(self.first_dot..=self.len).filter(|parent| !parent.is_empty() && !self.is_address)
    }
}

/// Puts the host between the dots in lower case, and returns whether it has letters, digits,
/// hyphens and underscores only, in labels that are not empty and neither begin nor end with a
/// hyphen. Looks at whole blocks, and to the end whatever they have: so the processor takes many
/// bytes at once.
fn is_name(text: &mut [u8; SIZE], len: usize) -> bool {
    let (blocks, _) = text.as_chunks_mut::<BLOCK>();
    let Some(blocks) = blocks.get_mut(..(1 + len + 1).div_ceil(BLOCK)) else { return false };
    let mut is_name = true;
    // As if a letter came before the first dot.
    let mut before = b'a';
    for block in blocks {
        block.make_ascii_lowercase();
        let pairs = (u128::from_le_bytes(*block) << 8 | u128::from(before)).to_le_bytes();
        before = block[BLOCK - 1];
        for (&a, &b) in pairs.iter().zip(&*block) {
            is_name &= b.is_ascii_lowercase() | b.is_ascii_digit() | matches!(b, b'-' | b'_' | b'.');
            is_name &= !(((a == b'.') & ((b == b'.') | (b == b'-'))) | ((a == b'-') & (b == b'.')));
        }
    }
    is_name
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.as_bytes().escape_ascii().to_string()).finish()
    }
}

/// Returns what is before a port, which may be empty; `None` if that is none.
fn without_port(field: &[u8]) -> Option<&[u8]> {
    let digits = field.iter().rev().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    match field.split_at(field.len() - digits) {
        ([host @ .., b':'], _) => (digits <= 5).then_some(host),
        _ => Some(field),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::HostPattern;
    use super::*;

    fn parse(field: &str) -> Option<String> {
        Host::parse(field.as_bytes()).map(|host| String::from_utf8(host.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_host_is_in_lower_case_without_port_and_final_dot() {
        for (field, host) in [
            ("example.com", "example.com"),
            ("WWW.Example.COM:8080", "www.example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("example.com:", "example.com"),
            ("a_b.x-1.example", "a_b.x-1.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
            ("[::1]:8080", "[::1]"),
            ("[::1]:", "[::1]"),
        ] {
            assert_eq!(parse(field).as_deref(), Some(host), "{field}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for field in [
            "",
            ".",
            "..",
            ".a",
            "a..",
            "a..b",
            "-a",
            "a-",
            "a-.b",
            "a.-b",
            "a b",
            "a/b",
            "user@a",
            "*.a",
            "é",
            "a\0",
            ":80",
            "a:b",
            "a:80:80",
            "a:123456",
            "a:80.",
            "[::1",
            "[]",
            "[x]",
            "[::1]x",
            "[::1]:x",
            "[::1].",
            "[fe80::1%eth0]",
            "[192.0.2.1]",
            "::1",
        ] {
            assert_eq!(parse(field), None, "{field}");
        }
    }

    #[test]
    fn labels_have_63_characters_at_most_and_hosts_253() {
        let label = "a".repeat(LABEL_MAX);
        assert!(parse(&label).is_some());
        assert!(parse(&format!("{label}.b")).is_some());
        assert_eq!(parse(&format!("{label}a")), None);
        assert_eq!(parse(&format!("{label}a.b")), None);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), HOST_MAX);
        assert!(parse(&longest).is_some());
        assert!(parse(&format!("{longest}.:80")).is_some());
        assert_eq!(parse(&format!("{longest}b")), None);
    }

    #[test]
    fn addresses_have_no_labels() {
        let parts = |field: &str| {
            let host = Host::parse(field.as_bytes()).unwrap();
            let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8(part.to_vec()).unwrap());
            (text(host.name()), text(host.parent()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("Web.example.com:80"), (some("web."), some(".example.com")));
        assert_eq!(parts("localhost"), (some("localhost."), None));
        assert_eq!(parts("app.192.0.2.4.nip.io"), (some("app."), some(".192.0.2.4.nip.io")));
        for address in ["192.0.2.1", "[::1]", "127.1", "web.1", "1"] {
            assert_eq!(parts(address), (None, None), "{address}");
        }
    }

    proptest! {
        /// What a pattern takes is found by a request, and nothing else is a host.
        #[test]
        fn hosts_and_patterns_agree(text in "[a-zA-Z0-9._:\\[\\]-]{0,12}|[a-c]{60,66}(\\.[a-c]{58,66}){0,4}") {
            // Of a Host field the port goes first; a pattern has none.
            let pattern = HostPattern::host(&text).ok();
            match pattern {
                Some(HostPattern::Exact(pattern)) => prop_assert_eq!(parse(&text), Some(pattern.into())),
                _ => prop_assert!(text.contains(':') || parse(&text).is_none()),
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(field: Vec<u8>) {
            if let Some(host) = Host::parse(&field) {
                prop_assert!(!host.as_bytes().is_empty());
            }
        }
    }
}
