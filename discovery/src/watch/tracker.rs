#![forbid(unsafe_code)]
//! [`Tracker`]: what is known of the containers of a daemon, and what to ask it next. Pure.
//!
//! ```text
//!             opened          listed            all inspected
//!   Opening ─────────► Listing ─────► Syncing ────────────────► Following
//!      ▲                  │              │       or its time        │
//!      │    pause         └──────────────┴────────────┬─────────────┘
//!   Pausing ◄─────────────────────────────────────────┘ ended, or no list
//! ```
//!
//! Events are subscribed to before the list is asked for, and are hints only: whatever may have
//! changed is inspected, by an inspection that begins after the hint. So no order of events, list
//! and inspections leaves a change unseen, and a lost event is healed by the next list.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Read;
use super::event::{Hint, Id};
use super::list::{Listed, Listing};
use crate::record::{Node, Origin, Record, RecordId, RecordState, Text};
use crate::update::{Change, Unrouted};

/// Inspections at a time.
pub(super) const PARALLEL: usize = 8;
/// Time from an event to the inspection, for what comes with it: `die`, `disconnect` and `stop` are
/// one change.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(3);
/// Interval of lists, which heal what lost events have left.
pub(super) const RESYNC: Duration = Duration::from_secs(60);
/// Interval of lists while events ask for them.
const RESYNC_MIN: Duration = Duration::from_secs(1);
/// Time for the inspections after the first list; a container that takes longer does not keep the
/// others waiting.
const SYNC_TIME: Duration = Duration::from_secs(5);
/// Stopped containers that are inspected before anything is told: those that were created last.
pub(super) const STOPPED_FIRST: usize = 256;
/// Interval at which the others are inspected after that. A daemon may have thousands of them, and
/// what happens meanwhile does not wait for them.
pub(super) const STOPPED_INTERVAL: Duration = Duration::from_millis(10);
/// First pause before what has failed is tried again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before the daemon is connected to again.
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest pause before a container is inspected again that could not be.
const INSPECT_PAUSE_MAX: Duration = RESYNC;
/// A connection that has lasted as long was a good one: the next one is made at once.
const STEADY: Duration = Duration::from_secs(10);
/// Containers at most; a list of the longest accepted response has fewer.
const CONTAINERS_MAX: usize = 65_536;

/// What has happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The events are subscribed to.
    Opened,
    /// An event, and when it was, in nanoseconds since 1970.
    Event(Option<Hint>, Option<u64>),
    /// The subscription has failed or ended.
    Ended(Text),
    /// The list, or why there is none.
    Listed(Result<Listing, Text>),
    /// An inspection.
    Inspected(Id, Answer),
}

/// What an inspection has found.
#[derive(Debug)]
pub(super) enum Answer {
    /// What the container announces.
    Read(Read),
    /// There is no such container.
    Gone,
    /// Nothing, for this reason.
    Failed(Text),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Subscribe to events, those since this time included.
    Open(Option<u64>),
    /// Ask for the list.
    List,
    /// Inspect this container.
    Inspect(Id),
    /// Connect to these addresses of a container, and to no others of it, and tell with this ticket
    /// which ones accept.
    Probe(Id, u64, Vec<SocketAddr>),
    /// Tell this.
    Send(Change),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Pausing { until: Instant },
    Opening,
    Listing,
    Syncing { until: Instant, left: usize },
    Following,
}

/// Whether a container is to be inspected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    No,
    At(Instant),
    /// It is being inspected; `again`: something has happened since.
    Now {
        again: bool,
    },
}

