use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin; the test moves the time itself")]
    Instant::now()
}

fn due(timers: &mut Timers<u64>, now: Instant) -> Vec<u64> {
    let mut out = Vec::new();
    timers.expired(now, &mut out);
    out.sort_unstable();
    out
}

#[test]
fn fires_once_not_early_and_within_a_tick() {
    let zero = start();
    for after in [NS, MS, 4 * MS, 4 * MS + NS, 255 * MS, 256 * MS, 300_000 * MS, 86_400_000 * 30 * MS] {
        let mut timers = Timers::new(zero);
        timers.schedule(7, zero + after);
        assert_eq!(due(&mut timers, zero + after - NS), [], "{after:?}");
        let next = timers.next().unwrap();
        assert!(next >= zero + after && next < zero + after + 4 * MS, "{after:?}");
        assert_eq!(due(&mut timers, next), [7], "{after:?}");
        assert_eq!(due(&mut timers, next + 1000 * MS), [], "{after:?}");
        assert_eq!(timers.next(), None);
    }
}

#[test]
fn one_wake_up_for_one_far_timer() {
    let zero = start();
    let mut timers = Timers::new(zero);
    timers.schedule(1, zero + 300_000 * MS);
    assert_eq!(timers.next(), Some(zero + 300_000 * MS));
}

#[test]
fn the_past_is_now() {
    let zero = start();
    let mut timers = Timers::new(zero);
    assert_eq!(due(&mut timers, zero + 1000 * MS), []);
    timers.schedule(1, zero);
    timers.schedule(2, zero + 1000 * MS);
    assert!(timers.next().unwrap() <= zero + 1000 * MS);
    // The clock goes back: that changes nothing.
    assert_eq!(due(&mut timers, zero + 900 * MS), [1, 2]);
}

#[test]
fn empty_takes_no_heap_and_slots_give_theirs_back() {
    let zero = start();
    let mut timers = Timers::new(zero);
    assert_eq!(timers.levels.capacity(), 0);
    for key in 0..100_000 {
        timers.schedule(key, zero + 300_000 * MS + u32::try_from(key).unwrap() * MS);
    }
    assert_eq!(due(&mut timers, zero + 86_400_000 * MS).len(), 100_000);
    assert!(timers.levels.iter().flat_map(|level| &level.slots).all(|slot| slot.capacity() == 0));
}

/// Nanoseconds, minutes, days, whole ticks.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0u64..20_000_000).prop_map(Duration::from_nanos),
        (0u64..400_000).prop_map(Duration::from_millis),
        (0u64..100 * 86_400).prop_map(Duration::from_secs),
        (0u64..64 * 64 * 64).prop_map(|ticks| Duration::from_millis(ticks * TICK)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(Duration),
    SchedulePast(Duration),
    Advance(Duration),
    Back(Duration),
    /// Goes where `next` says.
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => span().prop_map(Step::Schedule),
        1 => span().prop_map(Step::SchedulePast),
        3 => span().prop_map(Step::Advance),
        1 => (0u64..50_000_000).prop_map(|ns| Step::Back(Duration::from_nanos(ns))),
        4 => Just(Step::Next),
    ]
}

proptest! {
    /// Against a sorted set: nothing before its time, nothing later than a tick, each once, and `next` says when.
    #[test]
    fn like_a_sorted_set(steps in vec(step(), 1..200)) {
        let zero = start();
        let tick = Duration::from_millis(TICK);
        let mut timers = Timers::new(zero);
        let mut model = BTreeSet::new();
        let mut latest = zero;
        for (key, step) in (0..).zip(steps) {
            let turn = match step {
                Step::Schedule(after) => Err(latest + after),
                Step::SchedulePast(ago) => Err(latest.checked_sub(ago).unwrap_or(zero)),
                Step::Advance(by) => Ok(latest + by),
                Step::Back(by) => Ok(latest.checked_sub(by).unwrap_or(zero)),
                Step::Next => Ok(timers.next().unwrap_or(latest)),
            };
            match turn {
                Err(at) => {
                    timers.schedule(key, at);
                    model.insert((at, key));
                }
                Ok(now) => {
                    latest = latest.max(now);
                    let before = model.len();
                    for key in due(&mut timers, now) {
                        let entry = model.iter().find(|(_, known)| *known == key).copied();
                        prop_assert!(entry.is_some_and(|(at, _)| at <= latest), "{} early or twice", key);
                        model.remove(&entry.unwrap());
                    }
                    prop_assert!(model.first().is_none_or(|(at, _)| *at + tick > latest), "late");
                    let in_vain = matches!(step, Step::Next) && before > 0 && model.len() == before;
                    prop_assert!(!in_vain, "next was too early");
                }
            }
            prop_assert_eq!(timers.next().is_some(), !model.is_empty());
            if let (Some(next), Some((at, _))) = (timers.next(), model.first()) {
                prop_assert!(next >= *at && next < latest.max(*at) + tick, "next");
            }
        }
    }
}
