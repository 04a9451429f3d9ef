#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;

fn named() -> Value {
    container(&[("dockline.name", "web")])
}

/// The container `web` in these networks.
fn within(networks: Value) -> Value {
    with(named(), "/NetworkSettings/Networks", networks)
}

/// `with` for a key with a slash.
fn with_port(container: Value, port: &str, at: Value) -> Value {
    let mut container = container;
    container["NetworkSettings"]["Ports"][port] = at;
    container
}

fn route(reader: &ContainerReader, container: &Value) -> String {
    shown(&read_by(reader, container))
}

fn in_container(networks: &[&str]) -> ContainerReader {
    let mut reader = reader();
    reader.host.place =
        Place::Container(networks.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    reader
}

fn elsewhere() -> ContainerReader {
    let mut reader = reader();
    reader.host.place = Place::Elsewhere;
    reader
}

#[test]
fn the_gateway_on_the_host_reaches_the_networks_in_which_the_host_has_an_address() {
    let reader = reader();
    let container = within(json!({
        "a": endpoint("10.9.0.2", "10.9.0.1"),
        "bridge": endpoint("172.17.0.2", "172.17.0.1"),
    }));
    assert_eq!(route(&reader, &container), "web -> 172.17.0.2:8080");
    assert_eq!(
        route(&reader, &within(json!({"a": endpoint("10.9.0.2", "10.9.0.1")}))),
        "(this host has no address in `a`: publish the port, or `docker network connect bridge web`)"
    );
    // An internal network has no gateway.
    assert_eq!(route(&reader, &within(json!({"a": endpoint("172.17.0.9", "")}))), "web -> 172.17.0.9:8080");
    assert!(!route(&reader, &within(json!({"a": endpoint("10.9.0.2", "")}))).contains("->"));
}

#[test]
fn the_gateway_in_a_container_reaches_the_networks_that_it_is_in() {
    let container = within(json!({
        "a": endpoint("172.17.0.2", "172.17.0.1"),
        "front": {"NetworkID": "f00", "IPAddress": "10.9.0.2", "IPPrefixLen": 16, "Gateway": "10.9.0.1"},
    }));
    for own in ["front", "f00"] {
        assert_eq!(route(&in_container(&[own]), &container), "web -> 10.9.0.2:8080");
    }
    assert_eq!(
        route(&in_container(&["other"]), &container),
        "(it is in `a`, `front`, and the gateway is not: `docker network connect other web`)"
    );
}

#[test]
fn of_several_shared_networks_that_of_the_highest_priority_is_taken_then_the_first_by_name() {
    let shared = |name: &str, priority: i64| json!({"IPAddress": format!("10.0.{name}.2"), "IPPrefixLen": 24, "Gateway": "", "GwPriority": priority});
    let reader = in_container(&["1", "2", "3"]);
    let same = within(json!({"3": shared("3", 0), "2": shared("2", 0), "1": shared("1", -1)}));
    assert_eq!(route(&reader, &same), "web -> 10.0.2.2:8080");
    let higher = within(json!({"3": shared("3", 1), "2": shared("2", 0)}));
    assert_eq!(route(&reader, &higher), "web -> 10.0.3.2:8080");
}

#[test]
fn a_label_names_the_network() {
    let label = [("dockline.name", "web"), ("dockline.network", "front")];
    let of = |labels: &[(&str, &str)], networks: Value| {
        route(&reader(), &with(container(labels), "/NetworkSettings/Networks", networks))
    };
    let bridge = endpoint("172.17.0.2", "172.17.0.1");
    let front = endpoint("10.9.0.2", "10.9.0.1");
    assert_eq!(of(&label, json!({"bridge": bridge, "front": front})), "web -> 10.9.0.2:8080");
    assert_eq!(
        of(&label, json!({"bridge": bridge, "frnt": front})),
        "(it is not in the network `front` of `dockline.network`; did you mean `frnt`?)"
    );
    assert_eq!(
        of(&label, json!({"front": endpoint("", "")})),
        "(it has no address in the network `front` yet)"
    );
    // By the name that the compose file has.
    let compose = [&label[..], &[("com.docker.compose.project", "shop")]].concat();
    assert_eq!(of(&compose, json!({"shop_front": front})), "web -> 10.9.0.2:8080");
    assert_eq!(of(&compose, json!({"shop_front": bridge, "front": front})), "web -> 10.9.0.2:8080");
    assert!(!of(&label, json!({"_front": front})).contains("->"));
}

#[test]
fn without_a_shared_network_the_published_port_is_used() {
    let at = |reader: &ContainerReader, published: Value| {
        let far = within(json!({"far": endpoint("10.9.0.2", "10.9.0.1")}));
        route(reader, &with_port(far, "8080/tcp", published))
    };
    let one = |ip: &str, port: &str| json!([{"HostIp": ip, "HostPort": port}]);
    for reader in [reader(), in_container(&["other"]), elsewhere()] {
        assert_eq!(at(&reader, one("0.0.0.0", "32768")), "web -> 192.0.2.1:32768");
        assert_eq!(at(&reader, one("", "32768")), "web -> 192.0.2.1:32768");
        assert_eq!(at(&reader, one("192.0.2.9", "80")), "web -> 192.0.2.9:80");
        assert_eq!(
            at(&reader, json!([{"HostIp": "::", "HostPort": "2"}, {"HostIp": "0.0.0.0", "HostPort": "1"}])),
            "web -> 192.0.2.1:1"
        );
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(
                at(&reader, one(loopback, "80")),
                "(no network of `web` is shared with the gateway, and its port is published on loopback only: \
                 publish it on an address of the host)"
            );
        }
        assert!(!at(&reader, one("0.0.0.0", "0")).contains("->"));
        assert!(!at(&reader, json!([])).contains("->"));
    }
    let mut unknown = elsewhere();
    unknown.host.address = None;
    assert!(at(&unknown, one("0.0.0.0", "80")).contains("set the address of the node"));
    assert_eq!(at(&unknown, one("192.0.2.9", "80")), "web -> 192.0.2.9:80");
    // It is a port of an IPv6 address only, and the host's is of IPv4.
    assert!(!at(&elsewhere(), one("::", "80")).contains("->"));
}

