#![forbid(unsafe_code)]
//! [`Directory`]: which records serve which route.
//!
//! ```text
//!   Update ──► what each source has announced ──► who speaks for each node ──► claims of each route
//!              (admitted or refused)               (the closest source)         (owner, replicas, losers)
//! ```
//!
//! What is kept of a source depends on its own updates alone, and all else is computed from that.
//! So the order of the updates of different sources does not matter, and gateways with the same
//! records agree. (Two things remember the past: of records over a limit those that came first
//! stay, and a route that once had records stays known.)

mod claim;
mod index;
mod source;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dockline::routes::RouteKey;

use self::claim::Speaker;
pub use self::claim::{Claim, Loser, RouteState};
use self::index::Index;
use self::source::{Announced, ByNode, Gateway, Judge, NodeState, Owned, Room, SourceState, Usage};
use crate::address::AddressPolicy;
use crate::record::{Node, NodeName, Record, RecordId, Text};
use crate::update::{Change, Source, Unrouted, Update};

/// How far a source is trusted. If several announce a node, the first in this order speaks for it:
/// its records count, and those of the others do not. (The operator's own routes count always.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// It is the operator's own file: its targets may have any address, also by name, and it has
    /// each route that it claims.
    Operator,
    /// It is a daemon that this process watches: what its containers say is not trusted, what it
    /// says of them is.
    Daemon,
    /// It is another machine, or a registry that other machines write to.
    Remote,
}

/// The nodes whose containers may share a route with those of other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedNodes {
    /// All that are announced.
    All,
    /// These.
    Only(BTreeSet<NodeName>),
}

impl Default for TrustedNodes {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl TrustedNodes {
    fn contains(&self, node: &NodeName) -> bool {
        match self {
            Self::All => true,
            Self::Only(nodes) => nodes.contains(node),
        }
    }
}

/// How much a [`Directory`] keeps. What is over a limit is refused, with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of one owner.
    pub owner: usize,
    /// Records of one node, and owners without a route.
    pub node: usize,
    /// Records of all nodes, and owners without a route.
    pub total: usize,
    /// Nodes of one source.
    pub nodes: usize,
    /// Routes that nobody has any more.
    pub known: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { owner: 256, node: 20_000, total: 100_000, nodes: 1000, known: 10_000 }
    }
}

/// The options of a [`Directory`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DirectoryOptions {
    /// How far the sources are trusted; one that is not named is [`Trust::Remote`].
    pub trust: HashMap<Source, Trust>,
    /// The nodes whose containers may share a route with those of other nodes.
    pub trusted_nodes: TrustedNodes,
    /// The addresses that records may have.
    pub addresses: AddressPolicy,
    /// How much is kept.
    pub limits: Limits,
}

impl DirectoryOptions {
    fn trust(&self, source: &Source) -> Trust {
        self.trust.get(source).copied().unwrap_or(Trust::Remote)
    }
}

/// What a [`Directory`] says of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceStatus<'d> {
    /// Its name.
    pub name: &'d Source,
    /// Why it cannot be reached; `None` if it can.
    pub stale: Option<&'d Text>,
    /// How many nodes it has announced.
    pub nodes: usize,
    /// How many records it has announced, without those over a limit.
    pub records: usize,
}

/// Who speaks for the nodes. The operator's own routes are apart: they hide no containers of a node
/// that has the same name.
#[derive(Debug, Default)]
struct Speakers {
    fixed: HashMap<NodeName, Arc<Speaker>>,
    others: HashMap<NodeName, Arc<Speaker>>,
}

impl Speakers {
    fn of(&self, trust: Trust) -> &HashMap<NodeName, Arc<Speaker>> {
        if trust == Trust::Operator { &self.fixed } else { &self.others }
    }

    fn of_mut(&mut self, trust: Trust) -> &mut HashMap<NodeName, Arc<Speaker>> {
        if trust == Trust::Operator { &mut self.fixed } else { &mut self.others }
    }

