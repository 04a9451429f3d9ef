#![forbid(unsafe_code)]
//! The data of a tunnel: a stream in which lost, duplicated, swapped and foreign bytes are
//! detected.

/// Longest piece.
pub(crate) const PIECE: usize = 64 * 1024;
/// A prime, so that it is no multiple of a buffer size.
const PERIOD: usize = 65_521;

pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        bytes.extend_from_within(..);
        Self(bytes)
    }

    /// Returns up to `len` bytes of the stream of a tunnel, from an offset.
    pub(crate) fn piece(&self, tunnel: usize, at: u64, len: usize) -> &[u8] {
        let start = (usize::try_from(at % PERIOD as u64).unwrap() + tunnel * 7919) % PERIOD;
        &self.0[start..start + len.min(PIECE).min(PERIOD)]
    }
}
