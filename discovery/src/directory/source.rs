#![forbid(unsafe_code)]
//! What the sources have announced, and what of it is admitted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{DirectoryOptions, Limits, Trust};
use crate::address::AddressError;
use crate::record::{Node, NodeName, Origin, Record, RecordId, RecordState, Target, Text};
use crate::update::Unrouted;

/// A source.
#[derive(Debug)]
pub(super) struct SourceState {
    pub(super) trust: Trust,
    /// Why it cannot be reached.
    pub(super) stale: Option<Text>,
    pub(super) nodes: BTreeMap<NodeName, NodeState>,
}

/// What a source has announced of a node.
#[derive(Debug, Default)]
pub(super) struct NodeState {
    pub(super) gateway: Gateway,
    pub(super) owners: HashMap<Text, Owned>,
    pub(super) usage: Usage,
}

/// Where the gateway of a node listens.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    pub(super) address: Option<SocketAddr>,
    pub(super) refusal: Option<Text>,
}

impl Gateway {
    pub(super) fn new(node: &Node, trust: Trust, options: &DirectoryOptions) -> Self {
        match node.gateway {
            Some(address) if trust == Trust::Remote => match options.addresses.check(&node.name, address) {
                Ok(address) => Self { address: Some(address), refusal: None },
                Err(error) => {
                    let refusal = format!("the address of its gateway, {address}, {error}");
                    Self { address: None, refusal: Some(refusal.into()) }
                }
            },
            address => Self { address, refusal: None },
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) records: usize,
    /// Owners that have reasons and no records.
    pub(super) unrouted: usize,
}

impl Usage {
    pub(super) fn add(&mut self, owned: &Owned) {
        let usage = owned.usage();
        self.records += usage.records;
        self.unrouted += usage.unrouted;
    }

    pub(super) fn subtract(&mut self, owned: &Owned) {
        let usage = owned.usage();
        self.records -= usage.records;
        self.unrouted -= usage.unrouted;
    }
}

/// What a source says of an owner.
#[derive(Debug, Default)]
pub(super) struct Announced {
    pub(super) records: Vec<Record>,
    pub(super) unrouted: Option<Unrouted>,
}

impl Announced {
    /// Returns what says who gets room first: those that run, and of them that which was created
    /// first.
    pub(super) fn rank(&self) -> (bool, Option<u64>) {
        let is_stopped = self.records.iter().all(|record| record.state == RecordState::Stopped);
        (is_stopped, self.records.iter().map(|record| record.created).min())
    }
}

/// What a source says of all owners.
pub(super) type ByNode = HashMap<NodeName, HashMap<Text, Announced>>;

pub(super) fn group(records: Vec<Record>, unrouted: Vec<Unrouted>) -> ByNode {
    fn of<'m>(all: &'m mut ByNode, id: &RecordId) -> &'m mut Announced {
        // Most owners have one record.
        let empty = || Announced { records: Vec::with_capacity(1), unrouted: None };
        all.entry(id.node.clone()).or_default().entry(id.owner.clone()).or_insert_with(empty)
    }
    let mut all = ByNode::new();
    for record in records {
        of(&mut all, &record.id).records.push(record);
    }
    for unrouted in unrouted {
        let announced = of(&mut all, &unrouted.owner);
        announced.unrouted = Some(unrouted);
    }
    all
}

/// What is kept of an owner. It is small: there are many.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// In the order of their index.
    pub(super) records: Box<[Judged]>,
    /// Why it has not all routes that it wants, besides what was refused.
    pub(super) lacking: Option<Box<Lacking>>,
}

/// Why an owner has not all routes that it wants.
#[derive(Debug)]
pub(super) struct Lacking {
    title: Text,
    reasons: Vec<Text>,
}

/// A record, and why it is refused.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: Arc<Record>,
    pub(super) refusal: Option<Box<Text>>,
}

impl Owned {
    fn usage(&self) -> Usage {
        let is_unrouted = self.records.is_empty() && self.lacking.is_some();
        Usage { records: self.records.len(), unrouted: is_unrouted.into() }
    }

    /// Returns whether this is all that was announced. It may be so although it is not returned.
    pub(super) fn is_all_of(&self, announced: &Announced) -> bool {
        let is_same_lacking = match (&self.lacking, &announced.unrouted) {
            (None, None) => true,
            (Some(own), Some(other)) => own.title == other.title && own.reasons.iter().eq([&other.reason]),
            _ => false,
        };
        is_same_lacking
            && self.records.len() == announced.records.len()
            && self.records.iter().zip(&announced.records).all(|(own, other)| *own.record == *other)
    }

