//! The tracker: which requests it makes, and what it tells, in every order of what happens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::event::Hint;
use super::super::list::{Listed, Listing};
use super::super::tracker::{
    Action, Answer, DEBOUNCE, Input, PARALLEL, RESYNC, STOPPED_FIRST, STOPPED_INTERVAL, Tracker,
};
use super::*;

/// A tracker with a clock.
struct Bench {
    tracker: Tracker,
    now: Instant,
}

fn read_of(id: &str, started: u64) -> Read {
    let records = vec![record(id, id, started, None, RecordState::Live)];
    Read { node: node(), records, unrouted: None, probe: false }
}

fn probed(id: &str, started: u64) -> Read {
    let address = Some("192.0.2.1:80".parse().unwrap());
    let records = vec![record(id, id, started, address, RecordState::Down("waiting".into()))];
    Read { node: node(), records, unrouted: None, probe: true }
}

fn list(ids: &[(&str, u64)]) -> Input {
    list_with(ids, &[])
}

/// A list with stopped containers, of which each has its fingerprint and when it was created.
fn list_with(ids: &[(&str, u64)], stopped: &[(&str, i64)]) -> Input {
    let listed = |&(id, fingerprint): &(&str, u64), stopped| Listed {
        id: id.into(),
        title: id.into(),
        fingerprint,
        stopped,
    };
    let stopped = stopped.iter().map(|&(id, created)| listed(&(id, 1), Some(created)));
    let entries = stopped.chain(ids.iter().map(|entry| listed(entry, None))).collect();
    Input::Listed(Ok(Listing { entries, again: RESYNC }))
}

fn event(id: &str) -> Input {
    Input::Event(Some(Hint::Container(id.into())), Some(7))
}

fn inspect(id: &str) -> Action {
    Action::Inspect(id.into())
}

impl Bench {
    fn new() -> Self {
        let now = now();
        Self { tracker: Tracker::new(node(), now), now }
    }

    /// One that follows, with these containers.
    fn following(ids: &[&str]) -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.actions(), [Action::Open(None)]);
        assert_eq!(bench.on(Input::Opened), [Action::List]);
        let entries: Vec<_> = ids.iter().map(|&id| (id, 1)).collect();
        let mut waiting = VecDeque::from(bench.on(list(&entries)));
        while let Some(Action::Inspect(id)) = waiting.pop_front() {
            let read = read_of(&id, 1);
            waiting.extend(bench.on(Input::Inspected(id, Answer::Read(read))));
        }
        bench
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.tracker.next(self.now)).collect()
    }

    fn on(&mut self, input: Input) -> Vec<Action> {
        let epoch = self.tracker.epoch();
        self.tracker.apply(epoch, input, self.now);
        self.actions()
    }

    fn inspected(&mut self, id: &str, read: Read) -> Vec<Action> {
        self.on(Input::Inspected(id.into(), Answer::Read(read)))
    }

    /// Lets time pass until there is something to do.
    fn wait(&mut self) -> (Duration, Vec<Action>) {
        let deadline = self.tracker.deadline().expect("something to wait for");
        let waited = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        (waited, self.actions())
    }

    fn sleep(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.actions()
    }
}

