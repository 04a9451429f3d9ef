use super::*;
use crate::registry::redis::samples::{node, record};

fn apply(outgoing: &mut Outgoing, source: &str, change: Change) {
    outgoing.apply(Update { source: source.into(), change });
}

fn sync(nodes: &[&str], records: Vec<Record>) -> Change {
    Change::Sync { nodes: nodes.iter().map(|name| node(name)).collect(), records, unrouted: vec![] }
}

fn owner(records: Vec<Record>, owner: &Record) -> Change {
    Change::Owner { owner: owner.id.clone(), records, unrouted: None }
}

fn web() -> Record {
    record("one", "web", "172.17.0.2:80")
}

fn take(outgoing: &mut Outgoing) -> Batch {
    let mut batches = outgoing.take();
    assert_eq!(batches.len(), 1);
    batches.pop().unwrap()
}

#[test]
fn a_node_is_published_as_a_whole_and_then_by_changes() {
    let mut outgoing = Outgoing::default();
    assert!(!outgoing.is_fresh());
    apply(&mut outgoing, "docker", sync(&["one"], vec![web()]));
    assert!(outgoing.is_fresh());
    let first = take(&mut outgoing);
    assert_eq!((first.whole, first.set), (true, vec![web()]));
    assert!(!outgoing.is_fresh() && take(&mut outgoing).is_empty());

    let db = record("one", "db", "172.17.0.3:80");
    apply(&mut outgoing, "docker", owner(vec![db.clone()], &db));
    let second = take(&mut outgoing);
    assert_eq!((second.whole, second.set, second.removed.len()), (false, vec![db], 0));

    apply(&mut outgoing, "docker", owner(vec![], &web()));
    let third = take(&mut outgoing);
    assert_eq!((third.set.len(), third.removed), (0, vec![Box::from("web/0")]));

    outgoing.restart(&node("one").name);
    assert!(take(&mut outgoing).whole);
}

#[test]
fn what_changes_twice_is_published_once_in_its_last_state() {
    let mut outgoing = Outgoing::default();
    apply(&mut outgoing, "docker", sync(&["one"], vec![]));
    take(&mut outgoing);
    let moved = record("one", "web", "172.17.0.9:80");
    apply(&mut outgoing, "docker", owner(vec![web()], &web()));
    apply(&mut outgoing, "docker", owner(vec![moved.clone()], &web()));
    assert_eq!(take(&mut outgoing).set, [moved]);
}

#[test]
fn a_sync_that_changes_nothing_is_not_published() {
    let mut outgoing = Outgoing::default();
    apply(&mut outgoing, "docker", sync(&["one"], vec![web()]));
    take(&mut outgoing);
    apply(&mut outgoing, "docker", sync(&["one"], vec![web()]));
    apply(&mut outgoing, "docker", Change::Stale("gone".into()));
    assert!(!outgoing.is_fresh());
}

#[test]
fn a_node_whose_source_is_gone_is_gone() {
    let mut outgoing = Outgoing::default();
    apply(&mut outgoing, "a", sync(&["one"], vec![web()]));
    apply(&mut outgoing, "b", sync(&["two"], vec![]));
    outgoing.take();
    apply(&mut outgoing, "a", Change::Gone);
    let gone = outgoing.take_gone();
    assert_eq!(gone.into_iter().collect::<Vec<_>>(), [node("one").name]);
    assert_eq!(take(&mut outgoing).node, node("two"));
    outgoing.put_gone(node("two").name);
    assert!(outgoing.take_gone().is_empty(), "it is there");
}

#[test]
fn a_source_may_have_records_of_nodes_that_it_does_not_name() {
    let mut outgoing = Outgoing::default();
    let nodes = |outgoing: &mut Outgoing| -> Vec<String> {
        outgoing.take().into_iter().map(|batch| batch.node.name.to_string()).collect()
    };
    let two = record("two", "db", "172.17.0.3:80");
    apply(&mut outgoing, "docker", sync(&["one"], vec![web(), two]));
    let three = record("three", "db", "172.17.0.3:80");
    apply(&mut outgoing, "docker", owner(vec![three.clone()], &three));
    assert_eq!(nodes(&mut outgoing), ["one", "three", "two"]);
    apply(&mut outgoing, "docker", sync(&["one"], vec![web(), three]));
    assert_eq!(nodes(&mut outgoing), ["one", "three"]);
    assert_eq!(outgoing.take_gone().len(), 1);
}

#[test]
fn owners_whose_names_begin_alike_are_told_apart() {
    let mut outgoing = Outgoing::default();
    let mut longer = web();
    longer.id.owner = "web/1".into();
    apply(&mut outgoing, "docker", sync(&["one"], vec![web(), longer.clone()]));
    take(&mut outgoing);
    apply(&mut outgoing, "docker", owner(vec![], &web()));
    assert_eq!(take(&mut outgoing).removed, [Box::from("web/0")]);
    assert_eq!(outgoing.records().map(|(_, record)| record).collect::<Vec<_>>(), [&longer]);
}

#[test]
fn the_number_of_records_has_a_limit() {
    let many = |count| -> Vec<Record> {
        (0..count).map(|index| record("one", &format!("c{index:05}"), "172.17.0.2:80")).collect()
    };
    let mut outgoing = Outgoing::default();
    apply(&mut outgoing, "docker", sync(&["one"], many(RECORDS_MAX)));
    let batch = take(&mut outgoing);
    assert_eq!((batch.set.len(), batch.left_out), (RECORDS_MAX, 0));
    apply(&mut outgoing, "docker", sync(&["one"], many(RECORDS_MAX + 1)));
    let batch = take(&mut outgoing);
    assert_eq!((batch.whole, batch.set.len(), batch.left_out), (true, RECORDS_MAX, 1));
    // The one that was left out takes the place of one that goes.
    let first = &many(1)[0];
    apply(&mut outgoing, "docker", owner(vec![], first));
    let batch = take(&mut outgoing);
    assert_eq!((batch.whole, batch.set.len(), batch.left_out), (true, RECORDS_MAX, 0));
    assert!(take(&mut outgoing).is_empty());
}

#[test]
fn a_record_of_the_largest_size_is_published_and_a_longer_one_is_not() {
    let mut record = web();
    record.key.path = format!("/{}", "a".repeat(1000)).parse().unwrap();
    assert!(value_of(&record).is_some());
    // Escaped, a byte may take six.
    record.title = "\u{1}".repeat(255).as_str().into();
    record.id.owner = "\u{1}".repeat(255).as_str().into();
    assert!(value_of(&record).unwrap().len() < RECORD_MAX, "every record fits");
}
