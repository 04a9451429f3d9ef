use super::*;
use crate::Readers;
use crate::registry::redis::samples::{node, record};

fn view(readers: Readers) -> View {
    View { node: "one".parse().unwrap(), readers }
}

fn named(view: &View, records: &[(Node, Record)]) -> Vec<(String, String)> {
    let names = names(view, records.iter().map(|(node, record)| (node, record)));
    names.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn network(text: &str) -> Readers {
    Readers::Node(Some(text.parse().unwrap()))
}

#[test]
fn own_containers_are_reached_directly_and_others_by_their_gateway() {
    let other = Node { name: "two".parse().unwrap(), gateway: Some("192.0.2.2:8080".parse().unwrap()) };
    let lonely = Node { name: "three".parse().unwrap(), gateway: None };
    let records = [
        (node("one"), record("one", "web", "172.17.0.2:80")),
        (other, record("two", "db", "172.17.0.2:80")),
        (lonely, record("three", "lost", "172.17.0.2:80")),
    ];
    let on_node = [pair("db", "192.0.2.2:8080"), pair("web", "172.17.0.2:80")];
    assert_eq!(named(&view(Readers::Node(None)), &records), on_node);
    assert_eq!(named(&view(network("172.17.0.0/16")), &records), on_node);
    let by_gateway = [pair("db", "192.0.2.2:8080"), pair("web", "192.0.2.1:80")];
    assert_eq!(named(&view(network("172.18.0.0/16")), &records), by_gateway);
    assert_eq!(named(&view(Readers::Elsewhere), &records), by_gateway);
}

#[test]
fn what_a_name_and_an_address_cannot_express_is_left_out() {
    let web = || record("one", "web", "172.17.0.2:80");
    let change = |change: &dyn Fn(&mut Record)| {
        let mut record = web();
        change(&mut record);
        named(&view(Readers::Node(None)), &[(node("one"), record)])
    };
    assert_eq!(change(&|_| {}).len(), 1);
    assert!(change(&|record| record.key.path = "/api".parse().unwrap()).is_empty());
    assert!(change(&|record| record.key.host = HostPattern::host("a.example").unwrap()).is_empty());
    assert!(change(&|record| record.state = RecordState::Down("starting".into())).is_empty());
    assert!(change(&|record| record.target = None).is_empty());
    assert!(change(&|record| record.target.as_mut().unwrap().tls = true).is_empty());
    assert!(change(&|record| record.target.as_mut().unwrap().proxy_protocol = Some(1)).is_empty());
}

#[test]
fn the_earliest_container_has_the_name() {
    let late = Record { created: 2, ..record("one", "a", "172.17.0.2:80") };
    let early = Record { key: late.key.clone(), ..record("one", "b", "172.17.0.3:80") };
    for records in [[late.clone(), early.clone()], [early, late]] {
        let records = records.map(|record| (node("one"), record));
        assert_eq!(named(&view(Readers::Node(None)), &records), [pair("a", "172.17.0.3:80")]);
    }
}

fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<Box<str>, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect()
}

#[test]
fn only_what_has_changed_is_written() {
    let mut names = Names::default();
    assert_eq!(names.next(false), None);
    names.want(wanted(&[("a", "1"), ("b", "2")]));
    let write = names.next(false).unwrap();
    assert_eq!((write.whole, write.set.len()), (false, 2));
    names.done(write, vec![]);
    assert_eq!(names.next(false), None);
    names.want(wanted(&[("a", "3")]));
    let write = names.next(false).unwrap();
    assert_eq!((&write.set, &write.removed), (&vec![("a".into(), "3".into())], &vec!["b".into()]));
    names.done(write, vec![]);
    assert!(names.next(true).unwrap().whole, "it is refreshed from time to time");
    names.restart();
    assert!(names.next(false).unwrap().whole, "after a failure nothing is known");
}

#[test]
fn a_name_that_something_else_has_is_tried_again() {
    let mut names = Names::default();
    names.want(wanted(&[("a", "1")]));
    let write = names.next(false).unwrap();
    assert_eq!(names.done(write, vec!["a".into()]), [Box::from("a")]);
    assert!(!names.has_written());
    let write = names.next(false).unwrap();
    assert!(names.done(write, vec!["a".into()]).is_empty(), "it is told once");
    let write = names.next(false).unwrap();
    names.done(write, vec![]);
    assert!(names.has_written());
    assert_eq!(names.next(false), None);
}

#[test]
fn keys_of_others_are_not_names() {
    let node = "redis".parse().unwrap();
    assert!(super::record(&node, b"web", b"172.17.0.2:80").is_some());
    for (key, value) in [
        (&b"a.b"[..], &b"172.17.0.2:80"[..]),
        (b"{dockline}:x", b"172.17.0.2:80"),
        (b"\xff", b"172.17.0.2:80"),
        (b"web", b"db.internal:80"),
        (b"web", b"172.17.0.2"),
        (b"web", b""),
    ] {
        assert!(super::record(&node, key, value).is_none());
    }
}
