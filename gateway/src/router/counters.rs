#![forbid(unsafe_code)]
//! [`Counters`]: what the router counts, for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dockline_discovery::Source;

use super::entry::{Entry, EntryState};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests that were sent on.
    pub(crate) routed: AtomicU64,
    /// Requests without a route.
    pub(crate) not_found: AtomicU64,
    /// Requests that had to wait for a target.
    pub(crate) held: AtomicU64,
    /// Requests that waited in vain, or could not wait because too many did.
    pub(crate) unavailable: AtomicU64,
    /// Requests that came back.
    pub(crate) loops: AtomicU64,
    /// Changes of routes.
    pub(crate) changes: AtomicU64,
    /// Records that were refused.
    pub(crate) refused: AtomicU64,
    /// Routes by their state.
    routes: [AtomicU64; EntryState::ALL.len()],
    /// Since when each source has been as it is: reachable, or not.
    sources: Mutex<BTreeMap<Source, (bool, Instant)>>,
}

impl Counters {
    /// Counts a route as what it has become; `None`: it is gone, or new.
    pub(super) fn replace(&self, before: Option<&Entry>, after: Option<&Entry>) {
        if let Some(entry) = before {
            self.routes[entry.state() as usize].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(entry) = after {
            self.routes[entry.state() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many routes are in a state.
    pub(crate) fn routes(&self, state: EntryState) -> u64 {
        self.routes[state as usize].load(Ordering::Relaxed)
    }

    /// Returns since when each source has been as it is: reachable, or not.
    pub(crate) fn sources(&self) -> MutexGuard<'_, BTreeMap<Source, (bool, Instant)>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
