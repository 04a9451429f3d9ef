//! The parsers, each reading one message as a host would: from a buffer that fills as bytes arrive.

use std::hint::black_box;

use dockline::h1::{ChunkEvent, ChunkedDecoder, HostPolicy, RequestHeadReader, ResponseHeadReader};
use dockline::limits::Limits;

use crate::llhttp::{self, Llhttp};
use crate::messages::CHUNKED_HEAD;
use crate::support::Result;
use crate::{Message, Part};

pub(crate) const FLOOR: &str = "httparse";

pub(crate) type Run<'m> = Box<dyn FnMut() -> Result<()> + 'm>;

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    make: Make,
}

enum Make {
    Ours,
    Httparse,
    Llhttp(Llhttp),
}

pub(crate) fn all() -> Vec<Contestant> {
    let llhttp = Llhttp::load().map(|api| Contestant { name: "llhttp", make: Make::Llhttp(api) });
    [Contestant { name: "dockline", make: Make::Ours }, Contestant { name: FLOOR, make: Make::Httparse }]
        .into_iter()
        .chain(llhttp)
        .collect()
}

impl Contestant {
    pub(crate) fn label(&self) -> String {
        if matches!(self.make, Make::Ours) { format!("**{}**", self.name) } else { self.name.into() }
    }

    /// Reads the message, once for each call. Fails if the message does not end at its last byte.
    pub(crate) fn on<'m>(&self, message: &'m Message) -> Result<Run<'m>> {
        let bytes = message.bytes.as_slice();
        // The number of bytes that have arrived, piece by piece.
        let filled = move || {
            let pieces = bytes.len().div_ceil(message.arrival);
            (1..=pieces).map(move |piece| &bytes[..piece.saturating_mul(message.arrival).min(bytes.len())])
        };
        Ok(match (&self.make, message.part) {
            (Make::Ours, Part::Request) => {
                let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
                Box::new(move || head(filled(), |seen| Ok(black_box(reader.read(seen)?).is_some())))
            }
            (Make::Ours, Part::Response) => {
                let mut reader = ResponseHeadReader::new(&Limits::default());
                Box::new(move || head(filled(), |seen| Ok(black_box(reader.read(seen)?).is_some())))
            }
            (Make::Ours, Part::ChunkedBody) => {
                Box::new(move || ours_chunked(bytes.chunks(message.arrival.min(bytes.len()))))
            }
            (Make::Httparse, Part::Request) => Box::new(move || {
                head(filled(), |seen| {
                    let mut fields = [httparse::EMPTY_HEADER; 128];
                    let mut request = httparse::Request::new(&mut fields);
                    Ok(black_box(request.parse(seen)?).is_complete())
                })
            }),
            (Make::Httparse, Part::Response) => Box::new(move || {
                head(filled(), |seen| {
                    let mut fields = [httparse::EMPTY_HEADER; 128];
                    let mut response = httparse::Response::new(&mut fields);
                    Ok(black_box(response.parse(seen)?).is_complete())
                })
            }),
            (Make::Httparse, Part::ChunkedBody) => {
                Box::new(move || httparse_chunked(bytes.chunks(message.arrival.min(bytes.len()))))
            }
            (Make::Llhttp(api), part) => {
                let is_request = part == Part::Request;
                let mut parser = api.message(is_request);
                Box::new(move || {
                    parser.restart(is_request);
                    let before = llhttp::Message::calls();
                    if part == Part::ChunkedBody {
                        parser.feed(CHUNKED_HEAD)?;
                    }
                    bytes
                        .chunks(message.arrival.min(bytes.len()))
                        .try_for_each(|piece| parser.feed(piece))?;
                    if llhttp::Message::calls() == before {
                        Err("llhttp found nothing".into())
                    } else {
                        Ok(())
                    }
                })
            }
        })
    }
}

/// Parses each state of the buffer; only the last one holds a complete head.
fn head<'m>(
    states: impl Iterator<Item = &'m [u8]>,
    mut try_read: impl FnMut(&'m [u8]) -> Result<bool>,
) -> Result<()> {
    let mut complete = false;
    for seen in states {
        if complete {
            return Err("a head that ends too early".into());
        }
        complete = try_read(seen)?;
    }
    if complete { Ok(()) } else { Err("a head that does not end".into()) }
}

fn ours_chunked<'m>(pieces: impl Iterator<Item = &'m [u8]>) -> Result<()> {
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    for mut piece in pieces {
        loop {
            let (taken, event) = decoder.step(piece)?;
            piece = &piece[taken..];
            match black_box(event) {
                ChunkEvent::NeedMore => break,
                ChunkEvent::Data(_) | ChunkEvent::Trailers(_) => {}
                ChunkEvent::End => return Ok(()),
            }
        }
    }
    Err("a body that does not end".into())
}

/// The least code that a host needs around `parse_chunk_size`: skip the data, keep an incomplete
/// line.
fn httparse_chunked<'m>(pieces: impl Iterator<Item = &'m [u8]>) -> Result<()> {
    let mut line = Vec::new();
    let mut skip = 0_usize;
    for mut piece in pieces {
        loop {
            let skipped = skip.min(piece.len());
            black_box(&piece[..skipped]);
            piece = &piece[skipped..];
            skip -= skipped;
            if piece.is_empty() {
                break;
            }
            let cut = line.len();
            let parsed = if cut == 0 {
                httparse::parse_chunk_size(piece)
            } else {
                line.extend_from_slice(&piece[..piece.len().min(32)]);
                httparse::parse_chunk_size(&line)
            };
            match parsed.map_err(|_| "httparse: bad chunk size")? {
                httparse::Status::Complete((end, 0)) => {
                    black_box(end);
                    return Ok(());
                }
                httparse::Status::Complete((end, size)) => {
                    piece = &piece[end - cut..];
                    line.clear();
                    skip = usize::try_from(size)? + b"\r\n".len();
                }
                httparse::Status::Partial => {
                    line.truncate(cut);
                    line.extend_from_slice(piece);
                    break;
                }
            }
        }
    }
    Err("a body that does not end".into())
}
