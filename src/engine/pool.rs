#![forbid(unsafe_code)]
//! [`Pool`]: idle upstream connections, kept for another request.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::service::Upstream;
use super::slab::Token;
use crate::relay::Readiness;

/// How long a connection may stay after its upstream was dropped.
const DROPPED: Duration = Duration::from_secs(2);

/// Idle connections by upstream. The one used last is reused first: it is the one most likely to be
/// still good.
#[derive(Default)]
pub(super) struct Pool {
    shelves: HashMap<ShelfKey, Shelf>,
    len: usize,
    /// When to look for expired connections.
    next_check: Option<Instant>,
}

/// The connections of one upstream; closed soon after the upstream is dropped ([`DROPPED`]).
struct Shelf {
    /// It also keeps the address, which is the key.
    upstream: Weak<Upstream>,
    idle: Vec<Idle>,
}

struct Idle {
    endpoint: Endpoint,
    until: Instant,
}

/// Names the connections of one upstream: by the address of that, which its shelf keeps from being
/// given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ShelfKey(usize);

impl ShelfKey {
    pub(super) fn of(upstream: &Arc<Upstream>) -> Self {
        Self(Arc::as_ptr(upstream).addr())
    }
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn take(&mut self, upstream: &Arc<Upstream>) -> Option<Endpoint> {
        let idle = self.shelves.get_mut(&ShelfKey::of(upstream))?.idle.pop()?;
        self.len -= 1;
        Some(idle.endpoint)
    }

    /// Keeps a connection. Returns the oldest of the upstream if there are more than `most` now.
    pub(super) fn keep(
        &mut self,
        upstream: &Arc<Upstream>,
        endpoint: Endpoint,
        most: usize,
        now: Instant,
        time: Duration,
    ) -> Option<Endpoint> {
        let empty = || Shelf { upstream: Arc::downgrade(upstream), idle: Vec::new() };
        let shelf = self.shelves.entry(ShelfKey::of(upstream)).or_insert_with(empty);
        shelf.idle.push(Idle { endpoint, until: now + time });
        self.len += 1;
        (shelf.idle.len() > most).then(|| {
            self.len -= 1;
            shelf.idle.remove(0).endpoint
        })
    }

    /// Notes an event of the connection with this link. Takes the connection out if it has ended,
    /// or has bytes that no request asked for; not if the event is about bytes that were read just
    /// before it became idle.
    pub(super) fn note(&mut self, shelf: ShelfKey, link: Token, ready: Readiness) -> Option<Endpoint> {
        let shelf = self.shelves.get_mut(&shelf)?;
        let place = shelf.idle.iter().position(|idle| idle.endpoint.link == link)?;
        let endpoint = &mut shelf.idle[place].endpoint;
        endpoint.note(ready);
        if endpoint.is_silent() {
            return None;
        }
        self.len -= 1;
        Some(shelf.idle.remove(place).endpoint)
    }

    /// Takes out the connections that have been kept long enough, and those of upstreams that were
    /// dropped. Returns `None` if it was not time to look. To be called after each turn, because a
    /// turn may leave a connection in the pool without any later event.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Vec<Endpoint>> {
        let expired = self.next_check.is_some_and(|at| at <= now).then(|| {
            self.next_check = None;
            self.remove_expired(now)
        });
        if self.next_check.is_none() && self.len > 0 {
            let first = self.shelves.values().flat_map(|shelf| &shelf.idle).map(|idle| idle.until).min();
            self.next_check = first.map(|first| first.min(now + DROPPED));
        }
        expired
    }

    fn remove_expired(&mut self, now: Instant) -> Vec<Endpoint> {
        let mut out = Vec::new();
        self.shelves.retain(|_, shelf| {
            let gone = shelf.upstream.strong_count() == 0;
            let all = std::mem::take(&mut shelf.idle);
            for idle in all {
                if gone || idle.until <= now {
                    out.push(idle.endpoint);
                } else {
                    shelf.idle.push(idle);
                }
            }
            !gone && !shelf.idle.is_empty()
        });
        self.len -= out.len();
        out
    }

    /// Takes out all connections.
    pub(super) fn take_all(&mut self) -> Vec<Endpoint> {
        self.len = 0;
        self.shelves.drain().flat_map(|(_, shelf)| shelf.idle).map(|idle| idle.endpoint).collect()
    }

    /// Returns when [`Pool::take_expired`] has to be called next.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }
}
