#![forbid(unsafe_code)]
//! [`Replica`]: the copy of the records in Redis that a reader keeps. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::structured::{
    NODES_MAX, NodeState, Notice, Read, TOTAL_MAX, What, field_of, is_field_of, parse_notice, parse_record,
};
use crate::record::{Node, NodeName, Record, RecordId};
use crate::update::Change;

/// Longer leases are shortened.
const LEASE_MAX: Duration = Duration::from_secs(3600);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// The nodes that this process knows better: it publishes them itself.
    own: BTreeSet<NodeName>,
    nodes: BTreeMap<NodeName, Known>,
    total: usize,
    /// What could not be read since it was taken last.
    skipped: u64,
}

/// What is known of a node.
#[derive(Debug)]
struct Known {
    node: Node,
    instance: Box<str>,
    revision: u64,
    lease: Duration,
    /// When its lease ends, unless it is prolonged.
    until: Instant,
    records: BTreeMap<Box<str>, Record>,
}

/// What a notice asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Reaction {
    /// To tell of these changes, maybe none.
    Changed(Vec<Change>),
    /// To read this node.
    Read(NodeName),
}

impl Replica {
    pub(super) fn new(own: BTreeSet<NodeName>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Returns how many entries could not be read, since it was asked last.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Notes entries that could not be read.
    pub(super) fn skip(&mut self, count: u64) {
        self.skipped = self.skipped.saturating_add(count);
    }

    /// Returns whether the records of a node are of interest.
    pub(super) fn follows(&self, name: &NodeName) -> bool {
        !self.own.contains(name)
    }

    /// Takes the payload of a notice.
    pub(super) fn notice(&mut self, payload: &[u8], now: Instant) -> Reaction {
        let nothing = Reaction::Changed(Vec::new());
        let Some(notice) = parse_notice(payload) else {
            self.skip(1);
            return nothing;
        };
        if !self.follows(&notice.node) {
            return nothing;
        }
        let Notice { node: name, instance, revision, lease, what } = notice;
        let Some(known) = self.nodes.get_mut(&name).filter(|known| known.instance == instance) else {
            return Reaction::Read(name);
        };
        if revision < known.revision {
            // It was on its way while a later state was read.
            return nothing;
        }
        let lease = Duration::from_millis(lease);
        match what {
            What::Alive if revision == known.revision => {
                known.prolong(lease, now);
                nothing
            }
            What::Changed { .. } if revision == known.revision => nothing,
            What::Changed { set, removed } if revision == known.revision + 1 => {
                known.revision = revision;
                known.prolong(lease, now);
                let before = known.records.len();
                let mut owners = BTreeSet::new();
                for field in removed {
                    if let Some(record) = known.records.remove(&field) {
                        owners.insert(owner_of(&record));
                    }
                }
                for record in set {
                    let field = field_of(&record.id);
                    if self.total - before + known.records.len() >= TOTAL_MAX
                        && !known.records.contains_key(&field)
                    {
                        self.skipped += 1;
                        continue;
                    }
                    owners.insert(owner_of(&record));
                    known.records.insert(field, record);
                }
                self.total = self.total - before + known.records.len();
                Reaction::Changed(owners.into_iter().map(|owner| known.owner(owner)).collect())
            }
            What::Gone => {
                // It is not waited for.
                known.until = now;
                Reaction::Read(name)
            }
            What::Alive | What::Changed { .. } | What::Written => Reaction::Read(name),
        }
    }

    /// Takes all nodes, as they were read. Those that are absent stay as long as their lease.
    pub(super) fn resync(&mut self, read: Vec<(NodeName, Read)>, now: Instant) -> Change {
        let mut absent: BTreeSet<NodeName> = self.nodes.keys().cloned().collect();
        for (name, read) in read {
            match read {
                Read::State(state) => {
                    absent.remove(&name);
                    self.take(name, state, now);
                }
                Read::Garbage => self.skip(1),
                Read::Absent => {}
            }
        }
        for name in absent {
            self.expire(&name, now);
        }
        self.sync()
    }

    /// Takes one node, as it was read. Returns what has changed.
    pub(super) fn read(&mut self, name: NodeName, read: Read, now: Instant) -> Option<Change> {
        match read {
            Read::State(state) => self.take(name, state, now),
            Read::Garbage | Read::Absent => {
                self.skip((read == Read::Garbage).into());
                if !self.expire(&name, now) {
                    return None;
                }
            }
        }
        Some(self.sync())
    }

    /// Gives every node the time of a lease: Redis was away, and nobody could write to it.
    pub(super) fn reconnected(&mut self, now: Instant) {
        for known in self.nodes.values_mut() {
            known.prolong(known.lease, now);
        }
    }

    /// Returns the nodes whose lease has ended as far as is known here: it is time to read them.
    pub(super) fn due(&self, now: Instant) -> Vec<NodeName> {
        self.nodes.iter().filter(|(_, known)| known.until <= now).map(|(name, _)| name.clone()).collect()
    }

    fn take(&mut self, name: NodeName, state: NodeState, now: Instant) {
        if !self.follows(&name) {
            return;
        }
        self.skipped += state.left_out;
        let old = self.nodes.get(&name);
        if let Some(old) = old
            && old.instance == state.instance
            && state.revision < old.revision
            && now < old.until
        {
            // A replica that lags has become the master: what is missing will be written again.
            return;
        }
        if old.is_none() && self.nodes.len() >= NODES_MAX {
            self.skipped += 1;
            return;
        }
        let before = old.map_or(0, |old| old.records.len());
        let mut records = BTreeMap::new();
        for (field, value) in state.records {
            let field = String::from_utf8(field).ok();
            let Some(field) = field.filter(|_| self.total - before + records.len() < TOTAL_MAX) else {
                self.skipped += 1;
                continue;
            };
            match parse_record(&name, &field, &value) {
                Some(record) => {
                    records.insert(field.into_boxed_str(), record);
                }
                None => {
                    self.skipped += 1;
                    // What was there before is better than nothing.
                    if let Some((field, record)) = old.and_then(|old| old.records.get_key_value(&*field)) {
                        records.insert(field.clone(), record.clone());
                    }
                }
            }
        }
        self.total = self.total - before + records.len();
        let NodeState { node, instance, revision, lease, left, .. } = state;
        let mut known = Known { node, instance, revision, lease, until: now, records };
        known.prolong(left, now);
        known.lease = lease.min(LEASE_MAX);
        self.nodes.insert(name, known);
    }

    /// Removes a node whose lease has ended. Returns whether it was there.
    fn expire(&mut self, name: &NodeName, now: Instant) -> bool {
        let is_over = self.nodes.get(name).is_some_and(|known| known.until <= now);
        if is_over && let Some(known) = self.nodes.remove(name) {
            self.total -= known.records.len();
        }
        is_over
    }

    fn sync(&self) -> Change {
        let records = self.nodes.values().flat_map(|known| known.records.values()).cloned().collect();
        let nodes = self.nodes.values().map(|known| known.node.clone()).collect();
        Change::Sync { nodes, records, unrouted: Vec::new() }
    }
}

impl Known {
    fn prolong(&mut self, lease: Duration, now: Instant) {
        self.lease = lease.min(LEASE_MAX);
        self.until = now + self.lease;
    }

    fn owner(&self, owner: RecordId) -> Change {
        let from: Box<str> = format!("{}/", owner.owner.raw()).into();
        let range = self.records.range(from.clone()..);
        let records = range
            .take_while(|(field, _)| field.starts_with(&*from))
            .filter(|(field, _)| is_field_of(field, &owner))
            .map(|(_, record)| record.clone())
            .collect();
        Change::Owner { owner, records, unrouted: None }
    }
}

/// Returns the owner of a record: its id with the index 0.
fn owner_of(record: &Record) -> RecordId {
    RecordId { index: 0, ..record.id.clone() }
}

#[cfg(test)]
mod tests;
