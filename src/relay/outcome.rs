#![forbid(unsafe_code)]
//! What a relay did and why it ended.

use std::time::Instant;

use crate::error::Side;

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions ended by themselves, and everything was delivered that could be.
    Eof,
    /// The upstream's end was passed on, and the downstream did not follow within the linger limit.
    Linger,
    /// No byte moved either way for the idle limit.
    Idle,
    /// The downstream connection was reset, or its peer stopped responding.
    DownstreamReset,
    /// The upstream connection was reset, or its peer stopped responding.
    UpstreamReset,
    /// The host drains, and its limit has passed.
    Drain,
    /// The host ended the relay.
    Killed,
}

impl CloseReason {
    /// Returns the name for logs, which is stable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Linger => "linger",
            Self::Idle => "idle",
            Self::DownstreamReset => "downstream-reset",
            Self::UpstreamReset => "upstream-reset",
            Self::Drain => "drain",
            Self::Killed => "killed",
        }
    }

    pub(super) fn reset_of(side: Side) -> Self {
        match side {
            Side::Downstream => Self::DownstreamReset,
            Side::Upstream => Self::UpstreamReset,
        }
    }

    /// Returns whether the relay was cut: a stream was ended before its end, so that its target
    /// must see an unclean end.
    pub(super) fn is_cut(self) -> bool {
        match self {
            Self::Eof | Self::Linger => false,
            Self::Idle | Self::DownstreamReset | Self::UpstreamReset | Self::Drain | Self::Killed => true,
        }
    }
}

/// Byte counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Bytes taken from the source.
    pub received: u64,
    /// Bytes that the target took. Less than `received` at the end only if the relay was cut or the
    /// target refused the rest.
    pub delivered: u64,
}

/// What a relay did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayStats {
    /// From the downstream to the upstream.
    pub up: DirectionStats,
    /// From the upstream to the downstream.
    pub down: DirectionStats,
    /// When a byte last moved; when the relay was made, if none did.
    pub last_activity: Instant,
    /// The side that ended first, by EOF or reset.
    pub first_closer: Option<Side>,
    /// Why it ended; `None` while it runs.
    pub close_reason: Option<CloseReason>,
}
