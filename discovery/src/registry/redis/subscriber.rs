#![forbid(unsafe_code)]
//! [`Subscriber`]: reads the records of other machines from Redis, and follows their changes.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use dockline::untrusted::Line;
use log::{info, warn};
use redis::{Connection, ErrorKind, PubSub, RedisResult};

use super::address::{Address, TlsFiles};
use super::connection::{Connector, REPLY};
use super::replica::{Reaction, Replica};
use super::structured::{CHANNEL, Read, read_names, read_node};
use super::{BACKOFF, classic, next_backoff};
use crate::now;
use crate::record::{Node, NodeName, Record, Text};
use crate::update::{Change, Source, Update};

/// The longest wait for a notice, before leases and the end are looked at.
const TICK: Duration = Duration::from_millis(500);

/// After this time without a notice the server is asked for a sign of life.
const QUIET: Duration = Duration::from_secs(5);

/// How often everything is read, although nothing seems to be missing.
const RESYNC: Duration = Duration::from_secs(60);

/// How often the names of the classic layout are read: nothing tells of their changes.
const POLL: Duration = Duration::from_secs(1);

/// Which layout is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The structured one, without the records of these nodes, which this process publishes itself.
    Structured(BTreeSet<NodeName>),
    /// The classic one, as records of a node of this name.
    Classic(NodeName),
}

/// What is read.
#[derive(Clone, Debug)]
pub struct SubscriberConfig {
    /// Where.
    pub address: Address,
    /// The certificates for TLS.
    pub tls: TlsFiles,
    /// In which layout.
    pub layout: Layout,
    /// The name of this source.
    pub source: Source,
}

/// Follows the records, on a thread of its own. When it is dropped the thread ends.
#[derive(Debug)]
pub struct Subscriber {
    _alive: Sender<()>,
}

impl Subscriber {
    /// Starts the thread, which calls `sink` with each update, until that returns `false`.
    ///
    /// # Errors
    /// If there cannot be a thread.
    pub fn start(
        config: SubscriberConfig,
        sink: impl FnMut(Update) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (alive, ended) = channel();
        let SubscriberConfig { address, tls, layout, source } = config;
        let mut worker = Worker {
            connector: Connector::new(address, tls),
            source,
            sink,
            ended,
            trouble: None,
            is_stale: false,
        };
        thread::Builder::new().name("redis-read".into()).spawn(move || match layout {
            Layout::Structured(own) => {
                let mut replica = Replica::new(own);
                worker.run(|worker| worker.follow(&mut replica));
            }
            Layout::Classic(node) => {
                let mut last = None;
                worker.run(|worker| worker.poll(&node, &mut last));
            }
        })?;
        Ok(Self { _alive: alive })
    }
}

/// Why a connection is not used any longer.
enum End {
    /// Nobody wants the updates any more.
    Stopped,
    /// Redis cannot be reached.
    Failed(redis::RedisError),
}

impl From<redis::RedisError> for End {
    fn from(error: redis::RedisError) -> Self {
        Self::Failed(error)
    }
}

struct Worker<S> {
    connector: Connector,
    source: Source,
    sink: S,
    /// Disconnected at the end.
    ended: Receiver<()>,
    /// The last wait, while Redis cannot be reached.
    trouble: Option<Duration>,
    is_stale: bool,
}

