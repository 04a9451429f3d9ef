#![forbid(unsafe_code)]
//! [`Body`]: one request, and the body of its response.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use dockline::h1::{
    BodyReader, BodyWriter, HeadWriter, MethodKind, ResponseHead, ResponseHeadReader, Version,
    response_framing,
};
use dockline::limits::Limits;

use crate::connection::Connection;
use crate::now;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    silence: Duration,
    end: Instant,
}

impl Patience {
    /// Waits for each byte as long as `silence`, and for all of them as long as `total`.
    pub(crate) fn new(silence: Duration, total: Duration) -> Self {
        Self { silence, end: now() + total }
    }

    /// Returns until when to wait for the next byte.
    pub(crate) fn next(self) -> Instant {
        self.end.min(now() + self.silence)
    }
}

/// A request without a body.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
}

/// The body of a response, and the connection that it arrives on.
pub(crate) struct Body {
    connection: Connection,
    /// `None` after the end.
    reader: Option<BodyReader>,
    /// Bytes that came with the head, or with the piece before, and were not looked at.
    received: Vec<u8>,
    piece: Vec<u8>,
    /// Whether the daemon leaves the connection open.
    persistent: bool,
}

impl Body {
    /// Sends a request and reads the head of the final response.
    pub(crate) fn request(
        mut connection: Connection,
        request: &Request<'_>,
        patience: Patience,
    ) -> io::Result<(ResponseHead, Self)> {
        let mut bytes = Vec::new();
        let head = HeadWriter::request(
            request.method.as_bytes(),
            request.target.as_bytes(),
            Version::Http11,
            &mut bytes,
        )
        .field("Host", b"docker");
        match request.method {
            "GET" => head.end(),
            _ => head.field("Content-Length", b"0").end(),
        }
        connection.write_all(&bytes, patience)?;

        let limits = Limits::default();
        let mut reader = ResponseHeadReader::new(&limits);
        let mut received = Vec::new();
        let mut interim = 0;
        let head = loop {
            if let Some((head, length)) = reader.read(&received).map_err(invalid)? {
                received.drain(..length);
                if !head.status().is_interim() {
                    break head;
                }
                interim += 1;
                if interim > limits.interim_responses || head.status().as_u16() == 101 {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "an interim response that nobody asked for",
                    ));
                }
                continue;
            }
            if read_more(&mut connection, &mut received, patience.next())? == 0 {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "it has closed the connection without a response",
                ));
            }
        };
        let framing = response_framing(MethodKind::Ordinary, head.version, head.status(), &head.fields)
            .map_err(invalid)?;
        let reader = BodyReader::new(framing, &limits);
        let persistent = head.version == Version::Http11 && !head.fields.has_token("Connection", "close");
        Ok((head, Self { connection, reader, received, piece: Vec::new(), persistent }))
    }

    /// Returns the next piece of the body; `None` after its end.
    ///
    /// # Errors
    /// `TimedOut` if none has come by then; the body may be read on.
    pub(crate) fn piece(&mut self, until: Instant) -> io::Result<Option<&[u8]>> {
        self.piece.clear();
        while let Some(reader) = &mut self.reader {
            if self.received.is_empty() && read_more(&mut self.connection, &mut self.received, until)? == 0 {
                self.persistent = false;
                if reader.ends_with_connection() {
                    self.reader = None;
                    break;
                }
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the response was cut"));
            }
            let moved = reader.pump(&self.received, BodyWriter::Raw, &mut self.piece).map_err(invalid)?;
            self.received.drain(..moved.taken);
            if moved.ended {
                self.reader = None;
            }
            if !self.piece.is_empty() {
                return Ok(Some(&self.piece));
            }
        }
        Ok(None)
    }

    /// Returns the body, if it is not longer than `max` bytes.
    pub(crate) fn read_all(&mut self, max: usize, patience: Patience) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece(patience.next())? {
            if all.len() + piece.len() > max {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("longer than {max} bytes")));
            }
            all.extend_from_slice(piece);
        }
        Ok(all)
    }

    /// Returns the connection if it can serve another request: the response is whole, nothing came
    /// behind it, and the daemon has not announced that it closes.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        let reusable = self.persistent && self.reader.is_none() && self.received.is_empty();
        reusable.then_some(self.connection)
    }
}

fn read_more(connection: &mut Connection, received: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
    let mut buf = [0; PIECE];
    let n = connection.read(&mut buf, until)?;
    received.extend_from_slice(&buf[..n]);
    Ok(n)
}

fn invalid(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
