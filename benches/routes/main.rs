//! What it costs to look routes up, to keep them and to change them. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod counted;
mod requests;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::routes::{Lookup, RouteKey, RouteTable, Snapshot, SnapshotRoute, SnapshotTarget};
use requests::{Request, Routes};
use support::Result;
use support::args::{Args, Spec};
use support::report::{Report, digits};

const SPEC: Spec = Spec {
    usage: "\
usage: cargo bench --bench routes -- [options] [lookup] [memory] [change]

  --quick       fewer lookups, for a smoke test
  --rounds N    passes over the requests
  --check       a figure that is missed is an error",
    sections: &["lookup", "memory", "change"],
    flags: &[],
};

const SMALL: usize = 10_000;
const LARGE: usize = 100_000;

/// What a lookup may take at most: among so many routes, in the middle and for one of a hundred.
const LIMITS: &[(usize, f64, f64)] = &[(SMALL, 200.0, 1000.0), (LARGE, 300.0, 1500.0)];

const BYTES_A_ROUTE: f64 = 1024.0;

/// What a route leads to, as the gateway keeps it.
type Value = Arc<[u64; 8]>;

/// Looks a request up, and returns whether it has a route.
type Look<'a> = &'a dyn Fn(&Request) -> bool;

fn main() -> ExitCode {
    support::main(&SPEC, bench)
}

fn bench(args: &Args) -> Result<bool> {
    let mut report = Report::default();
    for section in &args.sections {
        match *section {
            "lookup" => lookup(args, &mut report)?,
            "memory" => memory(&mut report)?,
            _ => change(args),
        }
    }
    Ok(report.finish())
}

fn table(routes: &Routes) -> RouteTable<Value> {
    let changes = routes.keys.iter().map(|key| (key.clone(), Some(Arc::new([1; 8]))));
    RouteTable::new(routes.options.clone()).with_changes(changes)
}

fn snapshot(routes: &Routes) -> Result<Snapshot> {
    let target = |last| SnapshotTarget {
        address: ([192, 0, 2, last], 8080).into(),
        weight: 1,
        live: true,
        strip: false,
    };
    let route = |key: &RouteKey| SnapshotRoute { key: key.clone(), targets: vec![target(1), target(2)] };
    Ok(Snapshot::parse(Snapshot::write(&routes.options, 1, routes.keys.iter().map(route))?)?)
}

/// One lookup at a time, for requests in random order, so that the processor's caches help no more
/// than they would.
fn lookup(args: &Args, report: &mut Report) -> Result<()> {
    println!(
        "\n### Lookup\n\n| routes | in | requests | p50 ns | p99 ns | p99.9 ns |\n|--:|---|---|--:|--:|--:|"
    );
    for &(count, p50_limit, p99_limit) in LIMITS {
        let routes = Routes::new(count);
        let (table, snapshot) = (table(&routes), snapshot(&routes)?);
        let in_table = |r: &Request| matches!(table.lookup(&r.host, &r.path), Lookup::Found { .. });
        let in_snapshot = |r: &Request| matches!(snapshot.lookup(&r.host, &r.path), Lookup::Found { .. });
        let places: [(&str, Look<'_>); 2] = [("the table", &in_table), ("a snapshot", &in_snapshot)];
        for (kind, requests) in routes.requests() {
            for (place, look) in places {
                let before = counted::allocations();
                std::hint::black_box(requests.iter().filter(|request| look(request)).count());
                let allocated = counted::allocations() - before;
                let times = time_each(args, &requests, look);
                let [p50, p99, p999] = [500, 990, 999].map(|permille| percentile(&times, permille));
                let numbers = [p50, p99, p999].map(digits).join(" | ");
                println!("| {count} | {place} | {kind} | {numbers} |");
                let what = format!("{count} routes in {place}, {kind}");
                report.at_most(&format!("{what}: p50, ns"), p50, p50_limit);
                report.at_most(&format!("{what}: p99, ns"), p99, p99_limit);
                report.at_most(&format!("{what}: allocations"), allocated as f64, 0.0);
            }
        }
    }
    Ok(())
}

/// Sorted nanoseconds, without what it takes to read the clock.
fn time_each(args: &Args, requests: &[Request], look: impl Fn(&Request) -> bool) -> Vec<u64> {
    let nanoseconds = |start: Instant| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut clock: Vec<u64> = (0..10_000).map(|_| nanoseconds(Instant::now())).collect();
    clock.sort_unstable();
    let clock = clock.get(clock.len() / 2).copied().unwrap_or_default();
    let mut times = Vec::with_capacity(requests.len() * 16);
    let mut read = Request::default();
    for _ in 0..args.rounds(8, 1) {
        for request in requests {
            // As if it had just been read.
            read.clone_from(request);
            let start = Instant::now();
            std::hint::black_box(look(std::hint::black_box(&read)));
            times.push(nanoseconds(start).saturating_sub(clock));
        }
    }
    times.sort_unstable();
    times
}

fn percentile(sorted: &[u64], permille: usize) -> f64 {
    sorted.get(sorted.len() * permille / 1000).map_or(f64::NAN, |ns| *ns as f64)
}

fn memory(report: &mut Report) -> Result<()> {
    println!("\n### Memory\n\n| routes | in | bytes each |\n|--:|---|--:|");
    for &(count, ..) in LIMITS {
        let routes = Routes::new(count);
        let mut row = |place: &str, before: usize| {
            let each = (counted::bytes() - before) as f64 / count as f64;
            println!("| {count} | {place} | {} |", digits(each));
            report.at_most(&format!("{count} routes in {place}: bytes each"), each, BYTES_A_ROUTE);
        };
        let before = counted::bytes();
        let table = table(&routes);
        row("the table", before);
        drop(table);
        let before = counted::bytes();
        let snapshot = snapshot(&routes)?;
        row("a snapshot with two targets each", before);
        drop(snapshot);
    }
    Ok(())
}

/// A change, and giving up the table before it.
fn change(args: &Args) {
    println!("\n### Change\n\n| routes | changes at once | µs for each |\n|--:|--:|--:|");
    for &(count, ..) in LIMITS {
        let routes = Routes::new(count);
        let mut table = table(&routes);
        for batch in [1, 100, count] {
            let (mut spent, mut done) = (Duration::ZERO, 0_usize);
            let mut keys = routes.keys.iter().cycle().step_by(7);
            while done < args.pick(20_000, 1000) {
                let changes: Vec<_> =
                    keys.by_ref().take(batch).map(|key| (key.clone(), Some(Arc::new([2; 8])))).collect();
                let start = Instant::now();
                table = table.with_changes(changes);
                spent += start.elapsed();
                done += batch;
            }
            println!("| {count} | {batch} | {} |", digits(spent.as_secs_f64() * 1e6 / done as f64));
        }
    }
}
