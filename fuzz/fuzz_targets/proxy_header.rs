//! Headers of the PROXY protocol: what part of one has come never changes how it is read, and what
//! was read is read again when it is written.
#![no_main]

use dockline::proxy::{ProxyHeader, ProxyProtocol};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = ProxyHeader::read(bytes);
    let mut certain = false;
    for len in 0..bytes.len() {
        let part = ProxyHeader::read(&bytes[..len]);
        certain |= part != Ok(None);
        assert_eq!(part, if certain { whole } else { Ok(None) });
    }
    let Ok(Some(header)) = whole else {
        assert!(whole.is_err() || bytes.len() < ProxyHeader::MAX);
        return;
    };
    assert!(header.len <= bytes.len().min(ProxyHeader::MAX));
    assert_eq!(ProxyHeader::read(&bytes[..header.len]), whole);
    if let Some((source, destination)) = header.addresses {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let written = version.header(Some(source), Some(destination));
            let again = ProxyHeader::read(&written).expect("a header").expect("a whole one");
            assert_eq!(again.len, written.len());
            // Two families cannot be written, and a mapped address is written as the IPv4 one.
            let canonical = [source, destination].map(|address| address.ip().to_canonical());
            let is_same = canonical[0].is_ipv4() == canonical[1].is_ipv4();
            let ips = again.addresses.map(|(source, destination)| [source.ip(), destination.ip()]);
            assert_eq!(ips, is_same.then_some(canonical));
        }
    }
});
