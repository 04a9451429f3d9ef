#![forbid(unsafe_code)]
//! [`Outgoing`]: the records to publish, and which of them are not published yet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::structured::{RECORD_MAX, RECORDS_MAX, field_of, is_field_of};
use crate::record::{Node, NodeName, Record, RecordId};
use crate::update::{Change, Source, Update};

/// The latest state of each record, and no queue of changes: however long Redis is away, it grows
/// with the number of records only.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    nodes: BTreeMap<NodeName, Announced>,
    /// The nodes that are gone, until it is published.
    gone: BTreeSet<NodeName>,
}

#[derive(Debug)]
struct Announced {
    node: Node,
    source: Source,
    records: BTreeMap<Box<str>, (Source, Record)>,
    changed: BTreeSet<Box<str>>,
    whole: bool,
    /// How many records were too many when they were taken last.
    left_out: usize,
}

/// What to publish of a node.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) node: Node,
    /// Whether these are all records of the node.
    pub(super) whole: bool,
    pub(super) set: Vec<Record>,
    pub(super) removed: Vec<Box<str>>,
    /// How many records are more than a node may have.
    pub(super) left_out: usize,
}

impl Batch {
    /// Returns whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        !self.whole && self.set.is_empty() && self.removed.is_empty()
    }
}

impl Outgoing {
    /// Takes an update of a source of this machine. What a source knows last stays if it is stale.
    pub(super) fn apply(&mut self, update: Update) {
        let source = update.source;
        match update.change {
            Change::Sync { nodes, records, .. } => self.sync(&source, nodes, records),
            Change::Owner { owner, records, .. } => self.owner(&source, &owner, records),
            Change::Stale(_) => {}
            Change::Gone => self.sync(&source, Vec::new(), Vec::new()),
        }
    }

    fn sync(&mut self, source: &Source, nodes: Vec<Node>, records: Vec<Record>) {
        let mut by_node: BTreeMap<NodeName, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_node.entry(record.id.node.clone()).or_default().push(record);
        }
        let is_there =
            |name: &NodeName| by_node.contains_key(name) || nodes.iter().any(|node| node.name == *name);
        let lost = self.nodes.iter().filter(|(name, known)| known.source == *source && !is_there(name));
        let lost: Vec<NodeName> = lost.map(|(name, _)| name.clone()).collect();
        for name in lost {
            self.nodes.remove(&name);
            self.gone.insert(name);
        }
        for node in nodes {
            by_node.entry(node.name.clone()).or_default();
            let announced = self.node(source, &node.name);
            announced.whole |= announced.node != node;
            announced.node = node;
        }
        for (name, records) in by_node {
            self.node(source, &name).replace(source, records, |_| true);
        }
    }

    fn owner(&mut self, source: &Source, owner: &RecordId, records: Vec<Record>) {
        let records = records.into_iter().filter(|record| record.id.node == owner.node).collect();
        self.node(source, &owner.node).replace(source, records, |field| is_field_of(field, owner));
    }

    /// Returns a node, which may be new: a manager speaks for many.
    fn node(&mut self, source: &Source, name: &NodeName) -> &mut Announced {
        self.gone.remove(name);
        self.nodes.entry(name.clone()).or_insert_with(|| Announced {
            node: Node { name: name.clone(), gateway: None },
            source: source.clone(),
            records: BTreeMap::new(),
            changed: BTreeSet::new(),
            whole: true,
            left_out: 0,
        })
    }

    /// Takes what has changed, of each node, also of those where nothing has.
    pub(super) fn take(&mut self) -> Vec<Batch> {
        self.nodes.values_mut().map(Announced::take).collect()
    }

    /// Takes the nodes that are gone.
    pub(super) fn take_gone(&mut self) -> BTreeSet<NodeName> {
        mem::take(&mut self.gone)
    }

    /// Notes that a node is gone and that it is not published.
    pub(super) fn put_gone(&mut self, name: NodeName) {
        if !self.nodes.contains_key(&name) {
            self.gone.insert(name);
        }
    }

    /// Notes that the records of a node have to be published as a whole.
    pub(super) fn restart(&mut self, node: &NodeName) {
        if let Some(announced) = self.nodes.get_mut(node) {
            announced.whole = true;
        }
    }

    /// Notes that nothing is known to be published.
    pub(super) fn restart_all(&mut self) {
        self.nodes.values_mut().for_each(|announced| announced.whole = true);
    }

    /// Returns whether something is to be published.
    pub(super) fn is_fresh(&self) -> bool {
        let is_changed = |announced: &Announced| announced.whole || !announced.changed.is_empty();
        !self.gone.is_empty() || self.nodes.values().any(is_changed)
    }

    /// Returns all records, with their nodes.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Node, &Record)> {
        self.nodes.values().flat_map(|Announced { node, records, .. }| {
            records.values().map(move |(_, record)| (node, record))
        })
    }
}

impl Announced {
    /// Replaces the records of a source whose field is one of these.
    fn replace(&mut self, source: &Source, records: Vec<Record>, is_one: impl Fn(&str) -> bool) {
        let new: BTreeMap<Box<str>, Record> =
            records.into_iter().map(|record| (field_of(&record.id), record)).collect();
        let known = self.records.iter();
        let lost =
            known.filter(|(field, (from, _))| from == source && is_one(field) && !new.contains_key(*field));
        let lost: Vec<Box<str>> = lost.map(|(field, _)| field.clone()).collect();
        for field in lost {
            self.records.remove(&field);
            self.changed.insert(field);
        }
        for (field, record) in new {
            if self.records.get(&field).is_none_or(|(_, known)| *known != record) {
                self.records.insert(field.clone(), (source.clone(), record));
                self.changed.insert(field);
            }
        }
    }

    fn take(&mut self) -> Batch {
        let changed = mem::take(&mut self.changed);
        let left_out = self.records.len().saturating_sub(RECORDS_MAX);
        // With too many records, which ones are published may change with each of them.
        let is_over = mem::replace(&mut self.left_out, left_out) + left_out > 0;
        let whole = mem::take(&mut self.whole) || (is_over && !changed.is_empty());
        let node = self.node.clone();
        if whole {
            let set = self.records.values().take(RECORDS_MAX).map(|(_, record)| record.clone()).collect();
            return Batch { node, whole, set, removed: Vec::new(), left_out };
        }
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for field in changed {
            match self.records.get(&field) {
                Some((_, record)) => set.push(record.clone()),
                None => removed.push(field),
            }
        }
        Batch { node, whole, set, removed, left_out }
    }
}

/// Returns the value of a record; `None` if it is too long to be published.
pub(super) fn value_of(record: &Record) -> Option<String> {
    serde_json::to_string(record).ok().filter(|text| text.len() <= RECORD_MAX)
}

#[cfg(test)]
mod tests;
