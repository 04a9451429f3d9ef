//! What containers and other machines must not be able to do to a router, from their text to the
//! routes. A test for each rule.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::sync::Arc;

use dockline::routes::{HostPattern, PathPrefix, RouteKey};
use dockline_discovery::container::{ContainerReader, Host, LabelOptions};
use dockline_discovery::directory::{Directory, DirectoryOptions, Trust};
use dockline_discovery::{
    Change, Node, Origin, Record, RecordId, RecordState, Source, Target, Text, Unrouted, Update,
};
use serde_json::{Value, json};

/// The text that a hostile container has in place of any other.
const HOSTILE: [&str; 12] = [
    "a\r\nHost: b",
    "a\0b",
    "../../etc",
    "%2e%2e",
    "{}",
    "${jndi}",
    "*",
    "a..b",
    ".",
    "[::1",
    "user@host",
    "\u{202e}web",
];

fn reader() -> ContainerReader {
    let own_addresses = ["127.0.0.1", "::1", "192.0.2.1", "172.17.0.1"].map(|ip| ip.parse().unwrap()).into();
    ContainerReader {
        node: Node { name: "one".parse().unwrap(), gateway: None },
        options: LabelOptions { virtual_host: true, traefik: true, ..LabelOptions::default() },
        host: Host { own_addresses, address: Some("192.0.2.1".parse().unwrap()), ..Host::default() },
    }
}

/// A directory in a gateway that listens on port 80 of all addresses.
fn directory() -> Directory {
    let mut options = DirectoryOptions::default();
    options.trust.insert("docker".into(), Trust::Daemon);
    options.trust.insert("file".into(), Trust::Operator);
    options.addresses.own_addresses = reader().host.own_addresses;
    options.addresses.own_listeners.push("[::]:80".parse().unwrap());
    options.addresses.own_listeners.push("0.0.0.0:80".parse().unwrap());
    let mut directory = Directory::new(options);
    for source in ["docker", "file", "redis"] {
        directory.apply(sync(source, Vec::new()));
    }
    directory
}

fn sync(source: &str, records: Vec<Record>) -> Update {
    let nodes = vec![Node { name: "one".parse().unwrap(), gateway: None }];
    Update { source: source.into(), change: Change::Sync { nodes, records, unrouted: Vec::new() } }
}

fn container(id: &str, created: &str, labels: Value) -> Value {
    json!({
        "Id": id,
        "Name": format!("/{id}"),
        "Created": created,
        "State": {"Running": true},
        "Config": {"Labels": labels, "ExposedPorts": {"8080/tcp": {}}},
        "NetworkSettings": {"Networks": {"bridge":
            {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "Gateway": "172.17.0.1"}}},
    })
}

fn web(labels: Value) -> Value {
    container("web", "2024-01-01T00:00:00Z", labels)
}

/// Gives the directory what a daemon says of a container.
fn add(directory: &mut Directory, container: &Value) -> Vec<RouteKey> {
    let read = reader().read(container.to_string().as_bytes()).unwrap();
    let id = container["Id"].as_str().unwrap();
    let owner = RecordId { node: read.node.name, owner: id.into(), index: 0 };
    let change = Change::Owner { owner, records: read.records, unrouted: read.unrouted };
    directory.apply(Update { source: "docker".into(), change })
}

fn key(name: &str) -> RouteKey {
    RouteKey { host: HostPattern::name(name).unwrap(), path: PathPrefix::root() }
}

/// A record of another machine's container, with this target.
fn record(address: Origin) -> Record {
    Record {
        id: RecordId { node: "one".parse().unwrap(), owner: "a".into(), index: 0 },
        title: "a".into(),
        started: 1,
        created: 1,
        key: key("web"),
        strip: false,
        service: None,
        target: Some(Target { address, tls: false, proxy_protocol: None }),
        state: RecordState::Live,
        weight: 1,
        drain: Default::default(),
        lifecycle: Default::default(),
    }
}

fn targets(directory: &Directory) -> Vec<String> {
    let serving = directory.routes().flat_map(|(_, state)| state.serving);
    serving.filter_map(|claim| claim.record().target.as_ref().map(|it| it.address.to_string())).collect()
}

