use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin; the test moves the time itself")]
    Instant::now()
}

fn due(timers: &mut Timers, now: Instant) -> Vec<u32> {
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
    // The clock goes back, which changes nothing.
    assert_eq!(due(&mut timers, zero + 900 * MS), [1, 2]);
}

#[test]
fn one_timer_each_and_no_room_but_for_them() {
    let zero = start();
    let mut timers = Timers::new(zero);
    assert_eq!((timers.levels.capacity(), timers.room()), (0, 0));
    for round in 0..100 {
        for number in 0..1000 {
            timers.schedule(number, zero + 300_000 * MS - round * 1000 * MS + number * MS);
        }
        assert_eq!((timers.len(), timers.room()), (1000, 1024));
    }
    // The last ones are valid.
    assert_eq!(due(&mut timers, zero + 201_000 * MS - NS).len(), 0);
    assert_eq!(due(&mut timers, zero + 86_400_000 * MS), (0..1000).collect::<Vec<_>>());
    assert_eq!((timers.len(), timers.room(), timers.next()), (0, 0, None));
}

#[test]
fn what_is_cancelled_never_comes() {
    let zero = start();
    let mut timers = Timers::new(zero);
    timers.cancel(0);
    for number in 0..300 {
        timers.schedule(number, zero + (number / 3) * 10_000 * MS);
    }
    // From the front, the middle and the end of the lists, and all of some.
    for number in (0..300).filter(|number| number % 2 == 0 || number % 9 < 3) {
        timers.cancel(number);
        timers.cancel(number);
    }
    let left: Vec<u32> = (0..300).filter(|number| number % 2 == 1 && number % 9 >= 3).collect();
    assert_eq!(timers.len(), left.len());
    assert_eq!(due(&mut timers, zero + 86_400_000 * MS), left);
    assert_eq!(timers.next(), None);
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
    Schedule(u32, Duration),
    SchedulePast(u32, Duration),
    Cancel(u32),
    Advance(Duration),
    Back(Duration),
    /// Advances to what `next` returns until a timer expires.
    Next,
}

/// So few that they meet their own timers often, and so many that they share slots.
fn number() -> impl Strategy<Value = u32> {
    (0u32..40).prop_map(|number| number * 7)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (number(), span()).prop_map(|(number, span)| Step::Schedule(number, span)),
        1 => (number(), span()).prop_map(|(number, span)| Step::SchedulePast(number, span)),
        4 => number().prop_map(Step::Cancel),
        3 => span().prop_map(Step::Advance),
        1 => (0u64..50_000_000).prop_map(|ns| Step::Back(Duration::from_nanos(ns))),
        4 => Just(Step::Next),
    ]
}

proptest! {
    /// Compared with a map: no timer expires early, later than a tick, twice, or after it was moved
    /// or cancelled; and `next` leads there in few steps.
    #[test]
    fn like_a_map(steps in vec(step(), 1..300)) {
        let zero = start();
        let tick = Duration::from_millis(TICK);
        let mut timers = Timers::new(zero);
        let mut model = BTreeMap::new();
        let mut latest = zero;
        for step in steps {
            let mut turns = Vec::new();
            match step {
                Step::Schedule(number, after) => {
                    timers.schedule(number, latest + after);
                    model.insert(number, latest + after);
                }
                Step::SchedulePast(number, ago) => {
                    let at = latest.checked_sub(ago).unwrap_or(zero);
                    timers.schedule(number, at);
                    model.insert(number, at);
                }
                Step::Cancel(number) => {
                    timers.cancel(number);
                    model.remove(&number);
                }
                Step::Advance(by) => turns.push(due(&mut timers, latest + by)),
                Step::Back(by) => turns.push(due(&mut timers, latest.checked_sub(by).unwrap_or(zero))),
                Step::Next => {
                    while let Some(next) = timers.next() {
                        latest = latest.max(next);
                        turns.push(due(&mut timers, next));
                        if turns.iter().any(|turn| !turn.is_empty()) {
                            break;
                        }
                    }
                    prop_assert!(turns.len() <= timers.levels.len(), "in vain: {}", turns.len());
                }
            }
            if let Step::Advance(by) = step {
                latest += by;
            }
            for number in turns.iter().flatten() {
                let at = model.remove(number);
                prop_assert!(at.is_some_and(|at| at <= latest), "{} early, twice or cancelled", number);
            }
            let first = model.values().min().copied();
            prop_assert!(turns.is_empty() || first.is_none_or(|at| at + tick > latest), "late");
            prop_assert_eq!(timers.len(), model.len());
            prop_assert!(timers.room() <= 64 * model.len());
            prop_assert_eq!(timers.next().is_some(), first.is_some());
            if let (Some(next), Some(first)) = (timers.next(), first) {
                prop_assert!(next < latest.max(first) + tick, "next");
            }
        }
    }
}
