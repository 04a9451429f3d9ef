#![forbid(unsafe_code)]
//! [`Update`]: what a source says of its records.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::{Node, Record, RecordId, Text};

/// Who sends updates, unique in a process: `docker:unix:///var/run/docker.sock`, `redis`,
/// `join:worker-1`, `file`.
pub type Source = Arc<str>;

/// A change at a source. Updates of one source are applied in the order in which they were sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Who sends it.
    pub source: Source,
    /// What has changed.
    pub change: Change,
}

/// What has changed at a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// These are all records, and all that has no route: others of the source are gone.
    Sync {
        /// The nodes whose records these are. Of other nodes the source has no say, in later
        /// updates neither, until another `Sync` announces them.
        nodes: Vec<Node>,
        /// The records.
        records: Vec<Record>,
        /// What has no route, and why.
        unrouted: Vec<Unrouted>,
    },
    /// This is all of one owner (one container): others of it are gone.
    Owner {
        /// The node and the owner; the index is 0.
        owner: RecordId,
        /// Its records.
        records: Vec<Record>,
        /// Why it has no route, or not all of them.
        unrouted: Option<Unrouted>,
    },
    /// The source cannot be reached: its records stay as they are, marked stale. A `Sync` ends it.
    Stale(Text),
    /// The source is gone for good, and its records with it.
    Gone,
}

/// A container that has no route, or lacks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrouted {
    /// The node and the container.
    pub owner: RecordId,
    /// Its name, for people.
    pub title: Text,
    /// Why, and what to do next; one line.
    pub reason: Text,
}