/// Returns the one change that is told, and how many records are in it.
fn told(actions: &[Action]) -> (&'static str, usize) {
    match actions {
        [Action::Send(Change::Sync { records, .. })] => ("sync", records.len()),
        [Action::Send(Change::Owner { records, .. })] => ("owner", records.len()),
        [Action::Send(Change::Stale(_))] => ("stale", 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_update_has_all_containers_and_each_is_inspected_once() {
    let mut bench = Bench::new();
    bench.actions();
    assert_eq!(bench.on(Input::Opened), [Action::List]);
    // What happens before the list is there is not told before all is.
    assert_eq!(bench.on(event("c")), []);
    assert_eq!(bench.sleep(Duration::from_millis(10)), []);
    assert_eq!(bench.on(list(&[("a", 1), ("b", 1)])), [inspect("c"), inspect("a"), inspect("b")]);
    assert_eq!(bench.inspected("c", read_of("c", 1)), []);
    assert_eq!(bench.inspected("a", read_of("a", 1)), []);
    assert_eq!(told(&bench.on(Input::Inspected("b".into(), Answer::Gone))), ("sync", 2));
    assert_eq!(bench.wait(), (RESYNC, vec![Action::List]));
}

#[test]
fn a_daemon_without_containers_is_told_too() {
    let mut bench = Bench::new();
    bench.actions();
    bench.on(Input::Opened);
    let [Action::Send(Change::Sync { nodes, .. })] = &bench.on(list(&[]))[..] else { panic!("no update") };
    assert_eq!(nodes[..], [node()]);
}

#[test]
fn only_a_few_are_inspected_at_a_time() {
    let names: Vec<String> = (0..=PARALLEL).map(|n| format!("c{n:02}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut bench = Bench::new();
    bench.actions();
    bench.on(Input::Opened);
    assert_eq!(bench.on(list(&entries)).len(), PARALLEL);
    assert_eq!(bench.inspected("c03", read_of("c03", 1)), [inspect(&names[PARALLEL])]);
}

fn stopped(id: &str) -> Read {
    let records = vec![record(id, id, 1, None, RecordState::Stopped)];
    Read { node: node(), records, unrouted: None, probe: false }
}

#[test]
fn stopped_ones_come_after_those_that_run_and_those_created_last_come_first() {
    let mut bench = Bench::new();
    bench.actions();
    bench.on(Input::Opened);
    let names: Vec<String> = (0..STOPPED_FIRST + 2).map(|n| format!("s{n:04}")).collect();
    let entries: Vec<_> = (0..).zip(&names).map(|(n, name)| (name.as_str(), n)).collect();
    assert_eq!(bench.on(list_with(&[("web", 1)], &entries)), [inspect("web")]);
    assert_eq!(bench.inspected("web", read_of("web", 1)), []);
    let mut waiting = VecDeque::from(bench.sleep(DEBOUNCE));
    let mut seen = Vec::new();
    while let Some(Action::Inspect(id)) = waiting.pop_front() {
        seen.push(id.to_string());
        let actions = bench.inspected(&id, stopped(&id));
        match seen.len() == STOPPED_FIRST {
            true => assert_eq!(told(&actions), ("sync", STOPPED_FIRST + 1)),
            false => waiting.extend(actions),
        }
    }
    // Those at a time have no order.
    seen.sort();
    assert_eq!(seen, names[2..]);
    // The others follow slowly; what happens meanwhile does not wait.
    bench.on(event("web"));
    assert_eq!(bench.wait(), (DEBOUNCE, vec![inspect("web")]));
    assert_eq!(bench.inspected("web", read_of("web", 1)), []);
    assert_eq!(bench.wait(), (STOPPED_INTERVAL - DEBOUNCE, vec![inspect("s0001")]));
    assert_eq!(told(&bench.inspected("s0001", stopped("s0001"))), ("owner", 1));
    // One that is started before its time is inspected then.
    bench.on(event("s0000"));
    assert_eq!(bench.wait(), (DEBOUNCE, vec![inspect("s0000")]));
    assert_eq!(told(&bench.inspected("s0000", read_of("s0000", 1))), ("owner", 1));
    assert_eq!(bench.wait().1, [Action::List]);
    assert_eq!(bench.on(list_with(&[("web", 1), ("s0000", 2)], &entries[1..])), [inspect("s0000")]);
}

#[test]
fn one_that_has_stopped_unseen_is_inspected_at_once() {
    let mut bench = Bench::following(&["a"]);
    assert_eq!(bench.wait().1, [Action::List]);
    assert_eq!(bench.on(list_with(&[], &[("a", 1)])), []);
    bench.wait();
    let Input::Listed(Ok(mut list)) = list_with(&[], &[("a", 1)]) else { panic!("a list") };
    list.entries[0].fingerprint = 2;
    assert_eq!(bench.on(Input::Listed(Ok(list))), [inspect("a")]);
}

#[test]
fn what_happens_during_an_inspection_is_inspected_again() {
    let mut bench = Bench::following(&["a"]);
    assert_eq!(bench.on(event("a")), []);
    assert_eq!(bench.on(event("a")), []);
    assert_eq!(bench.wait(), (Duration::from_millis(3), vec![inspect("a")]));
    assert_eq!(bench.on(event("a")), []);
    let actions = bench.inspected("a", read_of("a", 2));
    assert_eq!(told(&actions[..1]), ("owner", 1));
    assert_eq!(actions[1..], [inspect("a")]);
    // Nothing has changed since.
    assert_eq!(bench.inspected("a", read_of("a", 2)), []);
}

/// Its address may be that of another container before the daemon answers.
#[test]
fn one_that_has_ended_is_down_before_it_is_inspected_and_until_it_is_started() {
    let ended = |time| Input::Event(Some(Hint::Ended("a".into())), time);
    let states = |actions: &[Action]| -> Vec<bool> {
        let told = actions.iter().filter_map(|action| match action {
            Action::Send(Change::Owner { records, .. }) => Some(records),
            _ => None,
        });
        told.map(|records| records.iter().all(|record| record.state == RecordState::Live)).collect()
    };
    let mut bench = Bench::following(&["a"]);
    assert_eq!(bench.on(event("a")), []);
    bench.sleep(DEBOUNCE);
    // It is being inspected.
    assert_eq!(states(&bench.on(ended(Some(100)))), [false]);
    // The answer is older than its end.
    assert_eq!(states(&bench.inspected("a", read_of("a", 1))), [false; 0]);
    // It is started again: what was started later than it ended is another run.
    bench.sleep(DEBOUNCE);
    assert_eq!(states(&bench.inspected("a", read_of("a", 101))), [true]);
    // An end that is told late concerns the run before.
    assert_eq!(states(&bench.on(ended(Some(100)))), [false; 0]);
    // Unpaused, it is the same run.
    assert_eq!(states(&bench.on(ended(Some(200)))), [false]);
    bench.on(Input::Event(Some(Hint::Begun("a".into())), Some(300)));
    bench.sleep(DEBOUNCE);
    assert_eq!(states(&bench.inspected("a", read_of("a", 101))), [true]);
}

#[test]
fn events_that_go_on_do_not_put_an_inspection_off() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("a"));
    bench.sleep(Duration::from_millis(2));
    assert_eq!(bench.on(event("a")), []);
    assert_eq!(bench.wait(), (Duration::from_millis(1), vec![inspect("a")]));
}

#[test]
fn one_that_is_gone_is_told_once_and_one_that_never_was_is_not() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("a"));
    bench.on(event("b"));
    assert_eq!(bench.wait().1, [inspect("a"), inspect("b")]);
    let actions = bench.on(Input::Inspected("a".into(), Answer::Gone));
    assert_eq!(actions, [Action::Send(Change::Owner { owner: owner("a"), records: vec![], unrouted: None })]);
    assert_eq!(bench.on(Input::Inspected("b".into(), Answer::Gone)), []);
    assert_eq!(bench.on(Input::Inspected("a".into(), Answer::Gone)), []);
}

#[test]
fn one_that_comes_back_while_it_is_inspected_is_found() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("a"));
    bench.wait();
    bench.on(event("a"));
    let actions = bench.on(Input::Inspected("a".into(), Answer::Gone));
    assert_eq!(told(&actions[..1]), ("owner", 0));
    assert_eq!(actions[1..], [inspect("a")]);
    assert_eq!(told(&bench.inspected("a", read_of("a", 1))), ("owner", 1));
}