#[derive(Debug)]
struct Container {
    title: Text,
    /// `None` until the list has shown it.
    fingerprint: Option<u64>,
    asked: Asked,
    /// Whether the first inspection after the list is still to come.
    syncing: bool,
    /// Inspections that have failed, one after the other.
    failures: u32,
    /// What it announces, as far as that is known.
    read: Option<Read>,
    /// The ticket of the probe of its ports.
    probe: Option<u64>,
    /// When it ended or was paused, in nanoseconds since 1970, if it has not been started since: an
    /// inspection that was on its way may say that it runs.
    ended: Option<u64>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tracker {
    node: Node,
    phase: Phase,
    /// Counts the connections: what belongs to an earlier one is ignored.
    epoch: u64,
    /// When the present connection was made.
    opened: Option<Instant>,
    /// Connections that have failed, one after the other.
    failures: u32,
    /// The time of the last event.
    last_event: Option<u64>,
    /// When to list again.
    list_at: Instant,
    listing: bool,
    /// Whether any container may have changed since the present list was asked for.
    outdated: bool,
    last_list: Option<Instant>,
    containers: BTreeMap<Id, Container>,
    /// The containers that are [`Asked::At`], in order.
    due: BTreeSet<(Instant, Id)>,
    inspecting: usize,
    tickets: u64,
    /// Whether the receiver has had a `Sync` at all: before that a single container would get a
    /// route that belongs to an earlier one.
    announced: bool,
    /// The nodes of the last `Sync`: of others nothing can be told without another one.
    nodes: Vec<Node>,
    /// Why it was told that the daemon cannot be reached.
    stale: Option<Text>,
    actions: VecDeque<Action>,
}

impl Tracker {
    /// Makes a tracker that connects at once.
    pub(super) fn new(node: Node, now: Instant) -> Self {
        Self {
            node,
            phase: Phase::Pausing { until: now },
            epoch: 0,
            opened: None,
            failures: 0,
            last_event: None,
            list_at: now,
            listing: false,
            outdated: false,
            last_list: None,
            containers: BTreeMap::new(),
            due: BTreeSet::new(),
            inspecting: 0,
            tickets: 0,
            announced: false,
            nodes: Vec::new(),
            stale: None,
            actions: VecDeque::new(),
        }
    }

    /// Returns the number of the present connection, with which its inputs are marked.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns what is to be done now, one after the other.
    pub(super) fn next(&mut self, now: Instant) -> Option<Action> {
        match self.phase {
            Phase::Pausing { until } if until <= now => {
                self.epoch += 1;
                self.phase = Phase::Opening;
                self.actions.push_back(Action::Open(self.last_event));
            }
            Phase::Syncing { until, .. } if until <= now => self.sync_done(),
            Phase::Following if self.list_at <= now && !self.listing => self.list(),
            _ => {}
        }
        self.actions.pop_front().or_else(|| self.next_inspection(now))
    }

