#![forbid(unsafe_code)]
//! [`RouteState`]: who serves a route, and who does not although it claims it.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Trust, TrustedNodes};
use crate::record::{Node, Record, RecordState, Text, excerpt};
use crate::update::Source;

/// Who speaks for a node: one of the sources that announce it.
#[derive(Debug, PartialEq)]
pub(super) struct Speaker {
    pub(super) node: Node,
    pub(super) source: Source,
    pub(super) trust: Trust,
    pub(super) is_stale: bool,
}

/// A record, with where it comes from.
#[derive(Clone, Debug)]
pub struct Claim {
    record: Arc<Record>,
    speaker: Arc<Speaker>,
}

/// Equal if a router has nothing to do when one takes the place of the other.
impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        let is_same_speaker = Arc::ptr_eq(&self.speaker, &other.speaker)
            || (self.speaker.node.gateway == other.speaker.node.gateway
                && self.speaker.is_stale == other.speaker.is_stale
                && self.is_fixed() == other.is_fixed());
        is_same_speaker && (Arc::ptr_eq(&self.record, &other.record) || self.record == other.record)
    }
}

impl Claim {
    pub(super) fn new(record: Arc<Record>, speaker: Arc<Speaker>) -> Self {
        Self { record, speaker }
    }

    /// Returns the record.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Returns where the gateway of its node listens, for a target that cannot be reached directly.
    #[must_use]
    pub fn gateway(&self) -> Option<SocketAddr> {
        self.speaker.node.gateway
    }

    /// Returns the source of the record.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.speaker.source
    }

    /// Returns whether its source cannot be reached: it may have changed since.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.speaker.is_stale
    }

    /// Returns whether it is a route of the operator's own.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.speaker.trust == Trust::Operator
    }

    /// Returns whether it only makes the route known.
    fn is_stopped(&self) -> bool {
        self.record.state == RecordState::Stopped && !self.is_fixed()
    }

    /// Returns which of two claims comes first. It is computed from the records alone, so that all
    /// gateways agree.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let rank = |claim: &Self| (!claim.is_fixed(), claim.is_stopped(), claim.record.created);
        let (id, other_id) = (&self.record.id, &other.record.id);
        rank(self)
            .cmp(&rank(other))
            .then_with(|| id.owner.cmp(&other_id.owner))
            .then_with(|| id.node.cmp(&other_id.node))
            .then_with(|| id.index.cmp(&other_id.index))
    }

    /// Returns whether it may serve the same route as its owner.
    fn shares(&self, owner: &Self, trusted: &TrustedNodes) -> bool {
        let (id, owner_id) = (&self.record.id, &owner.record.id);
        let is_same_node = id.node == owner_id.node;
        let may_share = is_same_node || (trusted.contains(&id.node) && trusted.contains(&owner_id.node));
        let is_replica = self.record.service.is_some() && self.record.service == owner.record.service;
        let is_same_owner = is_same_node && id.owner == owner_id.owner;
        self.is_fixed() == owner.is_fixed() && (is_same_owner || (is_replica && may_share))
    }
}

/// A claim of a route that another has.
#[derive(Clone, Debug, PartialEq)]
pub struct Loser {
    /// The claim.
    pub claim: Claim,
    /// Who has the route, and what to do about it.
    pub reason: Text,
}

/// Who serves a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteState {
    /// The owner, and its replicas. Empty: the route is known, and nobody has it now.
    pub serving: Vec<Claim>,
    /// Who wants it too.
    pub losers: Vec<Loser>,
}

/// Returns those of a route's claims that matter, which are given in the order of their precedence:
/// of stopped ones, which there may be thousands of, one at most, and that only if there is no
/// other.
pub(super) fn contenders(claims: &[Claim]) -> &[Claim] {
    let running = claims.partition_point(|claim| !claim.is_stopped());
    &claims[..claims.len().min(running.max(1))]
}

impl RouteState {
    /// Returns the state of a route whose claims are given in the order of their precedence.
    pub(super) fn new(claims: &[Claim], trusted: &TrustedNodes) -> Self {
        let Some(owner) = claims.first() else {
            return Self::default();
        };
        let mut state = Self::default();
        for claim in contenders(claims) {
            if claim.shares(owner, trusted) {
                state.serving.push(claim.clone());
            } else {
                let reason = why_lost(claim, owner);
                state.losers.push(Loser { claim: claim.clone(), reason });
            }
        }
        state
    }
}

fn why_lost(claim: &Claim, owner: &Claim) -> Text {
    let (record, other) = (&claim.record, &owner.record);
    let key = &record.key;
    if owner.is_fixed() {
        return format!("`{key}` is a fixed route of the configuration: choose another name").into();
    }
    let title = excerpt(other.title.raw());
    let is_replica = record.service.is_some() && record.service == other.service;
    if is_replica {
        let (node, other_node) = (&record.id.node, &other.id.node);
        return format!(
            "`{title}` on {other_node} has this route, and may share it with {node} only if the operator trusts both nodes"
        )
        .into();
    }
    format!(
        "`{title}` on {} has this route, since it was created earlier: choose another name, or give both the same `dockline.service`",
        other.id.node
    )
    .into()
}
