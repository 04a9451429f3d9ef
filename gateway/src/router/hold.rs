#![forbid(unsafe_code)]
//! [`Hold`]: requests that wait for a target of their route, or for the routes to be known.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dockline::routes::RouteKey;

/// What waits, shared by the loops, which add to it, and by the thread that changes the table.
#[derive(Debug)]
pub(super) struct Hold<W>(Mutex<Waiting<W>>);

impl<W> Default for Hold<W> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { by_route: HashMap::new(), early: Vec::new(), count: 0 }))
    }
}

impl<W> Hold<W> {
    /// Locks it. Who adds looks the route up again while it is locked, and who changes the table
    /// takes what waits after the change: so nobody waits for a change that has happened already.
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits, by its route.
#[derive(Debug)]
pub(super) struct Waiting<W> {
    by_route: HashMap<RouteKey, Vec<W>>,
    /// Those whose route is not known yet.
    early: Vec<W>,
    count: usize,
}

impl<W> Waiting<W> {
    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds one for a route; `None`: its route is not known yet.
    pub(super) fn push(&mut self, key: Option<&RouteKey>, waiter: W) {
        match key {
            None => self.early.push(waiter),
            Some(key) => match self.by_route.get_mut(key) {
                Some(waiting) => waiting.push(waiter),
                None => drop(self.by_route.insert(key.clone(), vec![waiter])),
            },
        }
        self.count += 1;
    }

    /// Takes all whose route was not known, in the order in which they came.
    pub(super) fn take_early(&mut self) -> Vec<W> {
        let taken = std::mem::take(&mut self.early);
        self.count -= taken.len();
        taken
    }

    /// Takes all of a route, in the order in which they came.
    pub(super) fn take(&mut self, key: &RouteKey) -> Vec<W> {
        let taken = self.by_route.remove(key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    /// Drops those that wait no longer. Returns how many they were.
    pub(super) fn retain(&mut self, waits: impl Fn(&W) -> bool) -> usize {
        let before = self.count;
        self.by_route.retain(|_, waiting| {
            waiting.retain(|waiter| waits(waiter));
            !waiting.is_empty()
        });
        self.early.retain(|waiter| waits(waiter));
        self.count = self.early.len() + self.by_route.values().map(Vec::len).sum::<usize>();
        before - self.count
    }
}

#[cfg(test)]
mod tests {
    use dockline::routes::{HostPattern, PathPrefix};

    use super::*;

    fn key(name: &str) -> RouteKey {
        RouteKey { host: HostPattern::name(name).unwrap(), path: PathPrefix::root() }
    }

    #[test]
    fn those_of_a_route_are_taken_in_order() {
        let hold = Hold::default();
        let mut waiting = hold.lock();
        for (name, waiter) in [("a", 1), ("b", 2), ("a", 3)] {
            waiting.push(Some(&key(name)), waiter);
        }
        waiting.push(None, 4);
        assert_eq!(waiting.len(), 4);
        assert_eq!(waiting.take_early(), [4]);
        assert_eq!(waiting.len(), 3);
        assert_eq!(waiting.take(&key("a")), [1, 3]);
        assert_eq!(waiting.take(&key("a")), [0; 0]);
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn those_that_wait_no_longer_are_dropped() {
        let hold = Hold::default();
        let mut waiting = hold.lock();
        for waiter in 0..10 {
            waiting.push(Some(&key(if waiter < 5 { "a" } else { "b" })), waiter);
        }
        waiting.push(None, 0);
        assert_eq!(waiting.retain(|waiter| *waiter > 6), 8);
        assert_eq!((waiting.len(), waiting.by_route.len()), (3, 1));
    }
}
