#![forbid(unsafe_code)]

use std::time::Duration;

use dockline::routes::PATH_MAX;
use serde_json::{Value, json};

use super::*;
use crate::record::Drain;

mod network;
mod properties;

/// A container named `web` that runs on Docker's default bridge, with these labels.
fn container(labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    json!({
        "Id": "abc",
        "Name": "/web",
        "Created": "2024-01-01T00:00:00Z",
        "State": {"Running": true, "StartedAt": "2024-01-01T00:00:01Z"},
        "Config": {"Env": ["PATH=/bin"], "Labels": labels, "ExposedPorts": {"8080/tcp": {}}},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Ports": {"8080/tcp": null}, "Networks": {"bridge": endpoint("172.17.0.2", "172.17.0.1")}},
    })
}

fn endpoint(ip: &str, gateway: &str) -> Value {
    json!({"NetworkID": "", "IPAddress": ip, "IPPrefixLen": 16, "Gateway": gateway})
}

/// The container with another value at a path.
fn with(mut container: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    container.pointer_mut(parent).unwrap()[key] = value;
    container
}

fn with_env(container: Value, env: &[&str]) -> Value {
    with(container, "/Config/Env", json!(env))
}

/// A reader on the machine of the daemon, whose bridge is 172.17.0.1.
fn reader() -> ContainerReader {
    ContainerReader {
        node: Node { name: "one".parse().unwrap(), gateway: None },
        options: LabelOptions::default(),
        host: Host {
            own_addresses: ["127.0.0.1", "192.0.2.1", "172.17.0.1"].map(|ip| ip.parse().unwrap()).into(),
            address: Some("192.0.2.1".parse().unwrap()),
            ..Host::default()
        },
    }
}

fn read_by(reader: &ContainerReader, container: &Value) -> Read {
    reader.read(container.to_string().as_bytes()).unwrap()
}

fn read(container: &Value) -> Read {
    read_by(&reader(), container)
}

/// What a container is routed by, and why it is not.
fn shown(read: &Read) -> String {
    let target = |record: &Record| match &record.target {
        Some(target) if target.tls => format!("https://{}", target.address),
        Some(target) => target.address.to_string(),
        None => "nowhere".into(),
    };
    let routes = read.records.iter().map(|record| format!("{} -> {}", record.key, target(record)));
    let reason = read.unrouted.iter().map(|unrouted| format!("({})", unrouted.reason));
    routes.chain(reason).collect::<Vec<_>>().join(", ")
}

fn of(labels: &[(&str, &str)]) -> String {
    shown(&read(&container(labels)))
}

/// The reason of a container with these labels, which has no route.
#[track_caller]
fn reason(labels: &[(&str, &str)]) -> String {
    let read = read(&container(labels));
    assert!(read.records.is_empty(), "{}", shown(&read));
    read.unrouted.unwrap().reason.to_string()
}

#[test]
fn a_name_is_routed_to_the_only_exposed_port() {
    let read = read(&container(&[("dockline.name", "Shop")]));
    assert_eq!(shown(&read), "shop -> 172.17.0.2:8080");
    let record = &read.records[0];
    assert_eq!((record.id.node.as_str(), record.id.owner.raw(), record.id.index), ("one", "abc", 0));
    assert_eq!(record.title.raw(), "web");
    assert_eq!((record.created, record.started), (1_704_067_200_000_000_000, 1_704_067_201_000_000_000));
    assert_eq!((record.weight, record.strip, record.drain), (1, false, Drain::Never));
    assert_eq!(record.service, None);
    assert_eq!(read.node, reader().node);
}

#[test]
fn a_container_that_asks_for_nothing_has_neither_a_route_nor_a_reason() {
    assert_eq!(of(&[]), "");
    assert_eq!(of(&[("com.example.name", "web"), ("docklines.name", "web"), ("dockline", "x")]), "");
}

