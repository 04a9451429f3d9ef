#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use dockline::routes::{HostPattern, PathPrefix};

use super::*;
use crate::record::{Drain, Lifecycle, Origin, RecordState, Service, Target};

pub(super) fn key(name: &str) -> RouteKey {
    RouteKey { host: HostPattern::name(name).unwrap(), path: PathPrefix::root() }
}

pub(super) fn node(name: &str) -> Node {
    Node { name: name.parse().unwrap(), gateway: None }
}

fn with_gateway(name: &str, gateway: &str) -> Node {
    Node { gateway: Some(gateway.parse().unwrap()), ..node(name) }
}

pub(super) fn id(node: &str, owner: &str) -> RecordId {
    RecordId { node: node.parse().unwrap(), owner: owner.into(), index: 0 }
}

/// The record of a container, created at 100.
pub(super) fn record(node: &str, owner: &str, name: &str) -> Record {
    Record {
        id: id(node, owner),
        title: owner.into(),
        started: 200,
        created: 100,
        key: key(name),
        strip: false,
        service: None,
        target: Some(target("172.17.0.2:80")),
        state: RecordState::Live,
        weight: 1,
        drain: Drain::default(),
        lifecycle: Lifecycle::default(),
    }
}

fn target(address: &str) -> Target {
    let address = match address.parse::<SocketAddr>() {
        Ok(address) => Origin::Ip(address),
        Err(_) => Origin::Host(address.into(), 80),
    };
    Target { address, tls: false, proxy_protocol: None }
}

fn at(address: &str, record: Record) -> Record {
    Record { target: Some(target(address)), ..record }
}

fn created(created: u64, record: Record) -> Record {
    Record { created, ..record }
}

fn of(service: &str, record: Record) -> Record {
    Record { service: Some(Service::Named(service.into())), ..record }
}

fn options() -> DirectoryOptions {
    let trust = [("file", Trust::Operator), ("docker", Trust::Daemon)];
    DirectoryOptions {
        trust: trust.map(|(source, trust)| (source.into(), trust)).into(),
        ..DirectoryOptions::default()
    }
}

fn directory() -> Directory {
    Directory::new(options())
}

pub(super) fn sync(source: &str, nodes: &[Node], records: Vec<Record>) -> Update {
    let change = Change::Sync { nodes: nodes.to_vec(), records, unrouted: Vec::new() };
    Update { source: source.into(), change }
}

pub(super) fn owner(source: &str, owner: RecordId, records: Vec<Record>) -> Update {
    Update { source: source.into(), change: Change::Owner { owner, records, unrouted: None } }
}

fn unrouted(owner: RecordId, reason: &str) -> Unrouted {
    Unrouted { owner, title: "web".into(), reason: reason.into() }
}

/// The owners that serve a route.
fn serving(directory: &Directory, name: &str) -> Vec<String> {
    let state = directory.route(&key(name)).unwrap_or_default();
    state.serving.iter().map(|claim| claim.record().id.owner.to_string()).collect()
}

fn losers(directory: &Directory, name: &str) -> Vec<String> {
    let state = directory.route(&key(name)).unwrap_or_default();
    state.losers.iter().map(|loser| format!("{}: {}", loser.claim.record().id.owner, loser.reason)).collect()
}

fn reasons(directory: &Directory) -> Vec<String> {
    let mut reasons = directory
        .unrouted()
        .map(|unrouted| format!("{} {}: {}", unrouted.owner.node, unrouted.title, unrouted.reason))
        .collect::<Vec<_>>();
    reasons.sort();
    reasons
}

#[test]
fn a_route_has_the_container_that_claims_it() {
    let mut directory = directory();
    assert_eq!(directory.route(&key("web")), None);
    assert_eq!(
        directory.apply(sync("docker", &[node("one")], vec![record("one", "a", "web")])),
        [key("web")]
    );
    assert_eq!(serving(&directory, "web"), ["a"]);
    let state = directory.route(&key("web")).unwrap();
    let claim = &state.serving[0];
    assert_eq!((claim.source().as_ref(), claim.is_stale(), claim.is_fixed()), ("docker", false, false));
    assert_eq!(directory.routes().count(), 1);
    assert_eq!(directory.records(&"docker".into()).count(), 1);
}

