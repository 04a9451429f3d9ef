use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dockline_discovery::registry::redis::{Layout, TlsFiles};

use crate::server::{PATIENCE, Server, wait_for};
use crate::support::{LEASE, Machine, Reader, config};

#[test]
fn what_one_machine_publishes_another_one_reads() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80"), ("db", "172.17.0.3:80")]);
    reader.sees(&["one/db=172.17.0.3:80", "one/web=172.17.0.2:80"]);
    one.starts("api", "172.17.0.4:80");
    one.ends("db");
    reader.sees(&["one/api=172.17.0.4:80", "one/web=172.17.0.2:80"]);
    // A container that is started again has another address.
    one.starts("web", "172.17.0.9:80");
    reader.sees(&["one/api=172.17.0.4:80", "one/web=172.17.0.9:80"]);

    let mut late = Reader::new(redis.address());
    late.sees(&["one/api=172.17.0.4:80", "one/web=172.17.0.9:80"]);
    assert_eq!(redis.keys(), ["{dockline}:node:one", "{dockline}:nodes"]);
}

#[test]
fn a_record_is_a_field_of_its_node() {
    let redis = Server::start(&[]);
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    wait_for("the node", || (!redis.keys().is_empty()).then_some(()));
    let fields: BTreeSet<String> = redis.ask("HKEYS {dockline}:node:one");
    let expected = ["instance", "lease", "node", "revision", "web/0"];
    assert_eq!(fields.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(
        redis.ask::<String>("HGET {dockline}:node:one node"),
        r#"{"name":"one","gateway":"192.0.2.1:80"}"#
    );
    let left: i64 = redis.ask("PTTL {dockline}:node:one");
    assert!(left > 0 && u128::try_from(left).unwrap() <= LEASE.as_millis(), "{left}");
    let record: serde_json::Value =
        serde_json::from_str(&redis.ask::<String>("HGET {dockline}:node:one web/0")).unwrap();
    assert_eq!(record["key"]["name"], "web");
    assert_eq!(record["target"]["address"]["ip"], "172.17.0.2:80");
}

#[test]
fn two_machines_never_touch_each_others_records() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    let two = Machine::new("two", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    two.has(&[("web", "172.17.0.2:80"), ("db", "172.17.0.3:80")]);
    reader.sees(&["one/web=172.17.0.2:80", "two/db=172.17.0.3:80", "two/web=172.17.0.2:80"]);
    two.has(&[]);
    reader.sees(&["one/web=172.17.0.2:80"]);
    two.is_removed();
    wait_for("its key to be removed", || {
        (redis.keys() == ["{dockline}:node:one", "{dockline}:nodes"]).then_some(())
    });
    assert_eq!(redis.ask::<Vec<String>>("ZRANGE {dockline}:nodes 0 -1"), ["one"]);
}

#[test]
fn a_machine_that_is_gone_takes_its_records_with_it() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    let two = Machine::new("two", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    two.has(&[("db", "172.17.0.3:80")]);
    reader.sees(&["one/web=172.17.0.2:80", "two/db=172.17.0.3:80"]);
    let start = Instant::now();
    drop(one);
    reader.sees(&["two/db=172.17.0.3:80"]);
    assert!(start.elapsed() >= LEASE / 3, "not before its lease has ended");
    let names = || redis.ask::<Vec<String>>("ZRANGE {dockline}:nodes 0 -1");
    wait_for("its name to be removed", || (names() == ["two"]).then_some(()));
    drop(two);
    reader.sees(&[]);
    wait_for("an empty store", || redis.keys().is_empty().then_some(()));
}

#[test]
fn a_machine_that_lives_is_kept_for_longer_than_its_lease() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    reader.sees(&["one/web=172.17.0.2:80"]);
    let end = Instant::now() + LEASE * 2;
    while Instant::now() < end {
        reader.hear(Duration::from_millis(100));
    }
    assert_eq!((reader.seen().len(), reader.losses.len()), (1, 0));
}

#[test]
fn a_program_that_is_started_again_leaves_no_gap() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80"), ("old", "172.17.0.3:80")]);
    reader.sees(&["one/old=172.17.0.3:80", "one/web=172.17.0.2:80"]);
    drop(one);
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80"), ("new", "172.17.0.4:80")]);
    reader.sees(&["one/new=172.17.0.4:80", "one/web=172.17.0.2:80"]);
    assert_eq!(reader.losses, ["old"]);
}

#[test]
fn of_two_processes_with_the_same_name_the_later_one_publishes() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let first = Machine::new("one", config(redis.address()));
    first.has(&[("a", "172.17.0.2:80")]);
    reader.sees(&["one/a=172.17.0.2:80"]);
    let second = Machine::new("one", config(redis.address()));
    second.has(&[("b", "172.17.0.3:80")]);
    reader.sees(&["one/b=172.17.0.3:80"]);
    first.starts("c", "172.17.0.4:80");
    let end = Instant::now() + LEASE;
    while Instant::now() < end {
        reader.hear(Duration::from_millis(50));
        assert_eq!(reader.seen(), ["one/b=172.17.0.3:80"]);
    }
    // When that is gone the first one goes on.
    drop(second);
    reader.sees(&["one/a=172.17.0.2:80", "one/c=172.17.0.4:80"]);
}

