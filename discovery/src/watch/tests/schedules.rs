//! The tracker under random schedules: whatever is lost, late or repeated, what it has told is
//! right as soon as nothing happens any more.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::event::Hint;
use super::super::list::{Listed, Listing};
use super::super::tracker::{Action, Answer, Input, PARALLEL, RESYNC, Tracker};
use super::*;

/// Pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A daemon, the requests that are under way, and what the receiver of the updates knows.
struct World {
    random: Random,
    now: Instant,
    tracker: Tracker,
    /// The containers, and how often each has changed.
    containers: BTreeMap<String, u64>,
    changes: u64,
    connected: bool,
    /// What is on its way to the tracker. Answers were made when the request arrived.
    inputs: VecDeque<(u64, Input)>,
    /// Events keep their order, and are no faster than the connection.
    events: VecDeque<(u64, Input)>,
    known: BTreeMap<String, u64>,
    inspecting: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = now();
        Self {
            random: Random(seed),
            now,
            tracker: Tracker::new(node(), now),
            containers: BTreeMap::new(),
            changes: 0,
            connected: false,
            inputs: VecDeque::new(),
            events: VecDeque::new(),
            known: BTreeMap::new(),
            inspecting: 0,
        }
    }

    /// Changes a container; the event may get lost.
    fn change(&mut self) {
        let id = format!("c{}", self.random.below(6));
        self.changes += 1;
        if self.random.one_in(3) {
            self.containers.remove(&id);
        } else {
            self.containers.insert(id.clone(), self.changes);
        }
        if self.connected && !self.random.one_in(4) {
            let hint = Some(Hint::Container(id.as_str().into()));
            self.events.push_back((self.tracker.epoch(), Input::Event(hint, None)));
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.tracker.next(self.now) {
            let epoch = self.tracker.epoch();
            let input = match action {
                Action::Open(_) => {
                    self.inspecting = 0;
                    self.connected = !self.random.one_in(3);
                    self.events.clear();
                    let opened = if self.connected { Input::Opened } else { Input::Ended("refused".into()) };
                    self.events.push_back((epoch, opened));
                    continue;
                }
                Action::List => Input::Listed(Ok(Listing { entries: self.list(), again: RESYNC })),
                Action::Inspect(id) => {
                    self.inspecting += 1;
                    assert!(self.inspecting <= PARALLEL);
                    let answer = match self.containers.get(&*id) {
                        _ if self.random.one_in(8) => Answer::Failed("busy".into()),
                        Some(&version) => Answer::Read(Read {
                            node: node(),
                            records: vec![record(&id, &id, version, None, RecordState::Live)],
                            unrouted: None,
                            probe: false,
                        }),
                        None => Answer::Gone,
                    };
                    Input::Inspected(id, answer)
                }
                Action::Probe(..) => panic!("nothing is to be probed"),
                Action::Send(change) => {
                    self.learn(change);
                    continue;
                }
            };
            self.inputs.push_back((epoch, input));
        }
    }

    fn list(&self) -> Vec<Listed> {
        let listed = |(id, &fingerprint): (&String, &u64)| Listed {
            id: id.as_str().into(),
            title: id.as_str().into(),
            fingerprint,
            // Some are stopped, which concerns the order only.
            stopped: (fingerprint % 3 == 0).then_some(i64::try_from(fingerprint).unwrap()),
        };
        self.containers.iter().map(listed).collect()
    }

    fn learn(&mut self, change: Change) {
        let versions = |records: Vec<Record>| {
            records.into_iter().map(|record| (record.id.owner.raw().to_owned(), record.started))
        };
        match change {
            Change::Sync { records, .. } => self.known = versions(records).collect(),
            Change::Owner { owner, records, .. } => {
                self.known.remove(owner.owner.raw());
                self.known.extend(versions(records));
            }
            Change::Stale(_) => {}
            Change::Gone => panic!("it is not gone"),
        }
    }

    /// Delivers one input: the next event, or any of the answers.
    fn deliver(&mut self) -> bool {
        let waiting = self.inputs.len() as u64;
        if waiting > 0 && (self.events.is_empty() || self.random.one_in(2)) {
            let place = usize::try_from(self.random.below(waiting)).unwrap();
            let (epoch, input) = self.inputs.remove(place).unwrap();
            if epoch == self.tracker.epoch() && matches!(input, Input::Inspected(..)) {
                self.inspecting = self.inspecting.saturating_sub(1);
            }
            self.tracker.apply(epoch, input, self.now);
        } else if let Some((epoch, input)) = self.events.pop_front() {
            self.tracker.apply(epoch, input, self.now);
        } else {
            return false;
        }
        self.act();
        true
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..5 => self.change(),
            5..12 => drop(self.deliver()),
            12 if self.connected && self.random.one_in(4) => {
                self.connected = false;
                self.events.push_back((self.tracker.epoch(), Input::Ended("cut".into())));
            }
            _ => self.now += Duration::from_millis(self.random.below(20_000)),
        }
        self.act();
    }

    /// Lets everything arrive, and time pass until after the next list.
    fn settle(&mut self) {
        let end = self.now + Duration::from_secs(200);
        while self.now < end {
            while self.deliver() {}
            self.now = self.tracker.deadline().map_or(end, |at| at.max(self.now));
            self.act();
        }
    }
}

#[test]
fn what_was_told_is_right_once_all_is_quiet() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        world.act();
        let steps = world.random.below(200);
        (0..steps).for_each(|_| world.step());
        world.settle();
        assert_eq!(world.known, world.containers, "seed {seed}");
    }
}
