#![forbid(unsafe_code)]
//! The router of `dockline serve`: requests for host names go to the containers that have them.
//!
//! ```text
//!   watchers, workers, ... ──► Update ──► Keeper (one thread) ──► State (ArcSwap) ──► route(), on the loops
//!                                            │  ▲                                         │
//!                        tunnels to cut, ◄───┘  └── requests that wait, containers to start
//!                        requests that wait no longer
//! ```
//!
//! A request takes one look at a state that does not change. Whatever changes it, and whatever may
//! wait, is done by threads of their own.

mod acme;
mod balance;
mod busiest;
mod counters;
mod describe;
mod drain;
mod entry;
mod fixed;
mod gate;
mod hold;
mod hops;
mod join;
mod keeper;
mod on_demand;
mod pages;
pub(crate) mod place;
pub(crate) mod reader;
#[cfg(feature = "redis")]
mod redis;
mod settings;
mod sources;
mod state;
mod swarm;
mod target;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use arc_swap::ArcSwap;
use dockline::engine::{Decider, Destination, Handle, Route, RouteRequest, Router, Upstream};
use dockline::proxy::Reply;
use dockline::routes::RouteKey;
use dockline_discovery::Update;
use log::warn;

#[cfg(test)]
pub(crate) use self::busiest::TargetName;
pub(crate) use self::busiest::{Busiest, TargetCounts};
use self::counters::Counters;
pub(crate) use self::entry::EntryState;
use self::hold::{Hold, Waiting};
use self::hops::{Hops, Loop, Mark};
use self::keeper::{Keeper, Message};
use self::on_demand::Starter;
use self::pages::Page;
#[cfg(feature = "redis")]
use self::redis::RegistryReader;
pub(crate) use self::settings::RouterSettings;
use self::sources::Sources;
use self::state::{Choice, Question, State};
use crate::problem::Problem;
use crate::process::spawn;

/// How long a request whose targets cannot be reached waits for the news that they have ended. An
/// application may also be broken; then it gets 502.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// How long the start of the process waits for the daemons, and how often it looks whether it is to
/// stop.
const AWAIT_TIME: Duration = Duration::from_secs(10);
const AWAIT_STEP: Duration = Duration::from_millis(100);

/// Updates that may wait for the keeper; then their sources wait.
const UPDATES_MAX: usize = 1024;

/// Where updates go.
pub(crate) type Sink = Arc<dyn Fn(Update) + Send + Sync>;

/// The router of all listeners that have no upstream. There is one for the life of the process;
/// what it routes by is replaced.
#[derive(Debug)]
pub(crate) struct Routing {
    shared: Arc<Shared>,
    keeper: SyncSender<Message>,
    /// `None`: there has been no router yet.
    sources: Mutex<Option<Sources>>,
    #[cfg(feature = "redis")]
    registry: Mutex<RegistryReader>,
}

/// What the loops and the keeper share.
#[derive(Debug)]
struct Shared {
    state: ArcSwap<State>,
    hold: Hold<Decider>,
    mark: Mark,
    starter: Starter,
    counters: Counters,
    /// Seconds since the start, counted by the keeper: to read the clock for each request would
    /// cost more.
    now: AtomicU64,
}

impl Routing {
    /// Makes a router without routes, and starts its thread.
    pub(crate) fn start() -> Result<Arc<Self>, Problem> {
        let (keeper, messages) = sync_channel(UPDATES_MAX);
        let shared = Arc::new(Shared::new());
        let thread = Keeper::new(Arc::clone(&shared));
        spawn("routes", move || thread.run(&messages))?;
        Ok(Arc::new(Self {
            shared,
            keeper,
            sources: Mutex::default(),
            #[cfg(feature = "redis")]
            registry: Mutex::default(),
        }))
    }

