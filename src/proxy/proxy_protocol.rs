#![forbid(unsafe_code)]
//! The PROXY protocol: a header before the first byte that names the client to an upstream (the
//! specification is HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).

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
mod tests {
    use super::*;

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn version_1() {
        for (client, local, wanted) in [
            (at("192.0.2.1:4000"), at("198.51.100.7:80"), "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80\r\n"),
            (
                at("[2001:db8::1]:4000"),
                at("[2001:db8::2]:80"),
                "PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n",
            ),
            (
                at("[::ffff:192.0.2.1]:1"),
                at("[::ffff:192.0.2.2]:2"),
                "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            ),
            (at("192.0.2.1:4000"), at("[2001:db8::2]:80"), "PROXY UNKNOWN\r\n"),
            (None, at("192.0.2.1:80"), "PROXY UNKNOWN\r\n"),
            (at("192.0.2.1:80"), None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(ProxyProtocol::V1.header(client, local), wanted.as_bytes());
        }
        let longest = at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
        assert!(ProxyProtocol::V1.header(longest, longest).len() <= 107);
    }

    #[test]
    fn version_2() {
        let v4 = ProxyProtocol::V2.header(at("192.0.2.1:258"), at("198.51.100.7:80"));
        assert_eq!(v4[..12], *SIGNATURE);
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 1, 2, 0, 80]);
        let v6 = ProxyProtocol::V2.header(at("[2001:db8::1]:258"), at("[2001:db8::2]:80"));
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((v6.len(), v6[16], v6[31], v6[47], &v6[48..]), (52, 0x20, 1, 2, &[1, 2, 0, 80][..]));
        assert_eq!(ProxyProtocol::V2.header(None, None)[12..], [0x20, 0, 0, 0]);
    }
}
