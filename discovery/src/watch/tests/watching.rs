//! A watcher and a daemon: what is known at the end, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::super::tracker::STOPPED_FIRST;
use super::daemon::{Daemon, ok, status};
use super::*;

pub(super) const LONG: Duration = Duration::from_secs(10);

/// What a watcher has told.
pub(super) struct View {
    watcher: Option<Watcher>,
    updates: Receiver<Update>,
    pub(super) records: BTreeMap<String, Vec<Record>>,
    unrouted: BTreeMap<String, String>,
    /// Why the daemon cannot be reached.
    pub(super) stale: Option<String>,
    syncs: usize,
}

impl View {
    fn of(daemon: &Daemon) -> Self {
        Self::start(|sink| {
            Watcher::start(daemon.client(), "docker:test".into(), node(), Arc::new(reader), sink)
        })
    }

    /// Starts a watcher with a sink.
    pub(super) fn start(
        start: impl FnOnce(Box<dyn FnMut(Update) -> bool + Send>) -> io::Result<Watcher>,
    ) -> Self {
        let (sender, updates) = channel();
        let watcher = start(Box::new(move |update| sender.send(update).is_ok())).unwrap();
        let (records, unrouted) = (BTreeMap::new(), BTreeMap::new());
        Self { watcher: Some(watcher), updates, records, unrouted, stale: None, syncs: 0 }
    }

    fn synced(daemon: &Daemon) -> Self {
        let mut view = Self::of(daemon);
        view.until("the first sync", |view| view.syncs == 1);
        view
    }

    fn apply(&mut self, update: Update) {
        let text = |text: &Text| text.raw().to_owned();
        match update.change {
            Change::Sync { records, unrouted, .. } => {
                self.syncs += 1;
                self.stale = None;
                self.records.clear();
                for record in records {
                    self.records.entry(text(&record.id.owner)).or_default().push(record);
                }
                self.unrouted =
                    unrouted.iter().map(|one| (text(&one.owner.owner), text(&one.reason))).collect();
            }
            Change::Owner { owner, records, unrouted } => {
                self.records.remove(owner.owner.raw());
                self.unrouted.remove(owner.owner.raw());
                if !records.is_empty() {
                    self.records.insert(text(&owner.owner), records);
                }
                self.unrouted.extend(unrouted.map(|one| (text(&one.owner.owner), text(&one.reason))));
            }
            Change::Stale(reason) => self.stale = Some(text(&reason)),
            Change::Gone => self.records.clear(),
        }
    }

    /// Takes updates until something holds.
    pub(super) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let update =
                self.updates.recv_timeout(LONG).unwrap_or_else(|_| panic!("{what}: {:?}", self.names()));
            self.apply(update);
        }
    }

    /// Returns the name of each container that has a live record.
    pub(super) fn names(&self) -> Vec<String> {
        let live = self.records.values().flatten().filter(|record| record.state == RecordState::Live);
        live.map(|record| record.title.raw().to_owned()).collect()
    }

    pub(super) fn until_names(&mut self, names: &[&str]) {
        self.until(&format!("{names:?}"), |view| view.names() == names);
    }
}

