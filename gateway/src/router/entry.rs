#![forbid(unsafe_code)]
//! [`Entry`]: a route as the router uses it.

use std::sync::Arc;

use dockline::engine::{Destination, Upstream};
use dockline::routes::RouteKey;
use dockline_discovery::RecordState;
use dockline_discovery::directory::{Claim, RouteState};

use super::balance::{Rotation, least_loaded};
use super::target::{Reach, Target, Way};
use crate::config::router::Balance;

/// A route: its targets, and which of them is next. Made anew at each change.
#[derive(Debug)]
pub(super) struct Entry {
    /// The route in records, and for [`Kill`](dockline::engine::Kill).
    pub(super) name: Arc<str>,
    pub(super) key: RouteKey,
    /// The owner and its replicas, those included that get no requests.
    pub(super) members: Box<[Member]>,
    live: Box<[Live]>,
    balance: Balance,
    rotation: Rotation,
}

/// A record that serves a route.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) claim: Claim,
    /// `None`: there is no address, or no way to it.
    pub(super) target: Option<Arc<Target>>,
}

/// A target that gets requests.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) target: Arc<Target>,
    /// Whether the prefix is removed from the path.
    pub(super) strip: bool,
    /// Whether it is a route of the file.
    pub(super) is_fixed: bool,
    weight: u16,
}

impl Member {
    /// Returns whether it gets requests. One that is started on demand by the router of its node
    /// does.
    fn is_live(&self) -> bool {
        let Some(target) = &self.target else { return false };
        let record = self.claim.record();
        let is_started_there = record.lifecycle.on_demand && matches!(target.way(), Way::Gateway(_));
        record.state == RecordState::Live || is_started_there
    }
}

/// What a route is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// It has a target that gets requests.
    Live,
    /// It has one, but what announced it cannot be reached: it may have changed since.
    Stale,
    /// It has none now.
    Down,
}

impl EntryState {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 3] = [Self::Live, Self::Stale, Self::Down];

    /// Returns its name in JSON and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

impl Entry {
    /// Makes the entry of a route, with the targets of the entry before where they are the same.
    pub(super) fn new(
        key: RouteKey,
        state: RouteState,
        before: Option<&Self>,
        balance: Balance,
        reach: &Reach,
        now: u64,
    ) -> Self {
        let targets = || {
            before.into_iter().flat_map(|entry| &entry.members).filter_map(|member| member.target.as_ref())
        };
        let member = |claim: Claim| Member { target: reach.target(&claim, targets(), now), claim };
        let members: Box<[Member]> = state.serving.into_iter().map(member).collect();
        let live: Box<[Live]> = members
            .iter()
            .filter(|member| member.is_live())
            .filter_map(|member| {
                let (target, record) = (member.target.as_ref()?, member.claim.record());
                let strip = record.strip && *target.way() == Way::Direct;
                let is_fixed = member.claim.is_fixed();
                Some(Live { target: Arc::clone(target), strip, is_fixed, weight: record.weight })
            })
            .collect();
        let weights: Vec<u16> = live.iter().map(|live| live.weight).collect();
        let rotation = Rotation::new(&weights, before.map(|before| &before.rotation));
        let name = match before {
            Some(before) => Arc::clone(&before.name),
            None => key.to_string().into(),
        };
        Self { name, key, members, live, balance, rotation }
    }

    /// Returns whether it has a target that gets requests.
    pub(super) fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// Returns what it is at the moment.
    pub(super) fn state(&self) -> EntryState {
        match self.is_live() {
            false => EntryState::Down,
            true if self.members.iter().all(|member| member.claim.is_stale()) => EntryState::Stale,
            true => EntryState::Live,
        }
    }

    /// Returns whether an upstream gets requests by this route.
    pub(super) fn has_upstream(&self, upstream: &Arc<Upstream>) -> bool {
        self.live.iter().any(|live| Arc::ptr_eq(&live.target.upstream, upstream))
    }

    /// Returns whether a target gets requests by this route.
    pub(super) fn has_live(&self, target: &Arc<Target>) -> bool {
        self.live.iter().any(|live| Arc::ptr_eq(&live.target, target))
    }

    /// Returns the targets that get requests, in no particular order.
    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.live.iter().map(|live| &live.target)
    }

    /// Chooses the target of a request, and those that it is sent to instead if it cannot be
    /// reached. Empty if there is none.
    pub(super) fn choose(&self) -> impl Iterator<Item = &Live> {
        let turn = self.rotation.next();
        let first = match self.balance {
            Balance::RoundRobin => turn,
            Balance::LeastConnections if self.live.len() > 1 => {
                let loads: Vec<(u64, u16)> =
                    self.live.iter().map(|live| (live.target.load(), live.weight)).collect();
                least_loaded(&loads, turn.unwrap_or_default())
            }
            Balance::LeastConnections => turn,
        };
        let (before, from) = self.live.split_at(first.unwrap_or_default());
        from.iter().chain(before).take(1 + Destination::OTHERS)
    }
}
