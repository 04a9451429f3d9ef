#![forbid(unsafe_code)]
//! [`AddressPolicy`]: which addresses a record may have.
//!
//! Records come from containers and from other machines. One that could name any address would turn
//! the gateway into a way to its own loopback, to the metadata service of a cloud, or back to
//! itself. Addresses are checked as they are given to connect(2): parsed, and an IPv4 address in an
//! IPv6 one is the IPv4 address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use dockline::proxy::Network;

use crate::record::NodeName;

/// What is known of this machine, and what the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// The IP addresses of this machine.
    pub own_addresses: Vec<IpAddr>,
    /// Where the gateway listens; an unspecified address stands for all of this machine.
    pub own_listeners: Vec<SocketAddr>,
    /// Where the containers of a node, and its gateway, may be. A node that is not named may have
    /// any address that a container can have.
    pub allowed: BTreeMap<NodeName, Vec<Network>>,
}

impl AddressPolicy {
    /// Returns the address in the form in which it is connected to.
    ///
    /// # Errors
    /// If the records of this node may not have it.
    pub fn check(&self, node: &NodeName, address: SocketAddr) -> Result<SocketAddr, AddressError> {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        let ip = canonical.ip();
        check_reach(ip)?;
        if canonical.port() == 0 {
            return Err(AddressError::NoPort);
        }
        if self.own_listeners.iter().any(|own| self.is_at(*own, canonical)) {
            return Err(AddressError::OwnListener);
        }
        match self.allowed.get(node) {
            Some(networks) if !networks.iter().any(|network| network.contains(ip)) => {
                Err(AddressError::NotAllowed)
            }
            _ => Ok(canonical),
        }
    }

    fn is_at(&self, listener: SocketAddr, address: SocketAddr) -> bool {
        let own = listener.ip().to_canonical();
        listener.port() == address.port()
            && (own == address.ip()
                || own.is_unspecified()
                    && self.own_addresses.iter().any(|own| own.to_canonical() == address.ip()))
    }
}

/// Returns whether an address can be that of a container on some machine.
///
/// # Errors
/// If it never is, wherever one connects from.
pub(crate) fn check_reach(ip: IpAddr) -> Result<(), AddressError> {
    let ip = ip.to_canonical();
    let is_unspecified = match ip {
        // All of 0.0.0.0/8 is "this network" (RFC 1122, section 3.2.1.3).
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        // ::/96 was for IPv4 addresses too (RFC 4291, section 2.5.5.1), except for ::1.
        IpAddr::V6(ip) => ip.segments()[..6] == [0; 6] && !ip.is_loopback(),
    };
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if is_unspecified {
        Err(AddressError::Unspecified)
    } else if ip.is_loopback() {
        Err(AddressError::Loopback)
    } else if is_link_local {
        Err(AddressError::LinkLocal)
    } else if ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        Err(AddressError::Multicast)
    } else {
        Ok(())
    }
}

/// Why a record may not have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressError {
    /// It stands for no address, or for any.
    Unspecified,
    /// It is the machine of whoever connects to it.
    Loopback,
    /// It is on the link of whoever connects to it, as is the metadata service of clouds.
    LinkLocal,
    /// It stands for several machines.
    Multicast,
    /// The gateway listens there itself.
    OwnListener,
    /// The port is 0.
    NoPort,
    /// It is in none of the networks that the operator allows to the node.
    NotAllowed,
    /// It is a host name, which may resolve to any of these.
    Name,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "is no address of a machine",
            Self::Loopback => "is a loopback address",
            Self::LinkLocal => "is a link-local address",
            Self::Multicast => "is a multicast address",
            Self::OwnListener => "is where this gateway listens",
            Self::NoPort => "has no port",
            Self::NotAllowed => "is in none of the networks that are allowed to this node",
            Self::Name => "is a host name",
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &AddressPolicy, address: &str) -> Result<SocketAddr, AddressError> {
        policy.check(&"one".parse().unwrap(), address.parse().unwrap())
    }

    #[test]
    fn addresses_that_are_never_those_of_a_container_are_refused() {
        let policy = AddressPolicy::default();
        for (address, error) in [
            ("127.0.0.1:80", AddressError::Loopback),
            ("127.255.255.254:80", AddressError::Loopback),
            ("[::1]:80", AddressError::Loopback),
            ("[::ffff:127.0.0.1]:80", AddressError::Loopback),
            ("0.0.0.0:80", AddressError::Unspecified),
            ("0.1.2.3:80", AddressError::Unspecified),
            ("[::]:80", AddressError::Unspecified),
            ("[::127.0.0.1]:80", AddressError::Unspecified),
            ("[::ffff:0.0.0.0]:80", AddressError::Unspecified),
            ("169.254.169.254:80", AddressError::LinkLocal),
            ("[::ffff:169.254.169.254]:80", AddressError::LinkLocal),
            ("[fe80::1]:80", AddressError::LinkLocal),
            ("[febf::1]:80", AddressError::LinkLocal),
            ("224.0.0.1:80", AddressError::Multicast),
            ("255.255.255.255:80", AddressError::Multicast),
            ("[ff02::1]:80", AddressError::Multicast),
            ("172.17.0.2:0", AddressError::NoPort),
        ] {
            assert_eq!(check(&policy, address), Err(error), "{address}");
        }
        for (address, wanted) in [
            ("172.17.0.2:80", "172.17.0.2:80"),
            ("[::ffff:172.17.0.2]:80", "172.17.0.2:80"),
            ("[fd00::2]:80", "[fd00::2]:80"),
            ("[fec0::1]:80", "[fec0::1]:80"),
        ] {
            assert_eq!(check(&policy, address), Ok(wanted.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_gateways_own_listeners_are_refused_by_each_of_their_addresses() {
        let policy = AddressPolicy {
            own_addresses: vec!["192.0.2.1".parse().unwrap(), "172.17.0.1".parse().unwrap()],
            own_listeners: vec!["0.0.0.0:80".parse().unwrap(), "192.0.2.1:443".parse().unwrap()],
            ..AddressPolicy::default()
        };
        for address in ["192.0.2.1:80", "172.17.0.1:80", "[::ffff:172.17.0.1]:80", "192.0.2.1:443"] {
            assert_eq!(check(&policy, address), Err(AddressError::OwnListener), "{address}");
        }
        for address in ["172.17.0.1:443", "192.0.2.1:81", "192.0.2.2:80"] {
            assert!(check(&policy, address).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_node_that_is_named_may_have_addresses_in_its_networks_only() {
        let policy = AddressPolicy {
            allowed: BTreeMap::from([("one".parse().unwrap(), vec!["10.1.0.0/16".parse().unwrap()])]),
            ..AddressPolicy::default()
        };
        assert!(check(&policy, "10.1.2.3:80").is_ok());
        assert_eq!(check(&policy, "10.2.0.1:80"), Err(AddressError::NotAllowed));
        assert_eq!(check(&policy, "127.0.0.1:80"), Err(AddressError::Loopback));
        assert!(policy.check(&"two".parse().unwrap(), "10.2.0.1:80".parse().unwrap()).is_ok());
    }
}
