#![forbid(unsafe_code)]
//! [`State`]: what a request is decided by, at one moment.

use std::sync::Arc;
use std::time::Duration;

use dockline::engine::Destination;
use dockline::h1::{FieldLine, RequestHead};
use dockline::proxy::{Reply, Rewrite};
use dockline::routes::{Lookup, RouteTable};

use super::acme::Challenges;
use super::entry::{Entry, Live};
use super::hops::Hops;
use super::pages::{Page, Pages};

/// The routes, and how requests are treated that have none. Replaced as a whole.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) table: RouteTable<Arc<Entry>>,
    /// Whether all daemons have told once what they have. Until then an unknown host may be that of
    /// a container.
    pub(super) is_complete: bool,
    pub(super) pages: Pages,
    pub(super) challenges: Option<Challenges>,
    /// How long a request waits for a target, and for one that it has started.
    pub(super) hold: Duration,
    pub(super) start_time: Duration,
    /// How many requests may wait.
    pub(super) hold_requests: usize,
}

/// What of a request is asked about. It can be kept, to ask again.
#[derive(Clone, Debug)]
pub(super) struct Question {
    host: Vec<u8>,
    path: Vec<u8>,
    hops: Hops,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Choice<'s> {
    /// It is sent on.
    To(Destination),
    /// There is no such route.
    NotFound,
    /// There is no target of this route now.
    Hold(&'s Arc<Entry>),
    /// Whether there is such a route is not known yet.
    Early,
}

impl Question {
    pub(super) fn new(head: &RequestHead, hops: Hops) -> Self {
        Self { host: host(head).to_owned(), path: head.target().path_and_query().to_owned(), hops }
    }
}

/// Returns the host that a request is for: that of the target, if it has one (RFC 9112, section
/// 3.2.2).
pub(super) fn host(head: &RequestHead) -> &[u8] {
    head.target().authority().or_else(|| head.fields.values("Host").next()).unwrap_or_default()
}

impl State {
    /// Decides about a request that has passed these routers; `now` is in seconds.
    pub(super) fn decide(&self, host: &[u8], path: &[u8], hops: &Hops, now: u64) -> Choice<'_> {
        let Lookup::Found { value: entry, prefix } = self.table.lookup(host, path) else {
            return if self.is_complete { Choice::NotFound } else { Choice::Early };
        };
        let mut targets = entry.choose();
        let Some(first) = targets.next() else { return Choice::Hold(entry) };
        first.target.count(now);
        // Replicas that strip and those that do not cannot get the same request.
        let others = targets.filter(|live| live.strip == first.strip);
        Choice::To(Destination {
            upstream: Arc::clone(&first.target.upstream),
            others: others.map(|live| Arc::clone(&live.target.upstream)).collect(),
            route: Some(Arc::clone(&entry.name)),
            rewrite: rewrite(first, path, prefix, hops),
            // Nothing will change for a fixed one.
            ask_again: !first.is_fixed,
        })
    }

    /// Returns the route of a request.
    pub(super) fn find(&self, host: &[u8], path: &[u8]) -> Option<&Arc<Entry>> {
        match self.table.lookup(host, path) {
            Lookup::Found { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Decides about a request that was kept.
    pub(super) fn answer(&self, question: &Question, now: u64) -> Choice<'_> {
        self.decide(&question.host, &question.path, &question.hops, now)
    }

    /// Returns a reply of the router itself.
    pub(super) fn reply(&self, page: Page) -> Reply {
        self.pages.reply(page)
    }
}

/// Returns what is changed in a request. Nothing of it can be refused: the parts come from fields
/// and a path that were parsed.
fn rewrite(live: &Live, path: &[u8], prefix: usize, hops: &Hops) -> Option<Arc<Rewrite>> {
    let Some((prefix, rest)) = path.split_at_checked(prefix).filter(|_| live.strip && prefix > 0) else {
        return hops.marked().cloned();
    };
    let slash = if rest.starts_with(b"/") { &b""[..] } else { b"/" };
    let line = FieldLine::new("X-Forwarded-Prefix", prefix.to_owned()).ok()?;
    let marked = hops.marked().map_or_else(Rewrite::new, |marked| Rewrite::clone(marked));
    marked.with_target([slash, rest].concat()).ok()?.with_field(line).ok().map(Arc::new)
}
