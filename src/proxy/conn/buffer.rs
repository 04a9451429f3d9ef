#![forbid(unsafe_code)]
//! Bytes on their way out.

/// A queue of bytes: written at the end, sent from the front. Owns no memory while it is empty and at rest.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    sent: usize,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The end, to be written to; nothing before it may be changed.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.sent == self.bytes.len() {
            self.clear();
        }
        &mut self.bytes
    }

    pub(super) fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.bytes.len());
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Gives the memory back, if nothing is in it.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        let Self { mut bytes, sent } = std::mem::take(self);
        bytes.drain(..sent);
        bytes
    }
}