    /// Returns when there is something to be done next, if nothing happens until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Pausing { until } | Phase::Syncing { until, .. } => Some(until),
            Phase::Following if !self.listing => Some(self.list_at),
            _ => None,
        };
        let due = self.due.first().filter(|_| self.may_inspect()).map(|(at, _)| *at);
        [phase, due].into_iter().flatten().min()
    }

    /// Takes what has happened on the connection of this number.
    pub(super) fn apply(&mut self, epoch: u64, input: Input, now: Instant) {
        if epoch != self.epoch || matches!(self.phase, Phase::Pausing { .. }) {
            return;
        }
        match input {
            Input::Opened => {
                self.opened = Some(now);
                self.phase = Phase::Listing;
                self.list();
            }
            Input::Event(hint, time) => {
                self.last_event = time.or(self.last_event);
                match hint {
                    Some(Hint::Container(id)) => self.ask(&id, now + DEBOUNCE),
                    Some(Hint::Ended(id)) => {
                        self.ended(&id, time);
                        self.ask(&id, now + DEBOUNCE);
                    }
                    Some(Hint::Begun(id)) => {
                        self.ask(&id, now + DEBOUNCE);
                        if let Some(container) = self.containers.get_mut(&id) {
                            container.ended = None;
                        }
                    }
                    // The list that is on its way may be older.
                    Some(Hint::Any) if self.listing => self.outdated = true,
                    Some(Hint::Any) => {
                        let soonest = self.last_list.map_or(now, |last| now.max(last + RESYNC_MIN));
                        self.list_at = self.list_at.min(soonest);
                    }
                    None => {}
                }
            }
            Input::Ended(why) | Input::Listed(Err(why)) => self.lost(why, now),
            Input::Listed(Ok(list)) => self.listed(list, now),
            Input::Inspected(id, answer) => self.inspected(&id, answer, now),
        }
    }

    /// Takes that an address accepts connections.
    pub(super) fn accepts(&mut self, id: &Id, ticket: u64, address: SocketAddr) {
        let Some(container) = self.containers.get_mut(id).filter(|one| one.probe == Some(ticket)) else {
            return;
        };
        let Some(read) = &mut container.read else { return };
        for record in read.records.iter_mut().filter(|record| to_probe(record) == Some(address)) {
            record.state = RecordState::Live;
        }
        if read.records.iter().all(|record| to_probe(record).is_none()) {
            container.probe = None;
        }
        self.tell(id);
    }

    fn may_inspect(&self) -> bool {
        self.inspecting < PARALLEL && matches!(self.phase, Phase::Syncing { .. } | Phase::Following)
    }

    fn next_inspection(&mut self, now: Instant) -> Option<Action> {
        if !self.may_inspect() || self.due.first()?.0 > now {
            return None;
        }
        let (_, id) = self.due.pop_first()?;
        self.containers.get_mut(&id)?.asked = Asked::Now { again: false };
        self.inspecting += 1;
        Some(Action::Inspect(id))
    }

    fn list(&mut self) {
        self.listing = true;
        self.actions.push_back(Action::List);
    }

    /// Has a container inspected at a time, or earlier if that was asked for.
    fn ask(&mut self, id: &Id, at: Instant) {
        if !self.containers.contains_key(id) && self.containers.len() >= CONTAINERS_MAX {
            return;
        }
        let container = self.containers.entry(Id::clone(id)).or_insert_with(|| Container {
            title: (&**id).into(),
            fingerprint: None,
            asked: Asked::No,
            syncing: false,
            failures: 0,
            read: None,
            probe: None,
            ended: None,
        });
        match container.asked {
            Asked::Now { .. } => container.asked = Asked::Now { again: true },
            Asked::At(earlier) if earlier <= at => {}
            Asked::At(_) | Asked::No => {
                if let Asked::At(later) = std::mem::replace(&mut container.asked, Asked::At(at)) {
                    self.due.remove(&(later, Id::clone(id)));
                }
                self.due.insert((at, Id::clone(id)));
            }
        }
    }

    fn listed(&mut self, Listing { mut entries, again }: Listing, now: Instant) {
        self.listing = false;
        self.last_list = Some(now);
        self.list_at = now + if std::mem::take(&mut self.outdated) { RESYNC_MIN } else { again };
        let mut unseen: BTreeSet<Id> = self.containers.keys().cloned().collect();
        // Those that run, and then the stopped ones, those that were created last first.
        entries.sort_by_key(|listed| listed.stopped.map(Reverse));
        let at_once = if self.phase == Phase::Listing { STOPPED_FIRST } else { 0 };
        let mut stopped = 0;
        for Listed { id, title, fingerprint, stopped: created } in entries {
            unseen.remove(&id);
            let known = self.containers.get(&id);
            let is_read = known.is_some_and(|known| known.read.is_some());
            if created.is_some() && !is_read {
                stopped += 1;
                self.ask(&id, now + stopped_delay(stopped, at_once));
            } else if !is_read || known.is_some_and(|known| known.fingerprint != Some(fingerprint)) {
                self.ask(&id, now);
            }
            if let Some(container) = self.containers.get_mut(&id) {
                if container.fingerprint != Some(fingerprint) {
                    container.ended = None;
                }
                container.title = title;
                container.fingerprint = Some(fingerprint);
            }
        }
        // The list may be older than what an event has told. An inspection says for sure.
        unseen.iter().for_each(|id| self.ask(id, now));
        if self.phase == Phase::Listing {
            let mut left = 0;
            for container in self.containers.values_mut() {
                container.syncing = match container.asked {
                    Asked::No => false,
                    Asked::At(at) => at <= now + DEBOUNCE,
                    Asked::Now { .. } => true,
                };
                left += usize::from(container.syncing);
            }
            self.phase = Phase::Syncing { until: now + SYNC_TIME, left };
            if left == 0 {
                self.sync_done();
            }
        }
    }

    fn inspected(&mut self, id: &Id, answer: Answer, now: Instant) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Asked::Now { again } = std::mem::replace(&mut container.asked, Asked::No) else { return };
        self.inspecting -= 1;
        let syncing = std::mem::take(&mut container.syncing);
        if again {
            self.ask(id, now);
        }
        match answer {
            Answer::Read(read) => self.learn(id, read),
            Answer::Gone => self.forget(id, again),
            Answer::Failed(why) => self.failed(id, &why, now),
        }
        if let Phase::Syncing { left, .. } = &mut self.phase
            && syncing
        {
            *left -= 1;
            if *left == 0 {
                self.sync_done();
            }
        }
    }

    /// Takes that a container has ended or is paused, at a time in nanoseconds since 1970. An
    /// inspection waits for as long as the daemon is busy with the container, and meanwhile another
    /// one may get its address.
    fn ended(&mut self, id: &Id, time: Option<u64>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let time = time.unwrap_or(u64::MAX);
        container.ended = Some(time);
        let Some(read) = &mut container.read else { return };
        if end(read, time) {
            if container.probe.take().is_some() {
                self.tickets += 1;
                self.actions.push_back(Action::Probe(Id::clone(id), self.tickets, Vec::new()));
            }
            self.tell(id);
        }
    }

    /// Takes what a container announces.
    fn learn(&mut self, id: &Id, mut read: Read) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.failures = 0;
        if let Some(time) = container.ended {
            end(&mut read, time);
        }
        let old = container.read.take();
        let before = old.as_ref().map_or(&[][..], |old| &old.records[..]);
        // An address that has accepted since the container was started need not do so again,
        // whatever else has changed, such as its name.
        for record in read.records.iter_mut().filter(|record| read.probe && to_probe(record).is_some()) {
            let is_same = |old: &Record| old.started == record.started && old.target == record.target;
            if before.iter().any(|old| old.state == RecordState::Live && is_same(old)) {
                record.state = RecordState::Live;
            }
        }
        let addresses: Vec<SocketAddr> =
            read.records.iter().filter_map(to_probe).filter(|_| read.probe).collect();
        // So does a probe of records that have not changed go on.
        let probing = container.probe.is_some();
        if (before != read.records || !probing) && (probing || !addresses.is_empty()) {
            self.tickets += 1;
            container.probe = (!addresses.is_empty()).then_some(self.tickets);
            self.actions.push_back(Action::Probe(Id::clone(id), self.tickets, addresses));
        }
        let unrouted = old.as_ref().and_then(|old| old.unrouted.as_ref());
        let changed = before != read.records || unrouted != read.unrouted.as_ref();
        container.read = Some(read);
        if changed {
            self.tell(id);
        }
    }

    /// Takes that a container is gone. If it is to be inspected again, it may be there again.
    fn forget(&mut self, id: &Id, again: bool) {
        let read = self.containers.get(id).and_then(|container| container.read.as_ref());
        let node = read.map_or(&self.node, |read| &read.node).clone();
        self.learn(id, Read { node, records: Vec::new(), unrouted: None, probe: false });
        match self.containers.get_mut(id) {
            Some(container) if again => container.read = None,
            _ => drop(self.containers.remove(id)),
        }
    }

    /// Takes that a container could not be inspected. What it announced stays.
    fn failed(&mut self, id: &Id, why: &Text, now: Instant) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let failures = container.failures;
        if container.read.is_none() {
            let owner = RecordId { node: self.node.name.clone(), owner: (&**id).into(), index: 0 };
            let reason = format!("the container cannot be inspected: {}", why.raw()).into();
            let unrouted = Some(Unrouted { owner, title: container.title.clone(), reason });
            self.learn(id, Read { node: self.node.clone(), records: Vec::new(), unrouted, probe: false });
        }
        self.ask(id, now + pause(failures, INSPECT_PAUSE_MAX));
        if let Some(container) = self.containers.get_mut(id) {
            container.failures = failures.saturating_add(1);
        }
    }

    fn lost(&mut self, why: Text, now: Instant) {
        let steady = self.phase == Phase::Following
            && self.opened.is_some_and(|opened| now.saturating_duration_since(opened) >= STEADY);
        let wait = if steady {
            self.failures = 0;
            Duration::ZERO
        } else {
            self.failures = self.failures.saturating_add(1);
            pause(self.failures - 1, CONNECT_PAUSE_MAX)
        };
        self.phase = Phase::Pausing { until: now + wait };
        self.opened = None;
        self.listing = false;
        self.inspecting = 0;
        self.due.clear();
        for container in self.containers.values_mut() {
            // It was to be inspected. It still is, after the next list.
            if std::mem::replace(&mut container.asked, Asked::No) != Asked::No {
                container.fingerprint = None;
            }
            // That it has been started since may be told while nobody listens.
            container.ended = None;
        }
        if !steady && self.stale.as_ref() != Some(&why) {
            self.stale = Some(why.clone());
            self.actions.push_back(Action::Send(Change::Stale(why)));
        }
    }

    fn sync_done(&mut self) {
        self.phase = Phase::Following;
        self.announced = true;
        self.stale = None;
        self.tell_all();
    }

    /// Tells what all containers announce.
    fn tell_all(&mut self) {
        let mut nodes = vec![self.node.clone()];
        let (mut records, mut unrouted) = (Vec::new(), Vec::new());
        for read in self.containers.values().filter_map(|container| container.read.as_ref()) {
            if !nodes.contains(&read.node) {
                nodes.push(read.node.clone());
            }
            records.extend_from_slice(&read.records);
            unrouted.extend(read.unrouted.clone());
        }
        self.nodes.clone_from(&nodes);
        self.actions.push_back(Action::Send(Change::Sync { nodes, records, unrouted }));
    }

    /// Tells what one container announces.
    fn tell(&mut self, id: &Id) {
        if let Some(read) = self.containers.get(id).and_then(|container| container.read.as_ref())
            && self.announced
        {
            // A manager of classic Swarm has containers of machines that come later.
            if !self.nodes.contains(&read.node) {
                return self.tell_all();
            }
            let owner = RecordId { node: read.node.name.clone(), owner: (&**id).into(), index: 0 };
            let (records, unrouted) = (read.records.clone(), read.unrouted.clone());
            self.actions.push_back(Action::Send(Change::Owner { owner, records, unrouted }));
        }
    }
}

