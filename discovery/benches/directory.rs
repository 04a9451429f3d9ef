//! What the directory costs: a sync of all records, one that changes nothing, single changes, and
//! memory. `cargo bench -p dockline-discovery --bench directory`.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark says so by failing")]

use std::fs;
use std::time::{Duration, Instant};

use dockline::routes::{HostPattern, PathPrefix, RouteKey};
use dockline_discovery::directory::{Directory, DirectoryOptions};
use dockline_discovery::{
    Change, Drain, Lifecycle, Node, Origin, Record, RecordId, RecordState, Target, Update,
};

const CHANGES: u32 = 10_000;

fn main() {
    println!("records  sync      same sync  restarts/s  % of a core at 100/s  bytes/record");
    for count in [1000, 10_000] {
        let records: Vec<_> = (0..count).map(record).collect();
        let mut other = Directory::new(DirectoryOptions::default());
        other.apply(sync(records.clone()));
        let mut directory = Directory::new(DirectoryOptions::default());
        let before = resident();
        let update = sync(records.clone());
        let (first, changed) = timed(|| directory.apply(update).len());
        let bytes = (resident() - before) / u64::from(count);
        assert_eq!(changed, records.len());
        drop(other);
        let update = sync(records);
        let (same, changed) = timed(|| directory.apply(update).len());
        assert_eq!(changed, 0);
        let restarts: Vec<_> = (0..CHANGES).flat_map(|change| restart(change, count)).collect();
        let (time, changed) =
            timed(|| restarts.into_iter().map(|update| directory.apply(update).len()).sum::<usize>());
        assert_eq!(changed, usize::try_from(2 * CHANGES).unwrap());
        let each = time.as_secs_f64() / f64::from(CHANGES);
        println!(
            "{count:7}  {:6.2} ms  {:6.2} ms  {:10.0}  {:19.3}%  {bytes:12}",
            first.as_secs_f64() * 1e3,
            same.as_secs_f64() * 1e3,
            1.0 / each,
            each * 100.0 * 100.0,
        );
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = run();
    (start.elapsed(), result)
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn sync(records: Vec<Record>) -> Update {
    let nodes = vec![Node { name: "one".parse().unwrap(), gateway: None }];
    Update { source: "docker".into(), change: Change::Sync { nodes, records, unrouted: Vec::new() } }
}

/// A container ends and starts again.
fn restart(change: u32, count: u32) -> [Update; 2] {
    let record = record(change % count);
    let ended = Change::Owner { owner: record.id.clone(), records: Vec::new(), unrouted: None };
    let owner = record.id.clone();
    let started = Record { started: u64::from(change), ..record };
    let started = Change::Owner { owner, records: vec![started], unrouted: None };
    [ended, started].map(|change| Update { source: "docker".into(), change })
}

fn record(number: u32) -> Record {
    let [_, b, c, d] = number.to_be_bytes();
    Record {
        id: RecordId {
            node: "one".parse().unwrap(),
            // As scattered as the ids of containers.
            owner: format!("{:064x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c)).into(),
            index: 0,
        },
        title: format!("web-{number}").into(),
        started: 1,
        created: u64::from(number),
        key: RouteKey {
            host: HostPattern::host(&format!("web-{number}.example.com")).unwrap(),
            path: PathPrefix::root(),
        },
        strip: false,
        service: None,
        target: Some(Target {
            address: Origin::Ip(([10, b, c, d], 8080).into()),
            tls: false,
            proxy_protocol: None,
        }),
        state: RecordState::Live,
        weight: 1,
        drain: Drain::default(),
        lifecycle: Lifecycle::default(),
    }
}