#[test]
fn a_thousand_containers_are_synced_in_two_seconds_and_each_is_inspected_once() {
    let names: Vec<String> = (0..1000).map(|n| format!("c{n:04}")).collect();
    let daemon = Daemon::start(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let began = now();
    let view = View::synced(&daemon);
    let took = began.elapsed();
    assert_eq!(view.names(), names);
    let state = daemon.lock();
    assert!(state.inspected.values().all(|&times| times == 1));
    assert_eq!((state.inspected.len(), state.lists, state.subscriptions.len()), (1000, 1, 1));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(daemon.busiest.load(Ordering::SeqCst) <= PARALLEL);
}

#[test]
fn thousands_of_stopped_containers_do_not_keep_those_that_run_waiting() {
    let daemon = Daemon::start(&[]);
    for n in 0..5000 {
        daemon.put(&format!("s{n:04}"), &format!("s{n:04}"), false);
    }
    for n in 0..1000 {
        daemon.put(&format!("c{n:04}"), &format!("c{n:04}"), true);
    }
    let began = now();
    let mut view = View::synced(&daemon);
    let took = began.elapsed();
    assert_eq!(view.names().len(), 1000);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Those that were created last, and a little later all of them.
    let known = view.records.len();
    assert!((1000 + STOPPED_FIRST..2000).contains(&known), "{known}");
    assert!(view.records.contains_key("s4999") && !view.records.contains_key("s0000"));
    view.until("the next one", |view| view.records.len() > known);
    assert!(daemon.lock().inspected.values().all(|&times| times == 1));
}

#[test]
fn containers_come_change_and_go() {
    let daemon = Daemon::start(&["a"]);
    let mut view = View::synced(&daemon);
    view.until_names(&["a"]);
    daemon.put("b", "b", false);
    daemon.emit("container", "create", "b");
    view.until("b is down", |view| view.records.contains_key("b"));
    daemon.put("b", "b", true);
    daemon.emit("container", "start", "b");
    view.until_names(&["a", "b"]);
    daemon.put("a", "a", false);
    daemon.emit("container", "pause", "a");
    view.until_names(&["b"]);
    daemon.put("a", "a", true);
    daemon.emit("container", "unpause", "a");
    view.until_names(&["a", "b"]);
    daemon.put("a", "c", true);
    daemon.emit("container", "rename", "a");
    view.until_names(&["c", "b"]);
    daemon.remove("a");
    daemon.emit("container", "destroy", "a");
    view.until_names(&["b"]);
    daemon.put("b", "b", false);
    daemon.emit("network", "disconnect", "b");
    view.until_names(&[]);
}

#[test]
fn a_lost_event_is_healed_by_the_next_list() {
    let daemon = Daemon::start(&["a", "b", "c"]);
    let mut view = View::synced(&daemon);
    daemon.remove("a");
    daemon.put("b", "b", false);
    daemon.put("d", "d", true);
    daemon.emit("daemon", "reload", "x");
    view.until_names(&["c", "d"]);
    let state = daemon.lock();
    assert_eq!(state.inspected["c"], 1);
    assert_eq!(state.lists, 2);
}

#[test]
fn what_happens_during_the_sync_is_seen() {
    let daemon = Daemon::start(&["a", "b", "c"]);
    let mut done = false;
    daemon.before_inspection(move |daemon, _| {
        if !std::mem::replace(&mut done, true) {
            // The list was sent. Others are being inspected at this time.
            daemon.remove("a");
            daemon.emit("container", "destroy", "a");
            daemon.put("b", "b", false);
            daemon.emit("container", "die", "b");
            daemon.put("d", "d", true);
            daemon.emit("container", "start", "d");
        }
    });
    View::of(&daemon).until_names(&["c", "d"]);
}

#[test]
fn a_connection_that_was_cut_is_made_again_and_what_was_missed_is_seen() {
    let daemon = Daemon::start(&["a", "b"]);
    let mut view = View::synced(&daemon);
    daemon.emit("container", "start", "b");
    view.until_names(&["a", "b"]);
    for round in 0..3 {
        daemon.put("a", "a", round % 2 == 1);
        daemon.cut();
        view.until("stale", |view| view.stale.is_some());
        let why = view.stale.clone().unwrap();
        assert!(
            why.starts_with("GET /events: the connection to the Docker daemon at unix://@dockline"),
            "{why}"
        );
        assert!(why.ends_with(" is lost: the response was cut"), "{why}");
        view.until("the next sync", |view| view.syncs == round + 2);
        assert_eq!(view.names(), if round % 2 == 1 { &["a", "b"][..] } else { &["b"] });
        assert_eq!(view.stale, None);
    }
    let state = daemon.lock();
    assert!(state.subscriptions[1].ends_with("&since=1700000000.000000042"), "{:?}", state.subscriptions);
}

#[test]
fn a_daemon_that_stops_is_stale_and_its_records_stay_until_it_is_back() {
    let daemon = Daemon::start(&["a", "b"]);
    let mut view = View::synced(&daemon);
    daemon.stop();
    view.until("stale", |view| view.stale.is_some());
    view.until("why", |view| {
        view.stale.as_ref().is_some_and(|why| why.contains("cannot connect to the Docker daemon"))
    });
    assert_eq!(view.names(), ["a", "b"]);
    daemon.remove("a");
    daemon.put("b", "b", true);
    daemon.resume();
    view.until("the next sync", |view| view.syncs == 2);
    assert_eq!((view.names(), view.stale), (vec!["b".to_owned()], None));
}

#[test]
fn garbage_among_events_does_no_harm() {
    let daemon = Daemon::start(&["a"]);
    let mut view = View::synced(&daemon);
    daemon.send("\u{1e}{\"Type\":1}\n{}{\"Actor\":[]}\n");
    daemon.put("b", "b", true);
    daemon.emit("container", "start", "b");
    view.until_names(&["a", "b"]);
    // An event that is too long may have been about any container.
    daemon.put("c", "c", true);
    daemon.send(&format!("{{\"x\":\"{}\"}}", "x".repeat(2 * 1024 * 1024)));
    view.until_names(&["a", "b", "c"]);
    assert_eq!(daemon.lock().subscriptions.len(), 1);
    daemon.put("d", "d", true);
    daemon.send("hello");
    view.until_names(&["a", "b", "c", "d"]);
    assert_eq!(daemon.lock().subscriptions.len(), 2);
}

#[test]
fn a_container_that_cannot_be_read_says_why_and_the_others_are_read() {
    let daemon = Daemon::start(&["a", "broken", "huge", "long", "odd"]);
    let mut longest = daemon.lock().containers["long"].inspect("long");
    longest.push_str(&" ".repeat(1024 * 1024 - longest.len()));
    daemon.put("p", "panic", true);
    daemon.lock().instead.insert("/long/json", ok(&longest));
    daemon.lock().instead.insert("/huge/json", ok(&format!("{longest} ")));
    daemon.lock().instead.insert("/broken/json", status(500));
    daemon.lock().instead.insert("/odd/json", ok("[]"));
    let mut view = View::synced(&daemon);
    assert_eq!(view.names(), ["a", "long"]);
    for (id, why) in [
        ("huge", "longer than 1048576 bytes"),
        ("broken", "status 500"),
        ("odd", "invalid length 0"),
        ("p", "a bug of dockline"),
    ] {
        assert!(view.unrouted[id].contains(why), "{}", view.unrouted[id]);
    }
    daemon.put("p", "p", true);
    daemon.lock().instead.clear();
    view.until_names(&["a", "broken", "huge", "long", "odd", "p"]);
}

#[test]
fn a_daemon_that_refuses_says_so() {
    let daemon = Daemon::start(&["a"]);
    daemon.lock().instead.insert("/containers/json?all=1", status(403));
    let mut view = View::of(&daemon);
    view.until("stale", |view| view.stale.is_some());
    assert_eq!(
        view.stale.as_deref(),
        Some(
            "GET /containers/json: status 403: whatever is in front of it, such as a socket proxy, has to allow this \
             operation"
        )
    );
    daemon.lock().instead.clear();
    view.until_names(&["a"]);
}

#[test]
fn the_last_update_is_that_its_records_are_gone() {
    let daemon = Daemon::start(&["a"]);
    let (entered, waiting) = channel();
    let mut view = View::synced(&daemon);
    daemon.before_inspection(move |_, _| {
        // The daemon never answers.
        entered.send(()).unwrap();
        thread::park();
    });
    daemon.emit("container", "start", "a");
    waiting.recv_timeout(LONG).unwrap();
    let began = now();
    view.watcher = None;
    let last = view.updates.iter().last().unwrap();
    assert_eq!(last, Update { source: "docker:test".into(), change: Change::Gone });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_watcher_that_has_ended_leaves_no_connection() {
    let daemon = Daemon::start(&["a"]);
    let mut view = View::synced(&daemon);
    assert!(daemon.open.load(Ordering::SeqCst) > 0);
    let began = now();
    view.watcher = None;
    while daemon.open.load(Ordering::SeqCst) > 0 {
        assert!(began.elapsed() < Duration::from_secs(5));
        thread::yield_now();
    }
}

#[test]
fn a_sink_that_wants_no_more_gets_no_more() {
    let daemon = Daemon::start(&["a"]);
    let (sender, updates) = channel();
    let sink = move |update: Update| {
        sender.send(update).unwrap();
        false
    };
    let watcher = Watcher::start(daemon.client(), "x".into(), node(), Arc::new(reader), sink).unwrap();
    assert_eq!(updates.iter().count(), 1);
    drop(watcher);
}

#[test]
fn a_change_is_told_within_milliseconds() {
    let daemon = Daemon::start(&["a"]);
    let mut view = View::synced(&daemon);
    let mut times: Vec<Duration> = (0..200)
        .map(|round| {
            let began: Instant = now();
            daemon.put("a", "a", round % 2 == 1);
            daemon.emit("container", "start", "a");
            view.until("the change", |view| view.names().is_empty() == (round % 2 == 0));
            began.elapsed()
        })
        .collect();
    times.sort();
    // In half of the cases: a machine that runs many tests may pause any of them.
    assert!(times[100] < Duration::from_millis(20), "{times:?}");
}
