#![forbid(unsafe_code)]
//! [`Connections`]: who is connected to a front door.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use super::JoinError;
use crate::update::Source;

/// Workers that may be connected.
pub const WORKERS: usize = 256;

/// Clients that may be in their handshake. One more ends the oldest of them: those who have a
/// certificate are there for milliseconds only, whatever others do.
pub const HANDSHAKES: usize = 64;

/// Why a front door ends a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are [`WORKERS`] already.
    Full,
    /// The worker has connected again.
    Superseded,
    /// What it says is refused.
    Refused(JoinError),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "there are {WORKERS} workers already"),
            Self::Superseded => f.write_str("another process has joined as this node since"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Error for Verdict {}

impl From<Verdict> for io::Error {
    fn from(verdict: Verdict) -> Self {
        Self::other(verdict)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// By their numbers, which count up.
    open: BTreeMap<usize, Connection>,
    next: usize,
    /// The workers that have no connection any more, and when they are forgotten.
    lost: BTreeMap<Source, Option<Instant>>,
    is_paused: bool,
    is_stopped: bool,
}

#[derive(Debug)]
struct Connection {
    /// To end it from another thread.
    socket: TcpStream,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Handshake,
    /// It has a certificate.
    Verified,
    /// It has said who it is.
    Worker(Source),
    /// That worker has a later connection.
    Superseded,
}

impl Connection {
    fn end(&self, how: Shutdown) {
        // It may have ended by itself.
        let _ = self.socket.shutdown(how);
    }
}

impl Connections {
    /// Adds a connection, and returns its number; `None`: there are no connections now.
    pub(super) fn begin(&mut self, socket: TcpStream) -> Option<usize> {
        if self.is_paused || self.is_stopped {
            return None;
        }
        let mut handshakes = self.open.iter().filter(|(_, open)| open.stage == Stage::Handshake);
        let oldest = handshakes.next().map(|(number, _)| *number);
        if handshakes.count() + 1 >= HANDSHAKES
            && let Some(oldest) = oldest.and_then(|oldest| self.open.remove(&oldest))
        {
            oldest.end(Shutdown::Both);
        }
        self.next += 1;
        self.open.insert(self.next, Connection { socket, stage: Stage::Handshake });
        Some(self.next)
    }

    /// Notes that a client has shown its certificate. Returns whether there is room for it.
    pub(super) fn verified(&mut self, number: usize) -> bool {
        let others = self.open.values().filter(|open| open.stage != Stage::Handshake).count();
        let Some(connection) = self.open.get_mut(&number).filter(|_| others < WORKERS) else { return false };
        connection.stage = Stage::Verified;
        true
    }

    /// Notes which worker a connection is of. Older ones, whose end was not noticed yet, have
    /// nothing more to say.
    pub(super) fn introduce(&mut self, number: usize, source: &Source) {
        self.lost.remove(source);
        let is_same = |stage: &Stage| *stage == Stage::Worker(Source::clone(source));
        let is_latest = !self.open.range(number + 1..).any(|(_, open)| is_same(&open.stage));
        for (_, older) in self.open.range_mut(..number).filter(|(_, open)| is_same(&open.stage)) {
            older.stage = Stage::Superseded;
            // It can still be told why.
            older.end(Shutdown::Read);
        }
        if let Some(connection) = self.open.get_mut(&number) {
            connection.stage =
                if is_latest { Stage::Worker(Source::clone(source)) } else { Stage::Superseded };
        }
    }

    /// Returns whether the worker of a connection has a later one.
    pub(super) fn is_superseded(&self, number: usize) -> bool {
        self.open.get(&number).is_some_and(|open| open.stage == Stage::Superseded)
    }

    /// Removes a connection. Its worker is forgotten at `due` if it does not come back.
    pub(super) fn end(&mut self, number: usize, due: Option<Instant>) {
        if let Some(Connection { stage: Stage::Worker(source), .. }) = self.open.remove(&number) {
            self.lost.insert(source, due);
        }
    }

    /// Returns when the next worker is forgotten.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lost.values().flatten().min().copied()
    }

    /// Takes the workers that are forgotten now.
    pub(super) fn take_forgotten(&mut self, now: Instant) -> Vec<Source> {
        let is_due = |due: &Option<Instant>| due.is_some_and(|due| due <= now);
        let due = self.lost.iter().filter(|(_, due)| is_due(due));
        let due: Vec<Source> = due.map(|(source, _)| Source::clone(source)).collect();
        self.lost.retain(|_, due| !is_due(due));
        due
    }

    /// Takes all workers, connected or not, to forget them.
    pub(super) fn take_all(&mut self) -> Vec<Source> {
        let of_connection = |open: &Connection| match &open.stage {
            Stage::Worker(source) => Some(Source::clone(source)),
            _ => None,
        };
        let lost = std::mem::take(&mut self.lost).into_keys();
        lost.chain(self.open.values().filter_map(of_connection)).collect()
    }

    /// Ends all connections; there will be no others until [`resume`](Self::resume).
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
        self.open.values().for_each(|open| open.end(Shutdown::Both));
    }

    pub(super) fn resume(&mut self) {
        self.is_paused = false;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Ends all connections; there will be no others.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        self.open.values().for_each(|open| open.end(Shutdown::Both));
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

#[cfg(test)]
mod tests;
