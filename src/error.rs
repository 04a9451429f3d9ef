//! What a peer can get wrong, and what to answer.
//!
//! Three questions are answered by the types: who (a [`Side`]), what (one variant for each rule), what now
//! ([`Fault::status_hint`]). [`ParseError`] adds where: the offset of the first byte that could not be accepted.
//! Nothing here carries text from the peer, so that an error can be logged as it is.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// One of the two connections of a proxy, named as seen from the proxy.
///
/// RFC 9110, section 3.7 uses the words for directions of a message; here they name connections, as nginx does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The connection to the client.
    Downstream,
    /// The connection to the origin: for Docker, the daemon.
    Upstream,
}

impl Side {
    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

/// A rule of HTTP/1.1 that a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerError {
    /// A line ends in LF without CR (RFC 9112, section 2.2).
    BareLf,
    /// A CR is not followed by LF (RFC 9112, section 2.2).
    BareCr,
    /// More than one empty line stands before a request (RFC 9112, section 2.2).
    ExtraEmptyLine,
    /// The request line has a blank that is not one of its two single spaces (RFC 9112, section 3).
    RequestLineBlank,
    /// The request line ends before its version, as in HTTP/0.9 (RFC 9112, section 3).
    RequestLineShort,
    /// The method is not a token (RFC 9110, section 9.1).
    MethodByte,
    /// The method is longer than [`METHOD_BYTES`](crate::limits::METHOD_BYTES).
    MethodTooLong,
    /// The request target has a byte outside visible ASCII, or a `#` (RFC 9112, section 3.2). In a query UTF-8 is taken, as by
    /// dockerd: curl sends it as it is given.
    TargetByte,
    /// The request target has none of the forms allowed for its method (RFC 9112, section 3.2).
    TargetForm,
    /// The authority in the request target is malformed, or has user information (RFC 9110, section 4.2).
    TargetAuthority,
    /// The authority in the request target is not the one in `Host` (RFC 9112, section 3.2.2).
    TargetHostMismatch,
    /// The version is neither `HTTP/1.0` nor `HTTP/1.1` (RFC 9112, section 2.3).
    UnsupportedVersion,
    /// The status code is not three digits from 100 to 599 (RFC 9110, section 15).
    StatusCode,
    /// The space after the status code is missing (RFC 9112, section 4).
    ReasonSpace,
    /// The reason phrase has a control byte (RFC 9112, section 4).
    ReasonByte,
    /// A blank stands before the first field (RFC 9112, section 2.2).
    BlankBeforeFields,
    /// A field continues on a second line (RFC 9112, section 5.2).
    ObsoleteFold,
    /// A blank stands inside a field name or before its colon (RFC 9112, section 5.1).
    FieldNameBlank,
    /// A field name is empty (RFC 9110, section 5.1).
    FieldNameEmpty,
    /// A field name has a byte that is not allowed in a token (RFC 9110, section 5.1).
    FieldNameByte,
    /// A field line has no colon (RFC 9112, section 5).
    FieldColon,
    /// A field value has a control byte other than HTAB (RFC 9110, section 5.5).
    FieldValueByte,
    /// An HTTP/1.1 request has no `Host` (RFC 9112, section 3.2).
    HostMissing,
    /// A request has more than one `Host` (RFC 9112, section 3.2).
    HostRepeated,
    /// `Host` is not what the policy accepts (RFC 9110, section 7.2).
    HostInvalid,
    /// `Expect` asks for something other than `100-continue` (RFC 9110, section 10.1.1).
    UnsupportedExpectation,
    /// `Transfer-Encoding` and `Content-Length` are both present (RFC 9112, section 6.1).
    AmbiguousFraming,
    /// An HTTP/1.0 message has a `Transfer-Encoding` (RFC 9112, section 6.1).
    TransferCodingInHttp10,
    /// A message has more than one `Transfer-Encoding` line (RFC 9112, section 6.1).
    TransferCodingRepeated,
    /// `Transfer-Encoding` is malformed, or `chunked` is not exactly its last coding (RFC 9112, section 6.1).
    TransferCodingInvalid,
    /// A well-formed coding that dockline does not know comes before `chunked` (RFC 9112, section 6.1).
    UnsupportedTransferCoding,
    /// A message has more than one `Content-Length` line (RFC 9112, section 6.3).
    ContentLengthRepeated,
    /// `Content-Length` is not plain digits without leading zeros (RFC 9110, section 8.6).
    ContentLengthInvalid,
    /// `Content-Length` is above [`BODY_LENGTH_MAX`](crate::limits::BODY_LENGTH_MAX).
    ContentLengthTooLarge,
    /// `Connection` names a field that is not for one hop only, such as `Host` (RFC 9110, section 7.6.1).
    ConnectionOption,
    /// A chunk has no size (RFC 9112, section 7.1).
    ChunkSizeEmpty,
    /// A chunk size has a byte that is not a hexadecimal digit (RFC 9112, section 7.1).
    ChunkSizeByte,
    /// A chunk size has too many digits, or is above [`BODY_LENGTH_MAX`](crate::limits::BODY_LENGTH_MAX).
    ChunkSizeTooLarge,
    /// A chunk extension is malformed (RFC 9112, section 7.1.1).
    ChunkExtensionByte,
    /// Chunk data is not followed by CR LF (RFC 9112, section 7.1).
    ChunkDataEnd,
    /// The tokenizer refused what the strictness pass had accepted: the message has two readings.
    ReadersDisagree,
}

