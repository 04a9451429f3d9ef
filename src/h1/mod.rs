//! HTTP/1.1 messages as bytes: heads, body framing, chunked bodies.
//!
//! This layer reads and writes one message of one connection. It has no clock, no descriptor and no
//! notion of a proxy. It never repairs: whatever two readers could split differently is refused, as
//! soon as that is known.
//!
//! | step | item |
//! |---|---|
//! | bytes to head | [`RequestHeadReader`], [`ResponseHeadReader`] |
//! | head to body framing | [`request_framing`], [`response_framing`] |
//! | body from one framing to another | [`BodyReader`], [`BodyWriter`] |
//! | chunked body to data | [`ChunkedDecoder`] |
//! | data to chunked body | [`ChunkHeader`], [`CHUNK_END`], [`encode_last_chunk`] |
//! | head to bytes | [`HeadWriter`]; [`RequestHead::encode`], [`ResponseHead::encode`] |
//!
//! # Two parsers for every head
//! A head is read by a scanner, which sees each byte once, however it arrives, and enforces our
//! rules; then once by httparse, when the end of the head is there. Both must find the same lines
//! in the same places, or the head is refused
//! ([`PeerError::ReadersDisagree`](crate::error::PeerError::ReadersDisagree)). Request smuggling
//! depends on two readers that split a message differently, so the second reader is used for every
//! head and not only by the fuzzer.
//!
//! What it costs (callgrind, fat LTO; `docker ps`, a request head of 3 lines and a response head of
//! 7): 880 of the 3,240 instructions of reading the request head, 1,930 of the 4,500 of the
//! response head. That is a fifth of the 15,400 that the exchange costs in
//! [`ProxyConn`](crate::proxy::ProxyConn), and less than a microsecond, where the exchange's system
//! calls take several.

#![forbid(unsafe_code)]

mod body;
mod chunked;
mod fields;
mod framing;
mod head;
mod scan;
mod syntax;
mod target;
mod trailers;
mod writer;

#[cfg(test)]
mod tests;

pub use body::{BodyReader, BodyWriter, Moved};
pub use chunked::{CHUNK_END, ChunkEvent, ChunkHeader, ChunkedDecoder, encode_last_chunk};
pub use fields::{Field, FieldLine, Fields};
pub(crate) use framing::locate;
pub use framing::{BodyFraming, MethodKind, request_framing, response_framing};
pub use head::{RequestHead, RequestHeadReader, ResponseHead, ResponseHeadReader};
pub(crate) use syntax::is_alias;
pub use target::{Authority, HostPolicy, RequestTarget, TargetForm};
pub use writer::HeadWriter;

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, no interim responses, no switch of protocols.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// Returns the version as it stands in a start line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A status code from 100 to 599 (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusCode(u16);

impl StatusCode {
    /// 101, the interim response that ends HTTP on the connection.
    pub const SWITCHING_PROTOCOLS: Self = Self(101);

    /// 200.
    pub const OK: Self = Self(200);

    /// 500, when what is to be said has no status of its own.
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);

    /// Accepts a code in range.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 100 && code <= 599 { Some(Self(code)) } else { None }
    }

    /// Returns the code as a number.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Returns whether this is 1xx. A final response follows, except after 101.
    #[must_use]
    pub const fn is_interim(self) -> bool {
        self.0 < 200
    }

    /// Returns whether this is 2xx.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 200 && self.0 < 300
    }
}
