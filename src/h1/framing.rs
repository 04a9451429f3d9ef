//! Where a body ends: two pure functions over all fields of a head at once.
//!
//! Field order cannot matter, and nothing is repaired: the next hop might repair it the other way.

#![forbid(unsafe_code)]

use super::fields::Fields;
use super::syntax::{is_token, list_members};
use super::{StatusCode, Version};
use crate::error::{ParseError, PeerError};
use crate::limits::BODY_LENGTH_MAX;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, and no length was announced.
    Empty,
    /// This many bytes, which may be none.
    Length(u64),
    /// Chunked, read by a [`ChunkedDecoder`](super::ChunkedDecoder).
    Chunked,
    /// Everything until the connection ends; only in responses.
    CloseDelimited,
}

/// What the framing of a response depends on in its request: the kind of method (RFC 9112, section
/// 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// HEAD: the fields describe a body that is not sent.
    Head,
    /// CONNECT: a 2xx is followed by a tunnel.
    Connect,
    /// Any other method.
    Ordinary,
}

impl MethodKind {
    /// Returns the kind of this method.
    #[must_use]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Ordinary,
        }
    }
}

/// Decides where a request body ends (RFC 9112, section 6.3), whatever the method.
///
/// # Errors
/// Both signals, either one twice or malformed, and chunked in HTTP/1.0 are refused.
pub fn request_framing(version: Version, fields: &Fields) -> Result<BodyFraming, PeerError> {
    Ok(declared_framing(version, fields)?.unwrap_or(BodyFraming::Empty))
}

/// Adds to an error about the framing, or about `Connection`, the offset of the field line
/// concerned.
pub(crate) fn locate(error: PeerError, fields: &Fields) -> ParseError {
    let (name, place) = match error {
        PeerError::ContentLengthRepeated => ("Content-Length", 1),
        PeerError::ContentLengthInvalid | PeerError::ContentLengthTooLarge => ("Content-Length", 0),
        PeerError::TransferCodingRepeated => ("Transfer-Encoding", 1),
        PeerError::ConnectionOption => ("Connection", 0),
        _ => ("Transfer-Encoding", 0),
    };
    let at = fields.named(name).nth(place).map_or(0, |line| fields.position(line));
    ParseError { fault: error.into(), at: at as u64 }
}

/// Decides where a response body ends (RFC 9112, section 6.3).
///
/// HEAD, 1xx, 204, 304 and a 2xx to CONNECT have no body, whatever their fields declare. For 101
/// and CONNECT the tunnel begins after the head. Docker's tunnel on a 200 without framing is
/// [`BodyFraming::CloseDelimited`].
///
/// # Errors
/// As for requests, when the fields count.
pub fn response_framing(
    request: MethodKind,
    version: Version,
    status: StatusCode,
    fields: &Fields,
) -> Result<BodyFraming, PeerError> {
    let has_no_body = match request {
        MethodKind::Head => true,
        MethodKind::Connect if status.is_success() => true,
        MethodKind::Connect | MethodKind::Ordinary => {
            status.is_interim() || matches!(status.as_u16(), 204 | 304)
        }
    };
    if has_no_body {
        return Ok(BodyFraming::Empty);
    }
    Ok(declared_framing(version, fields)?.unwrap_or(BodyFraming::CloseDelimited))
}

fn declared_framing(version: Version, fields: &Fields) -> Result<Option<BodyFraming>, PeerError> {
    let codings = sole(fields, "Transfer-Encoding", PeerError::TransferCodingRepeated)?;
    let length = sole(fields, "Content-Length", PeerError::ContentLengthRepeated)?;
    match (codings, length) {
        (Some(_), Some(_)) => Err(PeerError::AmbiguousFraming),
        (Some(_), None) if version == Version::Http10 => Err(PeerError::TransferCodingInHttp10),
        (Some(codings), None) => check_chunked(codings).map(|()| Some(BodyFraming::Chunked)),
        (None, Some(digits)) => Ok(Some(BodyFraming::Length(content_length(digits)?))),
        (None, None) => Ok(None),
    }
}

fn sole<'f>(fields: &'f Fields, name: &str, repeated: PeerError) -> Result<Option<&'f [u8]>, PeerError> {
    let mut values = fields.values(name);
    let first = values.next();
    if values.next().is_some() { Err(repeated) } else { Ok(first) }
}

/// Accepts `chunked` in any case and nothing else (RFC 9112, sections 6.1 and 7).
fn check_chunked(value: &[u8]) -> Result<(), PeerError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let mut chunked_before_last = false;
    let mut last = &b""[..];
    for coding in list_members(value) {
        if !is_token(coding) {
            return Err(PeerError::TransferCodingInvalid);
        }
        chunked_before_last |= is_chunked(last);
        last = coding;
    }
    if is_chunked(last) && !chunked_before_last {
        Err(PeerError::UnsupportedTransferCoding)
    } else {
        Err(PeerError::TransferCodingInvalid)
    }
}

/// Reads plain digits (RFC 9110, section 8.6), without leading zeros, which some read as octal.
fn content_length(digits: &[u8]) -> Result<u64, PeerError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || (digits[0] == b'0' && digits.len() > 1)
    {
        return Err(PeerError::ContentLengthInvalid);
    }
    digits
        .iter()
        .try_fold(0_u64, |value, &digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .filter(|&value| value <= BODY_LENGTH_MAX)
        .ok_or(PeerError::ContentLengthTooLarge)
}