    /// Returns a source of that trust, if it speaks for a node.
    fn get(&self, trust: Trust, source: &Source, node: &NodeName) -> Option<&Arc<Speaker>> {
        self.of(trust).get(node).filter(|speaker| speaker.source == *source)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Directory {
    options: DirectoryOptions,
    sources: HashMap<Source, SourceState>,
    speakers: Speakers,
    index: Index,
    usage: Usage,
    refused: u64,
}

impl Directory {
    /// Returns a directory without records.
    #[must_use]
    pub fn new(options: DirectoryOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Applies an update. Returns the keys of the routes whose state has changed, each once, in no
    /// order.
    pub fn apply(&mut self, update: Update) -> Vec<RouteKey> {
        let Update { source, change } = update;
        match change {
            Change::Sync { nodes, records, unrouted } => self.sync(&source, nodes, records, unrouted),
            Change::Owner { owner, records, unrouted } => {
                let RecordId { node, owner, .. } = owner;
                self.set_owner(&source, &node, owner, Announced { records, unrouted });
            }
            Change::Stale(reason) => {
                let state = self.source(&source);
                state.stale = Some(reason);
                let trust = state.trust;
                for node in state.nodes.keys().cloned().collect::<Vec<_>>() {
                    self.choose_speaker(trust, &node);
                }
            }
            Change::Gone => {
                let nodes =
                    self.sources.get(&source).map(|state| state.nodes.keys().cloned().collect::<Vec<_>>());
                for node in nodes.unwrap_or_default() {
                    self.remove_node(&source, &node);
                }
                self.sources.remove(&source);
            }
        }
        self.index.take_changes(self.options.limits.known)
    }

    /// Takes other options; a lower limit applies to what comes, and so do addresses to the
    /// gateways of nodes. Returns the keys of the routes whose state has changed, each once, in no
    /// order.
    pub fn set_options(&mut self, options: DirectoryOptions) -> Vec<RouteKey> {
        let is_trust_changed = self.options.trusted_nodes != options.trusted_nodes;
        self.options = options;
        let mut nodes = BTreeSet::new();
        for (name, state) in &mut self.sources {
            let old_trust = std::mem::replace(&mut state.trust, self.options.trust(name));
            for (node, node_state) in &mut state.nodes {
                nodes.insert(node.clone());
                let speaker = self.speakers.get(old_trust, name, node);
                let judged = node_state.owners.values_mut().flat_map(|owned| &mut owned.records);
                let judge = Judge { node, trust: state.trust, options: &self.options };
                for judged in judged {
                    let refusal = judge.refusal(&judged.record);
                    let claim = speaker.map(|speaker| Claim::new(judged.record.clone(), speaker.clone()));
                    match claim {
                        Some(claim) if judged.refusal.is_none() && refusal.is_some() => {
                            self.index.remove(&claim);
                        }
                        Some(claim) if judged.refusal.is_some() && refusal.is_none() => {
                            self.index.add(claim);
                        }
                        _ => {}
                    }
                    judged.refusal = refusal;
                }
            }
        }
        for node in nodes {
            self.choose_speaker(Trust::Operator, &node);
            self.choose_speaker(Trust::Remote, &node);
        }
        let changed = self.index.take_changes(self.options.limits.known);
        if is_trust_changed { self.index.iter().map(|(key, _)| key.clone()).collect() } else { changed }
    }

    /// Returns the state of a route; `None` if no record has ever claimed it, or so long ago that
    /// it is forgotten.
    #[must_use]
    pub fn route(&self, key: &RouteKey) -> Option<RouteState> {
        self.index.claims(key).map(|claims| RouteState::new(claims, &self.options.trusted_nodes))
    }

    /// Returns all routes, also those that are known and that nobody has now, in no order.
    pub fn routes(&self) -> impl Iterator<Item = (&RouteKey, RouteState)> {
        let trusted = &self.options.trusted_nodes;
        self.index.iter().map(move |(key, claims)| (key, RouteState::new(claims, trusted)))
    }

    /// Returns what has no route, or lacks one, and why, in no order. (Losers of a route are in the
    /// [state](RouteState) of that.)
    pub fn unrouted(&self) -> impl Iterator<Item = Unrouted> {
        self.speakers.fixed.iter().chain(&self.speakers.others).flat_map(|(name, speaker)| {
            let node = self.sources.get(&speaker.source).and_then(|state| state.nodes.get(name));
            let gateway = node.and_then(|node| node.gateway.refusal.as_ref()).map(|refusal| Unrouted {
                owner: RecordId { node: name.clone(), owner: Text::default(), index: 0 },
                title: name.as_str().into(),
                reason: refusal.clone(),
            });
            let owners = node.into_iter().flat_map(move |node| &node.owners);
            let reasons = owners.flat_map(move |(owner, owned)| {
                owned.unrouted().map(move |(title, reason)| Unrouted {
                    owner: RecordId { node: name.clone(), owner: owner.clone(), index: 0 },
                    title: title.clone(),
                    reason: reason.clone(),
                })
            });
            gateway.into_iter().chain(reasons)
        })
    }

    /// Returns the sources, in no order.
    pub fn sources(&self) -> impl Iterator<Item = SourceStatus<'_>> {
        self.sources.iter().map(|(name, state)| SourceStatus {
            name,
            stale: state.stale.as_ref(),
            nodes: state.nodes.len(),
            records: state.nodes.values().map(|node| node.usage.records).sum(),
        })
    }

    /// Returns the admitted records of a source, in no order: what is passed on to others.
    pub fn records(&self, source: &Source) -> impl Iterator<Item = &Arc<Record>> {
        let nodes = self.sources.get(source).into_iter().flat_map(|state| state.nodes.values());
        nodes.flat_map(|node| node.owners.values()).flat_map(Owned::admitted)
    }

    /// Returns how many records were refused so far. One that is refused for a limit counts each
    /// time that it is announced.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn source(&mut self, name: &Source) -> &mut SourceState {
        let trust = self.options.trust(name);
        self.sources.entry(name.clone()).or_insert_with(|| SourceState {
            trust,
            stale: None,
            nodes: Default::default(),
        })
    }

    fn sync(&mut self, source: &Source, mut nodes: Vec<Node>, records: Vec<Record>, unrouted: Vec<Unrouted>) {
        let limit = self.options.limits.nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        nodes.truncate(limit);
        let state = self.source(source);
        state.stale = None;
        let is_announced = |name: &NodeName| nodes.binary_search_by(|node| node.name.cmp(name)).is_ok();
        let gone = state.nodes.keys().filter(|name| !is_announced(name)).cloned().collect::<Vec<_>>();
        for name in &gone {
            self.remove_node(source, name);
        }

        let mut announced = source::group(records, unrouted);
        // What is gone makes room first; what stays comes before what is new.
        for (node, owner) in self.gone(source, &announced) {
            self.set_owner(source, &node, owner, Announced::default());
        }
        for node in &nodes {
            self.announce_node(source, node);
        }
        let mut new = Vec::new();
        for (node, owners) in &mut announced {
            let is_new = |owner: &Text| self.owned(source, node, owner).is_none();
            let (coming, staying): (Vec<_>, Vec<_>) = owners.drain().partition(|(owner, _)| is_new(owner));
            for (owner, announced) in staying {
                self.set_owner(source, node, owner, announced);
            }
            new.extend(
                coming.into_iter().map(|(owner, announced)| (announced.rank(), owner, node, announced)),
            );
        }
        new.sort_by(|(rank, owner, node, _), (other_rank, other, other_node, _)| {
            (rank, owner, node).cmp(&(other_rank, other, other_node))
        });
        for (_, owner, node, announced) in new {
            self.set_owner(source, node, owner, announced);
        }
    }

    fn owned(&self, source: &Source, node: &NodeName, owner: &Text) -> Option<&Owned> {
        self.sources.get(source)?.nodes.get(node)?.owners.get(owner)
    }

    /// Returns the owners that are not announced any more.
    fn gone(&self, source: &Source, announced: &ByNode) -> Vec<(NodeName, Text)> {
        let nodes = self.sources.get(source).into_iter().flat_map(|state| &state.nodes);
        nodes
            .flat_map(|(name, node)| {
                let announced = announced.get(name);
                let is_gone = move |owner: &&Text| !announced.is_some_and(|all| all.contains_key(*owner));
                node.owners.keys().filter(is_gone).map(|owner| (name.clone(), owner.clone()))
            })
            .collect()
    }

    fn announce_node(&mut self, source: &Source, node: &Node) {
        let Some(state) = self.sources.get_mut(source) else { return };
        let trust = state.trust;
        let gateway = Gateway::new(node, trust, &self.options);
        state.nodes.entry(node.name.clone()).or_insert_with(NodeState::default).gateway = gateway;
        self.choose_speaker(trust, &node.name);
    }

    fn remove_node(&mut self, source: &Source, name: &NodeName) {
        let Some(state) = self.sources.get_mut(source) else { return };
        let trust = state.trust;
        let Some(node) = state.nodes.remove(name) else { return };
        for owned in node.owners.values() {
            self.usage.subtract(owned);
        }
        if let Some(speaker) = self.speakers.get(trust, source, name).cloned() {
            for record in node.owners.values().flat_map(Owned::admitted) {
                self.index.remove(&Claim::new(record.clone(), speaker.clone()));
            }
            self.speakers.of_mut(trust).remove(name);
            self.choose_speaker(trust, name);
        }
    }

    /// Sets all of one owner.
    fn set_owner(&mut self, source: &Source, name: &NodeName, owner: Text, announced: Announced) {
        let trust = self.options.trust(source);
        let state = self.sources.get_mut(source);
        let Some(node) = state.and_then(|state| state.nodes.get_mut(name)) else {
            self.refused += u64::try_from(announced.records.len()).unwrap_or(u64::MAX);
            return;
        };
        if node.owners.get(&owner).is_some_and(|old| old.is_all_of(&announced)) {
            return;
        }
        let old = node.owners.remove(&owner).unwrap_or_default();
        self.usage.subtract(&old);
        node.usage.subtract(&old);
        let limits = &self.options.limits;
        let room = Room::new(limits, node.usage.records, self.usage.records);
        let judge = Judge { node: name, trust, options: &self.options };
        let (new, refused) = judge.admit(&owner, announced, &old, &room);
        self.refused += refused;

        if let Some(speaker) = self.speakers.get(trust, source, name) {
            for record in old.admitted().filter(|record| !new.has_admitted(record)) {
                self.index.remove(&Claim::new(record.clone(), speaker.clone()));
            }
            for record in new.admitted().filter(|record| !old.has_admitted(record)) {
                self.index.add(Claim::new(record.clone(), speaker.clone()));
            }
        }
        let room = Room::new(limits, node.usage.unrouted, self.usage.unrouted);
        if !new.records.is_empty() || (new.lacking.is_some() && !room.is_empty()) {
            self.usage.add(&new);
            node.usage.add(&new);
            node.owners.insert(owner, new);
        }
    }

    /// Chooses which source speaks for a node, of the operator's own or of the others, and takes
    /// the claims of that.
    fn choose_speaker(&mut self, trust: Trust, name: &NodeName) {
        let is_fixed = trust == Trust::Operator;
        let announcing = self
            .sources
            .iter()
            .filter(|(_, state)| (state.trust == Trust::Operator) == is_fixed)
            .filter_map(|(source, state)| state.nodes.get(name).map(|node| (source, state, node)));
        let rank = |(source, state, _): &(&Source, &SourceState, &NodeState)| {
            (state.trust, state.stale.is_some(), Source::clone(source))
        };
        let new = announcing.min_by_key(rank).map(|(source, state, node)| Speaker {
            node: Node { name: name.clone(), gateway: node.gateway.address },
            source: source.clone(),
            trust: state.trust,
            is_stale: state.stale.is_some(),
        });
        let speakers = self.speakers.of_mut(trust);
        if speakers.get(name).map(Arc::as_ref) == new.as_ref() {
            return;
        }
        if let Some(speaker) = speakers.remove(name) {
            for record in admitted(&self.sources, &speaker) {
                self.index.remove(&Claim::new(record.clone(), speaker.clone()));
            }
        }
        if let Some(speaker) = new.map(Arc::new) {
            for record in admitted(&self.sources, &speaker) {
                self.index.add(Claim::new(record.clone(), speaker.clone()));
            }
            speakers.insert(name.clone(), speaker);
        }
    }
}

/// Returns the admitted records of a node, as its speaker has announced them.
fn admitted<'s>(
    sources: &'s HashMap<Source, SourceState>,
    speaker: &Speaker,
) -> impl Iterator<Item = &'s Arc<Record>> {
    let node = sources.get(&speaker.source).and_then(|state| state.nodes.get(&speaker.node.name));
    node.into_iter().flat_map(|node| node.owners.values()).flat_map(Owned::admitted)
}
