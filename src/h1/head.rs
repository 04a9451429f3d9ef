//! Request and response heads: incremental readers, parsed heads, and how they are written again.
//!
//! A reader is given everything received so far and looks only at what is new. httparse runs once, over a head
//! that the scanner has accepted; what it finds then passes the rules that need a whole head, such as `Host`.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::fields::Fields;
use super::scan::{HeadBounds, HeadScanner, HeadSpan};
use super::target::{HostPolicy, RequestTarget};
use super::{StatusCode, Version};
use crate::error::{ParseError, PeerError};
use crate::limits::Limits;

/// The head of a request (RFC 9112, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The version; may be changed before the head is written.
    pub version: Version,
    /// The fields; may be changed before the head is written.
    pub fields: Fields,
    method: Bytes,
    target: RequestTarget,
}

impl RequestHead {
    /// The method, case-sensitive (RFC 9110, section 9.1).
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.method
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &RequestTarget {
        &self.target
    }

    /// Whether the client waits for an interim response before it sends its body (RFC 9110, section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.fields.contains("Expect")
    }

    /// Replaces an absolute-form target by what an origin understands (RFC 9112, section 3.2.1).
    #[must_use]
    pub fn into_origin_form(self) -> Self {
        let target = self.target.into_origin_form(&self.method);
        Self { target, ..self }
    }

    /// Writes the head with the empty line at its end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.method);
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.version.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        self.fields.encode(out);
        out.extend_from_slice(b"\r\n");
    }

    fn parse(head: &Bytes, field_count: usize, hosts: HostPolicy) -> Result<Self, HeadFault> {
        let mut tokens = vec![httparse::EMPTY_HEADER; field_count];
        let mut request = httparse::Request::new(&mut tokens);
        let complete = request.parse(head) == Ok(httparse::Status::Complete(head.len()));
        let (Some(method), Some(target), Some(minor), true) =
            (request.method, request.path, request.version, complete)
        else {
            return Err(HeadFault::start(PeerError::ReadersDisagree));
        };
        let method = head.slice_ref(method.as_bytes());
        let target = RequestTarget::parse(&method, head.slice_ref(target.as_bytes()))
            .map_err(|error| HeadFault::part(error, head, target.as_bytes()))?;
        let version = version(minor);
        let fields = Fields::from_tokens(head, request.headers).map_err(HeadFault::start)?;
        check_host(head, version, &target, &fields, hosts)?;
        check_expect(head, version, &fields)?;
        Ok(Self { version, fields, method, target })
    }
}

/// The head of a response (RFC 9112, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The version; may be changed before the head is written.
    pub version: Version,
    /// The fields; may be changed before the head is written.
    pub fields: Fields,
    status: StatusCode,
    reason: Bytes,
}

impl ResponseHead {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason phrase, byte for byte; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Writes the head with the empty line at its end. The space before an empty reason is written too.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.version.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.status.as_u16().to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        self.fields.encode(out);
        out.extend_from_slice(b"\r\n");
    }

    fn parse(head: &Bytes, field_count: usize) -> Result<Self, HeadFault> {
        let mut tokens = vec![httparse::EMPTY_HEADER; field_count];
        let mut response = httparse::Response::new(&mut tokens);
        let complete = response.parse(head) == Ok(httparse::Status::Complete(head.len()));
        let (Some(code), Some(minor), true) = (response.code, response.version, complete) else {
            return Err(HeadFault::start(PeerError::ReadersDisagree));
        };
        let status = StatusCode::new(code).ok_or(HeadFault::start(PeerError::StatusCode))?;
        let version = version(minor);
        let fields = Fields::from_tokens(head, response.headers).map_err(HeadFault::start)?;
        Ok(Self { version, fields, status, reason: reason(head) })
    }
}

/// Reads one request head after the other.
///
/// Strict throughout. One empty line before a request is skipped (RFC 9112, section 2.2).
pub struct RequestHeadReader {
    bounds: HeadBounds,
    hosts: HostPolicy,
    state: ReaderState,
}

impl RequestHeadReader {
    /// A reader at the first byte of a request.
    #[must_use]
    pub const fn new(limits: &Limits, hosts: HostPolicy) -> Self {
        let bounds =
            HeadBounds { head: limits.request_head, line: limits.request_line, fields: limits.fields };
        Self { bounds, hosts, state: ReaderState::Scanning(HeadScanner::request(bounds)) }
    }

    /// Reads a head from `input`, which holds all bytes received since the end of the last message.
    ///
    /// Nothing means that more bytes are needed: call again with the same bytes and more behind them. A head comes
    /// with the number of bytes that it took; the reader is then at the first byte of the next request.
    ///
    /// # Errors
    /// The first error of the head, as soon as its byte is there. It is repeated on every later call.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(RequestHead, usize)>, ParseError> {
        let hosts = self.hosts;
        let fresh = HeadScanner::request(self.bounds);
        self.state.read(input, fresh, |head, fields| RequestHead::parse(head, fields, hosts))
    }
}

