#![forbid(unsafe_code)]
//! Bodies: from one framing to another.

use std::num::NonZeroU64;

use super::chunked::{CHUNK_END, ChunkEvent, ChunkHeader, ChunkedDecoder, encode_last_chunk};
use super::fields::Fields;
use super::framing::BodyFraming;
use crate::error::ParseError;
use crate::limits::Limits;

/// Finds the end of a body whose framing is known (RFC 9112, section 6).
pub struct BodyReader(Inner);

enum Inner {
    Length { left: u64 },
    Chunked(Box<ChunkedDecoder>),
    UntilEnd,
}

/// How a body is framed for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyWriter {
    /// As it is: its length was announced, or it lasts as long as the connection.
    Raw,
    /// In chunks (RFC 9112, section 7.1).
    Chunked {
        /// Whether the receiver takes trailers. If not, they are left out.
        trailers: bool,
    },
}

/// What [`BodyReader::pump`] did with a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes of the input that were taken.
    pub taken: usize,
    /// Bytes of the body among them.
    pub data: u64,
    /// Whether the body is over.
    pub ended: bool,
}

impl BodyReader {
    /// Returns a reader for a body, or `None` if there is none and nothing has to be read.
    #[must_use]
    pub fn new(framing: BodyFraming, limits: &Limits) -> Option<Self> {
        match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => None,
            BodyFraming::Length(left) => Some(Self(Inner::Length { left })),
            BodyFraming::Chunked => Some(Self(Inner::Chunked(Box::new(ChunkedDecoder::new(limits))))),
            BodyFraming::CloseDelimited => Some(Self(Inner::UntilEnd)),
        }
    }

    /// Moves body bytes from `input` to the end of `out`, in the receiver's framing.
    ///
    /// All of `input` is taken, up to the end of the body.
    ///
    /// # Errors
    /// The first error of a chunked body, with its offset in the body. It is repeated on every
    /// later call.
    pub fn pump(&mut self, input: &[u8], writer: BodyWriter, out: &mut Vec<u8>) -> Result<Moved, ParseError> {
        match &mut self.0 {
            Inner::Length { left } => {
                let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= taken as u64;
                let ended = *left == 0;
                writer.data(&input[..taken], out);
                if ended {
                    writer.end(&Fields::default(), out);
                }
                Ok(Moved { taken, data: taken as u64, ended })
            }
            Inner::UntilEnd => {
                writer.data(input, out);
                Ok(Moved { taken: input.len(), data: input.len() as u64, ended: false })
            }
            Inner::Chunked(decoder) => pump_chunks(decoder, input, writer, out),
        }
    }

    /// Returns how many bytes may be moved past this reader to a receiver that gets them as they
    /// are.
    #[must_use]
    pub fn raw_left(&self) -> u64 {
        match &self.0 {
            Inner::Length { left } => *left,
            Inner::Chunked(_) => 0,
            Inner::UntilEnd => u64::MAX,
        }
    }

    /// Counts `n` bytes that were moved past this reader, and returns whether the body is over.
    pub fn passed(&mut self, n: u64) -> bool {
        match &mut self.0 {
            Inner::Length { left } => {
                *left = left.saturating_sub(n);
                *left == 0
            }
            Inner::Chunked(_) | Inner::UntilEnd => false,
        }
    }

    /// Returns whether the end of the connection is the end of the body, rather than a cut.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, Inner::UntilEnd)
    }
}

fn pump_chunks(
    decoder: &mut ChunkedDecoder,
    input: &[u8],
    writer: BodyWriter,
    out: &mut Vec<u8>,
) -> Result<Moved, ParseError> {
    let mut moved = Moved { taken: 0, data: 0, ended: false };
    let mut trailers = Fields::default();
    loop {
        let unseen = &input[moved.taken..];
        let (taken, event) = decoder.step(unseen)?;
        moved.taken += taken;
        match event {
            ChunkEvent::NeedMore => return Ok(moved),
            ChunkEvent::Data(range) => {
                moved.data += range.len() as u64;
                writer.data(&unseen[range], out);
            }
            ChunkEvent::Trailers(fields) => trailers = fields,
            ChunkEvent::End => {
                writer.end(&trailers, out);
                moved.ended = true;
                return Ok(moved);
            }
        }
    }
}

impl BodyWriter {
    /// Writes a piece of the body. An empty one writes nothing: as a chunk it would be the last.
    pub fn data(self, data: &[u8], out: &mut Vec<u8>) {
        match (self, NonZeroU64::new(data.len() as u64)) {
            (Self::Raw, _) => out.extend_from_slice(data),
            (Self::Chunked { .. }, None) => {}
            (Self::Chunked { .. }, Some(size)) => {
                out.extend_from_slice(ChunkHeader::new(size).as_bytes());
                out.extend_from_slice(data);
                out.extend_from_slice(CHUNK_END);
            }
        }
    }

    /// Writes what follows the last piece.
    pub fn end(self, trailers: &Fields, out: &mut Vec<u8>) {
        match self {
            Self::Raw => {}
            Self::Chunked { trailers: true } => encode_last_chunk(trailers, out),
            Self::Chunked { trailers: false } => encode_last_chunk(&Fields::default(), out),
        }
    }
}
