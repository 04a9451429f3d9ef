//! A [`ProxyConn`] between a client and daemons that throw dice, on a clock of its own. What either side got is read
//! with the strict readers and held against what the other one said.
//!
//! `DOCKLINE_SIM_SEED=17` replays one schedule; `DOCKLINE_SIM_COUNT=1000000` plays so many.

mod script;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn every_schedule_keeps_the_rules() {
    let seeds = match env("DOCKLINE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..env("DOCKLINE_SIM_COUNT").unwrap_or(4_000),
    };
    let many = seeds.end - seeds.start >= 4_000;
    let mut seen = std::collections::BTreeMap::<String, u64>::new();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        match run {
            Ok(tags) => tags.into_iter().for_each(|tag| *seen.entry(tag).or_default() += 1),
            Err(panic) => {
                eprintln!("replay it with DOCKLINE_SIM_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    // A sweep that never gets anywhere would prove nothing.
    if many {
        for tag in [
            "complete",
            "replied",
            "bad-request",
            "client-timeout",
            "client-aborted",
            "unreachable",
            "bad-response",
            "upstream-timeout",
            "truncated",
            "stopped",
            "Upgrade",
            "RawStream",
            "Keep",
            "Announced",
            "CloseDelimited",
            "SwitchProposed",
            "EarlyResponse",
            "Leftover",
            "HalfClosed",
            "Abandoned",
            "again",
            "passed",
            "reset",
        ] {
            assert!(seen.get(tag).is_some_and(|&n| n >= 5), "{tag} is rare: {seen:?}");
        }
    }
}
