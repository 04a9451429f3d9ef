#![forbid(unsafe_code)]
//! [`Pool`]: upstream connections that wait for their next request.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::core::End;
use super::service::Upstream;
use super::slab::Token;

/// Unused connections, by upstream. The one used last goes first: it is the one most likely to be still good.
#[derive(Default)]
pub(super) struct Pool {
    shelves: HashMap<usize, Shelf>,
    len: usize,
}

/// The connections of one upstream; gone when that is.
struct Shelf {
    upstream: Weak<Upstream>,
    ends: Vec<Kept>,
}

struct Kept {
    end: End,
    until: Instant,
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn take(&mut self, upstream: &Arc<Upstream>) -> Option<End> {
        let kept = self.shelves.get_mut(&key(upstream))?.ends.pop()?;
        self.len -= 1;
        Some(kept.end)
    }

    /// Keeps a connection. Comes back with one that has to go for it, if there are enough already.
    pub(super) fn keep(
        &mut self,
        upstream: &Arc<Upstream>,
        end: End,
        most: usize,
        now: Instant,
        time: Duration,
    ) -> Option<End> {
        let shelf = self.shelves.entry(key(upstream)).or_insert_with(|| Shelf {
            // Held weakly it keeps its address, so that no other upstream can be taken for it.
            upstream: Arc::downgrade(upstream),
            ends: Vec::new(),
        });
        shelf.ends.push(Kept { end, until: now + time });
        self.len += 1;
        (shelf.ends.len() > most).then(|| {
            self.len -= 1;
            shelf.ends.remove(0).end
        })
    }

    /// Takes out a connection on which something happened: an end, or bytes that nobody asked for.
    pub(super) fn remove(&mut self, link: Token) -> Option<End> {
        for shelf in self.shelves.values_mut() {
            if let Some(place) = shelf.ends.iter().position(|kept| kept.end.link == link) {
                self.len -= 1;
                return Some(shelf.ends.remove(place).end);
            }
        }
        None
    }

    /// Takes out those that have waited long enough, and those of upstreams that nobody can ask for any more.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<End> {
        let mut out = Vec::new();
        self.shelves.retain(|_, shelf| {
            let gone = shelf.upstream.strong_count() == 0;
            let all = std::mem::take(&mut shelf.ends);
            for kept in all {
                if gone || kept.until <= now {
                    out.push(kept.end);
                } else {
                    shelf.ends.push(kept);
                }
            }
            !gone && !shelf.ends.is_empty()
        });
        self.len -= out.len();
        out
    }

    /// Takes out all.
    pub(super) fn drain(&mut self) -> Vec<End> {
        self.len = 0;
        self.shelves.drain().flat_map(|(_, shelf)| shelf.ends).map(|kept| kept.end).collect()
    }

    /// When the next connection has waited long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.shelves.values().flat_map(|shelf| &shelf.ends).map(|kept| kept.until).min()
    }
}
