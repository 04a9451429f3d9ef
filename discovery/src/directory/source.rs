#![forbid(unsafe_code)]
//! What the sources have announced, and what of it is admitted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{DirectoryOptions, Limits, Trust};
use crate::address::AddressError;
use crate::record::{Node, NodeName, Origin, Record, RecordId, Text};
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

/// What is kept of an owner.
#[derive(Debug, Default)]
pub(super) struct Owned {
    pub(super) title: Text,
    /// In the order of their index.
    pub(super) records: Vec<Judged>,
    /// Why it has not all routes that it wants, besides what was refused.
    pub(super) reasons: Vec<Text>,
}

/// A record, and why it is refused.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: Arc<Record>,
    pub(super) refusal: Option<Text>,
}

impl Owned {
    fn usage(&self) -> Usage {
        let is_unrouted = self.records.is_empty() && !self.reasons.is_empty();
        Usage { records: self.records.len(), unrouted: is_unrouted.into() }
    }

    /// Returns the records that are not refused.
    pub(super) fn admitted(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.iter().filter(|judged| judged.refusal.is_none()).map(|judged| &judged.record)
    }

    pub(super) fn has_admitted(&self, record: &Arc<Record>) -> bool {
        self.admitted().any(|own| Arc::ptr_eq(own, record))
    }

    /// Returns why it has not all routes that it wants.
    pub(super) fn unrouted(&self) -> impl Iterator<Item = &Text> {
        self.reasons.iter().chain(self.records.iter().filter_map(|judged| judged.refusal.as_ref()))
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

/// Returns what is kept of an owner, and how many of its records are refused that were not before.
pub(super) fn admit(
    id: &RecordId,
    announced: Announced,
    old: &Owned,
    room: &Room,
    trust: Trust,
    options: &DirectoryOptions,
) -> (Owned, u64) {
    let Announced { mut records, unrouted } = announced;
    let title =
        unrouted.as_ref().map(|unrouted| &unrouted.title).or(records.first().map(|first| &first.title));
    let mut owned = Owned { title: title.cloned().unwrap_or_default(), ..Owned::default() };
    owned.reasons.extend(unrouted.map(|unrouted| unrouted.reason));

    let announced = records.len();
    records.retain(|record| record.id.node == id.node && record.id.owner == id.owner);
    records.sort_by_key(|record| record.id.index);
    records.dedup_by_key(|record| record.id.index);
    let limits = &options.limits;
    for (limit, room, whose) in [
        (limits.owner, limits.owner, "a container"),
        (limits.node, room.node, "a node"),
        (limits.total, room.total, "all nodes together"),
    ] {
        if let Some(over) = records.len().checked_sub(room).filter(|over| *over > 0) {
            let reason = format!("{over} of its routes are refused: the limit for {whose} is {limit}");
            owned.reasons.push(reason.into());
            records.truncate(room);
        }
    }
    let mut refused = announced - records.len();

    for record in records {
        let judged = judge(record, trust, options);
        let known = old.records.iter().find(|known| known.record == judged.record);
        let record = known.map_or(judged.record, |known| known.record.clone());
        refused += usize::from(judged.refusal.is_some() && known.is_none());
        owned.records.push(Judged { record, refusal: judged.refusal });
    }
    (owned, u64::try_from(refused).unwrap_or(u64::MAX))
}

fn judge(mut record: Record, trust: Trust, options: &DirectoryOptions) -> Judged {
    let address = record.target.as_mut().map(|target| &mut target.address);
    let refusal = match address {
        Some(address) if trust != Trust::Operator => match check_address(&record.id.node, address, options) {
            Ok(canonical) => {
                *address = canonical;
                None
            }
            Err(error) => Some(refused_address(address, error)),
        },
        _ => None,
    };
    let refusal = refusal.or_else(|| check_numbers(&record));
    Judged { record: Arc::new(record), refusal }
}

/// Returns why a record that was judged before is refused now.
pub(super) fn judge_again(record: &Record, trust: Trust, options: &DirectoryOptions) -> Option<Text> {
    let address = record.target.as_ref().map(|target| &target.address);
    match address {
        Some(address) if trust != Trust::Operator => check_address(&record.id.node, address, options)
            .err()
            .map(|error| refused_address(address, error)),
        _ => None,
    }
    .or_else(|| check_numbers(record))
}

fn check_address(
    node: &NodeName,
    address: &Origin,
    options: &DirectoryOptions,
) -> Result<Origin, AddressError> {
    match address {
        Origin::Ip(address) => options.addresses.check(node, *address).map(Origin::Ip),
        Origin::Host(..) => Err(AddressError::Name),
    }
}

fn refused_address(address: &Origin, error: AddressError) -> Text {
    format!("its target {address} {error}: only a fixed route of the configuration may have that").into()
}

fn check_numbers(record: &Record) -> Option<Text> {
    let version = record.target.as_ref().and_then(|target| target.proxy_protocol);
    if !(1..=1000).contains(&record.weight) {
        Some(format!("its weight {} is not from 1 to 1000", record.weight).into())
    } else if !matches!(version, None | Some(1 | 2)) {
        Some("its version of the PROXY protocol is neither 1 nor 2".into())
    } else {
        None
    }
}