impl PeerError {
    /// The status to answer a request with, when `side` is the client's; for a response it is always 502.
    #[must_use]
    pub const fn status_hint(self, side: Side) -> u16 {
        match side {
            Side::Downstream => self.facts().0,
            Side::Upstream => 502,
        }
    }

    /// Status for a request, and text. One exhaustive table: a new variant does not compile without its row.
    const fn facts(self) -> (u16, &'static str) {
        match self {
            Self::BareLf => (400, "a line ends in LF without CR"),
            Self::BareCr => (400, "a CR is not followed by LF"),
            Self::ExtraEmptyLine => (400, "more than one empty line before the request"),
            Self::RequestLineBlank => (400, "blank in the request line"),
            Self::RequestLineShort => (400, "request line without a version"),
            Self::MethodByte => (400, "the method is not a token"),
            Self::MethodTooLong => (400, "the method is too long"),
            Self::TargetByte => (400, "forbidden byte in the request target"),
            Self::TargetForm => (400, "the request target has no form that the method allows"),
            Self::TargetAuthority => (400, "malformed authority in the request target"),
            Self::TargetHostMismatch => (400, "the request target and Host name different authorities"),
            Self::UnsupportedVersion => (505, "the version is neither HTTP/1.0 nor HTTP/1.1"),
            Self::StatusCode => (400, "the status code is not three digits from 100 to 599"),
            Self::ReasonSpace => (400, "no space after the status code"),
            Self::ReasonByte => (400, "control byte in the reason phrase"),
            Self::BlankBeforeFields => (400, "blank before the first field"),
            Self::ObsoleteFold => (400, "a field continues on a second line"),
            Self::FieldNameBlank => (400, "blank in a field name"),
            Self::FieldNameEmpty => (400, "empty field name"),
            Self::FieldNameByte => (400, "forbidden byte in a field name"),
            Self::FieldColon => (400, "field line without a colon"),
            Self::FieldValueByte => (400, "control byte in a field value"),
            Self::HostMissing => (400, "no Host"),
            Self::HostRepeated => (400, "more than one Host"),
            Self::HostInvalid => (400, "invalid Host"),
            Self::UnsupportedExpectation => (417, "an expectation other than 100-continue"),
            Self::AmbiguousFraming => (400, "both Transfer-Encoding and Content-Length"),
            Self::TransferCodingInHttp10 => (400, "Transfer-Encoding in an HTTP/1.0 message"),
            Self::TransferCodingRepeated => (400, "more than one Transfer-Encoding"),
            Self::TransferCodingInvalid => (400, "invalid Transfer-Encoding"),
            Self::UnsupportedTransferCoding => (501, "a transfer coding other than chunked"),
            Self::ContentLengthRepeated => (400, "more than one Content-Length"),
            Self::ContentLengthInvalid => (400, "invalid Content-Length"),
            Self::ContentLengthTooLarge => (400, "Content-Length is too large"),
            Self::ConnectionOption => (400, "Connection names a field that concerns the whole way"),
            Self::ChunkSizeEmpty => (400, "chunk without a size"),
            Self::ChunkSizeByte => (400, "forbidden byte in a chunk size"),
            Self::ChunkSizeTooLarge => (400, "chunk size is too large"),
            Self::ChunkExtensionByte => (400, "malformed chunk extension"),
            Self::ChunkDataEnd => (400, "chunk data is not followed by CR LF"),
            Self::ReadersDisagree => (400, "the message has two readings"),
        }
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().1)
    }
}

