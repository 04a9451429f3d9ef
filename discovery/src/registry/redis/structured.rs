#![forbid(unsafe_code)]
//! The structured layout: keys, scripts and notices. docs/REGISTRY.md describes it for others.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{ConnectionLike, RedisResult, Script};
use serde::{Deserialize, Serialize};

use crate::record::{Node, NodeName, Record, RecordId};

/// Bytes of a record in Redis at most.
pub const RECORD_MAX: usize = 16 * 1024;

/// Records of a node at most.
pub const RECORDS_MAX: usize = 10_000;

/// Nodes at most.
pub const NODES_MAX: usize = 1000;

/// Records of all nodes at most.
pub const TOTAL_MAX: usize = 100_000;

/// Bytes of a notice at most. If there is more to say, readers are asked to read everything.
pub(super) const NOTICE_MAX: usize = 256 * 1024;

/// The sorted set of the names of nodes; a score is when the lease ends, in ms since 1970. The hash
/// tag puts all keys on one server of a cluster.
pub(super) const NODES: &str = "{dockline}:nodes";

/// The channel of the notices.
pub(super) const CHANNEL: &str = "dockline:changes";

/// Returns the key of the hash with the records of a node.
pub(super) fn key_of(node: &NodeName) -> String {
    format!("{{dockline}}:node:{node}")
}

/// Returns the field of a record within that hash: owner, `/`, index. No other fields have a `/`.
pub(super) fn field_of(id: &RecordId) -> Box<str> {
    format!("{}/{}", id.owner.raw(), id.index).into()
}

/// Returns whether a field is of one of this owner's records.
pub(super) fn is_field_of(field: &str, owner: &RecordId) -> bool {
    field.rsplit_once('/').is_some_and(|(text, _)| text == owner.owner.raw())
}

/// Returns the record of a field; `None` if it is not one, or one of somebody else.
pub(super) fn parse_record(node: &NodeName, field: &str, value: &[u8]) -> Option<Record> {
    if value.len() > RECORD_MAX {
        return None;
    }
    let record: Record = serde_json::from_slice(value).ok()?;
    is_acceptable(node, field, &record).then_some(record)
}

/// Whether it may have its target and so on is for the directory to say, with the reason.
fn is_acceptable(node: &NodeName, field: &str, record: &Record) -> bool {
    record.id.node == *node && *field_of(&record.id) == *field
}

/// What is said on the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// The node whose records have changed.
    pub(super) node: NodeName,
    /// The process that has written them.
    pub(super) instance: Box<str>,
    /// How many changes it has made.
    pub(super) revision: u64,
    /// How long the records stay without another notice, in ms.
    pub(super) lease: u64,
    /// What has happened.
    pub(super) what: What,
}

/// What has happened to the records of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Nothing; the node lives.
    Alive,
    /// These records, and fields of others that are gone.
    Changed { set: Vec<Record>, removed: Vec<Box<str>> },
    /// Much: read it.
    Written,
    /// The node has none any more.
    Gone,
}

/// Returns the notice on a payload; `None` if it is not one.
pub(super) fn parse_notice(payload: &[u8]) -> Option<Notice> {
    if payload.len() > NOTICE_MAX {
        return None;
    }
    let notice: Notice = serde_json::from_slice(payload).ok()?;
    let is_sound = match &notice.what {
        What::Changed { set, .. } => {
            set.iter().all(|record| is_acceptable(&notice.node, &field_of(&record.id), record))
        }
        _ => true,
    };
    is_sound.then_some(notice)
}

/// The records of a node, as Redis has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeState {
    pub(super) node: Node,
    pub(super) instance: Box<str>,
    pub(super) revision: u64,
    /// How long it stays without a sign of life.
    pub(super) lease: Duration,
    /// How long it still stays.
    pub(super) left: Duration,
    /// Fields and values.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many more there are.
    pub(super) left_out: u64,
}