    /// Takes over settings; `None`: nothing is routed.
    pub(crate) fn configure(&self, settings: Option<RouterSettings>) -> Result<(), Problem> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = match settings {
            Some(settings) => settings,
            // There was none before either.
            None if sources.is_none() => return Ok(()),
            None => RouterSettings::empty()?,
        };
        // Before the sources: what they say is judged by it. And they hold for the next request.
        let (sender, applied) = sync_channel(1);
        self.send(Message::Configure(Box::new(settings.clone()), sender));
        if applied.recv_timeout(AWAIT_TIME).is_err() {
            warn!("the routes change too fast; the new settings hold a little later");
        }
        #[cfg(feature = "redis")]
        self.registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(settings.registry.as_ref(), &self.sink())?;
        sources.get_or_insert_default().update(&settings, &self.sink(), &self.shared.starter)
    }

    /// Waits until all daemons have told their containers, or cannot be reached: before that, names
    /// that are known would be unknown. Gives up after a while, or if the process is to stop.
    pub(crate) fn await_daemons(&self, stop_requested: &AtomicBool) {
        let (sender, known) = sync_channel(1);
        self.send(Message::Await(sender));
        let steps = AWAIT_TIME.as_millis() / AWAIT_STEP.as_millis();
        for _ in 0..steps {
            if stop_requested.load(Ordering::Relaxed) || known.recv_timeout(AWAIT_STEP).is_ok() {
                return;
            }
        }
        warn!("not all containers are known yet; serving those that are");
    }

    /// Leaves the containers, and the place at the front door, to another process, which routes
    /// from now on.
    pub(crate) fn retire(&self) {
        self.send(Message::Retire);
        if let Some(sources) = &*self.sources.lock().unwrap_or_else(PoisonError::into_inner) {
            sources.leave_front_door();
        }
    }

    /// Sets the engines whose tunnels are cut when they may not outlive their route any longer.
    pub(crate) fn set_handles(&self, handles: Vec<Handle>) {
        self.send(Message::Handles(handles));
    }

    /// Returns where sources send their updates. It waits while too many are waiting already.
    pub(crate) fn sink(&self) -> Sink {
        let keeper = self.keeper.clone();
        Arc::new(move |update| drop(keeper.send(Message::Update(update))))
    }

    /// Replies with all routes as JSON.
    pub(crate) fn describe(&self, request: &RouteRequest<'_>) -> Route {
        let decider = request.defer();
        // A decider that is dropped replies with 503.
        let _ = self.keeper.try_send(Message::Describe(decider));
        Route::Later { time: describe::TIME, otherwise: Reply::error(503, "the routes change too fast") }
    }

    /// Returns what has been counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Returns what the targets of all routes have got, of which the busiest ones are told, at most
    /// `most`.
    pub(crate) fn busiest(&self, most: usize) -> Busiest {
        Busiest::of(&self.shared.state.load().table, most)
    }

    /// Returns how many requests wait for a target.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.hold.lock().len()
    }

    fn send(&self, message: Message) {
        // It ends with the process only.
        let _ = self.keeper.send(message);
    }
}

impl Router for Routing {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let shared = &self.shared;
        let head = request.head();
        let state = shared.state.load();
        let path = head.target().path_and_query();
        if let Some(challenges) = &state.challenges
            && let Some(token) = acme::token(path)
        {
            return shared.answer_challenge(challenges, token, request, &state);
        }
        let hops = match shared.mark.add(&head.fields) {
            Ok(hops) => hops,
            Err(Loop) => {
                shared.counters.loops.fetch_add(1, Ordering::Relaxed);
                return Route::Reply(state.reply(Page::Loop));
            }
        };
        let host = state::host(head);
        if let Some(upstream) = request.unreachable() {
            return shared.wait_for_change(request, upstream, host, path, &hops);
        }
        shared.route(&state, request, host, path, &hops)
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            state: ArcSwap::from_pointee(State::empty()),
            hold: Hold::default(),
            mark: Mark::new(),
            starter: Starter::default(),
            counters: Counters::default(),
            now: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn route(
        &self,
        state: &State,
        request: &RouteRequest<'_>,
        host: &[u8],
        path: &[u8],
        hops: &Hops,
    ) -> Route {
        match state.decide(host, path, hops, self.now()) {
            Choice::To(destination) => self.send_on(destination),
            Choice::NotFound => self.not_found(state),
            Choice::Hold(_) | Choice::Early => self.hold(request, host, path, hops),
        }
    }

    fn send_on(&self, destination: Destination) -> Route {
        self.counters.routed.fetch_add(1, Ordering::Relaxed);
        Route::To(destination)
    }

    fn not_found(&self, state: &State) -> Route {
        self.counters.not_found.fetch_add(1, Ordering::Relaxed);
        Route::Reply(state.reply(Page::NotFound))
    }

