//! Request and response heads: incremental readers, parsed heads, and how they are written.
//!
//! A reader is given everything received so far and scans only what is new. httparse runs once,
//! over a head that the scanner has accepted; the result then passes the rules that need a whole
//! head, such as `Host`.

#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::fields::{Field, Fields};
use super::scan::{HeadBounds, HeadScanner, HeadSpan};
use super::target::{HostPolicy, RequestTarget};
use super::writer::HeadWriter;
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
    /// Returns the method, case-sensitive (RFC 9110, section 9.1).
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.method
    }

    /// Returns the target.
    #[must_use]
    pub fn target(&self) -> &RequestTarget {
        &self.target
    }

    /// Returns whether the client waits for an interim response before it sends its body (RFC 9110,
    /// section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.fields.contains("Expect")
    }

    /// Replaces an absolute-form target by the form that an origin understands (RFC 9112, section
    /// 3.2.1).
    #[must_use]
    pub fn into_origin_form(self) -> Self {
        let target = self.target.into_origin_form(&self.method);
        Self { target, ..self }
    }

    /// Writes the head with the empty line at its end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let head = HeadWriter::request(&self.method, self.target.as_bytes(), self.version, out);
        head.lines(self.fields.iter()).end();
    }

    fn parse(input: &[u8], span: HeadSpan, hosts: HostPolicy) -> Result<Self, ParseError> {
        let head = &input[span.start..span.end];
        let mut request = httparse::Request::new(&mut []);
        let mut tokens = TokenRoom::new(span.lines.len());
        let complete = request.parse_with_uninit_headers(head, tokens.as_mut());
        let (Some(method), Some(target), Some(minor), true) = (
            request.method,
            request.path,
            request.version,
            complete == Ok(httparse::Status::Complete(head.len())),
        ) else {
            return Err(fault_at(PeerError::ReadersDisagree, span.start));
        };
        // Exactly one space separates them: the scanner has checked that.
        let target_at = span.start + method.len() + 1;
        let method = method_bytes(method.as_bytes());
        let target = RequestTarget::parse(&method, Bytes::copy_from_slice(target.as_bytes()))
            .map_err(|error| fault_at(error, target_at))?;
        let version = version(minor);
        let mut fields = Fields::from_section(&input[span.fields..span.end], span.lines, request.headers)
            .map_err(|error| fault_at(error, span.start))?;
        fields.starts_at(span.fields);
        check_host(version, &target, &fields, hosts)
            .and_then(|()| check_expect(version, &fields))
            .map_err(|(error, line)| fault_at(error, line.map_or(span.end, |line| fields.position(line))))?;
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
    /// Returns the status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the reason phrase, byte for byte; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Writes the head with the empty line at its end. The space before an empty reason is written
    /// too.
    pub fn encode(&self, out: &mut Vec<u8>) {
        HeadWriter::response(self.version, self.status, &self.reason, out).lines(self.fields.iter()).end();
    }

    fn parse(input: &[u8], span: HeadSpan) -> Result<Self, ParseError> {
        let head = &input[span.start..span.end];
        let mut response = httparse::Response::new(&mut []);
        let mut tokens = TokenRoom::new(span.lines.len());
        let complete = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            head,
            tokens.as_mut(),
        );
        let (Some(code), Some(minor), true) =
            (response.code, response.version, complete == Ok(httparse::Status::Complete(head.len())))
        else {
            return Err(fault_at(PeerError::ReadersDisagree, span.start));
        };
        let status = StatusCode::new(code).ok_or(fault_at(PeerError::StatusCode, span.start))?;
        let version = version(minor);
        // httparse does not return a reason that has obs-text in it.
        let reason = &input[span.start + REASON_AT..span.fields - b"\r\n".len()];
        let mut fields = Fields::from_section(&input[span.fields..span.end], span.lines, response.headers)
            .map_err(|error| fault_at(error, span.start))?;
        fields.starts_at(span.fields);
        Ok(Self { version, fields, status, reason: reason_bytes(reason) })
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
    /// Returns a reader at the first byte of a request.
    #[must_use]
    pub const fn new(limits: &Limits, hosts: HostPolicy) -> Self {
        let bounds =
            HeadBounds { head: limits.request_head, line: limits.request_line, fields: limits.fields };
        Self { bounds, hosts, state: ReaderState::Scanning(HeadScanner::request(bounds)) }
    }

    /// Reads a head from `input`, which holds all bytes received since the end of the last message.
    ///
    /// Nothing means that more bytes are needed: call again with the same bytes and more behind
    /// them. A head comes with the number of bytes that it took; the reader is then at the first
    /// byte of the next request.
    ///
    /// # Errors
    /// The first error of the head, as soon as its byte is there. It is repeated on every later
    /// call.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(RequestHead, usize)>, ParseError> {
        let hosts = self.hosts;
        let fresh = HeadScanner::request(self.bounds);
        self.state.read(input, fresh, |span| RequestHead::parse(input, span, hosts))
    }
}