impl<S: FnMut(Update) -> bool> Worker<S> {
    /// Connects again and again.
    fn run(&mut self, mut session: impl FnMut(&mut Self) -> Result<(), End>) {
        while let Err(End::Failed(error)) = session(self) {
            if !self.is_stale {
                self.is_stale = true;
                let address = self.connector.address();
                warn!("{address}: routes cannot be read: {}; the last known ones go on", Line(&error));
                let why = Text::from(format!("{address}: {error}"));
                if self.send(Change::Stale(why)).is_err() {
                    return;
                }
            }
            let wait = self.trouble.map_or(BACKOFF.0, next_backoff);
            self.trouble = Some(wait);
            if self.ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn send(&mut self, change: Change) -> Result<(), End> {
        let source = self.source.clone();
        if (self.sink)(Update { source, change }) { Ok(()) } else { Err(End::Stopped) }
    }

    fn send_sync(&mut self, change: Change) -> Result<(), End> {
        self.trouble = None;
        if std::mem::take(&mut self.is_stale) {
            info!("{}: routes are read again", self.connector.address());
        }
        self.send(change)
    }

    /// Reads everything, and then follows the notices, as long as the connections last.
    fn follow(&mut self, replica: &mut Replica) -> Result<(), End> {
        let mut listening = self.connector.connect()?;
        let mut reading = self.connector.connect()?;
        let mut notices = listening.as_pubsub();
        notices.subscribe(CHANNEL)?;
        notices.set_read_timeout(Some(TICK))?;
        replica.reconnected(now());
        self.resync(replica, &mut reading)?;
        let (mut heard, mut synced, mut looked) = (now(), now(), now());
        loop {
            if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
                return Err(End::Stopped);
            }
            match notices.get_message() {
                Ok(message) => {
                    heard = now();
                    self.take(replica, &mut reading, message.get_payload_bytes())?;
                }
                Err(error) if error.is_timeout() => {}
                Err(error) => return Err(error.into()),
            }
            let at = now();
            if at.duration_since(heard) >= QUIET {
                ask(&mut notices)?;
                heard = now();
            }
            if at.duration_since(synced) >= RESYNC {
                self.resync(replica, &mut reading)?;
                synced = now();
            } else if at.duration_since(looked) >= TICK {
                self.expire(replica, &mut reading, at)?;
                looked = at;
            }
        }
    }

    fn take(&mut self, replica: &mut Replica, reading: &mut Connection, payload: &[u8]) -> Result<(), End> {
        match replica.notice(payload, now()) {
            Reaction::Changed(changes) => changes.into_iter().try_for_each(|change| self.send(change)),
            Reaction::Read(name) => self.read(replica, reading, name),
        }
    }

    fn read(&mut self, replica: &mut Replica, reading: &mut Connection, name: NodeName) -> Result<(), End> {
        let read = read_node(reading, &name)?;
        match replica.read(name, read, now()) {
            Some(change) => self.send(change),
            None => Ok(()),
        }
    }

    fn resync(&mut self, replica: &mut Replica, reading: &mut Connection) -> Result<(), End> {
        let (names, garbage) = read_names(reading)?;
        replica.skip(u64::try_from(garbage).unwrap_or(u64::MAX));
        let names = names.into_iter().filter(|name| replica.follows(name));
        let read: Vec<(NodeName, Read)> =
            names.map(|name| Ok((name.clone(), read_node(reading, &name)?))).collect::<RedisResult<_>>()?;
        let change = replica.resync(read, now());
        let skipped = replica.take_skipped();
        if skipped > 0 {
            warn!(
                "{}: {skipped} entries are not routes, or too many; they are ignored",
                self.connector.address()
            );
        }
        self.send_sync(change)
    }

    /// Reads the nodes that seem to be gone, from the server that has our keys now.
    fn expire(&mut self, replica: &mut Replica, reading: &mut Connection, at: Instant) -> Result<(), End> {
        let due = replica.due(at);
        if due.is_empty() {
            return Ok(());
        }
        let place = self.connector.place();
        *reading = self.connector.connect()?;
        if place != self.connector.place() {
            let moved = redis::RedisError::from((ErrorKind::Client, "another server has become the master"));
            return Err(moved.into());
        }
        due.into_iter().try_for_each(|name| self.read(replica, reading, name))
    }

    /// Reads the names of the classic layout again and again.
    fn poll(&mut self, node: &NodeName, last: &mut Option<(Vec<Record>, u64)>) -> Result<(), End> {
        let mut reading = self.connector.connect()?;
        loop {
            let read = classic::read(&mut reading, node)?;
            if self.is_stale || last.as_ref() != Some(&read) {
                if read.1 > 0 && last.as_ref().is_none_or(|(_, skipped)| *skipped != read.1) {
                    let address = self.connector.address();
                    warn!("{address}: {} keys are not names with an address; they are ignored", read.1);
                }
                let nodes = vec![Node { name: node.clone(), gateway: None }];
                self.send_sync(Change::Sync { nodes, records: read.0.clone(), unrouted: Vec::new() })?;
                *last = Some(read);
            }
            if self.ended.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout) {
                return Err(End::Stopped);
            }
        }
    }
}

/// Waits for a sign of life.
fn ask(notices: &mut PubSub<'_>) -> RedisResult<()> {
    notices.set_read_timeout(Some(REPLY))?;
    notices.ping::<()>()?;
    notices.set_read_timeout(Some(TICK))
}