#[test]
fn the_next_list_heals_what_lost_events_have_left() {
    let mut bench = Bench::following(&["gone", "moved", "same"]);
    assert_eq!(bench.wait(), (RESYNC, vec![Action::List]));
    let actions = bench.on(list(&[("moved", 2), ("new", 1), ("same", 1)]));
    assert_eq!(actions, [inspect("gone"), inspect("moved"), inspect("new")]);
    let gone = bench.on(Input::Inspected("gone".into(), Answer::Gone));
    assert_eq!(told(&gone), ("owner", 0));
    assert_eq!(told(&bench.inspected("moved", read_of("moved", 2))), ("owner", 1));
    assert_eq!(told(&bench.inspected("new", read_of("new", 1))), ("owner", 1));
    assert_eq!(bench.wait(), (RESYNC, vec![Action::List]));
    assert_eq!(bench.on(list(&[("moved", 2), ("new", 1), ("same", 1)])), []);
}

#[test]
fn hints_about_any_container_bring_the_next_list_forward_once_a_second() {
    let mut bench = Bench::following(&["a"]);
    let any = || Input::Event(Some(Hint::Any), None);
    assert_eq!(bench.on(any()), []);
    assert_eq!(bench.wait(), (Duration::from_secs(1), vec![Action::List]));
    assert_eq!(bench.on(any()), []);
    assert_eq!(bench.on(list(&[("a", 1)])), []);
    assert_eq!(bench.wait(), (Duration::from_secs(1), vec![Action::List]));
    assert_eq!(bench.on(list(&[("a", 1)])), []);
    bench.sleep(Duration::from_secs(30));
    assert_eq!(bench.on(any()), [Action::List]);
}

#[test]
fn a_good_connection_that_ends_is_made_again_at_once() {
    let mut bench = Bench::following(&["a", "b"]);
    bench.on(event("b"));
    bench.wait();
    bench.sleep(Duration::from_secs(10));
    // Without a word, and beginning with the last event.
    assert_eq!(bench.on(Input::Ended("gone".into())), [Action::Open(Some(7))]);
    assert_eq!(bench.on(Input::Opened), [Action::List]);
    // What was being inspected still is to be.
    assert_eq!(bench.on(list(&[("a", 1), ("b", 1)])), [inspect("b")]);
    assert_eq!(told(&bench.inspected("b", read_of("b", 1))), ("sync", 2));
}