#[test]
fn the_variable_names_a_container_exactly() {
    let of = |env: &[&str], labels: &[(&str, &str)]| shown(&read(&with_env(container(labels), env)));
    assert_eq!(of(&["DPROXY_FORWARD_NAME=shop"], &[]), "shop -> 172.17.0.2:8080");
    assert_eq!(of(&["MY_DPROXY_FORWARD_NAME=shop", "DPROXY_FORWARD_NAME_2=shop"], &[]), "");
    assert_eq!(
        of(&["DPROXY_FORWARD_NAME=a=b"], &[]),
        "(`DPROXY_FORWARD_NAME=a=b`: a host name has letters, digits, hyphens and underscores, and no label begins or ends with a hyphen)"
    );
    assert_eq!(of(&["DPROXY_FORWARD_NAME="], &[]), "(`DPROXY_FORWARD_NAME=`: it is empty)");
}

#[test]
fn labels_come_before_the_variable_and_that_before_the_default() {
    let env =
        |labels: &[(&str, &str)]| shown(&read(&with_env(container(labels), &["DPROXY_FORWARD_NAME=env"])));
    assert_eq!(env(&[("dockline.name", "label")]), "label -> 172.17.0.2:8080");
    assert_eq!(env(&[("dockline.host", "a.example")]), "a.example -> 172.17.0.2:8080");
    assert_eq!(env(&[("dockline.enable", "true")]), "env -> 172.17.0.2:8080");
    assert_eq!(env(&[("dockline.enable", "false")]), "");
    assert_eq!(of(&[("dockline.enable", "true")]), "web -> 172.17.0.2:8080");
    // A wrong label is not made up for.
    assert!(env(&[("dockline.name", "a.b")]).starts_with("(`dockline.name=a.b`: a name is the first label"));
}

#[test]
fn the_default_name_is_that_of_the_service_and_else_of_the_container() {
    let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "api")];
    let swarm = [("com.docker.swarm.service.name", "shop_api")];
    let enabled = |labels: &[(&str, &str)]| of(&[&[("dockline.enable", "true")], labels].concat());
    assert_eq!(enabled(&compose), "api -> 172.17.0.2:8080");
    assert_eq!(enabled(&swarm), "shop_api -> 172.17.0.2:8080");
    let dotted = with(container(&[("dockline.enable", "true")]), "/Name", json!("/web.1"));
    assert_eq!(
        shown(&read(&dotted)),
        "(its name `web.1` cannot be one of a host: a name is the first label of a host, without dots; set `dockline.name`)"
    );
}

#[test]
fn all_containers_are_routed_by_default_if_the_operator_says_so() {
    let mut reader = reader();
    reader.options.exposed_by_default = true;
    let of = |labels: &[(&str, &str)]| shown(&read_by(&reader, &container(labels)));
    assert_eq!(of(&[]), "web -> 172.17.0.2:8080");
    assert_eq!(of(&[("dockline.port", "81")]), "web -> 172.17.0.2:81");
    assert_eq!(of(&[("dockline.enable", "false")]), "");
    let silent = with(
        with(container(&[]), "/Config/ExposedPorts", Value::Null),
        "/NetworkSettings/Ports",
        Value::Null,
    );
    assert_eq!(
        shown(&read_by(&reader, &silent)),
        "(it exposes no TCP port: set `dockline.port` to the port that it listens on)"
    );
}

#[test]
fn a_container_has_a_route_for_its_name_and_each_host() {
    assert_eq!(
        of(&[("dockline.name", "web"), ("dockline.host", "A.example, *.b.example,,c.example")]),
        "web -> 172.17.0.2:8080, a.example -> 172.17.0.2:8080, *.b.example -> 172.17.0.2:8080, c.example -> 172.17.0.2:8080"
    );
    assert_eq!(
        of(&[("dockline.host", "a.example,A.example")]),
        "a.example -> 172.17.0.2:8080, (it asks for `a.example` twice)"
    );
    assert_eq!(reason(&[("dockline.host", " , ")]), "`dockline.host=,`: it is empty");
}

