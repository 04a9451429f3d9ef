#![forbid(unsafe_code)]
//! [`Keeper`]: the thread that applies updates to the directory, and makes the state that requests
//! are decided by.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use dockline::engine::{Decider, Handle, Kill};
use dockline::routes::{LookupOptions, RouteKey, RouteTable};
use dockline_discovery::address::AddressPolicy;
use dockline_discovery::directory::{Directory, DirectoryOptions, Trust};
use dockline_discovery::{Drain, Source, Update};
use log::{debug, error, info, warn};

use super::Shared;
use super::acme::Challenges;
use super::describe;
use super::drain::Draining;
use super::entry::Entry;
use super::fixed;
use super::pages::Pages;
use super::place;
use super::settings::RouterSettings;
use super::state::State;

/// Interval of the clock of the router, and of what is looked at now and then.
const TICK: Duration = Duration::from_secs(1);

/// After this time all machines that join have joined that can. Until then an unknown host may be
/// that of one of their containers.
const JOIN_TIME: Duration = Duration::from_secs(10);

/// Updates that become visible at once at most: many that come together cost one table.
const BATCH_MAX: usize = 1024;

/// What others ask of the keeper.
pub(super) enum Message {
    Update(Update),
    /// Take over settings, and say when they hold.
    Configure(Box<RouterSettings>, SyncSender<()>),
    Handles(Vec<Handle>),
    /// Reply with all routes.
    Describe(Decider),
    /// Say when each daemon has told its containers, or that it cannot be reached.
    Await(SyncSender<()>),
    /// Another process takes over: leave the containers to that.
    Retire,
}

/// See the [module](self).
pub(super) struct Keeper {
    shared: Arc<Shared>,
    directory: Directory,
    settings: Option<RouterSettings>,
    handles: Vec<Handle>,
    draining: Draining,
    /// The sources that have told what they have.
    known: HashSet<Source>,
    /// Since when machines can join; `None`: they cannot.
    front_door_since: Option<Instant>,
    /// The routes of containers that are stopped when nobody uses them.
    stoppable: BTreeSet<RouteKey>,
    started: Instant,
    /// The addresses of this machine.
    own_addresses: Vec<IpAddr>,
    /// Who waits for the daemons.
    awaiting: Option<SyncSender<()>>,
    is_retired: bool,
}