    fn unavailable(&self, state: &State) -> Route {
        self.counters.unavailable.fetch_add(1, Ordering::Relaxed);
        Route::Reply(state.reply(Page::Unavailable))
    }

    /// Lets a request wait for a target of its route, which is started if that is wanted, or for
    /// the daemons to tell which routes there are.
    fn hold(&self, request: &RouteRequest<'_>, host: &[u8], path: &[u8], hops: &Hops) -> Route {
        let mut waiting = self.hold.lock();
        // It may have got one since. After this, who changes the table finds the request.
        let state = self.state.load();
        let entry = match state.decide(host, path, hops, self.now()) {
            Choice::To(destination) => return self.send_on(destination),
            Choice::NotFound => return self.not_found(&state),
            Choice::Hold(entry) => Some(entry),
            Choice::Early => None,
        };
        if !self.has_room(&mut waiting, &state) {
            return self.unavailable(&state);
        }
        let limit = match entry.is_some_and(|entry| self.starter.start(entry)) {
            true => state.start_time.max(state.hold),
            false => state.hold,
        };
        let time = limit.saturating_sub(request.waited());
        if time.is_zero() {
            return self.unavailable(&state);
        }
        if request.waited().is_zero() {
            self.counters.held.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push(entry.map(|entry| &entry.key), request.defer());
        Route::Later { time, otherwise: state.reply(Page::Unavailable) }
    }

    /// Lets a request wait whose targets cannot be reached: most likely they have just ended, and
    /// that is about to be told.
    fn wait_for_change(
        &self,
        request: &RouteRequest<'_>,
        unreachable: &Arc<Upstream>,
        host: &[u8],
        path: &[u8],
        hops: &Hops,
    ) -> Route {
        let mut waiting = self.hold.lock();
        let state = self.state.load();
        let entry = match state.find(host, path) {
            Some(entry) if entry.has_upstream(unreachable) => entry,
            // It has been told already.
            _ => {
                drop(waiting);
                return self.route(&state, request, host, path, hops);
            }
        };
        let time = SETTLE_TIME.min(state.hold.saturating_sub(request.waited()));
        if time.is_zero() || !self.has_room(&mut waiting, &state) {
            return Route::Reply(state.reply(Page::Unreachable));
        }
        waiting.push(Some(&entry.key), request.defer());
        Route::Later { time, otherwise: state.reply(Page::Unreachable) }
    }

    /// Returns whether one more request may wait.
    fn has_room(&self, waiting: &mut Waiting<Decider>, state: &State) -> bool {
        if waiting.len() >= state.hold_requests {
            let gone = waiting.retain(Decider::is_waiting);
            self.count_unavailable(gone);
        }
        waiting.len() < state.hold_requests
    }

    /// Lets the requests go on that wait for a route.
    fn wake(&self, key: &RouteKey) {
        self.hold.lock().take(key).into_iter().for_each(Decider::again);
    }

    /// Lets the requests go on that wait for the routes to be known.
    fn wake_early(&self) {
        self.hold.lock().take_early().into_iter().for_each(Decider::again);
    }

    fn count_unavailable(&self, requests: usize) {
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        self.counters.unavailable.fetch_add(requests, Ordering::Relaxed);
    }

    /// Answers a challenge from the directory, or routes the request if there is no such file: the
    /// container may have an ACME client of its own.
    fn answer_challenge(
        self: &Arc<Self>,
        challenges: &acme::Challenges,
        token: &str,
        request: &RouteRequest<'_>,
        state: &State,
    ) -> Route {
        let Ok(hops) = self.mark.add(&request.head().fields) else {
            return Route::Reply(state.reply(Page::Loop));
        };
        let question = Question::new(request.head(), hops);
        let shared = Arc::clone(self);
        challenges.ask(token, request.defer(), move || {
            let state = shared.state.load();
            match state.answer(&question, shared.now()) {
                Choice::To(destination) => shared.send_on(destination),
                Choice::NotFound => shared.not_found(&state),
                Choice::Hold(_) | Choice::Early => shared.unavailable(&state),
            }
        });
        Route::Later { time: acme::TIME, otherwise: state.reply(Page::Unavailable) }
    }
}

#[cfg(test)]
mod tests;
