//! Chunked bodies: a strict decoder for any cut of the input, and the encoder (RFC 9112, section
//! 7.1).

#![forbid(unsafe_code)]

use std::num::NonZeroU64;
use std::ops::Range;

use super::fields::Fields;
use super::scan::{FieldScanner, Progress};
use super::syntax::{is_token_byte, is_value_byte};
use super::trailers::drop_forbidden;
use crate::error::{Fault, LimitError, ParseError, PeerError};
use crate::limits::{BODY_LENGTH_MAX, CHUNK_SIZE_DIGITS, Limits};

/// The result of a step of a [`ChunkedDecoder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// All input was taken, and the body goes on.
    NeedMore,
    /// Body bytes, at this place in the input of the step. Never empty.
    Data(Range<usize>),
    /// The trailer fields that may go on, if there are any. The end follows.
    Trailers(Fields),
    /// The body is over. What was not taken belongs to the next message.
    End,
}

/// Decodes a chunked body.
///
/// Extensions are checked, counted and dropped. Trailers that could change the meaning of the
/// message are dropped: those for framing, routing, authentication, one hop only, and message
/// handling.
pub struct ChunkedDecoder {
    state: State,
    bounds: ChunkBounds,
    tally: Tally,
    at: u64,
}

enum State {
    Line(LineState),
    Data { left: u64 },
    Trailers(TrailerSection),
    Ended,
    Failed(ParseError),
}

/// A place in the bytes around chunk data.
#[derive(Clone, Copy)]
enum LineState {
    Size { value: u64, digits: u8 },
    Extension { size: u64, part: ExtensionPart },
    SizeLf { size: u64 },
    DataCr,
    DataLf,
}

/// A place in `;name`, `;name=token` or `;name="quoted"`.
#[derive(Clone, Copy)]
enum ExtensionPart {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
}

/// Collects a trailer section: its fields are read at once when its end is there.
struct TrailerSection {
    start: u64,
    scanner: FieldScanner,
    bytes: Vec<u8>,
}

/// What a byte around chunk data leads to.
enum LineStep {
    Next(LineState),
    SizeLineEnd(u64),
}

/// What a message may use: see the fields of [`Limits`].
struct ChunkBounds {
    extension: usize,
    extensions: usize,
    overhead_free: u64,
    overhead_ratio: u64,
    trailer: usize,
    trailer_fields: usize,
}

/// What a message has used of its budgets.
#[derive(Default)]
struct Tally {
    data: u64,
    chunk_headers: u64,
    chunk_extension: usize,
    chunk_extensions: usize,
}

