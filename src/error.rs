//! What can go wrong: whose fault it is, where, and why.
//!
//! A [`Failure`] names the side, the phase and the [`Cause`]. A cause that is a malformed message
//! is a [`ParseError`]: the rule or limit that was broken, and the offset of the first byte that
//! could not be accepted. Nothing here carries text from a peer, so an error can be logged as it
//! is. `docs/REASONS.md` lists all names.

#![forbid(unsafe_code)]

mod cause;
mod reasons;

use std::error::Error;
use std::fmt;

pub use cause::{Cause, FailedSide, Failure, Phase, Timeout, TlsFailure, TlsReason};
pub use reasons::reasons_markdown;

/// Defines an enum of faults by one table, a row each: the number in C, the status that a request
/// with the fault is rejected with, the name in logs, and the text.
macro_rules! faults {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $number:literal, $status:literal, $word:literal, $text:literal;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the status to reject a request with, if `side` is the client's; for a
            /// response it is always 502.
            #[must_use]
            pub const fn status_hint(self, side: Side) -> u16 {
                match (side, self) {
                    (Side::Upstream, _) => 502,
                    $((Side::Downstream, Self::$variant) => $status,)+
                }
            }

            /// Returns the word that logs and metrics use; stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Returns the number that the C interface uses; stable.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }

        impl Error for $name {}
    };
}

/// One of the two connections of a proxy, named as seen from the proxy.
///
/// RFC 9110, section 3.7 uses the words for directions of a message; here they name connections, as
/// nginx does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The connection to the client.
    Downstream,
    /// The connection to the origin: for Docker, the daemon.
    Upstream,
}

