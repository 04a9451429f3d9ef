#![forbid(unsafe_code)]
//! [`Publisher`]: writes the records of this machine to Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dockline::untrusted::{Line, Untrusted};
use log::{info, warn};
use redis::{Connection, ErrorKind, RedisResult};

use super::address::{Address, TlsFiles};
use super::classic::{Names, ledger_of, names};
use super::connection::Connector;
use super::outgoing::{Batch, Outgoing, value_of};
use super::structured::{
    Mode, NOTICE_MAX, Notice, Outcome, RECORD_MAX, RECORDS_MAX, What, Write, field_of, key_of, millis,
    withdraw,
};
use super::{BACKOFF, next_backoff};
use crate::now;
use crate::record::{Node, NodeName};
use crate::update::Update;
use crate::view::View;

/// How often it is looked whether what was written is still there, and whether a name is free that
/// something else had written.
const LOOK: Duration = Duration::from_secs(1);

/// How records are published.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// Where.
    pub address: Address,
    /// The certificates for TLS.
    pub tls: TlsFiles,
    /// Whether in the structured layout.
    pub structured: bool,
    /// For whom in the classic layout; `None`: not in that.
    pub classic: Option<View>,
    /// How long the records stay without a sign of life: at least a second. They are refreshed
    /// three times in this time.
    pub lease: Duration,
}

/// Publishes records, on a thread of its own. When it is dropped the thread ends, and the records
/// stay until their lease ends: a program that is restarted leaves no gap.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outgoing: Outgoing,
    stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there cannot be a thread, or the classic layout is asked for in a cluster: its readers do
    /// not know of clusters.
    pub fn start(config: PublisherConfig) -> io::Result<Self> {
        if config.classic.is_some() && config.address.is_cluster() {
            return Err(io::Error::other(
                "the classic layout needs one server, since its readers do not know of clusters; write the \
                 structured layout there",
            ));
        }
        let shared = Arc::new(Shared::default());
        let mut worker = Worker {
            connector: Connector::new(config.address, config.tls),
            structured: config.structured,
            lease: config.lease.max(Duration::from_secs(1)),
            instance: format!("{:016x}", RandomState::new().build_hasher().finish()),
            shared: Arc::clone(&shared),
            connection: None,
            claims: BTreeMap::new(),
            names: config.classic.map(|view| (view, Names::default())),
            trouble: None,
        };
        thread::Builder::new().name("redis-publish".into()).spawn(move || worker.run())?;
        Ok(Self { shared })
    }

    /// Takes an update of a source of this machine. It is published as soon as Redis can be
    /// reached; only the latest state of each record is kept until then.
    pub fn apply(&self, update: Update) {
        self.shared.lock().outgoing.apply(update);
        self.shared.changed.notify_all();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
    }
}

/// What we have of a node in Redis.
#[derive(Debug)]
struct Claim {
    revision: u64,
    mode: Mode,
    /// Whether another process has it.
    held: bool,
}

struct Worker {
    connector: Connector,
    structured: bool,
    lease: Duration,
    /// Differs from that of every other process.
    instance: String,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    claims: BTreeMap<NodeName, Claim>,
    names: Option<(View, Names)>,
    /// The wait before the next attempt, while Redis cannot be reached.
    trouble: Option<Duration>,
}

impl Worker {
    fn run(&mut self) {
        let mut refresh_at = now();
        let mut look_at = now();
        while self.wait(refresh_at.min(look_at)) {
            let refresh = now() >= refresh_at;
            match self.connected().and_then(|()| self.publish(refresh)) {
                Ok(()) => {
                    if self.trouble.take().is_some() {
                        info!("{}: routes are published again", self.connector.address());
                    }
                    let at = now();
                    if refresh {
                        refresh_at = at + self.lease / 3;
                    }
                    look_at = at + LOOK;
                }
                Err(error) => {
                    self.failed(&error);
                    let wait = self.trouble.map_or(BACKOFF.0, next_backoff);
                    self.trouble = Some(wait);
                    refresh_at = now() + wait;
                    look_at = refresh_at;
                }
            }
        }
    }

