#![forbid(unsafe_code)]
//! Bodies: taken out of one framing, put into another.

use std::num::NonZeroU64;

use crate::error::ParseError;
use crate::h1::{BodyFraming, CHUNK_END, ChunkEvent, ChunkHeader, ChunkedDecoder, Fields, encode_last_chunk};
use crate::limits::Limits;

/// Finds the end of a body.
pub(super) enum BodyReader {
    Length { left: u64 },
    Chunked(Box<ChunkedDecoder>),
    UntilEnd,
}

/// How a body is framed for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyWriter {
    /// As it is: its length was announced, or it lasts as long as the connection.
    Raw,
    /// `trailers`: whether the receiver takes them.
    Chunked { trailers: bool },
}

/// What became of a piece of input.
pub(super) struct Moved {
    /// Bytes of the input that were taken.
    pub(super) taken: usize,
    /// Bytes of the body among them.
    pub(super) data: u64,
    /// Whether the body is over.
    pub(super) ended: bool,
}

impl BodyReader {
    /// A reader for a body; `None` if there is none, so that nothing has to be read.
    pub(super) fn new(framing: BodyFraming, limits: &Limits) -> Option<Self> {
        match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => None,
            BodyFraming::Length(left) => Some(Self::Length { left }),
            BodyFraming::Chunked => Some(Self::Chunked(Box::new(ChunkedDecoder::new(limits)))),
            BodyFraming::CloseDelimited => Some(Self::UntilEnd),
        }
    }

    /// Moves body bytes from `input` to `out`, in the receiver's framing.
    pub(super) fn pump(
        &mut self,
        input: &[u8],
        writer: BodyWriter,
        out: &mut Vec<u8>,
    ) -> Result<Moved, ParseError> {
        match self {
            Self::Length { left } => {
                let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= taken as u64;
                let ended = *left == 0;
                writer.data(&input[..taken], out);
                if ended {
                    writer.end(&Fields::default(), out);
                }
                Ok(Moved { taken, data: taken as u64, ended })
            }
            Self::UntilEnd => {
                writer.data(input, out);
                Ok(Moved { taken: input.len(), data: input.len() as u64, ended: false })
            }
            Self::Chunked(decoder) => pump_chunks(decoder, input, writer, out),
        }
    }

    /// How many bytes may go past this reader, when the receiver gets them as they are.
    pub(super) fn raw_left(&self) -> u64 {
        match self {
            Self::Length { left } => *left,
            Self::Chunked(_) => 0,
            Self::UntilEnd => u64::MAX,
        }
    }

    /// `n` bytes went past; says whether the body is over.
    pub(super) fn passed(&mut self, n: u64) -> bool {
        match self {
            Self::Length { left } => {
                *left = left.saturating_sub(n);
                *left == 0
            }
            Self::Chunked(_) | Self::UntilEnd => false,
        }
    }

    /// Whether the end of the connection is the end of the body, rather than a cut.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilEnd)
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
    pub(super) fn data(self, data: &[u8], out: &mut Vec<u8>) {
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

    pub(super) fn end(self, trailers: &Fields, out: &mut Vec<u8>) {
        match self {
            Self::Raw => {}
            Self::Chunked { trailers: true } => encode_last_chunk(trailers, out),
            Self::Chunked { trailers: false } => encode_last_chunk(&Fields::default(), out),
        }
    }
}
