#![forbid(unsafe_code)]
//! [`Outbox`]: what other machines have to be told of the records of this one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Node, Record, RecordId, Text};
use crate::update::{Change, Source, Unrouted, Update};

/// The records of the local sources, and which of them a receiver does not know yet. It holds the
/// latest state of each owner and no queue of changes, so that a receiver that is away for long
/// costs nothing.
#[derive(Debug)]
pub struct Outbox {
    node: Node,
    sources: BTreeMap<Source, Known>,
    /// The owners that have changed since they were taken.
    changed: BTreeSet<RecordId>,
    /// Whether everything is to be sent, because the receiver has nothing, or takes it for stale.
    whole: bool,
    /// Why a source became stale, until it is taken.
    stale: Option<Text>,
}

/// What a source has said last.
#[derive(Debug, Default)]
struct Known {
    owners: BTreeMap<RecordId, Owned>,
    stale: bool,
    /// Whether it has said once what it has.
    is_complete: bool,
}

/// All of one owner.
#[derive(Debug, Default, PartialEq)]
struct Owned {
    records: Vec<Record>,
    unrouted: Option<Unrouted>,
}

/// Returns the owner of a record: its id with the index 0.
fn owner_of(id: &RecordId) -> RecordId {
    RecordId { index: 0, ..id.clone() }
}