#[test]
fn a_daemon_that_is_gone_is_told_and_tried_again_ever_more_slowly() {
    let mut bench = Bench::following(&["a"]);
    bench.sleep(Duration::from_secs(10));
    assert_eq!(bench.on(Input::Ended("gone".into())), [Action::Open(None)]);
    assert_eq!(told(&bench.on(Input::Ended("refused".into()))), ("stale", 0));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (pause, actions) = bench.wait();
        assert_eq!(actions, [Action::Open(None)]);
        pauses.push(pause.as_millis());
        // Told once.
        assert_eq!(bench.on(Input::Ended("refused".into())), []);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    bench.wait();
    assert_eq!(told(&bench.on(Input::Ended("no permission".into()))), ("stale", 0));
    bench.wait();
    assert_eq!(bench.on(Input::Opened), [Action::List]);
    assert_eq!(told(&bench.on(list(&[("a", 1)]))), ("sync", 1));
    // After a good connection it begins anew.
    bench.sleep(Duration::from_secs(10));
    bench.on(Input::Ended("gone".into()));
    bench.on(Input::Ended("refused".into()));
    assert_eq!(bench.wait().0, Duration::from_millis(100));
}

#[test]
fn a_connection_that_keeps_ending_is_no_storm() {
    let mut bench = Bench::following(&["a"]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        bench.on(Input::Ended("closed".into()));
        pauses.push(bench.wait().0.as_millis());
        bench.on(Input::Opened);
        bench.on(list(&[("a", 1)]));
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
}

#[test]
fn a_daemon_that_does_not_list_is_not_there() {
    let mut bench = Bench::following(&["a"]);
    bench.wait();
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.on(Input::Listed(Err("forbidden".into()))), [Action::Open(None)]);
    bench.on(Input::Opened);
    assert_eq!(told(&bench.on(Input::Listed(Err("forbidden".into())))), ("stale", 0));
}

#[test]
fn what_belongs_to_an_earlier_connection_is_ignored() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("a"));
    bench.wait();
    let epoch = bench.tracker.epoch();
    bench.on(Input::Ended("closed".into()));
    for opening in [false, true] {
        if opening {
            assert_eq!(bench.wait().1, [Action::Open(Some(7))]);
        }
        for input in [
            Input::Inspected("a".into(), Answer::Gone),
            Input::Ended("closed".into()),
            Input::Opened,
            list(&[]),
        ] {
            bench.tracker.apply(epoch, input, bench.now);
            assert_eq!(bench.actions(), []);
        }
    }
    bench.on(Input::Opened);
    assert_eq!(bench.on(list(&[("a", 1)])), [inspect("a")]);
    assert_eq!(told(&bench.inspected("a", read_of("a", 1))), ("sync", 1));
}

#[test]
fn one_container_that_hangs_does_not_keep_the_others_waiting() {
    let mut bench = Bench::new();
    bench.actions();
    bench.on(Input::Opened);
    assert_eq!(bench.on(list(&[("a", 1), ("hangs", 1)])).len(), 2);
    bench.inspected("a", read_of("a", 1));
    let (waited, actions) = bench.wait();
    assert_eq!((waited, told(&actions)), (Duration::from_secs(5), ("sync", 1)));
    assert_eq!(told(&bench.inspected("hangs", read_of("hangs", 1))), ("owner", 1));
}

#[test]
fn one_that_cannot_be_inspected_says_why_and_is_tried_again() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("b"));
    bench.wait();
    let failed = |id: &str| Input::Inspected(id.into(), Answer::Failed("no response".into()));
    let actions = bench.on(failed("b"));
    let [Action::Send(Change::Owner { records, unrouted: Some(unrouted), .. })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(records.is_empty());
    assert_eq!(unrouted.reason.raw(), "the container cannot be inspected: no response");
    let mut pauses = Vec::new();
    for _ in 0..11 {
        let failed_at = bench.now;
        // A list in between is not answered.
        while bench.wait().1 != [inspect("b")] {}
        pauses.push((bench.now - failed_at).as_millis());
        assert_eq!(bench.on(failed("b")), []);
    }
    assert_eq!(pauses[..5], [100, 200, 400, 800, 1600]);
    assert_eq!(pauses[8..], [25_600, 51_200, 60_000]);
    bench.wait();
    assert_eq!(told(&bench.inspected("b", read_of("b", 1))), ("owner", 1));
    bench.on(event("b"));
    bench.wait();
    bench.on(failed("b"));
    assert_eq!(bench.wait(), (Duration::from_millis(100), vec![inspect("b")]));
    bench.inspected("b", read_of("b", 1));

    // One that had a route keeps it.
    bench.on(event("a"));
    bench.wait();
    assert_eq!(bench.on(failed("a")), []);
    // An event does not wait for the next attempt.
    bench.on(event("a"));
    assert_eq!(bench.wait(), (Duration::from_millis(3), vec![inspect("a")]));
}