/// Returns the address that has to accept a connection before a record is live.
fn to_probe(record: &Record) -> Option<SocketAddr> {
    match (&record.state, &record.target.as_ref()?.address) {
        (RecordState::Down(_), Origin::Ip(address)) => Some(*address),
        _ => None,
    }
}

/// Takes what a container announced for what it announces after its end. Returns whether that is
/// something else. What was started later stays.
fn end(read: &mut Read, time: u64) -> bool {
    let mut changed = false;
    for record in read.records.iter_mut().filter(|record| record.started <= time) {
        if record.state == RecordState::Live || read.probe {
            record.state = RecordState::Down("ended".into());
            changed = true;
        }
    }
    read.probe &= !changed;
    changed
}

/// Returns when to inspect a stopped container, by its place among them, which begins with 1. Those
/// that run come before any of them.
fn stopped_delay(place: usize, at_once: usize) -> Duration {
    let intervals = u32::try_from(place.saturating_sub(at_once)).unwrap_or(u32::MAX);
    DEBOUNCE + STOPPED_INTERVAL.saturating_mul(intervals)
}

/// Returns the pause after that many failures before the present one.
fn pause(failures: u32, longest: Duration) -> Duration {
    PAUSE.saturating_mul(1 << failures.min(16)).min(longest)
}
