#![forbid(unsafe_code)]
//! [`TrustedPeers`]: who is believed about the clients behind it.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network in CIDR notation (RFC 4632, section 3.1). An IPv4-mapped IPv6 address counts as the
/// IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns the network of an address: the first `prefix` bits count. `None` if the address has
    /// fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let canonical = address.to_canonical();
        let (mapped, bits) = match (address, canonical) {
            (IpAddr::V6(_), IpAddr::V4(_)) => (96, 32),
            (_, IpAddr::V4(_)) => (0, 32),
            (_, IpAddr::V6(_)) => (0, 128),
        };
        let prefix = prefix.checked_sub(mapped).filter(|prefix| *prefix <= bits)?;
        Some(Self { address: canonical, prefix })
    }

    /// Returns whether an address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.leading_zeros() >= self.prefix.into()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.leading_zeros() >= self.prefix.into()
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Text that is no [`Network`] or [`TrustedPeer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither an IP address nor a network such as 10.0.0.0/8")
    }
}

impl Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    /// Reads `ADDRESS/PREFIX`, or an address, which is a network of one.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(left, right)| (left, Some(right)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let prefix = match prefix {
            None if address.is_ipv4() => 32,
            None => 128,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| InvalidNetwork)?
            }
            Some(_) => return Err(InvalidNetwork),
        };
        Self::new(address, prefix).ok_or(InvalidNetwork)
    }
}

/// Peers that are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrustedPeer {
    /// Those with an address in a network.
    Network(Network),
    /// Those that have no IP address: on a Unix socket.
    Unix,
}

impl FromStr for TrustedPeer {
    type Err = InvalidNetwork;

    /// Reads a [`Network`], or `unix`.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        if text == "unix" { Ok(Self::Unix) } else { text.parse().map(Self::Network) }
    }
}

/// The proxies that are believed when they state who their client is: in `X-Forwarded-For`, or by
/// the PROXY protocol. Default: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedPeers {
    /// Whoever connects. The addresses that such a peer names are not trusted in their turn.
    All,
    /// These.
    Listed(Vec<TrustedPeer>),
}

impl Default for TrustedPeers {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl TrustedPeers {
    /// Returns whether a peer is trusted; `None` is one without an IP address.
    #[must_use]
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(all) => all.iter().any(|trusted| match (trusted, peer) {
                (TrustedPeer::Network(network), Some(address)) => network.contains(address),
                (TrustedPeer::Unix, None) => true,
                _ => false,
            }),
        }
    }

    /// Returns whether an address that a trusted peer names is that of another trusted proxy.
    #[must_use]
    pub fn lists(&self, address: IpAddr) -> bool {
        matches!(self, Self::Listed(_)) && self.contains(Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        for (text, inside, outside) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["11.0.0.0", "9.255.255.255", "::a00:1"][..],
            ),
            // The bits behind the prefix do not count.
            ("192.0.2.77/25", &["192.0.2.0", "192.0.2.127"], &["192.0.2.128"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "2001:db8::1"]),
            ("::/0", &["::1", "ffff::"], &["192.0.2.7", "::ffff:192.0.2.7"]),
            ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db9::", "192.0.2.7"]),
            ("2001:db8::7", &["2001:db8::7"], &["2001:db8::6"]),
            ("::ffff:10.0.0.0/104", &["10.9.9.9", "::ffff:10.9.9.9"], &["11.0.0.0"]),
            ("::ffff:0.0.0.0/96", &["192.0.2.7"], &["::1"]),
        ] {
            for address in inside {
                assert!(network(text).contains(ip(address)), "{address} in {text}");
            }
            for address in outside {
                assert!(!network(text).contains(ip(address)), "{address} in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "localhost",
            "[::1]",
            "::ffff:10.0.0.0/95",
            " 10.0.0.0/8",
            "Unix",
        ] {
            assert_eq!(text.parse::<TrustedPeer>(), Err(InvalidNetwork), "{text:?}");
        }
        assert_eq!("unix".parse(), Ok(TrustedPeer::Unix));
        assert_eq!(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn trust_is_by_network_or_by_socket() {
        let listed = TrustedPeers::Listed(vec![TrustedPeer::Network(network("10.0.0.0/8"))]);
        let unix = TrustedPeers::Listed(vec![TrustedPeer::Unix]);
        for (peer, by_network, by_socket) in
            [(Some(ip("10.0.0.1")), true, false), (Some(ip("192.0.2.7")), false, false), (None, false, true)]
        {
            assert_eq!((listed.contains(peer), unix.contains(peer)), (by_network, by_socket), "{peer:?}");
            assert!(TrustedPeers::All.contains(peer));
            assert!(!TrustedPeers::default().contains(peer));
        }
        assert!(listed.lists(ip("10.0.0.1")) && !listed.lists(ip("192.0.2.7")));
        assert!(!TrustedPeers::All.lists(ip("10.0.0.1")));
    }
}