/// Reads one response head after the other: interim ones, then the final one.
///
/// The space after the status code has to be there, as RFC 9112, section 4 demands: `HTTP/1.1 200 ` is accepted,
/// `HTTP/1.1 200` is not. The reason phrase may be empty, and there may be no fields at all.
pub struct ResponseHeadReader {
    bounds: HeadBounds,
    state: ReaderState,
}

impl ResponseHeadReader {
    /// A reader at the first byte of a response.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        let bounds =
            HeadBounds { head: limits.response_head, line: limits.response_head, fields: limits.fields };
        Self { bounds, state: ReaderState::Scanning(HeadScanner::response(bounds)) }
    }

    /// Reads a head from `input`, which holds all bytes received since the end of the last message or head.
    ///
    /// Nothing means that more bytes are needed: call again with the same bytes and more behind them. A head comes
    /// with the number of bytes that it took; the reader is then at the first byte of the next response.
    ///
    /// # Errors
    /// The first error of the head, as soon as its byte is there. It is repeated on every later call.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(ResponseHead, usize)>, ParseError> {
        let fresh = HeadScanner::response(self.bounds);
        self.state.read(input, fresh, ResponseHead::parse)
    }
}

enum ReaderState {
    Scanning(HeadScanner),
    Failed(ParseError),
}

impl ReaderState {
    fn read<H>(
        &mut self,
        input: &[u8],
        fresh: HeadScanner,
        parse: impl FnOnce(&Bytes, usize) -> Result<H, HeadFault>,
    ) -> Result<Option<(H, usize)>, ParseError> {
        let outcome = match self {
            Self::Failed(error) => return Err(*error),
            Self::Scanning(scanner) => match scanner.scan(input) {
                Ok(None) => return Ok(None),
                Ok(Some(HeadSpan { start, end, fields })) => {
                    let head = Bytes::copy_from_slice(&input[start..end]);
                    parse(&head, fields).map(|parsed| (parsed, end)).map_err(|fault| fault.behind(start))
                }
                Err(error) => Err(error),
            },
        };
        *self = match &outcome {
            Ok(_) => Self::Scanning(fresh),
            Err(error) => Self::Failed(*error),
        };
        outcome.map(Some)
    }
}

/// A rule about a whole head that is broken, and where in the head.
struct HeadFault {
    error: PeerError,
    at: usize,
}

impl HeadFault {
    fn start(error: PeerError) -> Self {
        Self { error, at: 0 }
    }

    /// A fault where `part`, a piece of the memory of `head`, begins.
    fn part(error: PeerError, head: &[u8], part: &[u8]) -> Self {
        let at = part.as_ptr().addr().saturating_sub(head.as_ptr().addr());
        Self { error, at: at.min(head.len()) }
    }

    fn behind(self, start: usize) -> ParseError {
        ParseError { fault: self.error.into(), at: (start + self.at) as u64 }
    }
}

fn version(minor: u8) -> Version {
    // The scanner let nothing else through.
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// The rest of a status line, which httparse would not give back with obs-text in it.
fn reason(head: &Bytes) -> Bytes {
    const REASON_AT: usize = "HTTP/1.1 200 ".len();
    let end = head.iter().position(|&byte| byte == b'\r').unwrap_or(REASON_AT);
    head.slice(REASON_AT.min(end)..end)
}

/// RFC 9112, sections 3.2 and 3.2.2.
fn check_host(
    head: &[u8],
    version: Version,
    target: &RequestTarget,
    fields: &Fields,
    hosts: HostPolicy,
) -> Result<(), HeadFault> {
    let mut lines = fields.iter().filter(|line| line.is("Host"));
    let Some(host) = lines.next() else {
        return match version {
            Version::Http10 => Ok(()),
            Version::Http11 => Err(HeadFault { error: PeerError::HostMissing, at: head.len() }),
        };
    };
    if let Some(second) = lines.next() {
        return Err(HeadFault::part(PeerError::HostRepeated, head, second.name()));
    }
    if !hosts.accepts(host.value()) {
        return Err(HeadFault::part(PeerError::HostInvalid, head, host.name()));
    }
    match target.authority() {
        Some(authority) if !authority.eq_ignore_ascii_case(host.value()) => {
            Err(HeadFault::part(PeerError::TargetHostMismatch, head, host.name()))
        }
        _ => Ok(()),
    }
}

/// RFC 9110, section 10.1.1: one expectation exists, and HTTP/1.0 has none.
fn check_expect(head: &[u8], version: Version, fields: &Fields) -> Result<(), HeadFault> {
    let is_other = |value: &[u8]| !value.eq_ignore_ascii_case(b"100-continue");
    let other = fields.iter().find(|line| line.is("Expect") && is_other(line.value()));
    match other {
        Some(line) if version == Version::Http11 => {
            Err(HeadFault::part(PeerError::UnsupportedExpectation, head, line.name()))
        }
        _ => Ok(()),
    }
}