impl Error for PeerError {}

/// A bound in [`Limits`](crate::limits::Limits) that a peer went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitError {
    /// The request line is longer than `request_line`, or fills the whole head.
    RequestLine,
    /// The head is longer than `request_head` or `response_head`.
    Head,
    /// The head has more field lines than `fields`.
    Fields,
    /// The extensions of one chunk are longer than `chunk_extension`.
    ChunkExtension,
    /// The extensions of all chunks of a message are longer than `chunk_extensions`.
    ChunkExtensions,
    /// Chunk headers outweigh the data by more than `chunk_overhead_ratio`.
    ChunkOverhead,
    /// The trailer section is longer than `trailer`.
    Trailer,
    /// The trailer section has more field lines than `trailer_fields`.
    TrailerFields,
    /// A body that has to be read whole before the request is sent is longer than `held`.
    Held,
}

impl LimitError {
    /// The status to answer a request with, when `side` is the client's; for a response it is always 502.
    #[must_use]
    pub const fn status_hint(self, side: Side) -> u16 {
        match side {
            Side::Downstream => self.facts().0,
            Side::Upstream => 502,
        }
    }

    const fn facts(self) -> (u16, &'static str) {
        match self {
            Self::RequestLine => (414, "the request line is too long"),
            Self::Head => (431, "the head is too large"),
            Self::Fields => (431, "too many fields"),
            Self::ChunkExtension => (400, "the extensions of a chunk are too long"),
            Self::ChunkExtensions => (400, "the chunk extensions of a message are too long"),
            Self::ChunkOverhead => (400, "too little data for the chunk headers"),
            Self::Trailer => (400, "the trailer section is too large"),
            Self::TrailerFields => (400, "too many trailer fields"),
            Self::Held => (413, "the body of a request that may become a tunnel is too long"),
        }
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().1)
    }
}

impl Error for LimitError {}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The message breaks a rule.
    Peer(PeerError),
    /// The message is over a bound.
    Limit(LimitError),
}

impl Fault {
    /// The status to answer a request with, when `side` is the client's; for a response it is always 502.
    #[must_use]
    pub const fn status_hint(self, side: Side) -> u16 {
        match self {
            Self::Peer(error) => error.status_hint(side),
            Self::Limit(error) => error.status_hint(side),
        }
    }
}

impl From<PeerError> for Fault {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<LimitError> for Fault {
    fn from(error: LimitError) -> Self {
        Self::Limit(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::Limit(error) => error.fmt(f),
        }
    }
}

/// A refused head or body, with the place of the first error.
///
/// After it nothing more may be read as HTTP on the connection; the readers repeat it on every further call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParseError {
    /// Why it was refused.
    pub fault: Fault,
    /// Offset, from the start of the head or body, of the first byte that could not be accepted.
    ///
    /// For a rule about a whole field it is where that field line starts; for a missing field, the end of the head.
    pub at: u64,
}

impl ParseError {
    /// The status to answer a request with, when `side` is the client's; for a response it is always 502.
    #[must_use]
    pub const fn status_hint(self, side: Side) -> u16 {
        self.fault.status_hint(side)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.fault, self.at)
    }
}

impl Error for ParseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            Fault::Peer(error) => Some(error),
            Fault::Limit(error) => Some(error),
        }
    }
}
