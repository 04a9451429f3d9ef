#![forbid(unsafe_code)]
//! [`ProxyHeader`]: reads the header of a connection that a proxy has made.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::SIGNATURE;

/// The length of the longest header of version 1, without its line end.
const TEXT_MAX: usize = 105;

/// The length up to the addresses in a header of version 2.
const FIXED: usize = 16;

/// A header at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The addresses of the client and of what it has connected to; `None` if the header leaves
    /// them to the connection itself (`LOCAL`, `UNKNOWN`), or if the client is not on TCP.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Its length in bytes.
    pub len: usize,
}

/// What a connection begins with is no header of the PROXY protocol, or a longer one than
/// [`ProxyHeader::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidProxyHeader;

impl fmt::Display for InvalidProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a header of the PROXY protocol")
    }
}

impl Error for InvalidProxyHeader {}

impl ProxyHeader {
    /// The longest header that is read, in bytes. The addresses of version 2 have at most 216
    /// bytes; behind them proxies describe the client's TLS, for instance, in a few hundred.
    pub const MAX: usize = 4096;

    /// Reads the header at the beginning of `bytes`, of version 1 or 2. Returns `None` if more
    /// bytes are needed to know. What follows the addresses in version 2 is skipped.
    ///
    /// # Errors
    /// As soon as it is certain that it is none.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, InvalidProxyHeader> {
        match bytes.first() {
            None => Ok(None),
            Some(b'P') => read_line(bytes),
            Some(_) => read_binary(bytes),
        }
    }
}

/// Returns whether `bytes` begin with `prefix`, as far as there are any.
fn may_begin_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

fn read_line(bytes: &[u8]) -> Result<Option<ProxyHeader>, InvalidProxyHeader> {
    const BEGIN: &[u8] = b"PROXY ";
    if !may_begin_with(bytes, BEGIN) {
        return Err(InvalidProxyHeader);
    }
    let text = &bytes[..bytes.len().min(TEXT_MAX + 1)];
    let Some(end) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if text.len() > TEXT_MAX { Err(InvalidProxyHeader) } else { Ok(None) };
    };
    if !may_begin_with(&bytes[end..], b"\r\n") {
        return Err(InvalidProxyHeader);
    }
    let words = text.get(BEGIN.len()..end).ok_or(InvalidProxyHeader)?;
    let addresses = read_words(words).ok_or(InvalidProxyHeader)?;
    let len = end + 2;
    Ok((bytes.len() >= len).then_some(ProxyHeader { addresses, len }))
}

/// Reads what is between `PROXY ` and the line end.
fn read_words(words: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let text = str::from_utf8(words).ok()?;
    let (family, rest) = text.split_once(' ').unwrap_or((text, ""));
    match family {
        "TCP4" => read_addresses::<Ipv4Addr>(rest).map(Some),
        "TCP6" => read_addresses::<Ipv6Addr>(rest).map(Some),
        // What follows is to be ignored.
        "UNKNOWN" => Some(None),
        _ => None,
    }
}

fn read_addresses<T: FromStr + Into<IpAddr>>(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = text.split(' ');
    let mut address = || words.next()?.parse().ok().map(T::into);
    let (source, destination): (IpAddr, IpAddr) = (address()?, address()?);
    let mut port = || words.next().and_then(read_port);
    let (from, to) = (port()?, port()?);
    words.next().is_none().then_some((SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

/// Reads a decimal number without leading zeros.
fn read_port(digits: &str) -> Option<u16> {
    let is_canonical = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse().ok().filter(|_| is_canonical)
}

fn read_binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, InvalidProxyHeader> {
    if !may_begin_with(bytes, SIGNATURE) {
        return Err(InvalidProxyHeader);
    }
    let rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let is_known = |at: usize, is_good: fn(u8) -> bool| rest.get(at).is_none_or(|&byte| is_good(byte));
    // Version 2, LOCAL or PROXY; families and protocols as far as they are assigned.
    if !is_known(0, |byte| matches!(byte, 0x20 | 0x21))
        || !is_known(1, |byte| byte >> 4 <= 3 && byte & 15 <= 2)
    {
        return Err(InvalidProxyHeader);
    }
    let [command, family, high, low, content @ ..] = rest else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let needed = match (command, family) {
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        _ => 0,
    };
    if FIXED + length > ProxyHeader::MAX || length < needed {
        return Err(InvalidProxyHeader);
    }
    let Some(content) = content.get(..length) else { return Ok(None) };
    let addresses = read_octets::<4>(&content[..needed]).or_else(|| read_octets::<16>(&content[..needed]));
    Ok(Some(ProxyHeader { addresses, len: FIXED + length }))
}

/// Reads two addresses of `N` bytes each and their ports, and nothing else.
fn read_octets<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = ports else { return None };
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((SocketAddr::new((*source).into(), from), SocketAddr::new((*destination).into(), to)))
}
