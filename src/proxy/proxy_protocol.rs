#![forbid(unsafe_code)]
//! The PROXY protocol: a header before the first byte of a connection, in which a proxy names its
//! client (the specification is HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).

mod reader;

pub use reader::{InvalidProxyHeader, ProxyHeader};

use std::net::{IpAddr, SocketAddr};

/// Which form of the header an upstream expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

impl ProxyProtocol {
    /// Returns the header for a TCP connection of `client` to `local`, at most 107 bytes. Without
    /// one of the addresses, or if they are of two families, it is the one for an unknown client.
    #[must_use]
    pub fn header(self, client: Option<SocketAddr>, local: Option<SocketAddr>) -> Vec<u8> {
        let known = client.zip(local).and_then(|(client, local)| {
            let ips = (client.ip().to_canonical(), local.ip().to_canonical());
            (ips.0.is_ipv4() == ips.1.is_ipv4()).then_some((ips, (client.port(), local.port())))
        });
        match (self, known) {
            (Self::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
            (Self::V1, Some(((source, destination), ports))) => {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
            }
            // The command LOCAL: the receiver uses the connection's own addresses.
            (Self::V2, None) => [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(),
            (Self::V2, Some((ips, ports))) => {
                let (family, mut addresses) = match ips {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        (0x11, [source.octets(), destination.octets()].concat())
                    }
                    (source, destination) => (0x21, [source, destination].map(octets).concat()),
                };
                addresses.extend(ports.0.to_be_bytes());
                addresses.extend(ports.1.to_be_bytes());
                let length = u8::try_from(addresses.len()).unwrap_or(0);
                [&SIGNATURE[..], &[0x21, family, 0, length], &addresses].concat()
            }
        }
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests;
