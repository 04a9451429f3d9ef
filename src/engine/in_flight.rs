#![forbid(unsafe_code)]
//! [`InFlight`]: how many requests and tunnels an upstream has now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::service::Upstream;

const REQUEST: u64 = 1;
const TUNNEL: u64 = 1 << 32;

/// What is in flight to an upstream, over all engines that use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Requests: each from when it was routed until its exchange has ended, or until the next
    /// upstream is tried for it.
    pub requests: u32,
    /// Tunnels, and connections of [`Service::Forward`](super::Service::Forward) that wait for
    /// theirs.
    pub tunnels: u32,
}

impl InFlight {
    /// Returns whether nothing is in flight.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// Counts requests and tunnels in one word, so that a request that becomes a tunnel is never seen
/// as neither.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    pub(super) fn get(&self) -> InFlight {
        let both = self.0.load(Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
        InFlight { requests: both as u32, tunnels: (both >> 32) as u32 }
    }
}

/// A request or a tunnel that is counted as in flight to its upstream for as long as this lives.
#[derive(Debug)]
pub(super) struct Flight {
    upstream: Arc<Upstream>,
    counted_as: u64,
}

impl Flight {
    pub(super) fn request(upstream: Arc<Upstream>) -> Self {
        Self::begin(upstream, REQUEST)
    }

    pub(super) fn tunnel(upstream: Arc<Upstream>) -> Self {
        Self::begin(upstream, TUNNEL)
    }

    fn begin(upstream: Arc<Upstream>, counted_as: u64) -> Self {
        upstream.tally.0.fetch_add(counted_as, Ordering::Relaxed);
        Self { upstream, counted_as }
    }

    /// Counts the request as the tunnel that it has become.
    #[must_use]
    pub(super) fn into_tunnel(mut self) -> Self {
        let others = TUNNEL.wrapping_sub(self.counted_as);
        self.upstream.tally.0.fetch_add(others, Ordering::Relaxed);
        self.counted_as = TUNNEL;
        self
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.upstream.tally.0.fetch_sub(self.counted_as, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_for_as_long_as_it_lives() {
        let upstream = Arc::new(Upstream::new("daemon", Vec::new()));
        let count = |requests, tunnels| assert_eq!(upstream.in_flight(), InFlight { requests, tunnels });
        count(0, 0);
        let (one, two) = (Flight::request(Arc::clone(&upstream)), Flight::request(Arc::clone(&upstream)));
        let three = Flight::tunnel(Arc::clone(&upstream));
        count(2, 1);
        let one = one.into_tunnel();
        count(1, 2);
        let three = three.into_tunnel();
        count(1, 2);
        drop(two);
        count(0, 2);
        drop((one, three));
        assert!(upstream.in_flight().is_zero());
    }
}
