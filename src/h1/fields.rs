//! Field lines in the order and the spelling in which they arrived.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::ptr;

use bytes::Bytes;

use super::syntax::{is_token, is_value_byte, list_members, trim_ows};
use crate::error::PeerError;

/// One field line to be [pushed](Fields::push): a name and a value that cannot break out of their
/// line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: Bytes,
    value: Bytes,
}

impl FieldLine {
    /// Makes a field line; blanks around the value are trimmed.
    ///
    /// # Errors
    /// [`PeerError::FieldNameEmpty`], [`PeerError::FieldNameByte`] or
    /// [`PeerError::FieldValueByte`]: with such a line the head would read differently at the other
    /// end.
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Self, PeerError> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() {
            return Err(PeerError::FieldNameEmpty);
        }
        if !is_token(&name) {
            return Err(PeerError::FieldNameByte);
        }
        if !value.iter().copied().all(is_value_byte) {
            return Err(PeerError::FieldValueByte);
        }
        let value = value.slice_ref(trim_ows(&value));
        Ok(Self { name, value })
    }

    /// Returns the name, as it was given.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the value, without blanks around it.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the line as one of a head.
    pub(crate) fn as_field(&self) -> Field<'_> {
        Field { name: &self.name, value: &self.value }
    }

    /// Returns whether the line has this name, in any case (RFC 9110, section 5.1).
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        is_same_name(&self.name, name.as_bytes())
    }
}

/// A reference to one of [`Fields`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Returns the name, as the sender spelled it.
    #[must_use]
    pub fn name(self) -> &'a [u8] {
        self.name
    }

    /// Returns the value, without blanks around it.
    #[must_use]
    pub fn value(self) -> &'a [u8] {
        self.value
    }

    /// Returns whether the line has this name, in any case (RFC 9110, section 5.1).
    #[must_use]
    pub fn is(self, name: &str) -> bool {
        is_same_name(self.name, name.as_bytes())
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}: {}\"", self.name.escape_ascii(), self.value.escape_ascii())
    }
}

/// The field lines of a head or trailer section: ordered, case-preserving, never merged.
#[derive(Clone, Default)]
pub struct Fields {
    /// The section as received, followed by what was pushed. What was removed from `lines` stays in
    /// it.
    text: Vec<u8>,
    lines: Vec<LineSpan>,
    /// The lengths of the names, also of removed ones, a bit each: most lookups end here.
    lengths: u32,
    /// Where the section began in its head.
    start: u32,
}

/// Where in its section a field line is.
#[derive(Clone, Debug)]
pub(crate) struct LineSpan {
    pub(crate) name: Range<usize>,
    /// Until [`Fields::from_section`] has trimmed it: all from the colon to the CR.
    pub(crate) value: Range<usize>,
}

