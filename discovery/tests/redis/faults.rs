use std::time::{Duration, Instant};

use dockline_discovery::registry::redis::PublisherConfig;

use crate::server::{Server, wait_for};
use crate::support::{LEASE, Machine, Reader, classic, config};

#[test]
fn while_redis_is_away_the_last_known_routes_go_on() {
    let mut redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    let two = Machine::new("two", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    two.has(&[("db", "172.17.0.3:80")]);
    reader.sees(&["one/web=172.17.0.2:80", "two/db=172.17.0.3:80"]);
    redis.kill();
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    one.starts("api", "172.17.0.4:80");
    // Longer than a lease: nothing expires, because nobody could refresh it.
    let end = Instant::now() + LEASE + LEASE / 2;
    while Instant::now() < end {
        reader.hear(Duration::from_millis(100));
    }
    assert_eq!(reader.seen(), ["one/web=172.17.0.2:80", "two/db=172.17.0.3:80"]);

    // It comes back empty.
    redis.launch();
    reader.sees(&["one/api=172.17.0.4:80", "one/web=172.17.0.2:80", "two/db=172.17.0.3:80"]);
    let end = Instant::now() + LEASE + LEASE / 2;
    while Instant::now() < end {
        reader.hear(Duration::from_millis(100));
    }
    assert_eq!((reader.stale, reader.losses.len()), (None, 0));
}

#[test]
fn a_machine_that_does_not_come_back_with_redis_is_gone_after_its_lease() {
    let mut redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    let two = Machine::new("two", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    two.has(&[("db", "172.17.0.3:80")]);
    reader.sees(&["one/web=172.17.0.2:80", "two/db=172.17.0.3:80"]);
    redis.kill();
    drop(two);
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    redis.launch();
    reader.sees(&["one/web=172.17.0.2:80"]);
    assert_eq!(reader.losses, ["db"]);
}

#[test]
fn programs_that_are_started_before_redis_wait_for_it() {
    let mut redis = Server::new(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    assert!(reader.stale.as_ref().unwrap().starts_with(&redis.address().to_string()), "{:?}", reader.stale);
    redis.launch();
    reader.sees(&["one/web=172.17.0.2:80"]);
}

#[test]
fn a_server_that_hangs_is_noticed() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", PublisherConfig { lease: LONG, ..config(redis.address()) });
    one.has(&[("web", "172.17.0.2:80")]);
    reader.sees(&["one/web=172.17.0.2:80"]);
    redis.signal("-STOP");
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    redis.signal("-CONT");
    reader.waits("that it is not stale", |reader| reader.stale.is_none());
    assert_eq!((reader.seen(), reader.losses.len()), (vec!["one/web=172.17.0.2:80".to_owned()], 0));
}

/// So long that nothing is refreshed within a test.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn what_somebody_flushes_is_written_again_at_once() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let both = PublisherConfig { structured: true, lease: LONG, ..classic(redis.address(), "one") };
    let one = Machine::new("one", both);
    one.has(&[("web", "172.17.0.2:80")]);
    reader.sees(&["one/web=172.17.0.2:80"]);
    wait_for("the name", || redis.ask::<Option<String>>("GET web"));
    let all = ["web", "{dockline}:classic:one", "{dockline}:node:one", "{dockline}:nodes"];
    for flush in ["FLUSHALL", "DEL {dockline}:classic:one web", "DEL {dockline}:node:one"] {
        let _: redis::Value = redis.ask(flush);
        wait_for("the keys to be back", || (redis.keys() == all).then_some(()));
    }
    assert_eq!(reader.losses.len(), 0);
}

#[test]
fn a_server_that_was_started_again_is_filled_at_once() {
    let mut redis = Server::start(&[]);
    let one = Machine::new("one", PublisherConfig { lease: LONG, ..classic(redis.address(), "one") });
    one.has(&[("web", "172.17.0.2:80")]);
    wait_for("the name", || redis.ask::<Option<String>>("GET web"));
    redis.kill();
    redis.launch();
    wait_for("the name", || redis.ask::<Option<String>>("GET web"));
}