/// Returns the names of the nodes, and how many entries are none.
pub(super) fn read_names(connection: &mut dyn ConnectionLike) -> RedisResult<(Vec<NodeName>, usize)> {
    let found: Vec<Vec<u8>> = redis::cmd("ZRANGE").arg(NODES).arg(0).arg(NODES_MAX - 1).query(connection)?;
    let all = found.len();
    let name = |bytes: Vec<u8>| String::from_utf8(bytes).ok()?.parse().ok();
    let names: Vec<NodeName> = found.into_iter().filter_map(name).collect();
    let garbage = all - names.len();
    Ok((names, garbage))
}

/// What Redis has for a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    /// These records.
    State(NodeState),
    /// Nothing.
    Absent,
    /// Something that cannot be read.
    Garbage,
}

/// Reads the records of a node.
pub(super) fn read_node(connection: &mut dyn ConnectionLike, name: &NodeName) -> RedisResult<Read> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));
    let found: Vec<Vec<u8>> = SCRIPT.key(key_of(name)).arg(RECORDS_MAX).arg(RECORD_MAX).invoke(connection)?;
    if found.is_empty() {
        return Ok(Read::Absent);
    }
    Ok(parse_state(name, found).map_or(Read::Garbage, Read::State))
}

fn parse_state(name: &NodeName, found: Vec<Vec<u8>>) -> Option<NodeState> {
    fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
    let mut found = found.into_iter();
    // A hash without expiry (-1) is not one of ours.
    let left = Duration::from_millis(number(&found.next()?)?);
    let lease = Duration::from_millis(number(&found.next()?)?);
    let instance = String::from_utf8(found.next()?).ok()?.into();
    let revision = number(&found.next()?)?;
    let node: Node = serde_json::from_slice(&found.next()?).ok().filter(|node: &Node| node.name == *name)?;
    let left_out = number(&found.next()?)?;
    let mut records = Vec::new();
    while let (Some(field), Some(value)) = (found.next(), found.next()) {
        records.push((field, value));
    }
    Some(NodeState { node, instance, revision, lease, left, records, left_out })
}

/// How much is written, and on which condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// What has changed, if it is ours.
    Keep,
    /// Everything, if no other process has the node.
    Claim,
    /// Everything.
    Take,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// What Redis has is not what we have written last.
    Lost,
    /// Another process has the node.
    Held,
}

/// A write to the records of a node.
pub(super) struct Write<'a> {
    pub(super) node: &'a Node,
    pub(super) instance: &'a str,
    pub(super) mode: Mode,
    pub(super) lease: Duration,
    /// The revision that Redis has, and the next one.
    pub(super) revisions: (u64, u64),
    pub(super) set: &'a [(Box<str>, String)],
    pub(super) removed: &'a [Box<str>],
    /// A [`Notice`].
    pub(super) notice: &'a str,
}

impl Write<'_> {
    /// Performs it.
    pub(super) fn perform(&self, connection: &mut dyn ConnectionLike) -> RedisResult<Outcome> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("write.lua")));
        let node = serde_json::to_string(self.node).unwrap_or_default();
        let mode = match self.mode {
            Mode::Keep => "keep",
            Mode::Claim => "claim",
            Mode::Take => "take",
        };
        let mut call = SCRIPT.key(NODES);
        call.key(key_of(&self.node.name)).arg(self.node.name.as_str()).arg(self.instance).arg(mode);
        call.arg(millis(self.lease)).arg(CHANNEL).arg(self.notice);
        call.arg(self.revisions.0).arg(self.revisions.1).arg(node).arg(self.set.len());
        for (field, value) in self.set {
            call.arg(&**field).arg(value);
        }
        for field in self.removed {
            call.arg(&**field);
        }
        Ok(match call.invoke(connection)? {
            1 => Outcome::Written,
            -1 => Outcome::Held,
            _ => Outcome::Lost,
        })
    }
}

/// Removes the records of a node, if this instance has written them.
pub(super) fn withdraw(
    connection: &mut dyn ConnectionLike,
    node: &NodeName,
    instance: &str,
    notice: &str,
) -> RedisResult<()> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("withdraw.lua")));
    let mut call = SCRIPT.key(NODES);
    call.key(key_of(node)).arg(node.as_str()).arg(instance).arg(CHANNEL).arg(notice);
    call.invoke(connection)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
