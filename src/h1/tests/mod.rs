//! Tables of bytes, limits at their bounds, and what the types offer besides reading. Which
//! messages are accepted, how they are read, and why others are refused, is in `tests/corpus/`.
//!
//! Each message is delivered whole, byte by byte, cut at every offset, and with bytes of another
//! message behind it, and has to be read the same.

mod chunk;
mod fields;
mod request;
mod response;

use super::*;
use crate::error::{Fault, LimitError, ParseError, PeerError, Side};
use crate::limits::Limits;

/// Bytes behind a message that do not belong to it.
const NEXT: &[u8] = b"\x00GET /next\n\r \xff";

type Read<H> = Result<Option<(H, usize)>, ParseError>;

/// Reads `bytes` in every delivery, with readers made by `fresh`, and returns the result, which is
/// always the same.
fn deliver<R, H: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    fresh: impl Fn() -> R,
    read: impl Fn(&mut R, &[u8]) -> Read<H>,
) -> Read<H> {
    let whole = read(&mut fresh(), bytes);

    let mut reader = fresh();
    let mut bytewise = Ok(None);
    for end in 0..=bytes.len() {
        bytewise = read(&mut reader, &bytes[..end]);
        if bytewise != Ok(None) {
            break;
        }
    }
    assert_eq!(bytewise, whole, "byte by byte: {}", bytes.escape_ascii());

    for cut in 0..bytes.len() {
        let mut reader = fresh();
        let result = match read(&mut reader, &bytes[..cut]) {
            Ok(None) => read(&mut reader, bytes),
            early => early,
        };
        assert_eq!(result, whole, "cut at {cut}: {}", bytes.escape_ascii());
    }

    if whole != Ok(None) {
        let followed = read(&mut fresh(), &[bytes, NEXT].concat());
        assert_eq!(followed, whole, "with bytes behind: {}", bytes.escape_ascii());
    }
    if let Err(error) = whole {
        let mut reader = fresh();
        let first = read(&mut reader, bytes);
        let later = read(&mut reader, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((first, later), (Err(error), Err(error)), "an error is final");
    }
    whole
}

fn read_request(bytes: &[u8], limits: &Limits, hosts: HostPolicy) -> Read<RequestHead> {
    deliver(bytes, || RequestHeadReader::new(limits, hosts), RequestHeadReader::read)
}

fn read_response(bytes: &[u8], limits: &Limits) -> Read<ResponseHead> {
    deliver(bytes, || ResponseHeadReader::new(limits), ResponseHeadReader::read)
}

/// Reads a request head that has to be accepted. Returns it and the bytes behind it.
fn accepted(bytes: &[u8]) -> (RequestHead, &[u8]) {
    match read_request(bytes, &Limits::default(), HostPolicy::Strict) {
        Ok(Some((head, used))) => (head, &bytes[used..]),
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// Returns why a request is refused, in its head or for its framing.
fn refused(bytes: &[u8]) -> PeerError {
    match read_request(bytes, &Limits::default(), HostPolicy::Strict) {
        Ok(Some((head, _))) => request_framing(head.version, &head.fields).unwrap_err(),
        Err(ParseError { fault: Fault::Peer(error), .. }) => error,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// Returns a POST in HTTP/1.1 with `Host` and these field lines.
fn post(lines: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n"].concat()
}

/// Returns why a POST with these field lines is refused.
fn refused_post(lines: &[u8]) -> PeerError {
    refused(&post(lines))
}
