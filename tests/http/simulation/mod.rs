//! A [`ProxyConn`](dockline::proxy::ProxyConn) between a client and daemons that act at random, on
//! a virtual clock. What each side has received is read with the strict readers and compared with
//! what the other side sent.
//!
//! `DOCKLINE_SIM_SEED=17` replays one schedule; `DOCKLINE_SIM_COUNT=1000000` runs that many.

mod script;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn every_schedule_ends_and_keeps_the_rules() {
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
    // A run that never reaches one of these outcomes would prove nothing about it.
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