#[test]
fn own_records_are_not_read_back() {
    let redis = Server::start(&[]);
    let own = Layout::Structured(["one".parse().unwrap()].into());
    let mut reader = Reader::with(redis.address(), TlsFiles::default(), own);
    let one = Machine::new("one", config(redis.address()));
    let two = Machine::new("two", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    two.has(&[("web", "172.17.0.2:80")]);
    reader.sees(&["two/web=172.17.0.2:80"]);
}

#[test]
fn many_publishers_at_once_end_in_the_state_of_each() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let names = ["n0", "n1", "n2", "n3"];
    std::thread::scope(|scope| {
        for name in names {
            let address = redis.address();
            let machine = Machine::new(name, config(address));
            scope.spawn(move || {
                machine.has(&[]);
                for round in 1..=50 {
                    machine.starts("web", &format!("172.17.0.2:{round}"));
                    machine.starts("other", "172.17.0.3:80");
                    machine.ends("other");
                }
                // Its lease has to outlive what is checked.
                std::mem::forget(machine);
            });
        }
    });
    let expected = names.map(|name| format!("{name}/web=172.17.0.2:50"));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    reader.sees(&expected);
    let mut late = Reader::new(redis.address());
    late.sees(&expected);
}

#[test]
fn garbage_in_redis_harms_nothing_but_itself() {
    let redis = Server::start(&[]);
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    wait_for("the node", || (redis.keys().len() == 2).then_some(()));
    let _: i64 = redis.ask("HSET {dockline}:node:one bad/0 {garbage} web/1 {}");
    let _: i64 =
        redis.ask("ZADD {dockline}:nodes 9999999999999 two 9999999999999 thr\u{e9}e 9999999999999 four");
    let _: i64 = redis.ask("LPUSH {dockline}:node:two x");
    let _: i64 = redis.ask("HSET {dockline}:node:four node x instance y revision z");
    let mut reader = Reader::new(redis.address());
    reader.sees(&["one/web=172.17.0.2:80"]);
    for message in ["", "{}", "[]", "\u{1}"] {
        let _: i64 =
            redis::cmd("PUBLISH").arg("dockline:changes").arg(message).query(&mut redis.connect()).unwrap();
    }
    one.starts("db", "172.17.0.3:80");
    reader.sees(&["one/db=172.17.0.3:80", "one/web=172.17.0.2:80"]);
    // What has taken the place of our own key is replaced.
    let _: String = redis.ask("SET {dockline}:node:one garbage");
    one.starts("api", "172.17.0.4:80");
    reader.sees(&["one/api=172.17.0.4:80", "one/db=172.17.0.3:80", "one/web=172.17.0.2:80"]);
    assert_eq!((reader.losses.len(), reader.stale), (0, None));
}

#[test]
fn a_store_that_has_gone_back_in_time_is_written_again() {
    let redis = Server::start(&[]);
    let one = Machine::new("one", config(redis.address()));
    one.has(&[("web", "172.17.0.2:80")]);
    wait_for("the node", || (redis.keys().len() == 2).then_some(()));
    let mut connection = redis.connect();
    let key = "{dockline}:node:one";
    let old: Vec<u8> = redis::cmd("DUMP").arg(key).query(&mut connection).unwrap();
    one.starts("db", "172.17.0.3:80");
    let has_db = || redis.ask::<bool>("HEXISTS {dockline}:node:one db/0").then_some(());
    wait_for("the change", has_db);
    let restore = |old: &[u8]| {
        redis::cmd("RESTORE").arg(key).arg(0).arg(old).arg("REPLACE").exec(&mut redis.connect()).unwrap();
    };
    restore(&old);
    wait_for("the next refresh", has_db);
    // A change does not build on it either.
    restore(&old);
    one.starts("api", "172.17.0.4:80");
    wait_for("the change", || redis.ask::<bool>("HEXISTS {dockline}:node:one api/0").then_some(()));
    assert!(has_db().is_some());
}

#[test]
fn a_change_is_seen_at_once() {
    let redis = Server::start(&[]);
    let mut reader = Reader::new(redis.address());
    let one = Machine::new("one", config(redis.address()));
    let many: Vec<(String, String)> =
        (0..1000).map(|index| (format!("c{index:04}"), format!("172.17.0.2:{}", index + 1))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, target)| (&**name, &**target)).collect();
    one.has(&many);
    reader.waits("all of them", |reader| reader.seen().len() == 1000);
    let mut times = Vec::new();
    for round in 0..100 {
        let target = format!("172.18.0.2:{}", round + 1);
        let start = Instant::now();
        one.starts("c0000", &target);
        let expected = format!("one/c0000={target}");
        reader.waits(&expected, |reader| reader.seen()[0] == expected);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    assert!(times[98] < PATIENCE / 20, "p99 {:?}", times[98]);
    assert!(times[50] < Duration::from_millis(50), "p50 {:?}", times[50]);
}
