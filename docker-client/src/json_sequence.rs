#![forbid(unsafe_code)]
//! [`JsonSequence`]: JSON objects out of a stream of bytes.

use std::error::Error;
use std::fmt;

/// Levels of nesting; serde_json reads no deeper ones.
const DEPTH_MAX: u32 = 128;

/// Finds the objects in a stream: one in each line (NDJSON), one behind the other, or behind record
/// separators (RFC 7464). Pieces of the stream may begin and end anywhere. It finds where objects
/// end, and no more: whether they are valid is for the reader of JSON.
#[derive(Debug)]
pub(crate) struct JsonSequence {
    max: usize,
    object: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
    oversized: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The text of an object.
    Object(Vec<u8>),
    /// An object that is longer than is accepted.
    Oversized,
}

/// The stream has something else than objects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotASequence;

impl fmt::Display for NotASequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a sequence of JSON objects")
    }
}

impl Error for NotASequence {}

impl JsonSequence {
    /// Accepts objects of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, object: Vec::new(), depth: 0, in_string: false, escaped: false, oversized: false }
    }

    /// Takes bytes off `input` up to the end of an object, and returns that; `None` if it has not
    /// ended yet.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, NotASequence> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' | 0x1e => continue,
                    b'{' => {}
                    _ => return Err(NotASequence),
                }
            }
            if self.object.len() < self.max {
                self.object.push(byte);
            } else {
                self.oversized = true;
            }
            self.track(byte)?;
            if self.depth == 0 {
                let object = std::mem::take(&mut self.object);
                let oversized = std::mem::take(&mut self.oversized);
                return Ok(Some(if oversized { Item::Oversized } else { Item::Object(object) }));
            }
        }
        Ok(None)
    }

    fn track(&mut self, byte: u8) -> Result<(), NotASequence> {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.in_string,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' if self.depth == DEPTH_MAX => return Err(NotASequence),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        Ok(())
    }
}