#[test]
fn names_from_labels_are_validated() {
    for text in HOSTILE {
        for labels in [
            json!({"dockline.name": text}),
            json!({"dockline.host": text}),
            json!({"dockline.name": "web", "dockline.path": text}),
            json!({"dockline.name": "web", "dockline.port": text}),
            json!({"dockline.routes.a.host": text}),
            json!({"traefik.http.routers.a.rule": format!("Host(`{text}`)")}),
        ] {
            let mut directory = directory();
            add(&mut directory, &web(labels.clone()));
            assert_eq!(directory.routes().count(), 0, "{labels}");
            let reasons: Vec<Unrouted> = directory.unrouted().collect();
            assert_eq!(reasons.len(), 1, "{labels}");
            let shown = reasons[0].reason.to_string();
            assert!(shown.chars().all(dockline::untrusted::is_printable), "{shown}");
        }
    }
}

#[test]
fn names_from_a_registry_are_validated() {
    let good = serde_json::to_value(record(Origin::Ip("172.17.0.2:80".parse().unwrap()))).unwrap();
    assert!(serde_json::from_value::<Record>(good.clone()).is_ok());
    for text in HOSTILE {
        for (field, value) in [
            ("key", json!({"name": text})),
            ("key", json!({"host": text})),
            ("key", json!({"name": "web", "path": text})),
            ("id", json!({"node": text, "owner": "a"})),
        ] {
            // A node may have a name of dots.
            if (field, text) == ("id", ".") || (field, text) == ("id", "a..b") {
                continue;
            }
            let mut bad = good.clone();
            bad[field] = value;
            assert!(serde_json::from_value::<Record>(bad.clone()).is_err(), "{bad}");
        }
    }
}

#[test]
fn the_first_container_keeps_its_name_and_a_second_is_told_so() {
    let mut directory = directory();
    let name = json!({"dockline.name": "web"});
    add(&mut directory, &container("second", "2024-01-02T00:00:00Z", name.clone()));
    add(&mut directory, &container("first", "2024-01-01T00:00:00Z", name));
    let state = directory.route(&key("web")).unwrap();
    assert_eq!(state.serving.len(), 1);
    assert_eq!(state.serving[0].record().id.owner.raw(), "first");
    assert!(state.losers[0].reason.to_string().starts_with("`first` on one has this route"));
}

#[test]
fn a_container_is_reached_by_its_own_address_whatever_its_labels_say() {
    for text in ["10.0.0.1", "10.0.0.1:80", "unix:///var/run/docker.sock", "evil.example"] {
        for name in ["port", "network", "scheme", "service", "routes.a.port", "target", "address"] {
            let mut directory = directory();
            add(&mut directory, &web(json!({"dockline.name": "web", format!("dockline.{name}"): text})));
            assert!(targets(&directory).iter().all(|target| target == "172.17.0.2:8080"), "{name} {text}");
        }
    }
}

#[test]
fn no_target_is_on_loopback_link_local_or_a_listener_of_the_gateway_nor_a_name() {
    let addresses = [
        "127.0.0.1:8080",
        "127.1.2.3:8080",
        "[::1]:8080",
        "169.254.169.254:80",
        "[fe80::1]:8080",
        "0.0.0.0:8080",
        "[::]:8080",
        "255.255.255.255:80",
        "224.0.0.1:80",
        "192.0.2.1:80",
        "172.17.0.1:80",
        "192.0.2.1:0",
    ];
    let addresses = addresses.map(|address| Origin::Ip(address.parse().unwrap()));
    let names =
        ["127.1", "0x7f.1", "0177.0.0.1", "2130706433", "localhost", "db.internal", "/var/run/docker.sock"];
    let names = names.map(|name| Origin::Host(name.into(), 80));
    for address in addresses.into_iter().chain(names) {
        for source in ["docker", "redis"] {
            let mut directory = directory();
            directory.apply(Update { source: "file".into(), change: Change::Gone });
            directory.apply(Update { source: "docker".into(), change: Change::Gone });
            assert_eq!(directory.apply(sync(source, vec![record(address.clone())])), [], "{address}");
            assert_eq!(directory.refused(), 1);
        }
        let mut directory = directory();
        directory.apply(sync("file", vec![record(address.clone())]));
        assert_eq!(targets(&directory), [address.to_string()], "the operator may");
    }
}