/// Takes a container to the state in which its port is probed; returns the ticket.
fn probing(bench: &mut Bench, started: u64) -> u64 {
    bench.on(event("a"));
    bench.wait();
    let actions = bench.inspected("a", probed("a", started));
    let [Action::Probe(_, ticket, addresses), Action::Send(_)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(addresses[..], ["192.0.2.1:80".parse::<SocketAddr>().unwrap()]);
    *ticket
}

fn accepts(bench: &mut Bench, ticket: u64) -> Vec<Action> {
    bench.tracker.accepts(&"a".into(), ticket, "192.0.2.1:80".parse().unwrap());
    bench.actions()
}

fn is_live(actions: &[Action]) -> bool {
    let [Action::Send(Change::Owner { records, .. })] = actions else { panic!("{actions:?}") };
    records[0].state == RecordState::Live
}

#[test]
fn a_record_is_live_when_its_port_accepts_and_stays_so() {
    let mut bench = Bench::following(&["a"]);
    let ticket = probing(&mut bench, 2);
    assert!(is_live(&accepts(&mut bench, ticket)));
    bench.on(event("a"));
    bench.wait();
    assert_eq!(bench.inspected("a", probed("a", 2)), []);
    // With another name it is another record, and still live.
    bench.on(event("a"));
    bench.wait();
    let mut renamed = probed("a", 2);
    renamed.records[0].title = "b".into();
    assert!(is_live(&bench.inspected("a", renamed)));
    // At another address it has to accept again.
    bench.on(event("a"));
    bench.wait();
    let mut moved = probed("a", 2);
    moved.records[0].target.as_mut().unwrap().address = Origin::Ip("192.0.2.2:80".parse().unwrap());
    let actions = bench.inspected("a", moved);
    assert!(matches!(actions[0], Action::Probe(..)) && !is_live(&actions[1..]));
    // So it has after a restart.
    let second = probing(&mut bench, 3);
    assert_eq!(accepts(&mut bench, ticket), []);
    assert!(is_live(&accepts(&mut bench, second)));
}

#[test]
fn a_probe_goes_on_over_an_inspection_and_ends_with_the_container() {
    let mut bench = Bench::following(&["a"]);
    let ticket = probing(&mut bench, 2);
    bench.on(event("a"));
    bench.wait();
    assert_eq!(bench.inspected("a", probed("a", 2)), []);
    bench.on(event("a"));
    bench.wait();
    let actions = bench.on(Input::Inspected("a".into(), Answer::Gone));
    assert!(
        matches!(&actions[..], [Action::Probe(_, _, addresses), Action::Send(_)] if addresses.is_empty())
    );
    assert_eq!(accepts(&mut bench, ticket), []);
}

#[test]
fn a_record_that_is_down_for_another_reason_is_not_probed() {
    let mut bench = Bench::following(&["a"]);
    bench.on(event("a"));
    bench.wait();
    assert_eq!(told(&bench.inspected("a", Read { probe: false, ..probed("a", 2) })), ("owner", 1));
}

#[test]
fn the_nodes_of_all_containers_are_told() {
    let mut bench = Bench::new();
    bench.actions();
    bench.on(Input::Opened);
    bench.on(list(&[("a", 1), ("b", 1), ("c", 1)]));
    let other = Node { name: "two".parse().unwrap(), gateway: None };
    for id in ["a", "b", "c"] {
        let node = if id == "a" { node() } else { other.clone() };
        let actions = bench.inspected(id, Read { node, ..read_of(id, 1) });
        if id == "c" {
            let [Action::Send(Change::Sync { nodes, .. })] = &actions[..] else { panic!("{actions:?}") };
            assert_eq!(nodes[..], [super::node(), other.clone()]);
        }
    }
    bench.on(event("b"));
    bench.wait();
    let actions = bench.on(Input::Inspected("b".into(), Answer::Gone));
    let [Action::Send(Change::Owner { owner, .. })] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(owner.node, other.name);
}