impl ChunkedDecoder {
    /// Returns a decoder at the first byte of a chunked body.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let state = State::Line(LineState::Size { value: 0, digits: 0 });
        let bounds = ChunkBounds {
            extension: limits.chunk_extension,
            extensions: limits.chunk_extensions,
            overhead_free: limits.chunk_overhead_free,
            overhead_ratio: limits.chunk_overhead_ratio,
            trailer: limits.trailer,
            trailer_fields: limits.trailer_fields,
        };
        Self { state, bounds, tally: Tally::default(), at: 0 }
    }

    /// Takes bytes from the front of `input` up to the next event, and returns how many.
    ///
    /// The bytes taken are gone: the next call gets those behind them. After [`ChunkEvent::End`]
    /// nothing is taken.
    ///
    /// # Errors
    /// The first error of the body, with its offset in the body. It is repeated on every later
    /// call.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), ParseError> {
        let mut used = 0;
        loop {
            let unseen = &input[used..];
            let step = match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Ended => return Ok((used, ChunkEvent::End)),
                State::Data { left } if !unseen.is_empty() => {
                    let taken = usize::try_from(*left).map_or(unseen.len(), |left| left.min(unseen.len()));
                    let left = *left - taken as u64;
                    let next = if left == 0 { State::Line(LineState::DataCr) } else { State::Data { left } };
                    self.tally.data = self.tally.data.saturating_add(taken as u64);
                    Ok(Step { taken, next: Some(next), event: Some(ChunkEvent::Data(used..used + taken)) })
                }
                State::Trailers(section) if !unseen.is_empty() => section.step(unseen),
                State::Line(line) if !unseen.is_empty() => {
                    let line = *line;
                    self.lines(line, unseen)
                }
                State::Line(_) | State::Data { .. } | State::Trailers(_) => {
                    return Ok((used, ChunkEvent::NeedMore));
                }
            };
            let step = step.inspect_err(|error| self.state = State::Failed(*error))?;
            used += step.taken;
            self.at += step.taken as u64;
            if let Some(next) = step.next {
                self.state = next;
            }
            if let Some(event) = step.event {
                return Ok((used, event));
            }
        }
    }

    /// Goes on until data or trailers begin.
    fn lines(&mut self, mut line: LineState, unseen: &[u8]) -> Result<Step, ParseError> {
        for (index, &byte) in unseen.iter().enumerate() {
            let here = self.at + index as u64;
            let fault_here = |fault| ParseError { fault, at: here };
            match self.line_byte(line, byte).map_err(fault_here)? {
                LineStep::Next(next) => line = next,
                LineStep::SizeLineEnd(size) => {
                    self.check_overhead().map_err(|limit| fault_here(limit.into()))?;
                    self.tally.chunk_extension = 0;
                    let next = if size == 0 {
                        let scanner = FieldScanner::trailer(self.bounds.trailer, self.bounds.trailer_fields);
                        State::Trailers(TrailerSection { start: here + 1, scanner, bytes: Vec::new() })
                    } else {
                        State::Data { left: size }
                    };
                    return Ok(Step { taken: index + 1, next: Some(next), event: None });
                }
            }
        }
        Ok(Step { taken: unseen.len(), next: Some(State::Line(line)), event: None })
    }

    fn line_byte(&mut self, line: LineState, byte: u8) -> Result<LineStep, Fault> {
        if !matches!(line, LineState::DataCr | LineState::DataLf) {
            self.tally.chunk_headers = self.tally.chunk_headers.saturating_add(1);
        }
        let next = match (line, byte) {
            (LineState::DataCr, b'\r') => LineState::DataLf,
            (LineState::DataLf, b'\n') => LineState::Size { value: 0, digits: 0 },
            (LineState::DataCr | LineState::DataLf, _) => return Err(PeerError::ChunkDataEnd.into()),
            (LineState::SizeLf { size }, b'\n') => return Ok(LineStep::SizeLineEnd(size)),
            (LineState::SizeLf { .. }, _) => return Err(PeerError::BareCr.into()),
            (_, b'\n') => return Err(PeerError::BareLf.into()),
            (LineState::Size { digits: 0, .. }, b'\r' | b';') => return Err(PeerError::ChunkSizeEmpty.into()),
            (LineState::Size { value, .. }, b'\r') => LineState::SizeLf { size: value },
            (LineState::Size { value, .. }, b';') => {
                self.count_extension_byte()?;
                LineState::Extension { size: value, part: ExtensionPart::NameStart }
            }
            (LineState::Size { value, digits }, _) => size_digit(value, digits, byte)?,
            (LineState::Extension { size, part }, b'\r') if part.may_end() => LineState::SizeLf { size },
            (LineState::Extension { size, part }, _) => {
                self.count_extension_byte()?;
                LineState::Extension { size, part: part.next(byte).ok_or(PeerError::ChunkExtensionByte)? }
            }
        };
        Ok(LineStep::Next(next))
    }

    fn count_extension_byte(&mut self) -> Result<(), LimitError> {
        self.tally.chunk_extension += 1;
        self.tally.chunk_extensions += 1;
        if self.tally.chunk_extension > self.bounds.extension {
            return Err(LimitError::ChunkExtension);
        }
        if self.tally.chunk_extensions > self.bounds.extensions {
            return Err(LimitError::ChunkExtensions);
        }
        Ok(())
    }

    fn check_overhead(&self) -> Result<(), LimitError> {
        let Tally { data, chunk_headers, .. } = self.tally;
        let is_costly = chunk_headers > data.saturating_mul(self.bounds.overhead_ratio);
        if chunk_headers > self.bounds.overhead_free && is_costly {
            return Err(LimitError::ChunkOverhead);
        }
        Ok(())
    }
}