#[test]
fn no_address_that_is_never_a_containers_is_even_probed() {
    for ip in ["169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.1"] {
        let container = within(json!({"a": endpoint(ip, "172.17.0.1")}));
        let found = route(&reader(), &container);
        assert!(found.starts_with(&format!("(its address {ip}:8080 is ")), "{found}");
        if ip != "127.0.0.1" && ip != "0.0.0.0" {
            let at = json!([{"HostIp": ip, "HostPort": "80"}]);
            let published = with_port(within(json!({"far": endpoint("10.9.0.2", "")})), "8080/tcp", at);
            assert!(route(&reader(), &published).starts_with(&format!("(its address {ip}:80 is ")));
        }
    }
}

#[test]
fn another_published_port_is_not_the_one_that_is_asked_for() {
    let label = [("dockline.name", "web"), ("dockline.port", "81")];
    let far = with(container(&label), "/NetworkSettings/Networks", json!({"far": endpoint("10.9.0.2", "")}));
    let published = with_port(far, "8080/tcp", json!([{"HostIp": "0.0.0.0", "HostPort": "80"}]));
    assert_eq!(
        route(&elsewhere(), &published),
        "(it is on another machine: publish the port, or run a gateway there)"
    );
}

#[test]
fn what_the_gateway_of_another_machine_reaches_is_probed_there_and_not_here() {
    let container = within(json!({"bridge": endpoint("172.17.0.2", "172.17.0.1")}));
    let is_live =
        |reader: &ContainerReader| read_by(reader, &container).records[0].state == RecordState::Live;
    let mut other = elsewhere();
    other.node.gateway = Some("192.0.2.1:80".parse().unwrap());
    assert!(is_live(&other));
    // An address that is reached from here has to accept here.
    other.host.routed = vec!["172.17.0.0/16".parse().unwrap()];
    assert!(!is_live(&other));
    let mut own = reader();
    own.node.gateway = other.node.gateway;
    assert!(!is_live(&own));
}

