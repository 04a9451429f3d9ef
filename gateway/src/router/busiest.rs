#![forbid(unsafe_code)]
//! [`Busiest`]: what each target has got, for the metrics.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use dockline::engine::InFlight;
use dockline::routes::RouteTable;

use super::entry::{Entry, Member};

/// A target in metrics: its route, its node and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetName {
    pub(crate) route: Arc<str>,
    pub(crate) node: String,
    pub(crate) target: String,
}

/// What a target has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetCounts {
    /// Requests whose first choice it was.
    pub(crate) requests: u64,
    pub(crate) in_flight: InFlight,
}

/// The targets with the most requests. Names of containers are labels of the metrics, and anybody
/// who may start containers can have as many as he wants.
#[derive(Debug, Default)]
pub(crate) struct Busiest {
    /// In the order of their names.
    pub(crate) targets: Vec<(TargetName, TargetCounts)>,
    /// How many there are besides.
    pub(crate) others: usize,
}

impl Busiest {
    /// Takes at most `most` targets of a table.
    pub(super) fn of(table: &RouteTable<Arc<Entry>>, most: usize) -> Self {
        let mut all: BTreeMap<TargetName, TargetCounts> = BTreeMap::new();
        for (_, entry) in table.iter() {
            for (name, counts) in entry.members.iter().filter_map(|member| counts(entry, member)) {
                // Not every daemon has each name once.
                let sum = all.entry(name).or_default();
                sum.requests += counts.requests;
                sum.in_flight.requests += counts.in_flight.requests;
                sum.in_flight.tunnels += counts.in_flight.tunnels;
            }
        }
        let mut targets: Vec<_> = all.into_iter().collect();
        let others = targets.len().saturating_sub(most);
        if others > 0 {
            targets.sort_by_key(|(_, counts)| Reverse(counts.requests));
            targets.truncate(most);
            targets.sort_by(|(name, _), (other, _)| name.cmp(other));
        }
        Self { targets, others }
    }
}

fn counts(entry: &Entry, member: &Member) -> Option<(TargetName, TargetCounts)> {
    let target = member.target.as_ref()?;
    let record = member.claim.record();
    // A container gets another address with each start, and a fixed target has no other name.
    let name = match &record.target {
        Some(fixed) if member.claim.is_fixed() => fixed.address.to_string(),
        _ => record.title.to_string(),
    };
    let name = TargetName { route: Arc::clone(&entry.name), node: record.id.node.to_string(), target: name };
    Some((name, TargetCounts { requests: target.requests(), in_flight: target.upstream.in_flight() }))
}
