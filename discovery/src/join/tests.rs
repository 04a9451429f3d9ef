use proptest::prelude::*;

use super::*;

fn node(name: &str) -> Node {
    Node { name: name.parse().unwrap(), gateway: None }
}

fn id(node: &str, owner: &str) -> RecordId {
    RecordId { node: node.parse().unwrap(), owner: owner.into(), index: 0 }
}

fn record(node: &str, owner: &str) -> Record {
    Record { id: id(node, owner), ..crate::record::tests::record(owner) }
}

fn unrouted(node: &str, owner: &str) -> Unrouted {
    Unrouted { owner: id(node, owner), title: owner.into(), reason: "no port".into() }
}

fn bytes(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut out, line).unwrap();
        out.push(b'\n');
    }
    out
}

fn reception() -> Reception {
    Reception::new(vec!["other".into(), "One".into()], "::ffff:192.0.2.1".parse().unwrap())
}

fn feed(lines: &[Line]) -> Result<Vec<Update>, JoinError> {
    reception().feed(&bytes(lines))
}

fn changes() -> Vec<Change> {
    vec![
        Change::Sync {
            nodes: vec![node("one")],
            records: vec![record("one", "web"), record("one", "db")],
            unrouted: vec![unrouted("one", "idle")],
        },
        Change::Owner { owner: id("one", "web"), records: vec![], unrouted: Some(unrouted("one", "web")) },
        Change::Stale("the daemon is gone".into()),
        Change::Sync { nodes: vec![node("one")], records: vec![], unrouted: vec![] },
    ]
}

fn conversation() -> Vec<Line> {
    let mut lines = vec![hello(node("one"))];
    for change in changes() {
        lines.extend(lines_of(change));
        lines.push(Line::Alive);
    }
    lines
}

#[test]
fn what_a_worker_says_becomes_updates() {
    let updates = feed(&conversation()).unwrap();
    assert!(updates.iter().all(|update| &*update.source == "join:one"));
    let got: Vec<Change> = updates.into_iter().map(|update| update.change).collect();
    assert_eq!(got, changes());
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let all = bytes(&conversation());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).collect();
        cuts.push(all.len());
        cuts.sort_unstable();
        let (mut reception, mut updates, mut start) = (reception(), Vec::new(), 0);
        for cut in cuts {
            updates.extend(reception.feed(&all[start..cut]).unwrap());
            start = cut;
        }
        prop_assert_eq!(updates, feed(&conversation()).unwrap());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = reception().feed(&bytes);
    }
}

#[test]
fn a_gateway_without_an_address_is_where_its_worker_is() {
    for (said, taken) in
        [("0.0.0.0:80", "192.0.2.1:80"), ("[::]:81", "192.0.2.1:81"), ("192.0.2.9:80", "192.0.2.9:80")]
    {
        let gateway = Some(said.parse().unwrap());
        let mut reception = reception();
        reception.feed(&bytes(&[hello(Node { gateway, ..node("one") })])).unwrap();
        assert_eq!(reception.node().unwrap().gateway, Some(taken.parse().unwrap()));
    }
}

#[test]
fn a_worker_speaks_for_its_own_node_only() {
    let join = |node_name: &str| hello(node(node_name));
    let foreign = JoinError::NotItsRecord("two".parse().unwrap());
    assert_eq!(feed(&[join("two")]), Err(JoinError::NotItsName("two".parse().unwrap())));
    let sync = |line| feed(&[join("one"), Line::Begin, line]);
    assert_eq!(sync(Line::Record(Box::new(record("two", "web")))), Err(foreign.clone()));
    assert_eq!(sync(Line::Unrouted(unrouted("two", "web"))), Err(foreign.clone()));
    let change = |owner, records, unrouted| {
        feed(&[join("one"), Line::Begin, Line::End, Line::Owner { owner, records, unrouted }])
    };
    assert_eq!(change(id("two", "a"), vec![], None), Err(foreign.clone()));
    assert_eq!(change(id("one", "a"), vec![record("two", "a")], None), Err(foreign.clone()));
    assert_eq!(change(id("one", "a"), vec![], Some(unrouted("two", "a"))), Err(foreign));
    assert_eq!(change(id("one", "a"), vec![record("one", "b")], None), Err(JoinError::Unexpected));
}

#[test]
fn lines_in_a_wrong_place_are_refused() {
    let hello = || hello(node("one"));
    for lines in [
        vec![Line::Begin],
        vec![Line::Alive],
        vec![hello(), hello()],
        vec![hello(), Line::End],
        vec![hello(), Line::Record(Box::new(record("one", "a")))],
        vec![hello(), Line::Owner { owner: id("one", "a"), records: vec![], unrouted: None }],
        vec![hello(), Line::Begin, Line::Begin],
        vec![hello(), Line::Begin, Line::Stale("x".into())],
    ] {
        assert_eq!(feed(&lines), Err(JoinError::Unexpected), "{lines:?}");
    }
    assert_eq!(feed(&[Line::Hello { version: 2, node: node("one") }]), Err(JoinError::Version(2)));
    assert!(matches!(reception().feed(b"nonsense\n"), Err(JoinError::Invalid(_))));
}

#[test]
fn a_line_of_the_largest_size_is_read_and_a_longer_one_refused() {
    let line = |length: usize| {
        let mut line = bytes(&[hello(node("one"))]);
        line.pop();
        line.resize(length, b' ');
        line.push(b'\n');
        line
    };
    for split in [0, 1, 60_000] {
        let feed = |bytes: Vec<u8>| {
            let mut reception = reception();
            reception.feed(&bytes[..split]).and_then(|_| reception.feed(&bytes[split..]))
        };
        assert_eq!(feed(line(LINE_MAX)), Ok(vec![]));
        assert_eq!(feed(line(LINE_MAX + 1)), Err(JoinError::LineTooLong));
    }
    assert_eq!(reception().feed(&[b' '; LINE_MAX]), Ok(vec![]));
    assert_eq!(reception().feed(&[b' '; LINE_MAX + 1]), Err(JoinError::LineTooLong));
}

#[test]
fn the_number_of_records_has_a_limit() {
    let mut reception = reception();
    reception.feed(&bytes(&[hello(node("one")), Line::Begin])).unwrap();
    let line = bytes(&[Line::Record(Box::new(record("one", "web")))]);
    for _ in 0..RECORDS_MAX {
        reception.feed(&line).unwrap();
    }
    assert_eq!(reception.feed(&line), Err(JoinError::TooMany));
}

#[test]
fn the_end_of_a_connection_makes_the_records_stale() {
    let mut reception = reception();
    assert_eq!(reception.ended("gone".into()), None);
    reception.feed(&bytes(&[hello(node("one")), Line::Begin])).unwrap();
    assert!(!reception.is_synced());
    reception.feed(&bytes(&[Line::End])).unwrap();
    assert!(reception.is_synced());
    let stale = Update { source: "join:one".into(), change: Change::Stale("gone".into()) };
    assert_eq!(reception.ended("gone".into()), Some(stale));
}