#[test]
fn networks_whose_containers_the_host_does_not_reach_are_named() {
    let mut reader = reader();
    for driver in ["macvlan", "ipvlan", "overlay"] {
        reader.host.drivers.insert(driver.into(), driver.into());
    }
    // The host is in the same subnet as the containers of a macvlan network, and does not reach
    // them.
    let of = |reader: &ContainerReader, name: &str| {
        route(reader, &within(json!({name: endpoint("172.17.0.7", "172.17.0.1")})))
    };
    assert_eq!(
        of(&reader, "macvlan"),
        "(`macvlan` is a network of macvlan, whose containers their own host does not reach: \
         `docker network connect bridge web`)"
    );
    assert!(of(&reader, "ipvlan").contains("a network of ipvlan"));
    assert_eq!(
        of(&reader, "overlay"),
        "(`overlay` is an overlay network, which only containers reach: run the gateway in a container of it, or \
         publish the port)"
    );
    reader.host.place = Place::Container(["macvlan".to_owned()].into());
    assert_eq!(of(&reader, "macvlan"), "web -> 172.17.0.7:8080");
}

#[test]
fn the_network_of_swarms_published_ports_is_ignored() {
    let container = within(json!({"ingress": endpoint("172.17.0.2", "172.17.0.1")}));
    assert_eq!(route(&reader(), &container), "(it is in no network: start it in one that the gateway is in)");
}

#[test]
fn a_container_without_a_network_says_so() {
    let none = with(within(json!({"none": endpoint("", "")})), "/HostConfig/NetworkMode", json!("none"));
    assert_eq!(route(&reader(), &none), "(it is in no network: start it in one that the gateway is in)");
    assert_eq!(
        route(&reader(), &within(json!({"a": endpoint("", ""), "b": null}))),
        "(it has no address yet in `a`)"
    );
}

#[test]
fn the_labels_belong_on_the_container_whose_network_is_used() {
    let joined = with(within(json!({})), "/HostConfig/NetworkMode", json!("container:0123456789abcdef"));
    assert_eq!(
        route(&reader(), &joined),
        "(it uses the network of the container 0123456789ab: set the labels on that one)"
    );
}

#[test]
fn a_container_in_the_network_of_its_host_needs_an_explicit_port_and_the_address_of_the_node() {
    let host = |labels: &[(&str, &str)]| {
        with(
            with(container(labels), "/HostConfig/NetworkMode", json!("host")),
            "/NetworkSettings/Networks",
            json!({"host": endpoint("", "")}),
        )
    };
    let label = [("dockline.name", "web"), ("dockline.port", "81")];
    assert_eq!(route(&reader(), &host(&label)), "web -> 192.0.2.1:81");
    assert_eq!(
        route(&reader(), &host(&label[..1])),
        "(it uses the network of its host: set `dockline.port` to the port that it listens on)"
    );
    for address in [None, Some("127.0.0.1"), Some("::1"), Some("::ffff:127.0.0.1")] {
        let mut reader = reader();
        reader.host.address = address.map(|ip| ip.parse().unwrap());
        assert_eq!(
            route(&reader, &host(&label)),
            "(it uses the network of its host, which has no known address: set the address of the node)"
        );
    }
}