impl Fields {
    /// Returns how many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns all lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|span| span.of(&self.text))
    }

    /// Returns the values of all lines with this name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.named(name).map(Field::value)
    }

    /// Returns all lines with this name, in order.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = Field<'_>> {
        let may_be_here = self.lengths & length_bit(name.as_bytes()) != 0;
        let lines = if may_be_here { &self.lines[..] } else { &[] };
        let has_name = move |span: &&LineSpan| {
            span.name.len() == name.len() && is_same_name(&self.text[span.name.clone()], name.as_bytes())
        };
        lines.iter().filter(has_name).map(|span| span.of(&self.text))
    }

    /// Returns whether a line with this name exists.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Returns the members of a comma-separated list, over all lines with this name; empty members
    /// are left out (RFC 9110, section 5.6.1).
    ///
    /// For fields whose members are tokens, such as `Connection` and `Upgrade`: quotes are not
    /// understood.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(list_members).filter(|member| !member.is_empty())
    }

    /// Returns whether a list has this token among its [`members`](Self::members), in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.members(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Adds a line after the others.
    pub fn push(&mut self, line: FieldLine) {
        let name = self.append(&line.name);
        let value = self.append(&line.value);
        self.lengths |= length_bit(&line.name);
        self.lines.push(LineSpan { name, value });
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        start..self.text.len()
    }

    /// Keeps the lines for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        self.lines.retain(|span| keep(span.of(&self.text)));
    }

    /// Writes each line with its CR LF. The empty line that ends a section is not written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for line in self.iter() {
            push_line(line.name, line.value, out);
        }
    }

    /// Takes over a section in which the scanner found `lines`, if httparse found the same lines.
    ///
    /// # Errors
    /// [`PeerError::ReadersDisagree`] when it did not.
    pub(crate) fn from_section(
        section: &[u8],
        mut lines: Vec<LineSpan>,
        tokens: &[httparse::Header<'_>],
    ) -> Result<Self, PeerError> {
        if lines.len() != tokens.len() {
            return Err(PeerError::ReadersDisagree);
        }
        let mut lengths = 0;
        for (line, token) in lines.iter_mut().zip(tokens) {
            line.trim(section);
            let Field { name, value } = line.of(section);
            if !is_same_place(name, token.name.as_bytes()) || !is_same_place(value, token.value) {
                return Err(PeerError::ReadersDisagree);
            }
            lengths |= length_bit(name);
        }
        Ok(Self { text: section.to_vec(), lines, lengths, start: 0 })
    }

    /// Notes where in its head the section begins.
    pub(crate) fn starts_at(&mut self, start: usize) {
        self.start = u32::try_from(start).unwrap_or(u32::MAX);
    }

    /// Returns where in its head a received line begins.
    pub(crate) fn position(&self, line: Field<'_>) -> usize {
        let at = line.name.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        self.start as usize + at.min(self.text.len())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl LineSpan {
    fn of<'a>(&self, text: &'a [u8]) -> Field<'a> {
        Field { name: &text[self.name.clone()], value: &text[self.value.clone()] }
    }

    /// Trims the blanks around the value.
    fn trim(&mut self, section: &[u8]) {
        let is_blank = |at: usize| matches!(section[at], b' ' | b'\t');
        let Range { start, end } = &mut self.value;
        while start < end && is_blank(*start) {
            *start += 1;
        }
        while start < end && is_blank(*end - 1) {
            *end -= 1;
        }
    }
}

/// Writes a field line.
#[inline]
pub(super) fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn length_bit(name: &[u8]) -> u32 {
    1 << (name.len() % 32)
}

/// Compares the length first, then the usual spelling: most names differ in length, and few of the
/// rest in case.
#[inline]
fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one == other || one.eq_ignore_ascii_case(other))
}

/// Returns whether two slices of one section are the same bytes of it; empty slices have no place.
fn is_same_place(one: &[u8], other: &[u8]) -> bool {
    ptr::eq(one, other) || (one.is_empty() && other.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &[u8] = b"A:  x y \r\nB:\r\n\r\n";

    fn taken(tokens: &[(&'static [u8], &'static [u8])]) -> Result<Fields, PeerError> {
        let lines = vec![LineSpan { name: 0..1, value: 2..8 }, LineSpan { name: 10..11, value: 12..12 }];
        let token = |&(name, value)| httparse::Header { name: std::str::from_utf8(name).unwrap(), value };
        Fields::from_section(SECTION, lines, &tokens.iter().map(token).collect::<Vec<_>>())
    }

    #[test]
    fn a_section_is_taken_over_when_both_readers_found_the_same_lines() {
        let fields = taken(&[(&SECTION[..1], &SECTION[4..7]), (&SECTION[10..11], b"")]).unwrap();
        assert_eq!(fields.values("a").collect::<Vec<_>>(), [b"x y"]);
        assert_eq!(fields.values("b").collect::<Vec<_>>(), [b""]);
        let first = (&SECTION[..1], &SECTION[4..7]);
        for other in [
            vec![],
            vec![first],
            vec![first, (&SECTION[10..11], &SECTION[12..13])],
            vec![first, (b"C", b"")],
            vec![(&SECTION[..1], &SECTION[4..8]), (&SECTION[10..11], b"")],
            vec![(&SECTION[..1], &SECTION[2..7]), (&SECTION[10..11], b"")],
            vec![first, (&SECTION[10..11], b""), (&SECTION[10..11], b"")],
        ] {
            assert_eq!(taken(&other), Err(PeerError::ReadersDisagree), "{other:?}");
        }
    }
}