#[test]
fn an_update_that_changes_nothing_returns_nothing() {
    let mut directory = directory();
    let all = || vec![record("one", "a", "web"), record("one", "b", "api")];
    assert_eq!(directory.apply(sync("docker", &[node("one")], all())).len(), 2);
    assert_eq!(directory.apply(sync("docker", &[node("one")], all())), []);
    assert_eq!(directory.apply(owner("docker", id("one", "a"), vec![record("one", "a", "web")])), []);
    assert_eq!(directory.apply(owner("docker", id("one", "c"), Vec::new())), []);
    assert_eq!(directory.apply(Update { source: "other".into(), change: Change::Gone }), []);
}

#[test]
fn a_sync_changes_what_differs_only() {
    let mut directory = directory();
    let (a, b, c) = (record("one", "a", "a"), record("one", "b", "b"), record("one", "c", "c"));
    directory.apply(sync("docker", &[node("one")], vec![a.clone(), b.clone(), c.clone()]));
    let before = directory.route(&key("a")).unwrap().serving[0].record().clone();
    let restarted = Record { started: 300, ..b };
    let mut changed = directory.apply(sync("docker", &[node("one")], vec![a, restarted]));
    changed.sort();
    assert_eq!(changed, [key("b"), key("c")]);
    assert!(Arc::ptr_eq(&before, directory.route(&key("a")).unwrap().serving[0].record()));
}

#[test]
fn the_records_of_an_owner_are_replaced_as_a_whole() {
    let mut directory = directory();
    let second = Record { id: RecordId { index: 1, ..id("one", "a") }, ..record("one", "a", "api") };
    let all = vec![record("one", "a", "web"), second.clone()];
    directory.apply(sync("docker", &[node("one")], all));
    let moved = Record { key: key("shop"), ..second };
    let mut changed = directory.apply(owner("docker", id("one", "a"), vec![moved]));
    changed.sort();
    assert_eq!(changed, [key("api"), key("shop"), key("web")]);
    assert_eq!(serving(&directory, "shop"), ["a"]);
    assert_eq!(serving(&directory, "web"), [""; 0]);
}

#[test]
fn the_earliest_created_owns_a_route_then_the_lowest_id() {
    let mut directory = directory();
    let records = vec![
        created(7, record("one", "b", "web")),
        created(7, record("one", "a", "web")),
        created(8, record("one", "0", "web")),
    ];
    directory.apply(sync("docker", &[node("one")], records));
    assert_eq!(serving(&directory, "web"), ["a"]);
    let reason = "`a` on one has this route, since it was created earlier: choose another name, \
                  or give both the same `dockline.service`";
    assert_eq!(losers(&directory, "web"), [format!("b: {reason}"), format!("0: {reason}")]);
    assert_eq!(directory.apply(owner("docker", id("one", "a"), Vec::new())), [key("web")]);
    assert_eq!(serving(&directory, "web"), ["b"]);
}

#[test]
fn a_container_that_does_not_serve_yet_owns_its_route_all_the_same() {
    let mut directory = directory();
    let starting =
        Record { state: RecordState::Down("starting".into()), ..created(1, record("one", "a", "web")) };
    directory.apply(sync("docker", &[node("one")], vec![starting, record("one", "b", "web")]));
    assert_eq!(serving(&directory, "web"), ["a"]);
}

#[test]
fn replicas_on_one_node_share_a_route() {
    let mut directory = directory();
    let compose = |service: &str, record: Record| Record {
        service: Some(Service::Compose { project: "shop".into(), service: service.into() }),
        ..record
    };
    let records = vec![
        compose("web", record("one", "a", "web")),
        compose("web", record("one", "b", "web")),
        compose("api", record("one", "c", "web")),
        record("one", "d", "web"),
    ];
    directory.apply(sync("docker", &[node("one")], records));
    assert_eq!(serving(&directory, "web"), ["a", "b"]);
    assert_eq!(losers(&directory, "web").len(), 2);
}

