#![forbid(unsafe_code)]
//! One direction of a relay: bytes of one source on their way to one target.

/// The state of one direction. Half-close is a state here, not an event: the end of the source is
/// delivered behind the last of its bytes and says nothing about the opposite direction.
///
/// ```text
///            source EOF              flushed, half-close accepted
///   Open ──────────────► Ending ────────────────────────────────► Shut
///    │ │  source reset             flushed, or out of time
///    │ └────────────────► Breaking ─────────────────────────────► Dead
///    │ target refused (from Open and Ending)      source EOF
///    └──────────────────► Discarding ───────────────────────────► Shut
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfPipe {
    /// Bytes flow; `buffered` of them were read and not yet written.
    Open {
        /// Bytes taken from the source that the target has not taken yet.
        buffered: u64,
    },
    /// The source ended; the target gets what is buffered, then the half-close.
    Ending {
        /// As in [`HalfPipe::Open`].
        buffered: u64,
    },
    /// The source was reset; the target gets what is buffered, then an abortive close.
    Breaking {
        /// As in [`HalfPipe::Open`].
        buffered: u64,
    },
    /// The target takes nothing any more; the source is read and thrown away, so that closing it
    /// does not reset bytes that are still on their way to it.
    Discarding,
    /// The end of the source was delivered.
    Shut,
    /// Nothing moves here any more, and the end was not a clean one.
    Dead,
}

impl HalfPipe {
    /// Returns how many bytes were read and not yet written.
    #[must_use]
    pub fn buffered(self) -> u64 {
        match self {
            Self::Open { buffered } | Self::Ending { buffered } | Self::Breaking { buffered } => buffered,
            Self::Discarding | Self::Shut | Self::Dead => 0,
        }
    }

    /// Returns whether the source may still be read, to forward or to discard.
    #[must_use]
    pub fn takes_input(self) -> bool {
        matches!(self, Self::Open { .. } | Self::Discarding)
    }

    /// Returns whether nothing is left to do in this direction.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Shut | Self::Dead)
    }

    pub(super) fn filled(self, n: u64) -> Self {
        match self {
            Self::Open { buffered } => Self::Open { buffered: buffered.saturating_add(n) },
            other => other,
        }
    }

    pub(super) fn delivered(self, n: u64) -> Self {
        match self {
            Self::Open { buffered } => Self::Open { buffered: buffered.saturating_sub(n) },
            Self::Ending { buffered } => Self::Ending { buffered: buffered.saturating_sub(n) },
            Self::Breaking { buffered } => Self::Breaking { buffered: buffered.saturating_sub(n) },
            other => other,
        }
    }

    pub(super) fn source_eof(self) -> Self {
        match self {
            Self::Open { buffered } => Self::Ending { buffered },
            Self::Discarding => Self::Shut,
            other => other,
        }
    }

    pub(super) fn source_reset(self) -> Self {
        match self {
            Self::Open { buffered } | Self::Ending { buffered } => Self::Breaking { buffered },
            Self::Discarding => Self::Dead,
            other => other,
        }
    }

    pub(super) fn target_refused(self) -> Self {
        match self {
            Self::Open { .. } => Self::Discarding,
            Self::Ending { .. } => Self::Shut,
            Self::Breaking { .. } => Self::Dead,
            other => other,
        }
    }
}