/// Reads one response head after the other: interim ones, then the final one.
///
/// The space after the status code has to be there, as RFC 9112, section 4 demands: `HTTP/1.1 200 `
/// is accepted, `HTTP/1.1 200` is not. The reason phrase may be empty, and there may be no fields
/// at all.
pub struct ResponseHeadReader {
    bounds: HeadBounds,
    state: ReaderState,
}

impl ResponseHeadReader {
    /// Returns a reader at the first byte of a response.
    #[must_use]
    pub const fn new(limits: &Limits) -> Self {
        let bounds =
            HeadBounds { head: limits.response_head, line: limits.response_head, fields: limits.fields };
        Self { bounds, state: ReaderState::Scanning(HeadScanner::response(bounds)) }
    }

    /// Reads a head from `input`, which holds all bytes received since the end of the last message
    /// or head.
    ///
    /// Nothing means that more bytes are needed: call again with the same bytes and more behind
    /// them. A head comes with the number of bytes that it took; the reader is then at the first
    /// byte of the next response.
    ///
    /// # Errors
    /// The first error of the head, as soon as its byte is there. It is repeated on every later
    /// call.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(ResponseHead, usize)>, ParseError> {
        let fresh = HeadScanner::response(self.bounds);
        self.state.read(input, fresh, |span| ResponseHead::parse(input, span))
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
        parse: impl FnOnce(HeadSpan) -> Result<H, ParseError>,
    ) -> Result<Option<(H, usize)>, ParseError> {
        let outcome = match self {
            Self::Failed(error) => return Err(*error),
            Self::Scanning(scanner) => match scanner.scan(input) {
                Ok(None) => return Ok(None),
                Ok(Some(span)) => {
                    let end = span.end;
                    parse(span).map(|parsed| (parsed, end))
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

/// Room for what httparse finds: on the stack for all but the largest heads.
struct TokenRoom<'b> {
    few: [MaybeUninit<httparse::Header<'b>>; TokenRoom::FEW],
    many: Vec<MaybeUninit<httparse::Header<'b>>>,
    count: usize,
}

impl<'b> TokenRoom<'b> {
    const FEW: usize = 32;

    fn new(count: usize) -> Self {
        let many = if count > Self::FEW { vec![MaybeUninit::uninit(); count] } else { Vec::new() };
        Self { few: [MaybeUninit::uninit(); Self::FEW], many, count }
    }

    fn as_mut(&mut self) -> &mut [MaybeUninit<httparse::Header<'b>>] {
        if self.count > Self::FEW { &mut self.many } else { &mut self.few[..self.count] }
    }
}

const REASON_AT: usize = "HTTP/1.1 200 ".len();

fn fault_at(error: PeerError, at: usize) -> ParseError {
    ParseError { fault: error.into(), at: at as u64 }
}

fn version(minor: u8) -> Version {
    // The scanner accepts nothing else.
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// Copies a method; the usual ones cost no memory.
fn method_bytes(method: &[u8]) -> Bytes {
    match method {
        b"GET" => Bytes::from_static(b"GET"),
        b"POST" => Bytes::from_static(b"POST"),
        b"HEAD" => Bytes::from_static(b"HEAD"),
        b"PUT" => Bytes::from_static(b"PUT"),
        b"DELETE" => Bytes::from_static(b"DELETE"),
        _ => Bytes::copy_from_slice(method),
    }
}

/// Copies a reason phrase; the most usual one costs no memory.
fn reason_bytes(reason: &[u8]) -> Bytes {
    match reason {
        b"OK" => Bytes::from_static(b"OK"),
        _ => Bytes::copy_from_slice(reason),
    }
}

/// A broken rule about a whole head, and the line that breaks it, if there is one.
type BrokenRule<'f> = (PeerError, Option<Field<'f>>);

/// Checks `Host` (RFC 9112, sections 3.2 and 3.2.2).
fn check_host<'f>(
    version: Version,
    target: &RequestTarget,
    fields: &'f Fields,
    hosts: HostPolicy,
) -> Result<(), BrokenRule<'f>> {
    let mut lines = fields.named("Host");
    let Some(host) = lines.next() else {
        return match version {
            Version::Http10 => Ok(()),
            Version::Http11 => Err((PeerError::HostMissing, None)),
        };
    };
    if let Some(second) = lines.next() {
        return Err((PeerError::HostRepeated, Some(second)));
    }
    if !hosts.accepts(host.value()) {
        return Err((PeerError::HostInvalid, Some(host)));
    }
    match target.authority() {
        Some(authority) if !authority.eq_ignore_ascii_case(host.value()) => {
            Err((PeerError::TargetHostMismatch, Some(host)))
        }
        _ => Ok(()),
    }
}

/// Checks `Expect` (RFC 9110, section 10.1.1): one expectation exists, and HTTP/1.0 has none.
fn check_expect(version: Version, fields: &Fields) -> Result<(), BrokenRule<'_>> {
    let is_other = |value: &[u8]| !value.eq_ignore_ascii_case(b"100-continue");
    let other = fields.named("Expect").find(|line| is_other(line.value()));
    match other {
        Some(line) if version == Version::Http11 => Err((PeerError::UnsupportedExpectation, Some(line))),
        _ => Ok(()),
    }
}
