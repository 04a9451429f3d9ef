#![forbid(unsafe_code)]
//! [`HeadWriter`]: the one place where a head is put into bytes.

use std::fmt;
use std::io::Write;

use super::fields::{Field, push_line};
use super::framing::BodyFraming;
use super::{StatusCode, Version};

/// Room for most heads, so that the output does not grow field by field.
const USUAL_HEAD: usize = 512;

/// Writes a head behind what `out` holds: a start line, field lines, and by [`HeadWriter::end`] the
/// empty line.
///
/// It checks nothing: methods, targets, names and values are those of a head that was read, or
/// constants. Anything else goes through [`FieldLine`](super::FieldLine) first.
///
/// ```
/// use dockline::h1::{HeadWriter, Version};
///
/// let mut out = Vec::new();
/// HeadWriter::request(b"GET", b"/_ping", Version::Http11, &mut out).field("Host", b"docker").end();
/// assert_eq!(out, b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n");
/// ```
#[must_use = "a head without its empty line goes on"]
#[derive(Debug)]
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> HeadWriter<'o> {
    /// Begins the head of a request (RFC 9112, section 3).
    pub fn request(method: &[u8], target: &[u8], version: Version, out: &'o mut Vec<u8>) -> Self {
        out.reserve(USUAL_HEAD);
        for part in [method, b" ", target, b" ", version.as_str().as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        Self { out }
    }

    /// Begins the head of a response (RFC 9112, section 4). The space before an empty reason is
    /// written too.
    pub fn response(version: Version, status: StatusCode, reason: &[u8], out: &'o mut Vec<u8>) -> Self {
        out.reserve(USUAL_HEAD);
        out.extend_from_slice(version.as_str().as_bytes());
        out.push(b' ');
        push_decimal(out, u64::from(status.as_u16()));
        out.push(b' ');
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Writes a field line.
    pub fn field(self, name: &str, value: &[u8]) -> Self {
        push_line(name.as_bytes(), value, self.out);
        self
    }

    /// Writes a field line whose value is made as it is written.
    pub fn formatted(self, name: &str, value: fmt::Arguments<'_>) -> Self {
        // Writing to memory cannot fail.
        let _ = write!(self.out, "{name}: {value}\r\n");
        self
    }

    /// Writes a field line as it was read.
    pub fn line(self, line: Field<'_>) -> Self {
        push_line(line.name(), line.value(), self.out);
        self
    }

    /// Writes a field line for each of these values, in their order.
    pub fn each<'v>(self, name: &str, values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        values.into_iter().fold(self, |head, value| head.field(name, value))
    }

    /// Writes field lines as they were read.
    pub fn lines<'f>(self, lines: impl IntoIterator<Item = Field<'f>>) -> Self {
        lines.into_iter().fold(self, Self::line)
    }

    /// Writes the field that declares how the body is framed, if one does (RFC 9112, section 6).
    pub fn framing(self, framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::Empty | BodyFraming::CloseDelimited => {}
            BodyFraming::Length(length) => {
                self.out.extend_from_slice(b"Content-Length: ");
                push_decimal(self.out, length);
                self.out.extend_from_slice(b"\r\n");
            }
            BodyFraming::Chunked => return self.field("Transfer-Encoding", b"chunked"),
        }
        self
    }

    /// Ends the head.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{number}");
}
