//! Field lines in the order and the spelling in which they arrived.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::syntax::{is_token, is_value_byte, list_members, trim_ows};
use crate::error::PeerError;

/// One field line: a name and a value that cannot break out of their line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: Bytes,
    value: Bytes,
}

impl FieldLine {
    /// Makes a field line; blanks around the value are cut.
    ///
    /// # Errors
    /// [`PeerError::FieldNameEmpty`], [`PeerError::FieldNameByte`] or [`PeerError::FieldValueByte`]: with such a
    /// line the head would read differently at the other end.
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

    /// The name, as spelled by whoever sent it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The value, without blanks around it.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Whether the line has this name, in any case (RFC 9110, section 5.1).
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The field lines of a head or trailer section: ordered, case-preserving, never merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    lines: Vec<FieldLine>,
}

impl Fields {
    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = &FieldLine> {
        self.lines.iter()
    }

    /// The values of all lines with this name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |line| line.is(name)).map(FieldLine::value)
    }

    /// Whether a line with this name exists.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The members of a comma-separated list, over all lines with this name; empty members are left out
    /// (RFC 9110, section 5.6.1).
    ///
    /// For fields whose members are tokens, such as `Connection` and `Upgrade`: quotes are not understood.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(list_members).filter(|member| !member.is_empty())
    }

    /// Whether a list has this token among its [`members`](Self::members), in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.members(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Adds a line behind the others.
    pub fn push(&mut self, line: FieldLine) {
        self.lines.push(line);
    }

    /// Keeps the lines for which `keep` says true.
    pub fn retain(&mut self, keep: impl FnMut(&FieldLine) -> bool) {
        self.lines.retain(keep);
    }

    /// Writes each line with its CR LF. The empty line that ends a section is not written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for line in &self.lines {
            out.extend_from_slice(&line.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(&line.value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Takes over what httparse found in `section`, sharing its memory.
    ///
    /// # Errors
    /// [`PeerError::ReadersDisagree`] when a line would not pass [`FieldLine::new`].
    pub(crate) fn from_tokens(section: &Bytes, tokens: &[httparse::Header<'_>]) -> Result<Self, PeerError> {
        let line = |token: &httparse::Header<'_>| {
            let name = section.slice_ref(token.name.as_bytes());
            FieldLine::new(name, section.slice_ref(token.value)).map_err(|_| PeerError::ReadersDisagree)
        };
        Ok(Self { lines: tokens.iter().map(line).collect::<Result<_, _>>()? })
    }
}
