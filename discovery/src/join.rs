#![forbid(unsafe_code)]
//! Many machines without a store: workers push their records to a front door over mutual TLS.
//! [`FrontDoor`] accepts them, [`Worker`] is the other side.
//!
//! The worker connects and sends lines, each a JSON object: first [`Line::Hello`], then everything
//! that it has, between [`Line::Begin`] and [`Line::End`], then each change, and [`Line::Alive`]
//! every [`ALIVE`] if there is nothing else. The front door sends one line, [`Answer`], when it has
//! taken everything, or when it ends the connection. Whoever reads does not wait longer than
//! [`SILENCE`].
//!
//! A worker speaks for its own node only, which its certificate names. It connects when it knows
//! what it has: a front door may still know that of an earlier process. If the connection ends, its
//! records stay as they are, marked stale, until it is back, or forgotten after a while.

mod connections;
mod front;
mod names;
mod stream;
mod worker;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Node, NodeName, Record, RecordId, Text};
use crate::update::{Change, Source, Unrouted, Update};

pub use connections::{HANDSHAKES, WORKERS};
pub use front::{FrontDoor, Terms};
pub use worker::{FrontAddress, Worker};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// How often a worker sends something.
pub const ALIVE: Duration = Duration::from_secs(5);

/// After this time without a line the other side is taken for lost.
pub const SILENCE: Duration = Duration::from_secs(15);

/// Bytes of a line at most.
pub const LINE_MAX: usize = 64 * 1024;

/// Records of a worker at most.
pub const RECORDS_MAX: usize = 100_000;

/// A line of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Who it is.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Its node. A gateway at an unspecified address is at the address that the worker connects
        /// from.
        node: Node,
    },
    /// All that it has follows.
    Begin,
    /// One of its records.
    Record(Box<Record>),
    /// One of its containers without a route.
    Unrouted(Unrouted),
    /// That was all.
    End,
    /// All of one owner: others of it are gone.
    Owner {
        /// The owner.
        owner: RecordId,
        /// Its records.
        records: Vec<Record>,
        /// Why it has no route, or not all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unrouted: Option<Unrouted>,
    },
    /// It cannot reach its daemon, for this reason.
    Stale(Text),
    /// Nothing has changed.
    Alive,
}

/// What the front door sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All records were taken.
    Joined,
    /// The connection ends, for this reason.
    Refused(Text),
}

/// Why a worker is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A line is longer than [`LINE_MAX`].
    LineTooLong,
    /// A line is not one of this protocol.
    Invalid(Text),
    /// It speaks another version.
    Version(u32),
    /// It says that it is another node than the one that its certificate names.
    NotItsName(NodeName),
    /// It sent a record of another node.
    NotItsRecord(NodeName),
    /// A line came where it does not belong.
    Unexpected,
    /// It has more than [`RECORDS_MAX`] records.
    TooMany,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong => write!(f, "a line is longer than {LINE_MAX} bytes"),
            Self::Invalid(why) => write!(f, "a line cannot be read: {why}"),
            Self::Version(theirs) => write!(
                f,
                "it speaks version {theirs} of the protocol, and this gateway version {VERSION}; upgrade the older one"
            ),
            Self::NotItsName(name) => {
                write!(f, "its certificate does not name the node {name}; issue one with the DNS name {name}")
            }
            Self::NotItsRecord(name) => write!(f, "it sent a record of the node {name}"),
            Self::Unexpected => f.write_str("a line came where it does not belong"),
            Self::TooMany => write!(f, "it has more than {RECORDS_MAX} records"),
        }
    }
}

impl Error for JoinError {}

/// The lines that tell a front door of a change; the first ones of a connection are [`hello`].
#[must_use]
pub fn lines_of(change: Change) -> Vec<Line> {
    match change {
        Change::Sync { records, unrouted, .. } => {
            let records = records.into_iter().map(|record| Line::Record(Box::new(record)));
            let unrouted = unrouted.into_iter().map(Line::Unrouted);
            [Line::Begin].into_iter().chain(records).chain(unrouted).chain([Line::End]).collect()
        }
        Change::Owner { owner, records, unrouted } => vec![Line::Owner { owner, records, unrouted }],
        Change::Stale(why) => vec![Line::Stale(why)],
        Change::Gone => vec![Line::Begin, Line::End],
    }
}

/// Returns the first line of a connection.
#[must_use]
pub fn hello(node: Node) -> Line {
    Line::Hello { version: VERSION, node }
}

/// The front door's side of a connection: turns lines into updates.
#[derive(Debug)]
pub struct Reception {
    names: Vec<String>,
    peer: IpAddr,
    stage: Stage,
    /// Bytes of a line that is not complete.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing came yet.
    New,
    /// Between changes.
    Joined { node: Node, source: Source, synced: bool },
    /// Between `Begin` and `End`.
    Syncing { node: Node, source: Source, records: Vec<Record>, unrouted: Vec<Unrouted> },
}

impl Reception {
    /// Returns the side for a worker at an address whose certificate has these names.
    #[must_use]
    pub fn new(names: Vec<String>, peer: IpAddr) -> Self {
        Self { names, peer, stage: Stage::New, partial: Vec::new() }
    }