#[test]
fn each_label_is_read() {
    let read = read(&container(&[
        ("dockline.name", "web"),
        ("dockline.port", "81"),
        ("dockline.scheme", "https"),
        ("dockline.path", "/api/"),
        ("dockline.strip", "true"),
        ("dockline.weight", "1000"),
        ("dockline.proxy-protocol", "v2"),
        ("dockline.drain", "1m 30s"),
        ("dockline.service", "shop"),
        ("dockline.start", "on-demand"),
        ("dockline.stop-after", "10m"),
    ]));
    assert_eq!(shown(&read), "web/api -> https://172.17.0.2:81");
    let record = &read.records[0];
    assert!(record.strip);
    assert_eq!(record.weight, 1000);
    assert_eq!(record.target.as_ref().unwrap().proxy_protocol, Some(2));
    assert_eq!(record.drain, Drain::After(Duration::from_secs(90)));
    assert_eq!(record.service, Some(Service::Named("shop".into())));
    assert_eq!(record.lifecycle, Lifecycle { on_demand: true, stop_after: Some(Duration::from_secs(600)) });
}

#[test]
fn drain_is_a_time_or_never() {
    let drain =
        |text| read(&container(&[("dockline.name", "web"), ("dockline.drain", text)])).records[0].drain;
    assert_eq!(drain("never"), Drain::Never);
    assert_eq!(drain("0"), Drain::After(Duration::ZERO));
    assert_eq!(drain("500ms"), Drain::After(Duration::from_millis(500)));
}

