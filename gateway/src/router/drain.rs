#![forbid(unsafe_code)]
//! [`Draining`]: targets that have lost their route, and how long their tunnels may outlive it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::target::Target;

/// Targets whose tunnels will be cut. Others keep theirs for as long as they want.
#[derive(Debug, Default)]
pub(super) struct Draining(Vec<(Instant, Arc<Target>)>);

impl Draining {
    /// Adds a target that has lost its route.
    pub(super) fn add(&mut self, target: &Arc<Target>, now: Instant, time: Duration) {
        if !self.0.iter().any(|(_, other)| Arc::ptr_eq(other, target)) {
            self.0.push((now + time, Arc::clone(target)));
        }
    }

    /// Removes a target that has its route again.
    pub(super) fn remove(&mut self, target: &Arc<Target>) {
        self.0.retain(|(_, other)| !Arc::ptr_eq(other, target));
    }

    /// Drops those without tunnels and requests, which have nothing to cut.
    pub(super) fn forget_idle(&mut self) {
        self.0.retain(|(_, target)| target.load() > 0);
    }

    /// Returns when the next one is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// Returns those that are due. They are due again after `pause`, unless they have become idle:
    /// a request in flight may become a tunnel, and not all tunnels of an engine are listed at
    /// once.
    pub(super) fn due(&mut self, now: Instant, pause: Duration) -> Vec<Arc<Target>> {
        let due = self.0.iter_mut().filter(|(at, _)| *at <= now);
        due.map(|(at, target)| {
            *at = now + pause;
            Arc::clone(target)
        })
        .collect()
    }
}