#[test]
fn a_port_that_is_published_on_such_an_address_is_no_target_either() {
    for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.1.1", "fe80::1", "224.0.0.1"] {
        let mut directory = directory();
        let mut container = web(json!({"dockline.name": "web"}));
        container["NetworkSettings"] = json!({
            "Ports": {"8080/tcp": [{"HostIp": ip, "HostPort": "8080"}]},
            "Networks": {"far": {"IPAddress": "10.9.0.2", "Gateway": "10.9.0.1"}},
        });
        add(&mut directory, &container);
        assert_eq!(targets(&directory), [""; 0], "{ip}");
    }
}

#[test]
fn addresses_are_checked_in_the_form_that_is_connected_to() {
    for address in
        ["[::ffff:127.0.0.1]:81", "[::ffff:169.254.169.254]:81", "[::ffff:0.0.0.0]:81", "[::127.0.0.1]:81"]
    {
        let mut directory = directory();
        directory.apply(Update { source: "file".into(), change: Change::Gone });
        directory.apply(Update { source: "docker".into(), change: Change::Gone });
        let record = record(Origin::Ip(address.parse().unwrap()));
        assert_eq!(directory.apply(sync("redis", vec![record])), [], "{address}");
    }
    // What no parser of addresses takes never becomes one: a resolver would take it.
    for text in ["127.1:81", "0177.0.0.1:81", "0x7f000001:81", "2130706433:81"] {
        let target = json!({"address": {"ip": text}});
        assert!(serde_json::from_value::<Target>(target).is_err(), "{text}");
    }
}

#[test]
fn a_container_that_cannot_be_read_leaves_what_is_known_of_it() {
    let mut directory = directory();
    add(&mut directory, &web(json!({"dockline.name": "web"})));
    assert!(reader().read(br#"{"Id":"web","Config":{"Labels":"x"}}"#).is_err());
    assert_eq!(targets(&directory), ["172.17.0.2:8080"]);
}

#[test]
fn sizes_and_counts_are_limited() {
    let long = "a".repeat(10 << 20);
    let mut directory = directory();
    let many: serde_json::Map<_, _> = (0..2000)
        .map(|number| (format!("dockline.routes.r{number}.host"), format!("h{number}.example").into()))
        .collect();
    add(&mut directory, &web(many.into()));
    assert_eq!(targets(&directory).len(), 256);
    for labels in [
        json!({"dockline.name": long}),
        json!({format!("dockline.{long}"): "web"}),
        json!({format!("dockline.routes.{long}.host"): "a b"}),
    ] {
        add(&mut directory, &web(labels));
        let reason = directory.unrouted().next().unwrap().reason;
        assert!(reason.raw().len() <= Text::MAX);
    }
}

#[test]
fn a_registry_that_is_down_leaves_its_last_routes_marked_and_brings_no_new_ones() {
    let mut directory = directory();
    for source in ["file", "docker"] {
        directory.apply(Update { source: source.into(), change: Change::Gone });
    }
    directory.apply(sync("redis", vec![record(Origin::Ip("172.17.0.2:80".parse().unwrap()))]));
    let redis: Source = Arc::from("redis");
    directory.apply(Update { source: redis, change: Change::Stale("connection refused".into()) });
    assert_eq!(targets(&directory), ["172.17.0.2:80"]);
    assert!(directory.route(&key("web")).unwrap().serving[0].is_stale());
}

#[test]
fn an_address_that_another_container_has_now_is_another_target() {
    let mut directory = directory();
    add(&mut directory, &web(json!({"dockline.name": "web"})));
    let mut stopped = web(json!({"dockline.name": "web"}));
    stopped["State"]["Running"] = false.into();
    assert_eq!(add(&mut directory, &stopped), [key("web")]);
    assert_eq!(targets(&directory), [""; 0]);
    add(&mut directory, &container("other", "2024-01-01T00:00:00Z", json!({"dockline.name": "other"})));
    assert_eq!(directory.route(&key("web")).unwrap().serving[0].record().state, RecordState::Stopped);
    // The same container, started again.
    let mut restarted = web(json!({"dockline.name": "web"}));
    restarted["State"]["StartedAt"] = "2024-01-01T00:00:09Z".into();
    add(&mut directory, &restarted);
    assert_eq!(add(&mut directory, &web(json!({"dockline.name": "web"}))), [key("web")]);
}
