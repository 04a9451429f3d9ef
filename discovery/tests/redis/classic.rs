use std::time::{Duration, Instant};

use dockline_discovery::registry::redis::{Layout, Publisher, PublisherConfig, TlsFiles};
use dockline_discovery::{Readers, View};

use crate::server::{Server, wait_for};
use crate::support::{LEASE, Machine, Reader, classic, config};

/// Waits until a name has this value.
#[track_caller]
fn has(redis: &Server, name: &str, value: Option<&str>) {
    let get = format!("GET {name}");
    wait_for(&format!("{name} to be {value:?}"), || {
        (redis.ask::<Option<String>>(&get).as_deref() == value).then_some(())
    });
}

/// Longer than any test waits: what expires is not taken for what is removed.
const LONG: Duration = Duration::from_secs(60);

fn names(redis: &Server) -> Machine {
    Machine::new("one", PublisherConfig { lease: LONG, ..classic(redis.address(), "one") })
}

#[test]
fn a_name_is_a_string_with_an_address() {
    let redis = Server::start(&[]);
    let one = names(&redis);
    one.has(&[("web", "172.17.0.2:80")]);
    has(&redis, "web", Some("172.17.0.2:80"));
    let left: i64 = redis.ask("PTTL web");
    assert!(left > 0 && u128::try_from(left).unwrap() <= LONG.as_millis(), "{left}");
    one.starts("web", "172.17.0.9:80");
    has(&redis, "web", Some("172.17.0.9:80"));
    one.starts("db", "172.17.0.3:80");
    has(&redis, "db", Some("172.17.0.3:80"));
    one.ends("web");
    has(&redis, "web", None);
    assert_eq!(redis.keys(), ["db", "{dockline}:classic:one"]);
}

#[test]
fn a_container_that_is_renamed_changes_its_key() {
    let redis = Server::start(&[]);
    let one = names(&redis);
    one.has(&[("web", "172.17.0.2:80")]);
    has(&redis, "web", Some("172.17.0.2:80"));
    one.has(&[("shop", "172.17.0.2:80")]);
    has(&redis, "shop", Some("172.17.0.2:80"));
    has(&redis, "web", None);
}

#[test]
fn names_outlive_their_time_while_they_are_refreshed_and_no_longer() {
    let redis = Server::start(&[]);
    let one = Machine::new("one", classic(redis.address(), "one"));
    one.has(&[("web", "172.17.0.2:80")]);
    has(&redis, "web", Some("172.17.0.2:80"));
    let end = Instant::now() + LEASE * 2;
    while Instant::now() < end {
        assert!(redis.ask::<Option<String>>("GET web").is_some());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(one);
    has(&redis, "web", None);
    assert!(redis.keys().is_empty());
}

#[test]
fn a_key_of_another_writer_stays_as_it_is() {
    let redis = Server::start(&[]);
    let _: String = redis.ask("SET web 192.0.2.9:80");
    let _: i64 = redis.ask("LPUSH list x");
    let _: String = redis.ask("SET other x");
    let one = names(&redis);
    one.has(&[("web", "172.17.0.2:80"), ("list", "172.17.0.3:80"), ("db", "172.17.0.4:80")]);
    has(&redis, "db", Some("172.17.0.4:80"));
    one.ends("list");
    one.starts("last", "172.17.0.5:80");
    has(&redis, "last", Some("172.17.0.5:80"));
    assert_eq!(redis.ask::<String>("GET web"), "192.0.2.9:80");
    assert_eq!(redis.ask::<i64>("LLEN list"), 1);
    assert_eq!(redis.ask::<i64>("PTTL web"), -1);
    // As soon as it is let go, it is ours.
    let _: i64 = redis.ask("DEL web");
    has(&redis, "web", Some("172.17.0.2:80"));
    // Somebody else changes a key of ours: it is theirs now, also when our container ends.
    let _: String = redis.ask("SET db 192.0.2.9:81");
    one.ends("db");
    has(&redis, "web", Some("172.17.0.2:80"));
    one.ends("web");
    has(&redis, "web", None);
    assert_eq!(redis.ask::<String>("GET db"), "192.0.2.9:81");
    assert_eq!(redis.ask::<String>("GET other"), "x");
}

#[test]
fn a_program_that_is_started_again_knows_its_own_keys() {
    let redis = Server::start(&[]);
    let one = names(&redis);
    one.has(&[("web", "172.17.0.2:80"), ("old", "172.17.0.3:80")]);
    has(&redis, "old", Some("172.17.0.3:80"));
    drop(one);
    let one = names(&redis);
    one.has(&[("web", "172.17.0.9:80")]);
    has(&redis, "web", Some("172.17.0.9:80"));
    has(&redis, "old", None);
}

#[test]
fn of_two_machines_with_a_name_the_second_one_waits() {
    let redis = Server::start(&[]);
    let machine = |name: &'static str| {
        let classic = View { node: name.parse().unwrap(), readers: Readers::Node(None) };
        Machine::new(
            name,
            PublisherConfig { structured: false, classic: Some(classic), ..config(redis.address()) },
        )
    };
    let (one, two) = (machine("one"), machine("two"));
    one.has(&[("web", "172.17.0.2:80")]);
    has(&redis, "web", Some("172.17.0.2:80"));
    two.has(&[("web", "172.17.0.8:80"), ("db", "172.17.0.3:80")]);
    has(&redis, "db", Some("172.17.0.3:80"));
    assert_eq!(redis.ask::<String>("GET web"), "172.17.0.2:80");
    one.ends("web");
    has(&redis, "web", Some("172.17.0.8:80"));
}

#[test]
fn both_layouts_are_written_side_by_side() {
    let redis = Server::start(&[]);
    let both = PublisherConfig { structured: true, ..classic(redis.address(), "one") };
    let one = Machine::new("one", both);
    one.has(&[("web", "172.17.0.2:80")]);
    has(&redis, "web", Some("172.17.0.2:80"));
    let mut reader = Reader::new(redis.address());
    reader.sees(&["one/web=172.17.0.2:80"]);
}

#[test]
fn names_of_another_program_are_routes_too() {
    let mut redis = Server::start(&[]);
    let _: () = redis.ask("MSET web 172.17.0.2:80 db 172.17.0.3:80 a.b 172.17.0.4:80 bad x");
    let _: i64 = redis.ask("LPUSH list x");
    let layout = Layout::Classic("store".parse().unwrap());
    let mut reader = Reader::with(redis.address(), TlsFiles::default(), layout);
    reader.sees(&["store/db=172.17.0.3:80", "store/web=172.17.0.2:80"]);
    let _: String = redis.ask("SET web 172.17.0.9:80");
    let _: i64 = redis.ask("DEL db");
    reader.sees(&["store/web=172.17.0.9:80"]);
    redis.kill();
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    assert_eq!(reader.seen(), ["store/web=172.17.0.9:80"]);
    redis.launch();
    reader.waits("that it is not stale", |reader| reader.stale.is_none());
}

#[test]
fn a_cluster_is_refused() {
    let config = classic("redis+cluster://127.0.0.1:1".parse().unwrap(), "one");
    assert!(Publisher::start(config).unwrap_err().to_string().contains("one server"));
}