#[test]
fn replicas_on_several_nodes_share_a_route_if_the_operator_trusts_the_nodes() {
    let trusted = TrustedNodes::Only(["one", "two"].map(|name| name.parse().unwrap()).into());
    let mut directory = Directory::new(DirectoryOptions { trusted_nodes: trusted, ..options() });
    for name in ["one", "two", "three"] {
        directory.apply(sync(name, &[node(name)], vec![of("shop", record(name, name, "web"))]));
    }
    // By id: one, three, two.
    assert_eq!(serving(&directory, "web"), ["one", "two"]);
    assert_eq!(
        losers(&directory, "web"),
        [
            "three: `one` on one has this route, and may share it with three only if the operator trusts both nodes"
        ]
    );
    let all = DirectoryOptions { trusted_nodes: TrustedNodes::All, ..options() };
    assert_eq!(directory.set_options(all), [key("web")]);
    assert_eq!(serving(&directory, "web"), ["one", "three", "two"]);
    assert_eq!(directory.set_options(options()), [key("web")]);
    assert_eq!(serving(&directory, "web"), ["one"]);
}

#[test]
fn an_older_container_on_a_node_that_is_not_trusted_does_not_share_with_trusted_ones() {
    let trusted = TrustedNodes::Only(["one", "two"].map(|name| name.parse().unwrap()).into());
    let mut directory = Directory::new(DirectoryOptions { trusted_nodes: trusted, ..options() });
    directory.apply(sync("a", &[node("bad")], vec![created(1, of("shop", record("bad", "x", "web")))]));
    directory.apply(sync("b", &[node("one")], vec![of("shop", record("one", "y", "web"))]));
    assert_eq!(serving(&directory, "web"), ["x"]);
}

#[test]
fn the_targets_of_one_fixed_route_share_it_and_win_over_any_container() {
    let mut directory = directory();
    directory.apply(sync("docker", &[node("one")], vec![created(0, record("one", "a", "web"))]));
    let fixed = |index, address| {
        let id = RecordId { index, ..id("gateway", "static") };
        Record {
            id,
            service: Some(Service::Fixed("static".into())),
            ..at(address, record("gateway", "static", "web"))
        }
    };
    let records = vec![fixed(0, "127.0.0.1:80"), fixed(1, "files.example")];
    directory.apply(sync("file", &[node("gateway")], records));
    assert_eq!(serving(&directory, "web"), ["static", "static"]);
    assert_eq!(
        losers(&directory, "web"),
        ["a: `web` is a fixed route of the configuration: choose another name"]
    );
}

#[test]
fn a_container_cannot_claim_to_be_a_replica_of_a_fixed_route() {
    let mut directory = Directory::new(DirectoryOptions { trusted_nodes: TrustedNodes::All, ..options() });
    let service = || Some(Service::Fixed("static".into()));
    let fixed = Record { service: service(), ..record("gateway", "static", "web") };
    directory.apply(sync("file", &[node("gateway")], vec![fixed]));
    let same = Record { service: service(), ..record("gateway", "static", "web") };
    directory.apply(sync("join:gateway", &[node("gateway")], vec![same]));
    let other = Record { service: service(), ..record("one", "static", "web") };
    directory.apply(sync("docker", &[node("one")], vec![other]));
    assert_eq!(serving(&directory, "web"), ["static"]);
    assert!(directory.route(&key("web")).unwrap().serving[0].is_fixed());
}

#[test]
fn a_source_that_cannot_be_reached_keeps_its_records_marked_stale() {
    let mut directory = directory();
    let all = || vec![record("one", "a", "web")];
    directory.apply(sync("docker", &[node("one")], all()));
    let stale = || Update { source: "docker".into(), change: Change::Stale("no answer".into()) };
    assert_eq!(directory.apply(stale()), [key("web")]);
    assert_eq!(directory.apply(stale()), []);
    assert!(directory.route(&key("web")).unwrap().serving[0].is_stale());
    let status = directory.sources().next().unwrap();
    assert_eq!(status.stale.unwrap().raw(), "no answer");
    assert_eq!((status.nodes, status.records), (1, 1));

    assert_eq!(directory.apply(sync("docker", &[node("one")], all())), [key("web")]);
    assert!(!directory.route(&key("web")).unwrap().serving[0].is_stale());
    assert_eq!(directory.sources().next().unwrap().stale, None);
}

#[test]
fn a_source_that_was_never_reached_is_listed_as_stale() {
    let mut directory = directory();
    directory.apply(Update { source: "redis".into(), change: Change::Stale("refused".into()) });
    assert_eq!(directory.sources().next().unwrap().name.as_ref(), "redis");
}