impl State {
    /// Returns a state without routes.
    pub(super) fn empty() -> Self {
        Self {
            table: RouteTable::new(LookupOptions::default()),
            is_complete: false,
            pages: Pages::default(),
            challenges: None,
            hold: Duration::ZERO,
            start_time: Duration::ZERO,
            hold_requests: 0,
        }
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            directory: Directory::default(),
            settings: None,
            handles: Vec::new(),
            draining: Draining::default(),
            known: HashSet::new(),
            front_door_since: None,
            stoppable: BTreeSet::new(),
            started: now(),
            own_addresses: Vec::new(),
            awaiting: None,
            is_retired: false,
        }
    }

    /// Runs until nobody can send a message any longer.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut next_tick = self.started + TICK;
        loop {
            let deadline = self.draining.deadline().map_or(next_tick, |due| due.min(next_tick));
            match messages.recv_timeout(deadline.saturating_duration_since(now())) {
                Ok(message) => {
                    self.take([message].into_iter().chain(messages.try_iter().take(BATCH_MAX)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.cut_drained();
            if now() >= next_tick {
                next_tick = now() + TICK;
                self.tick();
            }
        }
    }

    /// Applies messages, whose changes become visible at once.
    pub(super) fn take(&mut self, messages: impl IntoIterator<Item = Message>) {
        let mut changed = BTreeSet::new();
        for message in messages {
            self.apply(message, &mut changed);
        }
        self.publish(changed);
        if self.are_daemons_known()
            && let Some(sender) = self.awaiting.take()
        {
            // Nobody waits any longer if it took too long.
            let _ = sender.try_send(());
        }
    }

    fn are_daemons_known(&self) -> bool {
        let known = self.shared.counters.sources();
        self.settings.iter().flat_map(RouterSettings::sources).all(|source| known.contains_key(&source))
    }

    fn apply(&mut self, message: Message, changed: &mut BTreeSet<RouteKey>) {
        match message {
            Message::Update(update) => changed.extend(self.update(update)),
            Message::Configure(settings, applied) => {
                // Before, so that no change is lost with the old table.
                self.publish(mem::take(changed));
                self.configure(*settings);
                let _ = applied.try_send(());
            }
            Message::Handles(handles) => self.handles = handles,
            Message::Await(sender) => self.awaiting = Some(sender),
            Message::Retire => self.is_retired = true,
            Message::Describe(decider) => {
                self.publish(mem::take(changed));
                decider.decide(describe::reply(
                    &self.directory,
                    &self.shared.state.load().table,
                    &self.shared.counters.sources(),
                    now(),
                ));
            }
        }
    }

    fn update(&mut self, update: Update) -> Vec<RouteKey> {
        let source = Arc::clone(&update.source);
        let changed = self.directory.apply(update);
        self.shared.counters.refused.store(self.directory.refused(), Ordering::Relaxed);
        let mut since = self.shared.counters.sources();
        let status = self.directory.sources().find(|status| *status.name == source);
        match status.map(|status| status.stale) {
            None => drop(since.remove(&source)),
            Some(stale) => {
                if stale.is_none() {
                    self.known.insert(Arc::clone(&source));
                }
                let before = since.get(&source).map(|(is_live, _)| *is_live);
                if before != Some(stale.is_none()) {
                    match stale {
                        Some(reason) => warn!("{source}: {reason}; the routes that are known stay"),
                        None => info!("{source}: its routes are known"),
                    }
                    since.insert(source, (stale.is_none(), now()));
                }
            }
        }
        changed
    }

    /// Takes over settings, and makes all entries anew: any of them may have another way now.
    fn configure(&mut self, settings: RouterSettings) {
        let config = &settings.config;
        self.own_addresses = place::own_addresses();
        self.directory.set_options(directory_options(&settings, &self.own_addresses));
        let challenges = self.challenges(&settings);
        let old = self.shared.state.load_full();
        let mut state = State {
            table: match old.table.options() == &config.lookup {
                true => old.table.clone(),
                false => RouteTable::new(config.lookup.clone()),
            },
            is_complete: false,
            pages: settings.pages.clone(),
            challenges,
            hold: config.hold,
            start_time: config.start_time,
            hold_requests: config.hold_requests,
        };
        let fixed = fixed::update(&config.fixed);
        self.front_door_since = config.front_door.as_ref().and(self.front_door_since.or(Some(now())));
        self.settings = Some(settings);
        state.is_complete = self.is_complete();
        if let Some(update) = fixed {
            self.update(update);
        }
        let keys: BTreeSet<RouteKey> = old
            .table
            .iter()
            .map(|(key, _)| key.clone())
            .chain(self.directory.routes().map(|(key, _)| key.clone()))
            .collect();
        state.table = self.changed_table(&old.table, &state.table, &keys);
        self.store(&old, state, &keys);
    }

    fn challenges(&self, settings: &RouterSettings) -> Option<Challenges> {
        let dir = settings.config.acme_dir.as_ref()?;
        let old = self.shared.state.load().challenges.clone().filter(|old| old.dir() == dir);
        old.or_else(|| match Challenges::start(dir) {
            Ok(challenges) => Some(challenges),
            Err(problem) => {
                error!("{dir} is not served: {problem}");
                None
            }
        })
    }

    /// Makes changes visible.
    fn publish(&mut self, changed: BTreeSet<RouteKey>) {
        let (old, is_complete) = (self.shared.state.load_full(), self.is_complete());
        if self.settings.is_none() || (changed.is_empty() && old.is_complete == is_complete) {
            return;
        }
        let table = self.changed_table(&old.table, &old.table, &changed);
        let state = State { table, is_complete, ..State::clone(&old) };
        self.store(&old, state, &changed);
    }

    /// Returns whether all sources have told once what they have, and machines had time to join.
    fn is_complete(&self) -> bool {
        let is_joining = self.front_door_since.is_some_and(|since| now() < since + JOIN_TIME);
        self.settings
            .as_ref()
            .is_some_and(|settings| settings.sources().all(|source| self.known.contains(&source)))
            && !is_joining
    }

    /// Returns a table with new entries of these routes, which take over targets of the old table.
    fn changed_table(
        &mut self,
        old: &RouteTable<Arc<Entry>>,
        base: &RouteTable<Arc<Entry>>,
        keys: &BTreeSet<RouteKey>,
    ) -> RouteTable<Arc<Entry>> {
        let Some(settings) = &self.settings else { return base.clone() };
        let seconds = self.shared.now();
        base.with_changes(keys.iter().map(|key| {
            let entry = self.directory.route(key).map(|route| {
                let before = old.get(key).map(|entry| &**entry);
                let balance = settings.balance(key);
                Arc::new(Entry::new(key.clone(), route, before, balance, &settings.reach, seconds))
            });
            (key.clone(), entry)
        }))
    }

    /// Replaces the state, and does what follows from the change of these routes.
    fn store(&mut self, old: &State, state: State, keys: &BTreeSet<RouteKey>) {
        let state = Arc::new(state);
        self.shared.state.store(Arc::clone(&state));
        if !old.is_complete && (state.is_complete || !keys.is_empty()) {
            self.shared.wake_early();
        }
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        self.shared.counters.changes.fetch_add(count, Ordering::Relaxed);
        for key in keys {
            let (before, after) = (old.table.get(key), state.table.get(key));
            debug!("route {key}: {}", describe::summary(after.map(|entry| &**entry)));
            self.shared.counters.replace(before.map(|entry| &**entry), after.map(|entry| &**entry));
            self.note_drain(before.map(|entry| &**entry), after.map(|entry| &**entry));
            let is_stoppable = after.is_some_and(|entry| {
                entry.members.iter().any(|member| member.claim.record().lifecycle.stop_after.is_some())
            });
            match is_stoppable {
                true => drop(self.stoppable.insert(key.clone())),
                false => drop(self.stoppable.remove(key)),
            }
            self.shared.wake(key);
        }
    }

    /// Notes which targets of a route have lost it, and which have it again.
    fn note_drain(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        let default = self.settings.as_ref().and_then(|settings| settings.config.drain);
        for member in before.into_iter().flat_map(|entry| &entry.members) {
            let time = match member.claim.record().drain {
                Drain::After(time) => Some(time),
                Drain::Never => default,
            };
            if let (Some(target), Some(time)) = (&member.target, time)
                && before.is_some_and(|entry| entry.has_live(target))
                && !after.is_some_and(|entry| entry.has_live(target))
                && target.load() > 0
            {
                self.draining.add(target, now(), time);
            }
        }
        for target in after.into_iter().flat_map(Entry::live) {
            self.draining.remove(target);
        }
    }

    /// Cuts the tunnels that may not outlive their route any longer. Requests in flight go on: they
    /// end by themselves.
    fn cut_drained(&mut self) {
        for target in self.draining.due(now(), TICK) {
            info!("{}: its tunnels have outlived their route for long enough", target.upstream.name);
            for handle in &self.handles {
                let (upstream, killer) = (Arc::clone(&target.upstream), handle.clone());
                handle.tunnels(move |tunnels| {
                    let its = tunnels.into_iter().filter(|tunnel| Arc::ptr_eq(&tunnel.upstream, &upstream));
                    its.for_each(|tunnel| killer.kill(Kill::Tunnel(tunnel.id), |_| {}));
                });
            }
        }
    }

    fn tick(&mut self) {
        let seconds = now().duration_since(self.started).as_secs();
        self.shared.now.store(seconds, Ordering::Relaxed);
        self.draining.forget_idle();
        let gone = self.shared.hold.lock().retain(Decider::is_waiting);
        self.shared.count_unavailable(gone);
        self.stop_unused(seconds);
        self.look_at_addresses();
        // The time to join may be over.
        self.publish(BTreeSet::new());
    }

    /// Judges the addresses of containers again if this machine has got, or lost, one of its own.
    fn look_at_addresses(&mut self) {
        let Some(settings) = &self.settings else { return };
        let addresses = place::own_addresses();
        if addresses != self.own_addresses {
            let changed = self.directory.set_options(directory_options(settings, &addresses));
            self.own_addresses = addresses;
            self.publish(changed.into_iter().collect());
        }
    }

    /// Stops the containers that nobody has used for as long as they want. One with several routes
    /// is used if one of them is.
    fn stop_unused(&self, seconds: u64) {
        if self.is_retired {
            return;
        }
        let state = self.shared.state.load();
        let mut latest: HashMap<(&Source, &str), (u64, Duration)> = HashMap::new();
        let entries = self.stoppable.iter().filter_map(|key| state.table.get(key));
        for member in entries.flat_map(|entry| &entry.members) {
            let record = member.claim.record();
            if let (Some(time), Some(target), Some(_)) =
                (record.lifecycle.stop_after, &member.target, record.live_target())
            {
                let used = target.idle_since(seconds);
                let owner = (member.claim.source(), record.id.owner.raw());
                let (latest, _) = latest.entry(owner).or_insert((used, time));
                *latest = used.max(*latest);
            }
        }
        for ((source, id), (used, time)) in latest {
            if Duration::from_secs(seconds.saturating_sub(used)) >= time {
                self.shared.starter.stop(source, id);
            }
        }
    }
}

fn directory_options(settings: &RouterSettings, own_addresses: &[IpAddr]) -> DirectoryOptions {
    let daemons = settings.daemons().map(|source| (source, Trust::Daemon));
    DirectoryOptions {
        trust: daemons.chain([(fixed::source(), Trust::Operator)]).collect(),
        trusted_nodes: settings.config.trusted_nodes.clone(),
        addresses: AddressPolicy {
            own_addresses: own_addresses.to_vec(),
            own_listeners: settings.listeners.clone(),
            ..AddressPolicy::default()
        },
        ..DirectoryOptions::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread waits by the clock")]
fn now() -> Instant {
    Instant::now()
}