/// One move of the decoder: bytes taken, the state behind them if it changes, and the event, if
/// there is one.
struct Step {
    taken: usize,
    next: Option<State>,
    event: Option<ChunkEvent>,
}

impl TrailerSection {
    fn step(&mut self, unseen: &[u8]) -> Result<Step, ParseError> {
        let seen = self.bytes.len();
        let place = |error: ParseError| ParseError { at: self.start + error.at, ..error };
        match self.scanner.scan(unseen).map_err(place)? {
            Progress::More => {
                self.bytes.extend_from_slice(unseen);
                Ok(Step { taken: unseen.len(), next: None, event: None })
            }
            Progress::Ended { end } => {
                let taken = end - seen;
                self.bytes.extend_from_slice(&unseen[..taken]);
                let mut trailers =
                    self.fields().map_err(|error| ParseError { fault: error.into(), at: self.start })?;
                drop_forbidden(&mut trailers);
                let event = (!trailers.is_empty()).then_some(ChunkEvent::Trailers(trailers));
                Ok(Step { taken, next: Some(State::Ended), event })
            }
        }
    }

    fn fields(&mut self) -> Result<Fields, PeerError> {
        let lines = self.scanner.take_lines();
        let mut tokens = vec![httparse::EMPTY_HEADER; lines.len()];
        match httparse::parse_headers(&self.bytes, &mut tokens) {
            Ok(httparse::Status::Complete((end, tokens))) if end == self.bytes.len() => {
                Fields::from_section(&self.bytes, lines, tokens)
            }
            _ => Err(PeerError::ReadersDisagree),
        }
    }
}

impl ExtensionPart {
    /// Returns the part behind `byte`. Blanks are refused outside quotes, though the grammar
    /// tolerates some.
    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Name | Self::Value | Self::QuotedEnd, b';') => Some(Self::NameStart),
            (Self::Name, b'=') => Some(Self::ValueStart),
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Some(Self::Name),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Some(Self::Value),
            (Self::Quoted, b'"') => Some(Self::QuotedEnd),
            (Self::Quoted, b'\\') => Some(Self::QuotedPair),
            (Self::Quoted | Self::QuotedPair, _) if is_value_byte(byte) => Some(Self::Quoted),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuotedEnd)
    }
}

fn size_digit(value: u64, digits: u8, byte: u8) -> Result<LineState, PeerError> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => return Err(PeerError::ChunkSizeByte),
    };
    if digits == CHUNK_SIZE_DIGITS || value > BODY_LENGTH_MAX >> 4 {
        return Err(PeerError::ChunkSizeTooLarge);
    }
    Ok(LineState::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
}

/// What follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The line before the data of a chunk: its size in hexadecimal, no extension.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHeader {
    bytes: [u8; ChunkHeader::MAX],
    start: usize,
}

impl ChunkHeader {
    const DIGITS: usize = 16;
    const MAX: usize = Self::DIGITS + CHUNK_END.len();

    /// Returns the header of a chunk of this size. Zero is not a size: it would end the body.
    #[must_use]
    pub fn new(size: NonZeroU64) -> Self {
        let mut bytes = *b"0000000000000000\r\n";
        let mut start = Self::DIGITS;
        let mut rest = size.get();
        while rest > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[(rest % 16) as usize];
            rest /= 16;
        }
        Self { bytes, start }
    }

    /// Returns the line with its CR LF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Writes the last chunk, the trailers and the empty line: the end of a body.
///
/// Trailers are only for a receiver that takes them; for any other `trailers` is empty.
pub fn encode_last_chunk(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    trailers.encode(out);
    out.extend_from_slice(b"\r\n");
}