#[test]
fn the_closest_source_speaks_for_a_node() {
    let mut directory = directory();
    let from = |address| vec![at(address, record("one", "a", "web"))];
    directory.apply(sync("redis", &[node("one")], from("10.0.0.1:80")));
    // The daemon itself knows better, and knows of no more.
    assert_eq!(directory.apply(sync("docker", &[node("one")], from("10.0.0.2:80"))), [key("web")]);
    let address = |directory: &Directory| {
        let state = directory.route(&key("web")).unwrap();
        state
            .serving
            .iter()
            .map(|claim| claim.record().target.clone().unwrap().address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(address(&directory), ["10.0.0.2:80"]);
    assert_eq!(directory.apply(owner("docker", id("one", "a"), Vec::new())), [key("web")]);
    assert_eq!(serving(&directory, "web"), [""; 0]);
    // Without it, the registry does.
    assert_eq!(directory.apply(Update { source: "docker".into(), change: Change::Gone }), [key("web")]);
    assert_eq!(address(&directory), ["10.0.0.1:80"]);
}

#[test]
fn fixed_routes_hide_no_containers_of_a_node_with_the_same_name() {
    let mut directory = directory();
    directory.apply(sync("docker", &[node("one")], vec![record("one", "a", "web")]));
    assert_eq!(
        directory.apply(sync("file", &[node("one")], vec![record("one", "static", "static")])).len(),
        1
    );
    assert_eq!(
        (serving(&directory, "web"), serving(&directory, "static")),
        (vec!["a".into()], vec!["static".into()])
    );
    directory.apply(Update { source: "file".into(), change: Change::Gone });
    assert_eq!((serving(&directory, "web"), serving(&directory, "static")), (vec!["a".into()], Vec::new()));
}

#[test]
fn of_two_equally_close_sources_one_that_can_be_reached_speaks_for_a_node() {
    let mut directory = directory();
    let all = || vec![record("one", "a", "web")];
    directory.apply(sync("join:one", &[node("one")], all()));
    assert_eq!(directory.apply(sync("redis", &[node("one")], all())), []);
    // The same record by the other source: nothing to do.
    let stale = Update { source: "join:one".into(), change: Change::Stale("lost".into()) };
    assert_eq!(directory.apply(stale), []);
    assert_eq!(directory.route(&key("web")).unwrap().serving[0].source().as_ref(), "redis");
}

#[test]
fn the_gateway_of_a_node_is_that_of_its_claims() {
    let mut directory = directory();
    let all = || vec![record("one", "a", "web")];
    directory.apply(sync("join:one", &[with_gateway("one", "192.0.2.7:80")], all()));
    let gateway = |directory: &Directory| directory.route(&key("web")).unwrap().serving[0].gateway();
    assert_eq!(gateway(&directory), Some("192.0.2.7:80".parse().unwrap()));
    assert_eq!(
        directory.apply(sync("join:one", &[with_gateway("one", "192.0.2.8:80")], all())),
        [key("web")]
    );
    assert_eq!(gateway(&directory), Some("192.0.2.8:80".parse().unwrap()));
    directory.apply(sync("join:one", &[with_gateway("one", "127.0.0.1:80")], all()));
    assert_eq!(gateway(&directory), None);
    assert_eq!(
        reasons(&directory),
        ["one one: the address of its gateway, 127.0.0.1:80, is a loopback address"]
    );
}

#[test]
fn a_known_route_that_nobody_has_is_not_an_unknown_one() {
    let mut directory = directory();
    directory.apply(sync("docker", &[node("one")], vec![record("one", "a", "web")]));
    assert_eq!(directory.apply(Update { source: "docker".into(), change: Change::Gone }), [key("web")]);
    assert_eq!(directory.route(&key("web")), Some(RouteState::default()));
    assert_eq!(directory.route(&key("other")), None);
}

#[test]
fn the_routes_that_are_gone_for_longest_are_forgotten_first() {
    let limits = Limits { known: 2, ..Limits::default() };
    let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
    let names = ["a", "b", "c"];
    let records = names.map(|name| record("one", name, name)).into();
    directory.apply(sync("docker", &[node("one")], records));
    let mut end = |name: &str| {
        let mut changed = directory.apply(owner("docker", id("one", name), Vec::new()));
        changed.sort();
        (changed, names.map(|name| directory.route(&key(name)).is_some()))
    };
    assert_eq!(end("a"), (vec![key("a")], [true, true, true]));
    assert_eq!(end("b"), (vec![key("b")], [true, true, true]));
    assert_eq!(end("c"), (vec![key("a"), key("c")], [false, true, true]));
    // One that has come back is not the longest gone.
    directory.apply(owner("docker", id("one", "b"), vec![record("one", "b", "b")]));
    directory.apply(owner("docker", id("one", "b"), Vec::new()));
    directory.apply(owner("docker", id("one", "a"), vec![record("one", "a", "a")]));
    directory.apply(owner("docker", id("one", "a"), Vec::new()));
    assert_eq!(names.map(|name| directory.route(&key(name)).is_some()), [true, true, false]);
}

#[test]
fn no_route_is_remembered_without_room_for_it() {
    let limits = Limits { known: 0, ..Limits::default() };
    let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
    directory.apply(sync("docker", &[node("one")], vec![record("one", "a", "web")]));
    assert_eq!(directory.apply(owner("docker", id("one", "a"), Vec::new())), [key("web")]);
    assert_eq!(directory.route(&key("web")), None);
}

#[test]
fn targets_that_a_container_cannot_have_are_refused_unless_from_the_operator() {
    let mut directory = directory();
    for (address, what) in [
        ("127.0.0.1:80", "is a loopback address"),
        ("[::ffff:127.0.0.1]:80", "is a loopback address"),
        ("0.0.0.0:80", "is no address of a machine"),
        ("169.254.169.254:80", "is a link-local address"),
        ("db.example", "is a host name"),
    ] {
        let records = || vec![at(address, record("one", "a", "web"))];
        for source in ["docker", "redis"] {
            assert_eq!(directory.apply(sync(source, &[node("one")], records())), [], "{address}");
            assert!(reasons(&directory)[0].contains(what), "{:?}", reasons(&directory));
            directory.apply(Update { source: source.into(), change: Change::Gone });
        }
        assert_eq!(directory.apply(sync("file", &[node("one")], records())), [key("web")], "{address}");
        directory.apply(Update { source: "file".into(), change: Change::Gone });
    }
    assert_eq!(directory.refused(), 10);
}

#[test]
fn a_record_that_is_refused_owns_nothing() {
    let mut directory = directory();
    let bad = at("127.0.0.1:80", created(1, record("one", "a", "web")));
    directory.apply(sync("docker", &[node("one")], vec![bad, record("one", "b", "web")]));
    assert_eq!(serving(&directory, "web"), ["b"]);
    assert_eq!(losers(&directory, "web"), [""; 0]);
}

#[test]
fn a_target_is_kept_in_the_form_that_is_connected_to() {
    let mut directory = directory();
    let mapped = || vec![at("[::ffff:172.17.0.2]:80", record("one", "a", "web"))];
    directory.apply(sync("docker", &[node("one")], mapped()));
    let state = directory.route(&key("web")).unwrap();
    assert_eq!(state.serving[0].record().target, Some(target("172.17.0.2:80")));
    assert_eq!(directory.apply(sync("docker", &[node("one")], mapped())), []);
}

#[test]
fn numbers_that_no_label_can_give_are_refused() {
    let mut directory = directory();
    for (weight, proxy_protocol, is_admitted) in [
        (0, None, false),
        (1, None, true),
        (1000, Some(1), true),
        (1001, None, false),
        (1, Some(0), false),
        (1, Some(2), true),
        (1, Some(3), false),
    ] {
        let target = Some(Target { proxy_protocol, ..target("172.17.0.2:80") });
        let records = vec![Record { weight, target, ..record("one", "a", "web") }];
        directory.apply(sync("redis", &[node("one")], records));
        assert_eq!(!serving(&directory, "web").is_empty(), is_admitted, "{weight} {proxy_protocol:?}");
    }
}

#[test]
fn a_source_has_no_say_in_nodes_that_it_did_not_announce() {
    let mut directory = directory();
    directory.apply(sync("join:one", &[node("one")], vec![record("two", "a", "web")]));
    directory.apply(owner("join:one", id("two", "a"), vec![record("two", "a", "web")]));
    // Nor has an owner in another.
    directory.apply(owner(
        "join:one",
        id("one", "a"),
        vec![record("two", "a", "web"), record("one", "b", "web")],
    ));
    directory.apply(owner("join:two", id("one", "a"), vec![record("one", "a", "web")]));
    assert_eq!(directory.routes().count(), 0);
    assert_eq!(directory.refused(), 5);
}

#[test]
fn the_second_of_two_records_with_one_id_is_refused() {
    let mut directory = directory();
    directory.apply(sync(
        "redis",
        &[node("one")],
        vec![record("one", "a", "web"), record("one", "a", "api")],
    ));
    assert_eq!(serving(&directory, "web"), ["a"]);
    assert_eq!(directory.route(&key("api")), None);
}

#[test]
fn reasons_come_and_go_with_their_owner() {
    let mut directory = directory();
    let unrouted = || unrouted(id("one", "a"), "name a port");
    let change = Change::Sync { nodes: vec![node("one")], records: Vec::new(), unrouted: vec![unrouted()] };
    assert_eq!(directory.apply(Update { source: "docker".into(), change }), []);
    assert_eq!(reasons(&directory), ["one web: name a port"]);
    directory.apply(owner("docker", id("one", "a"), vec![record("one", "a", "web")]));
    assert_eq!(reasons(&directory), [""; 0]);
    let records = vec![record("one", "a", "web")];
    let change = Change::Owner { owner: id("one", "a"), records, unrouted: Some(unrouted()) };
    assert_eq!(directory.apply(Update { source: "docker".into(), change }), []);
    assert_eq!(reasons(&directory), ["one web: name a port"]);
    // Only who speaks for the node is heard.
    let mut closer = options();
    closer.trust.insert("redis".into(), Trust::Daemon);
    closer.trust.insert("docker".into(), Trust::Remote);
    directory.set_options(closer);
    directory.apply(sync("redis", &[node("one")], Vec::new()));
    assert_eq!(reasons(&directory), [""; 0]);
}

#[test]
fn a_hostile_title_leaves_room_for_the_reason() {
    let mut directory = directory();
    let hostile = Record { title: "é\n".repeat(85).into(), ..created(1, record("one", "a", "web")) };
    directory.apply(sync("docker", &[node("one")], vec![hostile, record("one", "b", "web")]));
    let loser = &losers(&directory, "web")[0];
    assert!(loser.ends_with("`dockline.service`") && !loser.contains('\n'), "{loser}");
}

/// Announces `count` owners of a record each on a node, one by one, and returns how many routes
/// there are.
fn announce(directory: &mut Directory, name: &str, count: usize) -> usize {
    for number in 0..count {
        let container = format!("{name}{number}");
        directory.apply(owner(name, id(name, &container), vec![record(name, &container, &container)]));
    }
    directory.routes().filter(|(_, state)| !state.serving.is_empty()).count()
}

#[test]
fn an_owner_has_a_limited_number_of_records() {
    let limits = Limits { owner: 3, ..Limits::default() };
    for (count, kept, reason) in [
        (2, 2, None),
        (3, 3, None),
        (4, 3, Some("one a: 1 of its routes are refused: the limit for a container is 3")),
    ] {
        let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
        let records = (0..count)
            .map(|index| {
                let id = RecordId { index, ..id("one", "a") };
                Record { id, ..record("one", "a", &format!("web{index}")) }
            })
            .collect();
        assert_eq!(directory.apply(sync("docker", &[node("one")], records)).len(), kept);
        assert_eq!(reasons(&directory), reason.into_iter().collect::<Vec<_>>());
        assert_eq!(directory.refused(), u64::from(count) - u64::try_from(kept).unwrap());
    }
}

#[test]
fn a_node_has_a_limited_number_of_records() {
    let limits = Limits { node: 3, ..Limits::default() };
    for (count, kept) in [(2, 2), (3, 3), (4, 3)] {
        let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
        directory.apply(sync("one", &[node("one")], Vec::new()));
        directory.apply(sync("two", &[node("two")], Vec::new()));
        assert_eq!(announce(&mut directory, "one", count), kept);
        assert_eq!(reasons(&directory).len(), count - kept);
        // Other nodes have room of their own, and room that is made is given.
        assert_eq!(announce(&mut directory, "two", 1), kept + 1);
        directory.apply(owner("one", id("one", "one0"), Vec::new()));
        assert_eq!(announce(&mut directory, "one", 1), kept + 1);
    }
}

#[test]
fn all_nodes_together_have_a_limited_number_of_records() {
    let limits = Limits { total: 3, ..Limits::default() };
    for (count, kept) in [(1, 2), (2, 3), (3, 3)] {
        let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
        directory.apply(sync("one", &[node("one")], Vec::new()));
        directory.apply(sync("two", &[node("two")], Vec::new()));
        assert_eq!(announce(&mut directory, "one", 1), 1);
        assert_eq!(announce(&mut directory, "two", count), kept);
        directory.apply(Update { source: "one".into(), change: Change::Gone });
        directory.apply(sync("three", &[node("three")], Vec::new()));
        assert_eq!(announce(&mut directory, "three", 3), 3);
    }
}

#[test]
fn of_a_sync_over_the_limit_what_was_there_stays_and_the_oldest_of_the_rest_are_taken() {
    let limits = Limits { node: 2, ..Limits::default() };
    let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
    directory.apply(sync("docker", &[node("one")], vec![created(9, record("one", "d", "d"))]));
    let records = [(1, "a"), (0, "b"), (2, "c"), (9, "d")];
    let records = records.map(|(time, name)| created(time, record("one", name, name)));
    assert_eq!(directory.apply(sync("docker", &[node("one")], records.into())), [key("b")]);
    // What goes makes room first.
    let records = [(1, "a"), (0, "b")].map(|(time, name)| created(time, record("one", name, name)));
    assert_eq!(directory.apply(sync("docker", &[node("one")], records.into())).len(), 2);
    assert_eq!(serving(&directory, "a"), ["a"]);
}

#[test]
fn reasons_are_limited_too() {
    let limits = Limits { node: 2, ..Limits::default() };
    for (count, kept) in [(1, 1), (2, 2), (3, 2)] {
        let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
        let unrouted = (0..count).map(|number| unrouted(id("one", &number.to_string()), "no port")).collect();
        let change = Change::Sync { nodes: vec![node("one")], records: Vec::new(), unrouted };
        directory.apply(Update { source: "docker".into(), change });
        assert_eq!(reasons(&directory).len(), kept);
        directory.apply(sync("docker", &[node("one")], Vec::new()));
        assert_eq!(directory.usage, Usage::default());
    }
}

#[test]
fn a_source_has_a_limited_number_of_nodes() {
    let limits = Limits { nodes: 2, ..Limits::default() };
    for (count, kept) in [(1, 1), (2, 2), (3, 2)] {
        let mut directory = Directory::new(DirectoryOptions { limits, ..options() });
        let nodes = (0..count).map(|number| node(&number.to_string())).collect::<Vec<_>>();
        let records = (0..count).map(|number| number.to_string()).map(|name| record(&name, &name, &name));
        assert_eq!(directory.apply(sync("redis", &nodes, records.collect())).len(), kept);
        assert_eq!(directory.sources().next().unwrap().nodes, kept);
    }
}

#[test]
fn other_options_apply_to_what_is_there() {
    let mut directory = directory();
    directory.apply(sync(
        "docker",
        &[node("one")],
        vec![
            at("192.0.2.1:80", record("one", "a", "web")),
            at("192.0.2.1:81", record("one", "b", "api")),
            at("127.0.0.1:80", record("one", "c", "local")),
        ],
    ));
    let mut changed = options();
    changed.addresses.own_listeners.push("192.0.2.1:80".parse().unwrap());
    assert_eq!(directory.set_options(changed.clone()), [key("web")]);
    assert_eq!(directory.set_options(changed), []);
    assert_eq!(serving(&directory, "web"), [""; 0]);
    assert_eq!(reasons(&directory).len(), 2);
    assert_eq!(directory.set_options(options()), [key("web")]);
    assert_eq!(serving(&directory, "web"), ["a"]);

    let mut trusting = options();
    trusting.trust.insert("docker".into(), Trust::Operator);
    assert_eq!(directory.set_options(trusting).len(), 3);
    assert_eq!(serving(&directory, "local"), ["c"]);
    assert_eq!(directory.set_options(options()).len(), 3);
    assert_eq!(serving(&directory, "local"), [""; 0]);
}

#[test]
fn drain_and_life_are_part_of_what_changes() {
    let mut directory = directory();
    directory.apply(sync("docker", &[node("one")], vec![record("one", "a", "web")]));
    let drained = Record { drain: Drain::After(Duration::from_secs(1)), ..record("one", "a", "web") };
    assert_eq!(directory.apply(owner("docker", id("one", "a"), vec![drained])), [key("web")]);
}