impl Side {
    /// Returns the opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

faults! {
    /// A rule of HTTP/1.1 that a peer broke.
    PeerError {
        /// A line ends in LF without CR (RFC 9112, section 2.2).
        BareLf = 101, 400, "bare-lf", "a line ends in LF without CR";
        /// A CR is not followed by LF (RFC 9112, section 2.2).
        BareCr = 102, 400, "bare-cr", "a CR is not followed by LF";
        /// More than one empty line stands before a request (RFC 9112, section 2.2).
        ExtraEmptyLine = 103, 400, "extra-empty-line", "more than one empty line before the request";
        /// The request line has a blank that is not one of its two single spaces (RFC 9112, section
        /// 3).
        RequestLineBlank = 104, 400, "request-line-blank", "blank in the request line";
        /// The request line ends before its version, as in HTTP/0.9 (RFC 9112, section 3).
        RequestLineShort = 105, 400, "request-line-short", "request line without a version";
        /// The method is not a token (RFC 9110, section 9.1).
        MethodByte = 106, 400, "method-byte", "the method is not a token";
        /// The method is longer than [`METHOD_BYTES`](crate::limits::METHOD_BYTES).
        MethodTooLong = 107, 400, "method-too-long", "the method is too long";
        /// The request target has a byte outside visible ASCII, or a `#` (RFC 9112, section 3.2).
        /// In a query UTF-8 is taken, as by dockerd: curl sends it as it is given.
        TargetByte = 108, 400, "target-byte", "forbidden byte in the request target";
        /// The request target has none of the forms allowed for its method (RFC 9112, section 3.2).
        TargetForm = 109, 400, "target-form", "the request target has no form that the method allows";
        /// The authority in the request target is malformed, or has user information (RFC 9110,
        /// section 4.2).
        TargetAuthority = 110, 400, "target-authority", "malformed authority in the request target";
        /// The authority in the request target is not the one in `Host` (RFC 9112, section 3.2.2).
        TargetHostMismatch = 111, 400, "target-host-mismatch", "the request target and Host name different authorities";
        /// The version is neither `HTTP/1.0` nor `HTTP/1.1` (RFC 9112, section 2.3).
        UnsupportedVersion = 112, 505, "unsupported-version", "the version is neither HTTP/1.0 nor HTTP/1.1";
        /// The status code is not three digits from 100 to 599 (RFC 9110, section 15).
        StatusCode = 113, 400, "status-code", "the status code is not three digits from 100 to 599";
        /// The space after the status code is missing (RFC 9112, section 4).
        ReasonSpace = 114, 400, "reason-space", "no space after the status code";
        /// The reason phrase has a control byte (RFC 9112, section 4).
        ReasonByte = 115, 400, "reason-byte", "control byte in the reason phrase";
        /// A blank stands before the first field (RFC 9112, section 2.2).
        BlankBeforeFields = 116, 400, "blank-before-fields", "blank before the first field";
        /// A field continues on a second line (RFC 9112, section 5.2).
        ObsoleteFold = 117, 400, "obsolete-fold", "a field continues on a second line";
        /// A blank stands inside a field name or before its colon (RFC 9112, section 5.1).
        FieldNameBlank = 118, 400, "field-name-blank", "blank in a field name";
        /// A field name is empty (RFC 9110, section 5.1).
        FieldNameEmpty = 119, 400, "field-name-empty", "empty field name";
        /// A field name has a byte that is not allowed in a token (RFC 9110, section 5.1).
        FieldNameByte = 120, 400, "field-name-byte", "forbidden byte in a field name";
        /// A field line has no colon (RFC 9112, section 5).
        FieldColon = 121, 400, "field-colon", "field line without a colon";
        /// A field value has a control byte other than HTAB (RFC 9110, section 5.5).
        FieldValueByte = 122, 400, "field-value-byte", "control byte in a field value";
        /// An HTTP/1.1 request has no `Host` (RFC 9112, section 3.2).
        HostMissing = 123, 400, "host-missing", "no Host";
        /// A request has more than one `Host` (RFC 9112, section 3.2).
        HostRepeated = 124, 400, "host-repeated", "more than one Host";
        /// `Host` is not what the policy accepts (RFC 9110, section 7.2).
        HostInvalid = 125, 400, "host-invalid", "invalid Host";
        /// `Expect` asks for something other than `100-continue` (RFC 9110, section 10.1.1).
        UnsupportedExpectation = 126, 417, "unsupported-expectation", "an expectation other than 100-continue";
        /// `Transfer-Encoding` and `Content-Length` are both present (RFC 9112, section 6.1).
        AmbiguousFraming = 127, 400, "ambiguous-framing", "both Transfer-Encoding and Content-Length";
        /// An HTTP/1.0 message has a `Transfer-Encoding` (RFC 9112, section 6.1).
        TransferCodingInHttp10 = 128, 400, "transfer-coding-in-http10", "Transfer-Encoding in an HTTP/1.0 message";
        /// A message has more than one `Transfer-Encoding` line (RFC 9112, section 6.1).
        TransferCodingRepeated = 129, 400, "transfer-coding-repeated", "more than one Transfer-Encoding";
        /// `Transfer-Encoding` is malformed, or `chunked` is not exactly its last coding (RFC 9112,
        /// section 6.1).
        TransferCodingInvalid = 130, 400, "transfer-coding-invalid", "invalid Transfer-Encoding";
        /// A well-formed coding that dockline does not know comes before `chunked` (RFC 9112,
        /// section 6.1).
        UnsupportedTransferCoding = 131, 501, "unsupported-transfer-coding", "a transfer coding other than chunked";
        /// A message has more than one `Content-Length` line (RFC 9112, section 6.3).
        ContentLengthRepeated = 132, 400, "content-length-repeated", "more than one Content-Length";
        /// `Content-Length` is not plain digits without leading zeros (RFC 9110, section 8.6).
        ContentLengthInvalid = 133, 400, "content-length-invalid", "invalid Content-Length";
        /// `Content-Length` is above [`BODY_LENGTH_MAX`](crate::limits::BODY_LENGTH_MAX).
        ContentLengthTooLarge = 134, 400, "content-length-too-large", "Content-Length is too large";
        /// `Connection` names a field that is not for one hop only, such as `Host` (RFC 9110,
        /// section 7.6.1).
        ConnectionOption = 135, 400, "connection-option", "Connection names a field that is not hop-by-hop";
        /// A chunk has no size (RFC 9112, section 7.1).
        ChunkSizeEmpty = 136, 400, "chunk-size-empty", "chunk without a size";
        /// A chunk size has a byte that is not a hexadecimal digit (RFC 9112, section 7.1).
        ChunkSizeByte = 137, 400, "chunk-size-byte", "forbidden byte in a chunk size";
        /// A chunk size has too many digits, or is above
        /// [`BODY_LENGTH_MAX`](crate::limits::BODY_LENGTH_MAX).
        ChunkSizeTooLarge = 138, 400, "chunk-size-too-large", "chunk size is too large";
        /// A chunk extension is malformed (RFC 9112, section 7.1.1).
        ChunkExtensionByte = 139, 400, "chunk-extension-byte", "malformed chunk extension";
        /// Chunk data is not followed by CR LF (RFC 9112, section 7.1).
        ChunkDataEnd = 140, 400, "chunk-data-end", "chunk data is not followed by CR LF";
        /// The tokenizer refused what the strictness pass had accepted: the message has two
        /// readings.
        ReadersDisagree = 141, 400, "readers-disagree", "the message has two readings";
    }
}

faults! {
    /// A bound in [`Limits`](crate::limits::Limits) that a peer exceeded.
    LimitError {
        /// The request line is longer than `request_line`, or fills the whole head.
        RequestLine = 201, 414, "request-line-too-long", "the request line is too long";
        /// The head is longer than `request_head` or `response_head`.
        Head = 202, 431, "head-too-large", "the head is too large";
        /// The head has more field lines than `fields`.
        Fields = 203, 431, "too-many-fields", "too many fields";
        /// The extensions of one chunk are longer than `chunk_extension`.
        ChunkExtension = 204, 400, "chunk-extension-too-long", "the extensions of a chunk are too long";
        /// The extensions of all chunks of a message are longer than `chunk_extensions`.
        ChunkExtensions = 205, 400, "chunk-extensions-too-long", "the chunk extensions of a message are too long";
        /// Chunk headers outweigh the data by more than `chunk_overhead_ratio`.
        ChunkOverhead = 206, 400, "chunk-overhead", "too little data for the chunk headers";
        /// The trailer section is longer than `trailer`.
        Trailer = 207, 400, "trailer-too-large", "the trailer section is too large";
        /// The trailer section has more field lines than `trailer_fields`.
        TrailerFields = 208, 400, "too-many-trailer-fields", "too many trailer fields";
        /// A body that has to be read whole before the request is sent is longer than `held`.
        Held = 209, 413, "held-body-too-long", "the body of a request that may become a tunnel is too long";
    }
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The message breaks a rule.
    Peer(PeerError),
    /// The message is over a bound.
    Limit(LimitError),
}

impl Fault {
    /// Returns the status to reject a request with, if `side` is the client's; for a response it is
    /// always 502.
    #[must_use]
    pub const fn status_hint(self, side: Side) -> u16 {
        match self {
            Self::Peer(error) => error.status_hint(side),
            Self::Limit(error) => error.status_hint(side),
        }
    }

    /// Returns the word that logs and metrics use; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer(error) => error.name(),
            Self::Limit(error) => error.name(),
        }
    }

    /// Returns the number that the C interface uses; stable.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Peer(error) => error.number(),
            Self::Limit(error) => error.number(),
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
/// After it nothing more may be read as HTTP on the connection; the readers repeat it on every
/// further call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParseError {
    /// Why it was refused.
    pub fault: Fault,
    /// Offset, from the start of the head or body, of the first byte that could not be accepted.
    ///
    /// For a rule about a whole field it is where that field line starts; for a missing field, the
    /// end of the head.
    pub at: u64,
}

impl ParseError {
    /// Returns the status to reject a request with, if `side` is the client's; for a response it is
    /// always 502.
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
