#![forbid(unsafe_code)]
//! Where the bytes of one direction are between being read and being written.

use super::worker::LentPipe;

/// What one direction holds. An idle direction holds nothing, so that it is boxed.
#[derive(Debug)]
pub(super) enum Held {
    /// Bytes in user space, from `at` on still to be written.
    Spill { bytes: Box<[u8]>, at: usize },
    /// `left` bytes in the kernel.
    Pipe { pipe: LentPipe, left: usize },
}

/// Where a direction keeps what it holds.
pub(super) type Lane = Option<Box<Held>>;

/// Keeps bytes in user space.
pub(super) fn spill(bytes: &[u8]) -> Lane {
    Some(Box::new(Held::Spill { bytes: bytes.into(), at: 0 }))
}

/// Whether a direction copies or splices; learnt from how its reads come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Through the scratch buffer.
    Copy,
    /// Through a pipe; `moved` bytes since the source last ran dry.
    Bulk { moved: u32 },
}

/// A bulk direction that moved less than this between two dry spells is interactive again: for so few
/// bytes one copy is cheaper than two splices.
pub(super) const BULK_MINIMUM: u32 = 16 * 1024;
