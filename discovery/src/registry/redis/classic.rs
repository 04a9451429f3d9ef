#![forbid(unsafe_code)]
//! The classic layout: for each name a string with the address of its target, which a few lines of
//! Lua in nginx read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use dockline::routes::{HostPattern, PathPrefix, RouteKey};
use redis::{ConnectionLike, RedisResult, Script};

use super::structured::{TOTAL_MAX, millis};
use crate::record::{Drain, Lifecycle, Node, NodeName, Origin, Record, RecordId, RecordState, Target, Text};
use crate::view::View;

/// Names that are asked for in one command.
const BATCH: usize = 1000;

/// Bytes of an address at most: those of an IPv6 address with a scope, and a port.
const VALUE_MAX: usize = 64;

/// Returns the key of the hash of what a node has written, by name.
pub(super) fn ledger_of(node: &NodeName) -> String {
    format!("{{dockline}}:classic:{node}")
}

/// Returns the names and addresses for these readers. A name that several records have goes to that
/// of the earliest container, as everywhere; paths and TLS cannot be expressed and are left out.
pub(super) fn names<'a>(
    view: &View,
    records: impl Iterator<Item = (&'a Node, &'a Record)>,
) -> BTreeMap<Box<str>, String> {
    let mut owners: BTreeMap<Box<str>, (&Record, SocketAddr)> = BTreeMap::new();
    for (node, record) in records {
        let HostPattern::Name(name) = &record.key.host else { continue };
        let is_served = record.key.path.is_root() && record.live_target().is_some();
        let Some(way) = view.way(record, node.gateway).filter(|_| is_served) else { continue };
        let is_earlier =
            |(other, _): &(&Record, _)| (record.created, &record.id) < (other.created, &other.id);
        if owners.get(name).is_none_or(is_earlier) {
            owners.insert(name.clone(), (record, way.address));
        }
    }
    owners.into_iter().map(|(name, (_, address))| (name, address.to_string())).collect()
}

/// What the names are to be, and what is known to be written. Pure.
#[derive(Debug, Default)]
pub(super) struct Names {
    wanted: BTreeMap<Box<str>, String>,
    written: BTreeMap<Box<str>, String>,
    /// The names that something else has written.
    held: BTreeSet<Box<str>>,
    /// Whether it is not known what is written.
    unknown: bool,
}

/// A write of names.
#[derive(Debug, PartialEq)]
pub(super) struct NamesWrite {
    /// Whether these are all.
    pub(super) whole: bool,
    pub(super) set: Vec<(Box<str>, String)>,
    pub(super) removed: Vec<Box<str>>,
}

impl Names {
    pub(super) fn want(&mut self, wanted: BTreeMap<Box<str>, String>) {
        self.wanted = wanted;
    }

    /// Notes that it is not known any more what is written.
    pub(super) fn restart(&mut self) {
        self.unknown = true;
    }

    /// Returns whether a name is known to be written.
    pub(super) fn has_written(&self) -> bool {
        !self.written.is_empty() && !self.unknown
    }

    /// Returns what to write: everything from time to time, so that nothing expires, else what has
    /// changed, and what something else may have let go. `None`: nothing.
    pub(super) fn next(&self, refresh: bool) -> Option<NamesWrite> {
        if refresh || self.unknown {
            let set = self.wanted.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            return Some(NamesWrite { whole: true, set, removed: Vec::new() });
        }
        let set = self.wanted.iter().filter(|(name, value)| self.written.get(*name) != Some(*value));
        let set: Vec<_> = set.map(|(name, value)| (name.clone(), value.clone())).collect();
        let removed = self.written.keys().filter(|name| !self.wanted.contains_key(*name));
        let removed: Vec<_> = removed.cloned().collect();
        (!set.is_empty() || !removed.is_empty()).then_some(NamesWrite { whole: false, set, removed })
    }

    /// Takes what came of it: the names that something else has written. Returns those that it has
    /// not had before.
    pub(super) fn done(&mut self, write: NamesWrite, held: Vec<Box<str>>) -> Vec<Box<str>> {
        let held: BTreeSet<Box<str>> = held.into_iter().collect();
        if write.whole {
            self.unknown = false;
            self.written.clear();
        }
        for name in &write.removed {
            self.written.remove(name);
        }
        for (name, value) in write.set {
            if held.contains(&name) {
                self.written.remove(&name);
            } else {
                self.written.insert(name, value);
            }
        }
        let new = held.difference(&self.held).cloned().collect();
        self.held = held;
        new
    }
}

impl NamesWrite {
    /// Performs it. Returns the names that something else has written.
    pub(super) fn perform(
        &self,
        connection: &mut dyn ConnectionLike,
        node: &NodeName,
        lease: Duration,
    ) -> RedisResult<Vec<Box<str>>> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("classic.lua")));
        let mut call = SCRIPT.key(ledger_of(node));
        call.arg(millis(lease)).arg(u8::from(self.whole)).arg(self.set.len());
        for (name, value) in &self.set {
            call.arg(&**name).arg(value);
        }
        for name in &self.removed {
            call.arg(&**name);
        }
        let held: Vec<String> = call.invoke(connection)?;
        Ok(held.into_iter().map(String::into_boxed_str).collect())
    }
}

/// Reads all names. Returns their records, and how many keys are not names with an address.
pub(super) fn read(connection: &mut dyn ConnectionLike, node: &NodeName) -> RedisResult<(Vec<Record>, u64)> {
    let mut keys: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut cursor = 0;
    let mut skipped = 0;
    loop {
        let (next, found): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .cursor_arg(cursor)
            .arg("COUNT")
            .arg(BATCH)
            .arg("TYPE")
            .arg("string")
            .query(connection)?;
        for key in found {
            if keys.len() < TOTAL_MAX {
                keys.insert(key);
            } else {
                skipped += 1;
            }
        }
        cursor = next;
        if cursor == 0 || skipped > 0 {
            break;
        }
    }
    let keys: Vec<Vec<u8>> = keys.into_iter().collect();
    let mut records = Vec::new();
    for batch in keys.chunks(BATCH) {
        let mut beginnings = redis::pipe();
        for key in batch {
            beginnings.cmd("GETRANGE").arg(key).arg(0).arg(VALUE_MAX);
        }
        let values: Vec<Vec<u8>> = beginnings.query(connection)?;
        for (key, value) in batch.iter().zip(values) {
            match record(node, key, &value) {
                Some(record) => records.push(record),
                None => skipped += 1,
            }
        }
    }
    Ok((records, skipped))
}

fn record(node: &NodeName, key: &[u8], value: &[u8]) -> Option<Record> {
    let name = std::str::from_utf8(key).ok()?;
    let host = HostPattern::name(name).ok()?;
    let address = std::str::from_utf8(value).ok().filter(|value| value.len() <= VALUE_MAX)?.parse().ok()?;
    Some(Record {
        id: RecordId { node: node.clone(), owner: name.into(), index: 0 },
        title: Text::from(name),
        started: 0,
        created: 0,
        key: RouteKey { host, path: PathPrefix::root() },
        strip: false,
        service: None,
        target: Some(Target { address: Origin::Ip(address), tls: false, proxy_protocol: None }),
        state: RecordState::Live,
        weight: 1,
        drain: Drain::default(),
        lifecycle: Lifecycle::default(),
    })
}

#[cfg(test)]
mod tests;