#[test]
fn a_gateway_elsewhere_reaches_routed_networks_and_what_the_gateway_of_the_node_reaches() {
    let mut routed = elsewhere();
    assert_eq!(
        route(&routed, &named()),
        "(it is on another machine: publish the port, or run a gateway there)"
    );
    routed.host.routed.push("172.17.0.0/16".parse().unwrap());
    assert_eq!(route(&routed, &named()), "web -> 172.17.0.2:8080");
    let mut two_hops = elsewhere();
    two_hops.node.gateway = Some("192.0.2.7:80".parse().unwrap());
    assert_eq!(route(&two_hops, &named()), "web -> 172.17.0.2:8080");
    two_hops.host.drivers.insert("bridge".into(), "overlay".into());
    assert!(!route(&two_hops, &named()).contains("->"));
    // It says nothing of what this machine reaches.
    let mut local = reader();
    local.node.gateway = Some("192.0.2.1:80".parse().unwrap());
    assert!(!route(&local, &within(json!({"far": endpoint("10.9.0.2", "10.9.0.1")}))).contains("->"));
}

#[test]
fn a_manager_of_classic_swarm_says_on_which_node_a_container_is() {
    let node =
        |name: &str, ip: &str| with(named(), "/Node", json!({"Name": name, "IP": ip, "Addr": "x:2375"}));
    let there = read(&node("worker-1", "192.0.2.7"));
    assert_eq!(there.node.name.as_str(), "worker-1");
    assert_eq!(shown(&there), "(it is on another machine: publish the port, or run a gateway there)");
    let here = read(&node("worker-2", "192.0.2.1"));
    assert_eq!((here.node.name.as_str(), &*shown(&here)), ("worker-2", "web -> 172.17.0.2:8080"));
    let published = with_port(
        node("worker-1", "192.0.2.7"),
        "8080/tcp",
        json!([{"HostIp": "0.0.0.0", "HostPort": "80"}]),
    );
    assert_eq!(shown(&read(&published)), "web -> 192.0.2.7:80");
    let mut two_hops = reader();
    two_hops.node.gateway = Some("192.0.2.1:8000".parse().unwrap());
    let there = read_by(&two_hops, &node("worker-1", "192.0.2.7"));
    assert_eq!(there.node.gateway, Some("192.0.2.7:8000".parse().unwrap()));
    assert_eq!(shown(&there), "web -> 172.17.0.2:8080");
    for bad in [node("a b", "192.0.2.7"), node("worker-1", "here"), node("", "")] {
        assert_eq!(read(&bad).node.name.as_str(), "one");
    }
}

#[test]
fn an_address_of_ipv6_is_used_if_there_is_no_other() {
    let networks = json!({"six": {"IPAddress": "", "GlobalIPv6Address": "fd00::2", "GlobalIPv6PrefixLen": 64,
        "IPv6Gateway": "fd00::1"}});
    let mut reader = reader();
    reader.host.own_addresses.push("fd00::1".parse().unwrap());
    assert_eq!(route(&reader, &within(networks)), "web -> [fd00::2]:8080");
}

#[test]
fn of_several_exposed_ports_one_has_to_be_named() {
    let exposing = |ports: Value| {
        with(with(named(), "/Config/ExposedPorts", ports), "/NetworkSettings/Ports", json!({}))
    };
    assert_eq!(route(&reader(), &exposing(json!({"80/tcp": {}, "53/udp": {}}))), "web -> 172.17.0.2:80");
    assert_eq!(
        route(&reader(), &exposing(json!({"443/tcp": {}, "80/tcp": {}, "53/udp": {}}))),
        "(it exposes several ports: set `dockline.port` to one of 80, 443)"
    );
    let many: serde_json::Map<_, _> = (1..=9).map(|port| (format!("{port}/tcp"), json!({}))).collect();
    assert!(route(&reader(), &exposing(many.into())).ends_with("one of 1, 2, 3, 4, 5, 6, 7, 8, ...)"));
    assert!(route(&reader(), &exposing(json!({"53/udp": {}}))).contains("it exposes no TCP port"));
}
