#![forbid(unsafe_code)]
use super::*;

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn version_1() {
    for (client, local, wanted) in [
        (at("192.0.2.1:4000"), at("198.51.100.7:80"), "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80\r\n"),
        (at("[2001:db8::1]:4000"), at("[2001:db8::2]:80"), "PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n"),
        (at("[::ffff:192.0.2.1]:1"), at("[::ffff:192.0.2.2]:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
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

/// Returns how the header at the beginning of `bytes` is read, which has to be the same with any
/// part of it at first: more bytes are needed for as long as it is not certain.
fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, InvalidProxyHeader> {
    let whole = ProxyHeader::read(bytes);
    let mut certain = false;
    for len in 0..bytes.len() {
        let part = ProxyHeader::read(&bytes[..len]);
        certain |= part != Ok(None);
        assert_eq!(part, if certain { whole } else { Ok(None) }, "{len} bytes of {bytes:?}");
        if let Ok(Some(header)) = part {
            assert!(header.len <= len, "{header:?}");
        }
    }
    whole
}

fn known(client: &str, local: &str) -> Option<(SocketAddr, SocketAddr)> {
    at(client).zip(at(local))
}

#[test]
fn what_is_written_is_read() {
    for (client, local) in [
        (at("192.0.2.1:4000"), at("198.51.100.7:80")),
        (at("[2001:db8::1]:4000"), at("[2001:db8::2]:80")),
        (
            at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (at("192.0.2.1:0"), at("0.0.0.0:0")),
        (None, None),
    ] {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let mut bytes = version.header(client, local);
            let header = ProxyHeader { addresses: client.zip(local), len: bytes.len() };
            assert_eq!(read(&bytes), Ok(Some(header)));
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(read(&bytes), Ok(Some(header)));
        }
    }
}

#[test]
fn lines_that_are_read() {
    let addresses = known("192.0.2.1:4000", "198.51.100.7:80");
    for (line, addresses) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 4000 80\r\n", addresses),
        ("PROXY TCP6 ::1 ::ffff:192.0.2.1 0 65535\r\n", known("[::1]:0", "[::ffff:192.0.2.1]:65535")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 what ever\r\n", None),
    ] {
        assert_eq!(read(line.as_bytes()), Ok(Some(ProxyHeader { addresses, len: line.len() })), "{line:?}");
    }
    // The bound is on the line with its end.
    for (padding, is_good) in [(106, true), (107, true), (108, false)] {
        let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(padding - 16));
        assert_eq!(read(line.as_bytes()).is_ok(), is_good, "{} bytes", line.len());
    }
}

#[test]
fn lines_that_are_refused() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PUT / HTTP/1.1\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.7 4000 80\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.7 4000 80\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 4000 80\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 080\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 00\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 +80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 65536\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.7 4000 80\r\n",
        "PROXY TCP4 ::1 ::1 4000 80\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.7 4000 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 80\rX",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 4000 8\u{660}\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(InvalidProxyHeader), "{line:?}");
    }
}

/// Returns a header of version 2 with the length of its content.
fn binary(command: u8, family: u8, length: u16, content: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), content].concat()
}

#[test]
fn binary_headers_that_are_read() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 15, 160, 0, 80];
    let v6 = ProxyProtocol::V2.header(at("[2001:db8::1]:258"), at("[2001:db8::2]:80"))[16..].to_vec();
    let tlv = [&v4[..], &[0x04, 0, 1, 0]].concat();
    let addresses = known("192.0.2.1:4000", "198.51.100.7:80");
    for (bytes, addresses) in [
        (binary(0x21, 0x11, 12, &v4), addresses),
        (binary(0x21, 0x11, 16, &tlv), addresses),
        (binary(0x21, 0x21, 36, &v6), known("[2001:db8::1]:258", "[2001:db8::2]:80")),
        // LOCAL: whatever the content is.
        (binary(0x20, 0x11, 12, &v4), None),
        (binary(0x20, 0x11, 3, &v4[..3]), None),
        (binary(0x20, 0, 0, &[]), None),
        // Not on TCP.
        (binary(0x21, 0, 12, &v4), None),
        (binary(0x21, 0x12, 12, &v4), None),
        (binary(0x21, 0x31, 216, &[b'x'; 216]), None),
    ] {
        assert_eq!(read(&bytes), Ok(Some(ProxyHeader { addresses, len: bytes.len() })), "{bytes:?}");
    }
    for (length, is_good) in [(4079, true), (4080, true), (4081, false), (65535, false)] {
        let bytes = binary(0x21, 0x11, length, &vec![1; length.into()]);
        assert_eq!(ProxyHeader::read(&bytes).is_ok(), is_good, "{length}");
        assert_eq!(ProxyHeader::read(&bytes[..16]), if is_good { Ok(None) } else { Err(InvalidProxyHeader) });
    }
}

#[test]
fn binary_headers_that_are_refused() {
    for bytes in [
        binary(0x11, 0x11, 12, &[1; 12]),
        binary(0x22, 0x11, 12, &[1; 12]),
        binary(0x21, 0x41, 12, &[1; 12]),
        binary(0x21, 0x13, 12, &[1; 12]),
        binary(0x21, 0x11, 11, &[1; 12]),
        binary(0x21, 0x21, 35, &[1; 36]),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        b"\x16\x03\x01\x02\0\x01".to_vec(),
    ] {
        assert_eq!(read(&bytes), Err(InvalidProxyHeader), "{bytes:?}");
    }
}