impl Outbox {
    /// Makes an outbox for the records of a node.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self { node, sources: BTreeMap::new(), changed: BTreeSet::new(), whole: true, stale: None }
    }

    /// Takes an update of a local source. What it says of other nodes is left out: nobody speaks
    /// for them here.
    pub fn apply(&mut self, update: Update) {
        let known = self.sources.entry(update.source).or_default();
        match update.change {
            Change::Owner { owner, .. } if owner.node != self.node.name => {}
            Change::Sync { mut records, mut unrouted, .. } => {
                records.retain(|record| record.id.node == self.node.name);
                unrouted.retain(|one| one.owner.node == self.node.name);
                known.is_complete = true;
                // The receiver may take all records for stale; only a whole account ends that.
                self.whole |= std::mem::take(&mut known.stale);
                let mut owners: BTreeMap<RecordId, Owned> = BTreeMap::new();
                for record in records {
                    owners.entry(owner_of(&record.id)).or_default().records.push(record);
                }
                for one in unrouted {
                    let owned = owners.entry(owner_of(&one.owner)).or_default();
                    owned.unrouted = Some(one);
                }
                let before = std::mem::replace(&mut known.owners, owners);
                let is_new = |id: &&RecordId| before.get(*id) != known.owners.get(*id);
                self.changed.extend(before.keys().chain(known.owners.keys()).filter(is_new).cloned());
            }
            Change::Owner { owner, records, unrouted } => {
                let owned = Owned { records, unrouted };
                if known.owners.get(&owner) == Some(&owned) {
                    return;
                }
                if owned == Owned::default() {
                    known.owners.remove(&owner);
                } else {
                    known.owners.insert(owner.clone(), owned);
                }
                self.changed.insert(owner);
            }
            Change::Stale(why) => {
                known.stale = true;
                self.stale = Some(why);
            }
            Change::Gone => {
                let before = std::mem::take(known);
                self.changed.extend(before.owners.into_keys());
            }
        }
    }

    /// Notes that the receiver has nothing (any more): the next changes are everything.
    pub fn restart(&mut self) {
        self.whole = true;
    }

    /// Returns whether the sources have said once what they have. Before that, everything would be
    /// less than there is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sources.values().any(|known| known.is_complete)
    }

    /// Returns whether there is something to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.changed.is_empty() && self.stale.is_none()
    }

    /// Takes what the receiver does not know.
    pub fn take(&mut self) -> Vec<Change> {
        let stale = self.stale.take().filter(|_| self.sources.values().any(|known| known.stale));
        let stale = stale.map(Change::Stale);
        if std::mem::take(&mut self.whole) {
            self.changed.clear();
            let owned = || self.sources.values().flat_map(|known| known.owners.values());
            let sync = Change::Sync {
                nodes: vec![self.node.clone()],
                records: owned().flat_map(|owned| &owned.records).cloned().collect(),
                unrouted: owned().filter_map(|owned| owned.unrouted.clone()).collect(),
            };
            return [sync].into_iter().chain(stale).collect();
        }
        let changed = std::mem::take(&mut self.changed);
        let owners = changed.into_iter().map(|owner| {
            let owned = self.sources.values().find_map(|known| known.owners.get(&owner));
            let records = owned.map_or_else(Vec::new, |owned| owned.records.clone());
            let unrouted = owned.and_then(|owned| owned.unrouted.clone());
            Change::Owner { owner, records, unrouted }
        });
        owners.chain(stale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(Node { name: "one".parse().unwrap(), gateway: None });
        outbox.take();
        outbox
    }

    fn apply(outbox: &mut Outbox, source: &str, change: Change) {
        outbox.apply(Update { source: source.into(), change });
    }

    fn sync(records: Vec<Record>) -> Change {
        let nodes = vec![Node { name: "one".parse().unwrap(), gateway: None }];
        Change::Sync { nodes, records, unrouted: vec![] }
    }

    fn owner(record: &Record) -> Change {
        Change::Owner { owner: record.id.clone(), records: vec![record.clone()], unrouted: None }
    }

    fn gone(record: &Record) -> Change {
        Change::Owner { owner: record.id.clone(), records: vec![], unrouted: None }
    }

    #[test]
    fn a_receiver_that_is_new_gets_everything() {
        let mut outbox = Outbox::new(Node { name: "one".parse().unwrap(), gateway: None });
        assert_eq!(outbox.take(), [sync(vec![])]);
        let (a, b) = (record("a"), record("b"));
        apply(&mut outbox, "d1", sync(vec![a.clone()]));
        apply(&mut outbox, "d2", owner(&b));
        outbox.restart();
        assert_eq!(outbox.take(), [sync(vec![a, b])]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn it_is_complete_when_a_source_has_said_everything() {
        let mut outbox = outbox();
        assert!(!outbox.is_complete());
        apply(&mut outbox, "d", Change::Stale("not there".into()));
        apply(&mut outbox, "d", owner(&record("a")));
        assert!(!outbox.is_complete());
        apply(&mut outbox, "d", sync(vec![]));
        apply(&mut outbox, "d", Change::Stale("gone".into()));
        assert!(outbox.is_complete(), "what it had is known");
    }

    #[test]
    fn what_is_said_of_other_nodes_is_left_out() {
        let mut outbox = outbox();
        let (own, mut other) = (record("a"), record("b"));
        other.id.node = "two".parse().unwrap();
        apply(&mut outbox, "d", sync(vec![own.clone(), other.clone()]));
        assert_eq!(outbox.take(), [owner(&own)]);
        apply(&mut outbox, "d", owner(&other));
        assert!(outbox.is_empty());
    }

    #[test]
    fn only_what_has_changed_is_sent_and_only_its_last_state() {
        let mut outbox = outbox();
        let (a, b) = (record("a"), record("b"));
        apply(&mut outbox, "d", sync(vec![a.clone(), b.clone()]));
        assert_eq!(outbox.take(), [owner(&a), owner(&b)]);
        apply(&mut outbox, "d", sync(vec![a.clone(), b.clone()]));
        apply(&mut outbox, "d", owner(&a));
        assert!(outbox.is_empty());
        let newer = Record { started: 9, ..a.clone() };
        for _ in 0..1000 {
            apply(&mut outbox, "d", gone(&a));
            apply(&mut outbox, "d", owner(&newer));
        }
        apply(&mut outbox, "d", sync(vec![newer.clone()]));
        assert_eq!(outbox.take(), [owner(&newer), gone(&b)]);
        apply(&mut outbox, "d", Change::Gone);
        assert_eq!(outbox.take(), [gone(&newer)]);
    }

    #[test]
    fn what_was_stale_is_sent_whole_again() {
        let mut outbox = outbox();
        let a = record("a");
        apply(&mut outbox, "d", sync(vec![a.clone()]));
        outbox.take();
        apply(&mut outbox, "d", Change::Stale("gone".into()));
        assert_eq!(outbox.take(), [Change::Stale("gone".into())]);
        apply(&mut outbox, "d", sync(vec![a.clone()]));
        assert_eq!(outbox.take(), [sync(vec![a.clone()])]);
        apply(&mut outbox, "d", Change::Stale("gone".into()));
        apply(&mut outbox, "d", sync(vec![a.clone()]));
        assert_eq!(outbox.take(), [sync(vec![a.clone()])], "it was stale, and is not any more");
        apply(&mut outbox, "d", Change::Stale("gone".into()));
        outbox.restart();
        assert_eq!(outbox.take(), [sync(vec![a]), Change::Stale("gone".into())]);
    }
}
