#![forbid(unsafe_code)]
//! [`RelayOptions`], and the values that a host exchanges with a relay.

use std::time::Instant;

use crate::relay::{Interest, Readiness, RelayConfig};

/// The options of a [`Relay`](super::Relay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayOptions {
    /// Time limits.
    pub config: RelayConfig,
    /// About how many bytes one [`Relay::pump`](super::Relay::pump) moves before it lets others
    /// have their turn. 1 MiB by default.
    pub budget: usize,
    /// Whether long transfers may be spliced. On by default.
    pub splice: bool,
    /// Whether TCP sockets get TCP_NODELAY and keepalive probes (30 s, 6 x 10 s). On by default.
    pub tune_sockets: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { config: RelayConfig::default(), budget: 1024 * 1024, splice: true, tune_sockets: true }
    }
}

/// The events that the host saw since the last pump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// Events of the downstream.
    pub downstream: Readiness,
    /// Events of the upstream.
    pub upstream: Readiness,
}

/// Whether and when a relay has to be pumped again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Upon interest or deadline.
    Running,
    /// Soon, but after others had their turn: the budget is spent.
    Yield,
    /// It is over: read the [stats](super::Relay::stats) and close both connections.
    Done,
}

/// What a relay waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Whether and when to pump it again.
    pub state: State,
    /// Events of the downstream to wait for.
    pub downstream: Interest,
    /// Events of the upstream to wait for.
    pub upstream: Interest,
    /// Pump at this time at the latest.
    pub deadline: Option<Instant>,
}
