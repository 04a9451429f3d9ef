#![forbid(unsafe_code)]
//! [`Host`]: the Host of a request, as routes are looked up by it.

use std::fmt;
use std::io::Write;
use std::net::Ipv6Addr;

use super::pattern::{HOST_MAX, LABEL_MAX};

/// The host of a request: in lower case, without port and final dot, and checked. On the stack.
#[derive(Clone)]
pub struct Host {
    text: [u8; HOST_MAX],
    len: usize,
    /// Where the first label ends; 0 if there is no other.
    first_dot: usize,
    is_address: bool,
}

impl Host {
    /// Returns the host that the value of a Host field names (RFC 9110, section 7.2); `None` if it
    /// is empty, or neither a name of letters, digits, hyphens and underscores nor an IP address.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        if field.first() == Some(&b'[') { Self::parse_ip6(field) } else { Self::parse_name(field) }
    }

    fn parse_name(field: &[u8]) -> Option<Self> {
        let name = match field.iter().position(|&byte| byte == b':') {
            Some(colon) => without_port(field, colon)?,
            None => field,
        };
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut host = Self { text: [0; HOST_MAX], len: name.len(), first_dot: 0, is_address: false };
        let text = host.text.get_mut(..name.len())?;
        let mut start = 0;
        let mut is_number = true;
        // As if a dot followed.
        let mut previous = b'.';
        for (at, (&byte, out)) in name.iter().zip(text).enumerate() {
            let is_label_start = at == start;
            *out = byte.to_ascii_lowercase();
            match byte {
                b'0'..=b'9' => {}
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => is_number = false,
                b'-' if !is_label_start => is_number = false,
                b'.' if !is_label_start && previous != b'-' && at - start <= LABEL_MAX => {
                    if host.first_dot == 0 {
                        host.first_dot = at;
                    }
                    start = at + 1;
                    is_number = true;
                }
                _ => return None,
            }
            previous = byte;
        }
        if previous == b'.' || previous == b'-' || name.len() - start > LABEL_MAX {
            return None;
        }
        // The rule of WHATWG's URLs: what ends in a number is an IPv4 address, or a bad one.
        host.is_address = is_number;
        Some(host)
    }

    fn parse_ip6(field: &[u8]) -> Option<Self> {
        let end = field.iter().position(|&byte| byte == b']')?;
        let literal = match field.get(end + 1) {
            Some(b':') => without_port(field, end + 1)?,
            Some(_) => return None,
            None => field,
        };
        let address: Ipv6Addr = std::str::from_utf8(literal.get(1..end)?).ok()?.parse().ok()?;
        let mut host = Self { text: [0; HOST_MAX], len: 0, first_dot: 0, is_address: true };
        // One address has one form, whatever the client has written.
        let mut rest = &mut host.text[..];
        write!(rest, "[{address}]").ok()?;
        host.len = HOST_MAX - rest.len();
        Some(host)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }

    /// Returns whether it is an IP address, or ends in a number as none but addresses do.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.is_address
    }

    /// Returns the first label, unless it is an address.
    #[must_use]
    pub fn first_label(&self) -> Option<&[u8]> {
        let end = if self.first_dot == 0 { self.len } else { self.first_dot };
        self.text.get(..end).filter(|_| !self.is_address)
    }

    /// Returns what follows the first label and its dot, unless it is an address or has one label
    /// only.
    #[must_use]
    pub fn parent(&self) -> Option<&[u8]> {
        self.text.get(self.first_dot + 1..self.len).filter(|_| self.first_dot > 0 && !self.is_address)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.as_bytes().escape_ascii().to_string()).finish()
    }
}

/// Returns what is before the colon if what follows is a port, or nothing.
fn without_port(field: &[u8], colon: usize) -> Option<&[u8]> {
    let (host, port) = field.split_at_checked(colon)?;
    let port = port.get(1..)?;
    (port.len() <= 5 && port.iter().all(u8::is_ascii_digit)).then_some(host)
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
            (text(host.first_label()), text(host.parent()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("Web.example.com:80"), (some("web"), some("example.com")));
        assert_eq!(parts("localhost"), (some("localhost"), None));
        assert_eq!(parts("app.192.0.2.4.nip.io"), (some("app"), some("192.0.2.4.nip.io")));
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
