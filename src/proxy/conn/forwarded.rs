#![forbid(unsafe_code)]
//! What the fields of a trusted proxy say about its client.

use std::net::{IpAddr, SocketAddr};

use crate::h1::{Authority, Fields};
use crate::proxy::trusted::TrustedPeers;

/// Returns the address of the client in `X-Forwarded-For`: each proxy has added its peer at the
/// end, so it is the last one that is no trusted proxy, or else the first. What is left of it, or
/// of a member that is no address, may be anybody's invention.
pub(super) fn client_address(fields: &Fields, trusted: &TrustedPeers) -> Option<IpAddr> {
    let mut client = None;
    let members: Vec<&[u8]> = fields.members("X-Forwarded-For").collect();
    for member in members.into_iter().rev() {
        let Some(address) = address(member) else { break };
        client = Some(address);
        if !trusted.lists(address) {
            break;
        }
    }
    client
}

/// Reads an address, with or without a port: some proxies add one.
fn address(member: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(member).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Returns the port in the URL that the client used: that of its `Host`, or else the default one
/// of the scheme.
pub(super) fn port(host: Option<&[u8]>, proto: &[u8]) -> u16 {
    let named = host.and_then(Authority::parse).and_then(|authority| authority.port);
    let is_secure = ["https", "wss"].iter().any(|secure| proto.eq_ignore_ascii_case(secure.as_bytes()));
    named.unwrap_or(if is_secure { 443 } else { 80 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_port() {
        for (text, wanted) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:80", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("[2001:db8::7]:80", Some("2001:db8::7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("", None),
            ("unknown", None),
            ("192.0.2.7:", None),
            ("192.0.2.7:65536", None),
            ("[192.0.2.7", None),
            ("_hidden", None),
        ] {
            assert_eq!(address(text.as_bytes()), wanted.map(|address| address.parse().unwrap()), "{text}");
        }
        assert_eq!(address(b"192.0.2.\xb7"), None);
    }
}