    /// Takes bytes of the connection. Returns the updates in them, in order.
    ///
    /// # Errors
    /// If the worker is to be refused. The connection ends then; the updates before the error are
    /// lost, and those of earlier calls stay.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Update>, JoinError> {
        let mut updates = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.partial.len() + line.len() > LINE_MAX {
                return Err(JoinError::LineTooLong);
            }
            let read = if self.partial.is_empty() {
                serde_json::from_slice(line)
            } else {
                self.partial.extend_from_slice(line);
                let read = serde_json::from_slice(&self.partial);
                self.partial.clear();
                read
            };
            let line = read.map_err(|error| JoinError::Invalid(error.to_string().into()))?;
            updates.extend(self.take(line)?);
            bytes = rest;
        }
        if self.partial.len() + bytes.len() > LINE_MAX {
            return Err(JoinError::LineTooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(updates)
    }

    /// Returns the node, once the worker has said who it is.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match &self.stage {
            Stage::New => None,
            Stage::Joined { node, .. } | Stage::Syncing { node, .. } => Some(node),
        }
    }

    /// Returns the source of its updates, once the worker has said who it is.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match &self.stage {
            Stage::New => None,
            Stage::Joined { source, .. } | Stage::Syncing { source, .. } => Some(source),
        }
    }

    /// Returns whether everything that the worker has was taken once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self.stage, Stage::Joined { synced: true, .. })
    }

    /// Returns the update for the end of the connection, if there is something to update.
    #[must_use]
    pub fn ended(&self, why: Text) -> Option<Update> {
        match &self.stage {
            Stage::New => None,
            Stage::Joined { source, .. } | Stage::Syncing { source, .. } => {
                Some(Update { source: Source::clone(source), change: Change::Stale(why) })
            }
        }
    }

    fn take(&mut self, line: Line) -> Result<Option<Update>, JoinError> {
        let stage = std::mem::replace(&mut self.stage, Stage::New);
        let (stage, update) = match (stage, line) {
            (Stage::New, Line::Hello { version, node }) => (self.welcome(version, node)?, None),
            (Stage::Joined { node, source, .. }, Line::Begin) => {
                (Stage::Syncing { node, source, records: Vec::new(), unrouted: Vec::new() }, None)
            }
            (Stage::Syncing { node, source, mut records, unrouted }, Line::Record(record)) => {
                own(&node, &record.id)?;
                if records.len() == RECORDS_MAX {
                    return Err(JoinError::TooMany);
                }
                records.push(*record);
                (Stage::Syncing { node, source, records, unrouted }, None)
            }
            (Stage::Syncing { node, source, records, mut unrouted }, Line::Unrouted(one)) => {
                own(&node, &one.owner)?;
                if unrouted.len() == RECORDS_MAX {
                    return Err(JoinError::TooMany);
                }
                unrouted.push(one);
                (Stage::Syncing { node, source, records, unrouted }, None)
            }
            (Stage::Syncing { node, source, records, unrouted }, Line::End) => {
                let change = Change::Sync { nodes: vec![node.clone()], records, unrouted };
                let update = Update { source: Source::clone(&source), change };
                (Stage::Joined { node, source, synced: true }, Some(update))
            }
            (Stage::Joined { node, source, synced: true }, Line::Owner { owner, records, unrouted }) => {
                let ids = records.iter().map(|record| &record.id);
                for id in ids.chain([&owner]).chain(unrouted.as_ref().map(|one| &one.owner)) {
                    own(&node, id)?;
                    if id.owner != owner.owner {
                        return Err(JoinError::Unexpected);
                    }
                }
                let change = Change::Owner { owner, records, unrouted };
                let update = Update { source: Source::clone(&source), change };
                (Stage::Joined { node, source, synced: true }, Some(update))
            }
            (Stage::Joined { node, source, synced }, Line::Stale(why)) => {
                let update = Update { source: Source::clone(&source), change: Change::Stale(why) };
                (Stage::Joined { node, source, synced }, Some(update))
            }
            (stage @ (Stage::Joined { .. } | Stage::Syncing { .. }), Line::Alive) => (stage, None),
            _ => return Err(JoinError::Unexpected),
        };
        self.stage = stage;
        Ok(update)
    }

    fn welcome(&self, version: u32, mut node: Node) -> Result<Stage, JoinError> {
        if version != VERSION {
            return Err(JoinError::Version(version));
        }
        if !self.names.iter().any(|name| name.eq_ignore_ascii_case(node.name.as_str())) {
            return Err(JoinError::NotItsName(node.name));
        }
        if let Some(gateway) = node.gateway.as_mut().filter(|gateway| gateway.ip().is_unspecified()) {
            gateway.set_ip(self.peer.to_canonical());
        }
        let source = format!("join:{}", node.name).into();
        Ok(Stage::Joined { node, source, synced: false })
    }
}

/// Refuses what another node would have to say.
fn own(node: &Node, id: &RecordId) -> Result<(), JoinError> {
    if id.node == node.name { Ok(()) } else { Err(JoinError::NotItsRecord(id.node.clone())) }
}

#[cfg(test)]
mod tests;
