#![forbid(unsafe_code)]
//! Queues of bytes.

/// A queue of bytes: written at the end, taken from the front. Owns no memory while it is empty and
/// at rest.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the end, to be appended to; nothing before it may be changed.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        // A queue that is never empty must not keep all that ever went through it. Moving no more
        // than was taken costs each byte at most one move.
        if self.taken >= self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }

    pub(super) fn take_front(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n).min(self.bytes.len());
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }

    /// Frees the memory, if nothing is in it.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        let Self { mut bytes, taken } = self;
        bytes.drain(..taken);
        bytes
    }
}