    /// Waits until there is something to do. Returns `false` at the end.
    fn wait(&self, wake_at: Instant) -> bool {
        let mut state = self.shared.lock();
        loop {
            // While Redis cannot be reached a change does not make it be tried earlier.
            if state.stopping || (self.trouble.is_none() && state.outgoing.is_fresh()) {
                return !state.stopping;
            }
            let left = wake_at.saturating_duration_since(now());
            if left.is_zero() {
                return true;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn connected(&mut self) -> RedisResult<()> {
        if self.connection.is_none() {
            self.connection = Some(self.connector.connect()?);
        }
        Ok(())
    }

    /// Writes what has changed, and everything that has to be refreshed.
    fn publish(&mut self, refresh: bool) -> RedisResult<()> {
        if !refresh {
            self.look()?;
        }
        let (batches, gone) = {
            let mut state = self.shared.lock();
            if refresh {
                let held = self.claims.iter_mut().filter(|(_, claim)| claim.held);
                held.for_each(|(node, _)| state.outgoing.restart(node));
            }
            if let Some((view, names_of)) = &mut self.names {
                names_of.want(names(view, state.outgoing.records()));
            }
            (state.outgoing.take(), state.outgoing.take_gone())
        };
        let mut gone = gone.into_iter();
        while let Some(node) = gone.next() {
            if let Err(error) = self.withdraw(&node) {
                let mut state = self.shared.lock();
                [node].into_iter().chain(gone).for_each(|node| state.outgoing.put_gone(node));
                return Err(error);
            }
        }
        if self.structured {
            for batch in batches {
                if refresh || !batch.is_empty() {
                    self.write(batch)?;
                }
            }
        }
        self.write_names(refresh)
    }

    /// Looks whether what was written is still there. If not, everything is written again.
    fn look(&mut self) -> RedisResult<()> {
        let Some(connection) = &mut self.connection else { return Err(not_connected()) };
        let written = self.claims.iter().filter(|(_, claim)| claim.mode == Mode::Keep);
        let mut keys: Vec<String> = written.map(|(node, _)| key_of(node)).collect();
        let ledgers = self.names.iter().filter(|(_, names)| names.has_written());
        keys.extend(ledgers.map(|(view, _)| ledger_of(&view.node)));
        let there: usize = if keys.is_empty() {
            // The connection is to be there all the same.
            redis::cmd("PING").query::<()>(connection).map(|()| 0)?
        } else {
            redis::cmd("EXISTS").arg(&keys).query(connection)?
        };
        if there != keys.len() {
            info!("{}: routes are missing; they are written again", self.connector.address());
            self.restart();
        }
        Ok(())
    }

    /// Notes that nothing is known to be written.
    fn restart(&mut self) {
        for claim in self.claims.values_mut().filter(|claim| claim.mode == Mode::Keep) {
            claim.mode = Mode::Claim;
        }
        self.shared.lock().outgoing.restart_all();
        if let Some((_, names)) = &mut self.names {
            names.restart();
        }
    }

    fn write(&mut self, batch: Batch) -> RedisResult<()> {
        let Batch { node, mut set, mut removed, whole, left_out } = batch;
        let new = Claim { revision: 0, mode: Mode::Take, held: false };
        let claim = self.claims.entry(node.name.clone()).or_insert(new);
        if claim.held && !whole {
            return Ok(());
        }
        if left_out > 0 {
            warn!(
                "{left_out} routes of the node {} are not published: {RECORDS_MAX} are the limit",
                node.name
            );
        }
        let is_alive = !whole && set.is_empty() && removed.is_empty();
        let before = claim.revision;
        // Also if the write fails: nobody knows whether it has arrived.
        claim.revision += u64::from(!is_alive);
        let mode = match claim.mode {
            Mode::Keep if whole => Mode::Claim,
            mode => mode,
        };
        let mut values = Vec::with_capacity(set.len());
        set.retain(|record| {
            let (field, value) = (field_of(&record.id), value_of(record));
            match value {
                Some(value) => values.push((field, value)),
                None => {
                    warn!(
                        "a route of {} is not published: it has more than {RECORD_MAX} bytes",
                        record.title
                    );
                    removed.push(field);
                    return false;
                }
            }
            true
        });
        if whole {
            removed.clear();
        }
        let notice = Notice {
            node: node.name.clone(),
            instance: self.instance.as_str().into(),
            revision: claim.revision,
            lease: millis(self.lease),
            what: match (is_alive, whole) {
                (true, _) => What::Alive,
                (_, true) => What::Written,
                _ => What::Changed { set, removed: removed.clone() },
            },
        };
        let write = Write {
            node: &node,
            instance: &self.instance,
            mode,
            lease: self.lease,
            revisions: (before, claim.revision),
            set: &values,
            removed: &removed,
            notice: &text_of(notice),
        };
        let Some(connection) = &mut self.connection else { return Err(not_connected()) };
        let outcome = write.perform(connection)?;
        self.written(&node, outcome);
        Ok(())
    }

    fn written(&mut self, node: &Node, outcome: Outcome) {
        let Some(claim) = self.claims.get_mut(&node.name) else { return };
        let was_held = mem::replace(&mut claim.held, outcome == Outcome::Held);
        match outcome {
            Outcome::Written => {
                claim.mode = Mode::Keep;
                if was_held {
                    info!("the routes of the node {} are published by this process again", node.name);
                }
            }
            Outcome::Lost => {
                claim.mode = Mode::Claim;
                self.shared.lock().outgoing.restart(&node.name);
            }
            Outcome::Held => {
                claim.mode = Mode::Claim;
                if !was_held {
                    warn!(
                        "another process publishes the routes of a node {}; each machine needs a name of its own",
                        node.name
                    );
                }
            }
        }
    }

    fn withdraw(&mut self, node: &NodeName) -> RedisResult<()> {
        let Some(connection) = &mut self.connection else { return Err(not_connected()) };
        if self.claims.contains_key(node) {
            let notice = Notice {
                node: node.clone(),
                instance: self.instance.as_str().into(),
                revision: u64::MAX,
                lease: 0,
                what: What::Gone,
            };
            withdraw(connection, node, &self.instance, &text_of(notice))?;
            self.claims.remove(node);
        }
        Ok(())
    }

    fn write_names(&mut self, refresh: bool) -> RedisResult<()> {
        let Some((view, names)) = &mut self.names else { return Ok(()) };
        let Some(write) = names.next(refresh) else { return Ok(()) };
        let Some(connection) = &mut self.connection else { return Err(not_connected()) };
        let held = write.perform(connection, &view.node, self.lease)?;
        let new: BTreeSet<Box<str>> = names.done(write, held).into_iter().collect();
        for name in new {
            warn!(
                "the key `{}` in Redis has another value than ours, and stays as it is; if no other machine serves \
                 this name, delete the key",
                Untrusted::new(&*name)
            );
        }
        Ok(())
    }

    /// Notes a failure: the connection is given up, and everything will be written again.
    fn failed(&mut self, error: &redis::RedisError) {
        if self.trouble.is_none() {
            let address = self.connector.address();
            warn!("{address}: routes cannot be published: {}; trying again", Line(error));
        }
        self.connection = None;
        self.restart();
    }
}

/// Returns the text of a notice. One that is too long says that there is much to read.
fn text_of(notice: Notice) -> String {
    let text = serde_json::to_string(&notice).unwrap_or_default();
    if text.len() <= NOTICE_MAX {
        return text;
    }
    serde_json::to_string(&Notice { what: What::Written, ..notice }).unwrap_or_default()
}

fn not_connected() -> redis::RedisError {
    (ErrorKind::Client, "not connected").into()
}
