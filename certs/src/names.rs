#![forbid(unsafe_code)]
//! What certificates are for: [`Kind`] and [`Name`].

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use dockline::untrusted::Untrusted;

/// Bytes of a name at most: those of a host name (RFC 1035, section 2.3.4), with room for a URI.
const NAME_MAX: usize = 253;

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be connected to: the `serverAuth` usage.
    Server,
    /// To connect: the `clientAuth` usage.
    Client,
    /// Both: a machine that joins a front door, and is reached by it.
    Node,
}

impl Kind {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Node => "node",
        }
    }
}

/// A name in a certificate (RFC 5280, section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A host name, or `*.` and a domain.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A URI, such as `dockline://team/alice`.
    Uri(String),
}

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(Untrusted<String>);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no host name, no IP address and no URI; write docker.example.com, 192.0.2.1 or \
             dockline://team/alice",
            self.0
        )
    }
}

impl Error for NameError {}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let is_short = !text.is_empty() && text.len() <= NAME_MAX;
        let name = match text.split_once("://") {
            Some((scheme, rest)) => {
                let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
                let is_uri =
                    is_scheme && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
                is_uri.then(|| Self::Uri(text.to_owned()))
            }
            None => {
                let host = text.strip_prefix("*.").unwrap_or(text);
                host.split('.').all(is_label).then(|| Self::Dns(text.to_ascii_lowercase()))
            }
        };
        name.filter(|_| is_short).ok_or_else(|| NameError(text.to_owned().into()))
    }
}

/// Returns whether it is a label of a host name (RFC 1123, section 2.1). Names of machines may also
/// have underscores.
fn is_label(label: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(is_allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => write!(f, "{}", Untrusted::new(name)),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_addresses_and_uris() {
        let read = |text: &str| text.parse::<Name>();
        assert_eq!(read("Docker.Example"), Ok(Name::Dns("docker.example".into())));
        assert_eq!(read("*.example.com"), Ok(Name::Dns("*.example.com".into())));
        assert_eq!(read("worker_1"), Ok(Name::Dns("worker_1".into())));
        assert_eq!(read("192.0.2.1"), Ok(Name::Ip("192.0.2.1".parse().unwrap())));
        assert_eq!(read("2001:db8::1"), Ok(Name::Ip("2001:db8::1".parse().unwrap())));
        assert_eq!(read("dockline://team/alice"), Ok(Name::Uri("dockline://team/alice".into())));
        for text in ["", ".", "a..b", "-a", "a-", "a b", "*", "a.*", "é.example", "://x", "a://", "1a://x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_of_the_largest_size_is_read_and_a_longer_one_is_not() {
        let label = "a".repeat(63);
        assert!(label.parse::<Name>().is_ok());
        assert!(format!("{label}a").parse::<Name>().is_err());
        let host = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(host.len(), NAME_MAX);
        assert!(host.parse::<Name>().is_ok());
        assert!(format!("{host}a").parse::<Name>().is_err());
    }
}
