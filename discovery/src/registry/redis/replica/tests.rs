use super::*;
use crate::registry::redis::samples::{node, record};
use crate::registry::redis::structured::RECORD_MAX;

const LEASE: Duration = Duration::from_secs(30);

fn start() -> Instant {
    crate::now()
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn fields(records: &[Record]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let field = |record: &Record| field_of(&record.id).as_bytes().to_vec();
    records.iter().map(|record| (field(record), serde_json::to_vec(record).unwrap())).collect()
}

fn state(revision: u64, records: &[Record]) -> NodeState {
    NodeState {
        node: node("one"),
        instance: "a".into(),
        revision,
        lease: LEASE,
        left: LEASE,
        records: fields(records),
        left_out: 0,
    }
}

fn notice(revision: u64, what: What) -> Vec<u8> {
    notice_of("a", revision, what)
}

fn notice_of(instance: &str, revision: u64, what: What) -> Vec<u8> {
    let notice = Notice { node: name("one"), instance: instance.into(), revision, lease: 30_000, what };
    serde_json::to_vec(&notice).unwrap()
}

fn web() -> Record {
    record("one", "web", "172.17.0.2:80")
}

fn db() -> Record {
    record("one", "db", "172.17.0.3:80")
}

/// Returns a replica that has `web` of the node `one` in revision 1.
fn replica(now: Instant) -> Replica {
    let mut replica = Replica::default();
    replica.resync(vec![(name("one"), Read::State(state(1, &[web()])))], now);
    replica
}

fn records(replica: &Replica) -> Vec<Record> {
    let Change::Sync { records, .. } = replica.sync() else { panic!() };
    records
}

fn changed(set: Vec<Record>, removed: &[&str]) -> What {
    What::Changed { set, removed: removed.iter().map(|&field| field.into()).collect() }
}

#[test]
fn a_change_that_follows_is_taken_from_its_notice() {
    let now = start();
    let mut replica = replica(now);
    let reaction = replica.notice(&notice(2, changed(vec![db()], &["web/0"])), now);
    let owner = |record: Record, records| Change::Owner { owner: record.id, records, unrouted: None };
    assert_eq!(reaction, Reaction::Changed(vec![owner(db(), vec![db()]), owner(web(), vec![])]));
    assert_eq!(records(&replica), [db()]);
}

#[test]
fn what_has_been_read_already_is_not_taken_again() {
    let now = start();
    let mut replica = replica(now);
    let nothing = Reaction::Changed(vec![]);
    assert_eq!(replica.notice(&notice(1, changed(vec![db()], &[])), now), nothing);
    assert_eq!(replica.notice(&notice(0, changed(vec![db()], &[])), now), nothing);
    assert_eq!(replica.notice(&notice(0, What::Written), now), nothing);
    assert_eq!(replica.notice(&notice(1, What::Alive), now), nothing);
    assert_eq!(records(&replica), [web()]);
}

#[test]
fn whoever_has_missed_something_reads() {
    let now = start();
    for payload in [
        notice(3, changed(vec![db()], &[])),
        notice(2, What::Alive),
        notice(2, What::Written),
        notice_of("b", 1, What::Alive),
        notice_of("b", 2, changed(vec![db()], &[])),
    ] {
        assert_eq!(replica(now).notice(&payload, now), Reaction::Read(name("one")));
    }
    assert_eq!(Replica::default().notice(&notice(1, What::Alive), now), Reaction::Read(name("one")));
}

#[test]
fn a_node_is_gone_when_its_lease_has_ended_and_redis_has_it_no_longer() {
    let now = start();
    let mut replica = replica(now);
    let almost = now + LEASE - Duration::from_millis(1);
    assert!(replica.due(almost).is_empty());
    assert_eq!(replica.read(name("one"), Read::Absent, almost), None);
    assert_eq!(records(&replica), [web()]);
    let end = now + LEASE;
    assert_eq!(replica.due(end), [name("one")]);
    let gone = Change::Sync { nodes: vec![], records: vec![], unrouted: vec![] };
    assert_eq!(replica.read(name("one"), Read::Absent, end), Some(gone));
    assert_eq!(replica.total, 0);
}

#[test]
fn a_sign_of_life_prolongs_the_lease() {
    let now = start();
    let mut replica = replica(now);
    let later = now + LEASE / 2;
    replica.notice(&notice(1, What::Alive), later);
    assert!(replica.due(now + LEASE).is_empty());
    assert_eq!(replica.due(later + LEASE), [name("one")]);
}

#[test]
fn a_store_that_was_lost_gets_the_time_of_a_lease_to_be_filled_again() {
    let now = start();
    let mut replica = replica(now);
    let back = now + LEASE * 10;
    replica.reconnected(back);
    replica.resync(vec![], back);
    assert_eq!(records(&replica), [web()]);
    replica.resync(vec![], back + LEASE);
    assert_eq!(records(&replica), []);
}

#[test]
fn a_replica_that_lags_does_not_take_records_back() {
    let now = start();
    let mut replica = replica(now);
    replica.notice(&notice(2, changed(vec![db()], &[])), now);
    replica.resync(vec![(name("one"), Read::State(state(1, &[web()])))], now);
    assert_eq!(records(&replica), [db(), web()]);
    // Another process counts anew.
    let other = NodeState { instance: "b".into(), ..state(1, &[web()]) };
    replica.resync(vec![(name("one"), Read::State(other))], now);
    assert_eq!(records(&replica), [web()]);
}

#[test]
fn a_node_that_is_withdrawn_is_not_waited_for() {
    let now = start();
    let mut replica = replica(now);
    assert_eq!(replica.notice(&notice(u64::MAX, What::Gone), now), Reaction::Read(name("one")));
    assert!(replica.read(name("one"), Read::Absent, now).is_some());
    assert_eq!(records(&replica), []);
}

#[test]
fn a_record_that_cannot_be_read_is_skipped_and_the_old_one_stays() {
    let now = start();
    let mut replica = replica(now);
    let mut foreign = db();
    foreign.id.node = name("two");
    let mut bad = state(2, &[db(), foreign]);
    bad.records.push((b"web/0".to_vec(), b"{garbage".to_vec()));
    bad.records.push((b"other/0".to_vec(), serde_json::to_vec(&web()).unwrap()));
    bad.records.push((b"\xff/0".to_vec(), b"".to_vec()));
    bad.left_out = 7;
    // The record of another node has the same field as the good one.
    bad.records.swap(0, 1);
    replica.resync(vec![(name("one"), Read::State(bad)), (name("two"), Read::Garbage)], now);
    assert_eq!(records(&replica), [db(), web()]);
    assert_eq!(replica.take_skipped(), 4 + 7 + 1);
    assert_eq!(replica.take_skipped(), 0);
}

#[test]
fn a_value_of_the_largest_size_is_read_and_a_longer_one_is_not() {
    let now = start();
    for (length, skipped) in [(RECORD_MAX, 0), (RECORD_MAX + 1, 1)] {
        let mut state = state(1, &[web()]);
        state.records[0].1.resize(length, b' ');
        let mut replica = Replica::default();
        replica.resync(vec![(name("one"), Read::State(state))], now);
        assert_eq!(replica.take_skipped(), skipped);
    }
}

#[test]
fn garbage_on_the_channel_is_counted() {
    let now = start();
    let mut replica = replica(now);
    let mut foreign = web();
    foreign.id.node = name("two");
    for payload in [b"".to_vec(), b"{}".to_vec(), vec![0xff; 10], notice(2, changed(vec![foreign], &[]))] {
        assert_eq!(replica.notice(&payload, now), Reaction::Changed(vec![]));
    }
    assert_eq!(replica.take_skipped(), 4);
    assert_eq!(records(&replica), [web()]);
}

#[test]
fn own_nodes_are_left_to_their_own_source() {
    let now = start();
    let mut replica = Replica::new([name("one")].into());
    assert_eq!(replica.notice(&notice(1, What::Written), now), Reaction::Changed(vec![]));
    replica.resync(vec![(name("one"), Read::State(state(1, &[web()])))], now);
    assert_eq!(records(&replica), []);
}

#[test]
fn the_number_of_nodes_and_of_records_has_a_limit() {
    let now = start();
    let mut replica = Replica::default();
    let one = |index: usize| {
        let name = name(&format!("n{index}"));
        let mut state = state(1, &[]);
        state.node.name = name.clone();
        (name, Read::State(state))
    };
    replica.resync((0..NODES_MAX).map(one).collect(), now);
    assert_eq!(replica.take_skipped(), 0);
    replica.resync(vec![one(NODES_MAX)], now);
    assert_eq!((replica.take_skipped(), replica.nodes.len()), (1, NODES_MAX));

    let mut replica = Replica { total: TOTAL_MAX - 1, ..Replica::default() };
    replica.resync(vec![(name("one"), Read::State(state(1, &[web()])))], now);
    assert_eq!((replica.take_skipped(), records(&replica).len()), (0, 1));
    let notice = notice(2, changed(vec![db()], &[]));
    assert_eq!(replica.notice(&notice, now), Reaction::Changed(vec![]));
    assert_eq!((replica.take_skipped(), replica.total), (1, TOTAL_MAX));
}