#[test]
fn a_route_with_a_wrong_label_is_not_guessed() {
    let long = format!("/{}", "a".repeat(PATH_MAX));
    for (key, value, wanted) in [
        ("name", "a b", "`dockline.name=a b`: a host name has letters"),
        ("host", "a.example,b:80", "`dockline.host=a.example,b:80`: `b:80`: a host name has letters"),
        ("port", "0", "`dockline.port=0`: a port is a number from 1 to 65535"),
        ("port", "65536", "a port is a number from 1 to 65535"),
        ("port", "+80", "a port is a number from 1 to 65535"),
        ("port", "http", "a port is a number from 1 to 65535"),
        ("scheme", "h2c", "a scheme is `http` or `https`; HTTP/2 and gRPC are not routed"),
        ("path", "api", "`dockline.path=api`: a path begins with `/`"),
        ("path", &long, "it is too long"),
        ("strip", "yes", "write `true` or `false`"),
        ("weight", "0", "a weight is a number from 1 to 1000"),
        ("weight", "1001", "a weight is a number from 1 to 1000"),
        ("weight", "x", "a weight is a number from 1 to 1000"),
        ("proxy-protocol", "2", "the version of the PROXY protocol is `v1` or `v2`"),
        ("drain", "30", "write a duration as in `30s`, `10m` or `1h`, or `never`"),
        ("network", "front", "it is not in the network `front` of `dockline.network`: it is in `bridge`"),
    ] {
        let label = format!("dockline.{key}");
        let found = reason(&[("dockline.name", "web"), (&label, value)][usize::from(key == "name")..]);
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn labels_of_the_container_that_are_wrong_leave_it_routed() {
    for (key, value, wanted) in [
        ("enable", "1", "`dockline.enable=1`: write `true` or `false`"),
        ("service", "", "`dockline.service=`: a service has a name of 1 to 255 bytes"),
        ("start", "always", "`dockline.start=always`: the only value is `on-demand`"),
        ("stop-after", "soon", "`dockline.stop-after=soon`: write a duration"),
        ("stop-after", "5m", "`dockline.stop-after` does nothing without `dockline.start=on-demand`"),
    ] {
        let found = of(&[("dockline.name", "shop"), (&format!("dockline.{key}"), value)]);
        assert!(found.starts_with("shop -> 172.17.0.2:8080, (") && found.contains(wanted), "{found}");
    }
}

#[test]
fn a_service_has_a_name_of_limited_length() {
    for (length, is_taken) in [(254, true), (255, true), (256, false)] {
        let name = "s".repeat(length);
        let read = read(&container(&[("dockline.name", "web"), ("dockline.service", &name)]));
        assert_eq!(read.records[0].service.is_some(), is_taken, "{length}");
    }
}

#[test]
fn an_unknown_label_is_reported_with_what_may_be_meant() {
    assert_eq!(
        reason(&[("dockline.nmae", "web")]),
        "there is no label `dockline.nmae`; did you mean `dockline.name`?"
    );
    assert_eq!(
        of(&[("dockline.name", "web"), ("dockline.wieght", "3")]),
        "web -> 172.17.0.2:8080, (there is no label `dockline.wieght`; did you mean `dockline.weight`?)"
    );
    assert_eq!(reason(&[("dockline.colour", "red")]), "there is no label `dockline.colour`");
    assert_eq!(
        reason(&[("dockline.routes.api.hots", "a")]),
        "there is no label `dockline.routes.api.hots`; did you mean `dockline.routes.api.host`?"
    );
    // It is of the container.
    assert_eq!(
        reason(&[("dockline.routes.api.enable", "true")]),
        "there is no label `dockline.routes.api.enable`"
    );
    assert_eq!(reason(&[("dockline.routes", "a")]), "there is no label `dockline.routes`");
}

#[test]
fn labels_that_name_no_route_say_so() {
    assert_eq!(
        reason(&[("dockline.port", "80")]),
        "its labels name no route: set `dockline.name` or `dockline.host`"
    );
}

#[test]
fn of_several_problems_the_first_is_told() {
    assert_eq!(
        reason(&[("dockline.name", "web"), ("dockline.port", "x"), ("dockline.weight", "y")]),
        "`dockline.port=x`: a port is a number from 1 to 65535 (and 1 more)"
    );
}

#[test]
fn a_container_may_have_several_routes() {
    assert_eq!(
        of(&[
            ("dockline.name", "web"),
            ("dockline.routes.api.path", "/api"),
            ("dockline.routes.api.port", "81"),
            ("dockline.routes.old.host", "old.example"),
        ]),
        "web -> 172.17.0.2:8080, web/api -> 172.17.0.2:81, old.example -> 172.17.0.2:8080"
    );
    let read = read(&container(&[("dockline.name", "web"), ("dockline.routes.a.path", "/a")]));
    let ids: Vec<_> = read.records.iter().map(|record| record.id.index).collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn a_route_has_from_the_container_what_it_does_not_say_itself_but_host_path_and_strip() {
    let read = read(&container(&[
        ("dockline.name", "web"),
        ("dockline.path", "/base"),
        ("dockline.strip", "true"),
        ("dockline.port", "81"),
        ("dockline.weight", "5"),
        ("dockline.routes.a.host", "a.example"),
        ("dockline.routes.b.host", "b.example"),
        ("dockline.routes.b.weight", "6"),
    ]));
    let all: Vec<_> = read.records.iter().map(|one| (one.key.to_string(), one.weight, one.strip)).collect();
    let all: Vec<_> = all.iter().map(|(key, weight, strip)| (key.as_str(), *weight, *strip)).collect();
    assert_eq!(all, [("web/base", 5, true), ("a.example", 5, false), ("b.example", 6, false)]);
    assert!(shown(&read).contains("b.example -> 172.17.0.2:81"));
}

#[test]
fn one_wrong_route_leaves_the_others() {
    assert_eq!(
        of(&[
            ("dockline.routes.a.host", "a.example"),
            ("dockline.routes.a.port", "x"),
            ("dockline.routes.b.host", "b.example"),
        ]),
        "b.example -> 172.17.0.2:8080, (`dockline.routes.a.port=x`: a port is a number from 1 to 65535)"
    );
    assert_eq!(
        reason(&[("dockline.routes.a.port", "80")]),
        "`dockline.routes.a` has no host: set `dockline.routes.a.host`"
    );
}

#[test]
fn routes_without_hosts_have_the_default_name_of_an_enabled_container() {
    assert_eq!(
        of(&[("dockline.enable", "true"), ("dockline.routes.a.path", "/a")]),
        "web/a -> 172.17.0.2:8080"
    );
}

#[test]
fn the_prefix_of_the_labels_is_that_of_the_operator() {
    let mut reader = reader();
    reader.options.prefix = "example.router".into();
    let of = |labels: &[(&str, &str)]| shown(&read_by(&reader, &container(labels)));
    assert_eq!(of(&[("example.router.name", "shop")]), "shop -> 172.17.0.2:8080");
    assert_eq!(of(&[("dockline.name", "shop")]), "");
    assert_eq!(
        of(&[("example.router.nam", "shop")]),
        "(there is no label `example.router.nam`; did you mean `example.router.name`?)"
    );
}

#[test]
fn replicas_are_told_by_the_labels_of_compose_and_swarm() {
    let service = |labels: &[(&str, &str)]| {
        read(&container(&[&[("dockline.name", "web")], labels].concat())).records[0].service.clone()
    };
    let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "api")];
    let swarm = [("com.docker.swarm.service.id", "xyz")];
    let project: Text = "shop".into();
    assert_eq!(service(&compose), Some(Service::Compose { project, service: "api".into() }));
    assert_eq!(service(&compose[1..]), None);
    assert_eq!(service(&[&compose[..], &swarm].concat()), Some(Service::Swarm("xyz".into())));
    let named = [&compose[..], &[("dockline.service", "mine")]].concat();
    assert_eq!(service(&named), Some(Service::Named("mine".into())));
}

#[test]
fn a_container_is_live_when_it_is_healthy_or_else_when_its_port_accepts() {
    let down = |reason: &str| RecordState::Down(reason.into());
    let closed = "its port does not accept connections yet";
    for (state, wanted, probe) in [
        (json!({"Running": true}), down(closed), true),
        (json!({"Running": true, "Health": {"Status": "none"}}), down(closed), true),
        (json!({"Running": true, "Health": {"Status": "healthy"}}), RecordState::Live, false),
        (json!({"Running": true, "Health": {"Status": "starting"}}), down("starting"), false),
        (json!({"Running": true, "Health": {"Status": "unhealthy"}}), down("unhealthy"), false),
        (json!({"Running": true, "Paused": true}), down("paused"), false),
        (json!({"Running": true, "Paused": true, "Health": {"Status": "healthy"}}), down("paused"), false),
        (json!({"Running": true, "Restarting": true}), down("restarting"), false),
        (json!({"Running": false, "Restarting": true}), down("restarting"), false),
    ] {
        let read = read(&with(container(&[("dockline.name", "web")]), "/State", state.clone()));
        assert_eq!((&read.records[0].state, read.probe), (&wanted, probe), "{state}");
        assert_eq!(read.records[0].target.is_none(), wanted == down("restarting"));
    }
}

#[test]
fn a_stopped_container_makes_its_routes_known_or_is_started_on_demand() {
    let stopped = |labels: &[(&str, &str)]| {
        let stopped = with(container(labels), "/State", json!({"Running": false}));
        with(stopped, "/NetworkSettings", json!({"Ports": {}, "Networks": {"bridge": endpoint("", "")}}))
    };
    let known = read(&stopped(&[("dockline.name", "web")]));
    assert_eq!((&*shown(&known), known.probe), ("web -> nowhere", false));
    assert_eq!(known.records[0].state, RecordState::Stopped);
    assert_eq!(shown(&read(&stopped(&[("dockline.nmae", "web")]))), "");
    let read = read(&stopped(&[("dockline.name", "web"), ("dockline.start", "on-demand")]));
    assert_eq!(shown(&read), "web -> nowhere");
    assert_eq!(read.records[0].state, RecordState::Down("stopped".into()));
    assert!(!read.probe);
}

#[test]
fn who_cannot_tell_when_it_was_created_is_the_last_to_own_a_route() {
    let container = with(container(&[("dockline.name", "web")]), "/Created", json!("yesterday"));
    assert_eq!(read(&container).records[0].created, u64::MAX);
}

#[test]
fn the_number_of_routes_is_limited() {
    for (count, kept) in [(255, 255), (256, 256), (257, 256)] {
        let hosts: Vec<_> = (0..count).map(|number| format!("h{number}.example")).collect();
        let read = read(&container(&[("dockline.host", &hosts.join(","))]));
        assert_eq!(read.records.len(), kept);
        assert_eq!(read.unrouted.is_some(), count > kept);
    }
}

#[test]
fn the_length_of_a_label_is_limited() {
    for (length, is_read) in [(4095, true), (4096, true), (4097, false)] {
        let hosts = format!("{:,<length$}", "a.example");
        assert_eq!(hosts.len(), length);
        let found = of(&[("dockline.host", &hosts)]);
        assert_eq!(found == "a.example -> 172.17.0.2:8080", is_read, "{found}");
    }
    assert!(reason(&[("dockline.name", &"a".repeat(10 << 20))]).contains("longer than 4096 bytes"));
    // The route is not made without it.
    let path = format!("/{}", "a".repeat(4096));
    assert!(reason(&[("dockline.name", "web"), ("dockline.path", &path)]).contains("longer than 4096 bytes"));
    let mut reader = reader();
    reader.options.virtual_host = true;
    let hosts = format!("VIRTUAL_HOST={}", "a,".repeat(2049));
    let read = read_by(&reader, &with_env(container(&[]), &[&hosts]));
    assert!(shown(&read).contains("longer than 4096 bytes"));
}

#[test]
fn hostile_text_is_displayed_as_one_printable_line() {
    let hostile = "\x1b]0;owned\x07\r\n\0{}%../\u{202e}";
    for labels in [
        [("dockline.name", hostile), ("dockline.port", "80")],
        [(&*format!("dockline.{hostile}"), "web"), ("dockline.name", "web")],
        [(&*format!("dockline.routes.{hostile}.port"), hostile), ("dockline.name", "web")],
        [("dockline.network", hostile), ("dockline.name", "web")],
    ] {
        let read = read(&with(container(&labels), "/Name", json!(format!("/{hostile}"))));
        let unrouted = read.unrouted.unwrap();
        for text in [unrouted.reason.to_string(), unrouted.title.to_string()] {
            assert!(text.chars().all(dockline::untrusted::is_printable), "{text}");
        }
    }
}

#[test]
fn what_is_not_the_json_of_a_container_is_an_error() {
    for text in ["", "{", "[]", "{}", r#"{"Id":1}"#, r#"{"Id":"a","Config":{"Labels":[1]}}"#] {
        let error = reader().read(text.as_bytes()).unwrap_err();
        assert!(error.source().is_some());
    }
}

#[test]
fn the_variables_of_nginx_proxy_are_read_if_the_operator_says_so() {
    let mut reader = reader();
    let env =
        ["VIRTUAL_HOST=a.example,*.b.example", "VIRTUAL_PORT=81", "VIRTUAL_PROTO=https", "VIRTUAL_PATH=/p"];
    assert_eq!(shown(&read_by(&reader, &with_env(container(&[]), &env))), "");
    reader.options.virtual_host = true;
    let of =
        |env: &[&str], labels: &[(&str, &str)]| shown(&read_by(&reader, &with_env(container(labels), env)));
    assert_eq!(of(&env, &[]), "a.example/p -> https://172.17.0.2:81, *.b.example/p -> https://172.17.0.2:81");
    assert_eq!(of(&env, &[("dockline.name", "web")]), "web -> 172.17.0.2:8080");
    assert_eq!(of(&env, &[("dockline.enable", "false")]), "");
    assert_eq!(of(&["VIRTUAL_HOST=a.example", "VIRTUAL_PORT="], &[]), "a.example -> 172.17.0.2:8080");
    for (env, wanted) in [
        (["VIRTUAL_HOST=~^a", ""], "`VIRTUAL_HOST=~^a`: `~^a`: a host name has"),
        (["VIRTUAL_HOST=a.example", "VIRTUAL_PROTO=fastcgi"], "`VIRTUAL_PROTO=fastcgi`: a scheme is"),
        (["VIRTUAL_HOST=a.example", "VIRTUAL_DEST=/"], "`VIRTUAL_DEST` is not read: use labels"),
        (["VIRTUAL_HOST_MULTIPORTS=x", ""], "`VIRTUAL_HOST_MULTIPORTS` is not read"),
    ] {
        let found = of(&env, &[]);
        assert!(found.contains(wanted) && !found.contains("->"), "{found}");
    }
}

#[test]
fn nginx_proxys_default_port_is_80_unless_one_port_is_exposed() {
    let mut reader = reader();
    reader.options.virtual_host = true;
    let container = with_env(container(&[]), &["VIRTUAL_HOST=a.example"]);
    let two = with(container, "/Config/ExposedPorts", json!({"81/tcp": {}, "82/tcp": {}}));
    assert_eq!(shown(&read_by(&reader, &two)), "a.example -> 172.17.0.2:80");
}

#[test]
fn simple_labels_of_traefik_are_read_if_the_operator_says_so() {
    let mut reader = reader();
    let simple = [
        ("traefik.enable", "true"),
        ("traefik.http.routers.web.rule", "Host(`a.example`) && PathPrefix(`/p`)"),
        ("traefik.http.services.web.loadBalancer.server.port", "81"),
        ("traefik.http.services.web.loadbalancer.server.scheme", "https"),
    ];
    assert_eq!(shown(&read_by(&reader, &container(&simple))), "");
    reader.options.traefik = true;
    let of = |labels: &[(&str, &str)]| shown(&read_by(&reader, &container(labels)));
    assert_eq!(of(&simple), "a.example/p -> https://172.17.0.2:81");
    assert_eq!(of(&[&simple[1..], &[("traefik.enable", "false")]].concat()), "");
    assert_eq!(of(&[&simple[1..], &[("traefik.enable", "F")]].concat()), "");
    assert_eq!(of(&simple[1..2]), "a.example/p -> 172.17.0.2:8080");
    for (length, is_read) in [(4095, true), (4096, true), (4097, false)] {
        let rule = format!("Host({:>1$}`a.example`)", "", length - "Host(`a.example`)".len());
        assert_eq!(rule.len(), length);
        let found = of(&[(simple[1].0, &rule)]);
        assert_eq!(found.contains("its rule is longer than 4096 bytes"), !is_read, "{found}");
    }
    // Whatever protects it, and however long that is.
    let long = "a".repeat(5000);
    assert!(!of(&[&simple[..], &[("traefik.http.routers.web.middlewares", &*long)]].concat()).contains("->"));
    assert_eq!(of(&[&simple[..], &[("dockline.name", "web")]].concat()), "web -> 172.17.0.2:8080");
}

#[test]
fn what_else_traefik_knows_is_reported_and_never_guessed() {
    let mut reader = reader();
    reader.options.traefik = true;
    let rule = ("traefik.http.routers.web.rule", "Host(`a.example`)");
    let port = ("traefik.http.services.web.loadbalancer.server.port", "81");
    let route = "a.example -> 172.17.0.2:81";
    for (labels, wanted) in [
        (vec![("traefik.http.routers.web.entrypoints", "websecure")], format!("{route}, (`traefik.http.routers.web.entrypoints` of Traefik's labels are not read)")),
        (
            vec![("traefik.http.routers.web.tls", "true"), ("traefik.docker.network", "front")],
            format!("{route}, (`traefik.docker.network` and 1 others of Traefik's labels are not read)"),
        ),
        (
            vec![("traefik.http.routers.web.middlewares", "auth")],
            "(Traefik's router `web`: its middlewares are not read, so it is not routed: use labels of dockline)".into(),
        ),
        (vec![("traefik.http.routers.web.service", "web")], route.into()),
        (
            vec![("traefik.http.routers.web.service", "api@internal")],
            "(Traefik's router `web`: no label describes its service `api@internal`)".into(),
        ),
        (
            vec![("traefik.http.services.other.loadbalancer.server.port", "82")],
            "(Traefik's router `web`: set its service to one of other, web)".into(),
        ),
        (
            vec![("traefik.http.services.web.loadbalancer.server.scheme", "h2c")],
            "(`traefik.http.services.web.loadbalancer.server.scheme=h2c`: a scheme is `http` or `https`; HTTP/2 and gRPC are not routed)".into(),
        ),
        (
            vec![("traefik.http.routers.other.priority", "1")],
            format!("{route}, (Traefik's router `other`: it has no rule (and 1 more))"),
        ),
    ] {
        let labels = [vec![rule, port], labels].concat();
        assert_eq!(shown(&read_by(&reader, &container(&labels))), wanted, "{labels:?}");
    }
    assert_eq!(
        shown(&read_by(&reader, &container(&[("traefik.http.routers.web.rule", "HostRegexp(`.+`)")]))),
        "(Traefik's router `web`: only `Host`, `PathPrefix`, `&&` and `||` are read of a rule, and not `HostRegexp(`.+`)`)"
    );
}