    /// Returns the records that are not refused.
    pub(super) fn admitted(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter().filter(|judged| judged.refusal.is_none()).map(|judged| &judged.record)
    }

    pub(super) fn has_admitted(&self, record: &Arc<Record>) -> bool {
        self.admitted().any(|own| Arc::ptr_eq(own, record))
    }

    /// Returns why it has not all routes that it wants, each with the name of the container.
    pub(super) fn unrouted(&self) -> impl Iterator<Item = (&Text, &Text)> {
        let lacking = self.lacking.iter();
        let lacking =
            lacking.flat_map(|lacking| lacking.reasons.iter().map(|reason| (&lacking.title, reason)));
        let refused = self.records.iter();
        lacking.chain(
            refused.filter_map(|judged| judged.refusal.as_deref().map(|why| (&judged.record.title, why))),
        )
    }
}

/// What a source may still have.
pub(super) struct Room {
    node: usize,
    total: usize,
}

impl Room {
    pub(super) fn new(limits: &Limits, node: usize, total: usize) -> Self {
        Self { node: limits.node.saturating_sub(node), total: limits.total.saturating_sub(total) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.node == 0 || self.total == 0
    }
}

/// What decides whether a record is admitted.
pub(super) struct Judge<'d> {
    pub(super) node: &'d NodeName,
    pub(super) trust: Trust,
    pub(super) options: &'d DirectoryOptions,
}

impl Judge<'_> {
    /// Returns what is kept of an owner, and how many of its records are refused that were not
    /// before.
    pub(super) fn admit(&self, owner: &Text, announced: Announced, old: &Owned, room: &Room) -> (Owned, u64) {
        let Announced { mut records, unrouted } = announced;
        let count = records.len();
        records.retain(|record| record.id.node == *self.node && record.id.owner == *owner);
        records.sort_by_key(|record| record.id.index);
        records.dedup_by_key(|record| record.id.index);

        let mut lacking =
            unrouted.map(|unrouted| Lacking { title: unrouted.title, reasons: vec![unrouted.reason] });
        let limits = &self.options.limits;
        for (limit, room, whose) in [
            (limits.owner, limits.owner, "a container"),
            (limits.node, room.node, "a node"),
            (limits.total, room.total, "all nodes together"),
        ] {
            if let Some(over) = records.len().checked_sub(room).filter(|over| *over > 0) {
                let reason = format!("{over} of its routes are refused: the limit for {whose} is {limit}");
                let title = || records[0].title.clone();
                let lacking = lacking.get_or_insert_with(|| Lacking { title: title(), reasons: Vec::new() });
                lacking.reasons.push(reason.into());
                records.truncate(room);
            }
        }
        let mut refused = count - records.len();

        let judged = records.into_iter().map(|record| {
            let (record, refusal) = self.judge(record);
            match old.records.iter().find(|known| *known.record == record) {
                Some(known) => Judged { record: known.record.clone(), refusal },
                None => {
                    refused += usize::from(refusal.is_some());
                    Judged { record: Arc::new(record), refusal }
                }
            }
        });
        let owned = Owned { records: judged.collect(), lacking: lacking.map(Box::new) };
        (owned, u64::try_from(refused).unwrap_or(u64::MAX))
    }

    /// Returns the record as it is used, and why it is refused.
    fn judge(&self, mut record: Record) -> (Record, Option<Box<Text>>) {
        let refusal = self.refusal(&record);
        if let Some(Target { address: Origin::Ip(address), .. }) = &mut record.target {
            address.set_ip(address.ip().to_canonical());
        }
        (record, refusal)
    }

    /// Returns why a record is refused.
    pub(super) fn refusal(&self, record: &Record) -> Option<Box<Text>> {
        let reason = match &record.target {
            Some(target) => self.refuse_address(&target.address).or_else(|| refuse_version(target)),
            None => None,
        };
        let reason = reason.or_else(|| {
            let is_weight = (1..=1000).contains(&record.weight);
            (!is_weight).then(|| format!("its weight {} is not from 1 to 1000", record.weight))
        });
        reason.map(|reason| Box::new(reason.into()))
    }

    fn refuse_address(&self, address: &Origin) -> Option<String> {
        let error = match address {
            _ if self.trust == Trust::Operator => return None,
            Origin::Ip(address) => self.options.addresses.check(self.node, *address).err()?,
            Origin::Host(..) => AddressError::Name,
        };
        Some(format!("its target {address} {error}: only a fixed route of the configuration may have that"))
    }
}

fn refuse_version(target: &Target) -> Option<String> {
    let is_version = matches!(target.proxy_protocol, None | Some(1 | 2));
    (!is_version).then(|| "its version of the PROXY protocol is neither 1 nor 2".into())
}
