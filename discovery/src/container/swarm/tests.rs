#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::record::{RecordState, Service, Text};

/// A service as Docker 20.10 says, of two tasks in the overlay network `front`.
fn service(name: &str) -> Value {
    json!({
        "ID": format!("s-{name}"),
        "Version": {"Index": 23},
        "CreatedAt": "2026-11-27T18:26:13.095672384Z",
        "Spec": {
            "Name": name,
            "Labels": {"dockline.port": "80"},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "bb:latest", "Labels": {"c": "1"}, "Env": [format!("DPROXY_FORWARD_NAME={name}")],
                    "Init": true, "StopGracePeriod": 1_000_000_000, "Isolation": "default",
                },
                "Networks": [{"Target": "n-front"}],
                "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": 2}},
        },
        "Endpoint": {"Spec": {}, "VirtualIPs": [{"NetworkID": "n-front", "Addr": "10.0.1.2/24"}]},
    })
}

fn network(name: &str, driver: &str, addresses: &[&str]) -> Value {
    json!({
        "Network": {
            "ID": format!("n-{name}"),
            "Spec": {"Name": name, "DriverConfiguration": {"Name": driver}, "Scope": "swarm", "Ingress": name == "ingress"},
            "DriverState": {"Name": driver},
        },
        "Addresses": addresses,
    })
}

/// A task of a service that runs on a node, with the address 10.0.1.N.
fn task(service: &Value, slot: u8, node: &str) -> Value {
    json!({
        "ID": format!("t{slot}-{}", service["Spec"]["Name"].as_str().unwrap()),
        "CreatedAt": "2026-11-27T18:26:14Z",
        "Spec": service["Spec"]["TaskTemplate"],
        "ServiceID": service["ID"],
        "Slot": slot,
        "NodeID": node,
        "Status": {"Timestamp": "2026-11-27T18:26:21Z", "State": "running", "PortStatus": {}},
        "DesiredState": "running",
        "NetworksAttachments": [network("front", "overlay", &[&format!("10.0.1.{}/24", 2 + slot)])],
    })
}

fn nodes() -> Value {
    let node = |id: &str, addr: &str| {
        json!({
            "ID": id, "Spec": {"Role": "worker"}, "Description": {"Hostname": format!("host-{id}")},
            "Status": {"State": "ready", "Addr": addr},
        })
    };
    let mut leader = node("a", "0.0.0.0");
    leader["ManagerStatus"] = json!({"Leader": true, "Addr": "192.0.2.11:2377"});
    json!([leader, node("b", "192.0.2.12")])
}

/// A reader in a container of these networks.
fn reader(networks: &[&str]) -> ServiceReader {
    let networks: BTreeSet<String> = networks.iter().map(|name| (*name).to_owned()).collect();
    ServiceReader {
        node: Node { name: "swarm".parse().unwrap(), gateway: None },
        options: LabelOptions::default(),
        host: Host { place: Place::Container(networks), ..Host::default() },
    }
}

fn read_by(reader: &ServiceReader, services: &[Value], tasks: &[Value], nodes: &Value) -> SwarmRead {
    let [services, tasks, nodes] =
        [json!(services), json!(tasks), nodes.clone()].map(|value| value.to_string());
    let answers =
        SwarmAnswers { services: services.as_bytes(), tasks: tasks.as_bytes(), nodes: nodes.as_bytes() };
    reader.read(&answers).unwrap()
}

/// What each owner is routed by, and why it is not.
fn shown(read: &SwarmRead) -> Vec<String> {
    let of = |(id, read): (&String, &Read)| {
        let records = read.records.iter().map(|record| {
            let target = record.target.as_ref().map_or("nowhere".into(), |target| target.address.to_string());
            format!("{id}: {} -> {target} as {}", record.key, record.title)
        });
        let reason = read.unrouted.iter().map(|unrouted| format!("{id}: ({})", unrouted.reason));
        records.chain(reason).collect::<Vec<_>>()
    };
    read.owners.iter().flat_map(of).collect()
}

fn of(services: &[Value], tasks: &[Value]) -> Vec<String> {
    shown(&read_by(&reader(&["n-front"]), services, tasks, &nodes()))
}

/// The service with another value at a path.
fn with(mut value: Value, path: &str, at: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = at;
    value
}

#[test]
fn each_running_task_is_a_replica_at_its_address_in_the_shared_network() {
    let shop = service("shop");
    let tasks = [task(&shop, 1, "a"), task(&shop, 2, "b")];
    let read = read_by(&reader(&["n-front"]), std::slice::from_ref(&shop), &tasks, &nodes());
    assert_eq!(
        shown(&read),
        ["t1-shop: shop -> 10.0.1.3:80 as shop.1@host-a", "t2-shop: shop -> 10.0.1.4:80 as shop.2@host-b"]
    );
    assert!(!read.is_busy);
    for read in read.owners.values() {
        let record = &read.records[0];
        assert_eq!(record.service, Some(Service::Swarm("s-shop".into())));
        assert_eq!(record.id.node.as_str(), "swarm");
        // The service decides which is the earlier one, the task which is another target.
        assert_eq!((record.created, record.started), (1_795_803_973_095_672_384, 1_795_803_974_000_000_000));
        assert!(read.probe && matches!(record.state, RecordState::Down(_)));
    }
}

#[test]
fn labels_are_of_the_service_before_the_container_and_the_version_that_runs_is_the_task_s() {
    let labels = json!({"dockline.name": "old", "dockline.port": "81"});
    let shop = with(service("shop"), "/Spec/TaskTemplate/ContainerSpec/Labels", labels);
    let running = task(&shop, 1, "a");
    assert_eq!(
        of(std::slice::from_ref(&shop), std::slice::from_ref(&running)),
        ["t1-shop: old -> 10.0.1.3:80 as shop.1@host-a"]
    );
    let updated = with(shop, "/Spec/TaskTemplate/ContainerSpec/Labels", json!({"dockline.name": "new"}));
    assert_eq!(
        of(std::slice::from_ref(&updated), &[running]),
        ["t1-shop: old -> 10.0.1.3:80 as shop.1@host-a"]
    );
    let of_service = with(updated, "/Spec/Labels", json!({"dockline.name": "all", "dockline.port": "82"}));
    let running = task(&of_service, 1, "a");
    assert_eq!(of(&[of_service], &[running]), ["t1-shop: all -> 10.0.1.3:82 as shop.1@host-a"]);
    // It cannot say that it is of another service.
    let fake = with(service("fake"), "/Spec/Labels/com.docker.swarm.service.id", json!("s-shop"));
    let running = task(&fake, 1, "a");
    let read = read_by(&reader(&["n-front"]), &[fake], &[running], &nodes());
    assert_eq!(read.owners["t1-fake"].records[0].service, Some(Service::Swarm("s-fake".into())));
}

#[test]
fn the_names_of_a_service_without_a_running_task_stay() {
    let shop = service("shop");
    let nowhere = ["s-shop: shop -> nowhere as shop"];
    assert_eq!(of(std::slice::from_ref(&shop), &[]), nowhere);
    for state in ["new", "pending", "assigned", "preparing", "starting", "failed", ""] {
        let tasks = [with(task(&shop, 1, "a"), "/Status/State", json!(state))];
        let read = read_by(&reader(&["n-front"]), std::slice::from_ref(&shop), &tasks, &nodes());
        assert_eq!((&shown(&read)[..], read.is_busy), (&nowhere.map(str::to_owned)[..], true), "{state}");
        let record = &read.owners["s-shop"].records[0];
        assert_eq!(record.state, RecordState::Down("no task of it is running".into()));
        assert!(!read.owners["s-shop"].probe);
    }
    let mut nodes = nodes();
    nodes[1]["Status"]["State"] = json!("down");
    let tasks = [task(&shop, 1, "b")];
    assert_eq!(shown(&read_by(&reader(&["n-front"]), std::slice::from_ref(&shop), &tasks, &nodes)), nowhere);
    // As after the election of another leader.
    nodes[1]["Status"]["State"] = json!("unknown");
    assert_eq!(
        shown(&read_by(&reader(&["n-front"]), &[shop], &tasks, &nodes)),
        ["t1-shop: shop -> 10.0.1.3:80 as shop.1@host-b"]
    );
}

#[test]
fn a_service_that_asks_for_nothing_keeps_nobody_busy() {
    let quiet = with(
        with(service("x"), "/Spec/TaskTemplate/ContainerSpec/Env", json!(null)),
        "/Spec/Labels",
        json!(null),
    );
    let tasks = [with(task(&quiet, 1, "a"), "/Status/State", json!("pending"))];
    let read = read_by(&reader(&["n-front"]), std::slice::from_ref(&quiet), &tasks, &nodes());
    assert_eq!(read, SwarmRead::default());
    let updating = with(service("shop"), "/UpdateStatus", json!({"State": "updating"}));
    let tasks = [task(&updating, 1, "a")];
    assert!(read_by(&reader(&["n-front"]), &[updating], &tasks, &nodes()).is_busy);
}

#[test]
fn a_published_port_is_reached_at_the_node_of_the_task() {
    let port =
        |mode: &str| json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": mode});
    for place in [Place::Host, Place::Elsewhere, Place::Container(BTreeSet::new())] {
        let reader = ServiceReader { host: Host { place, ..Host::default() }, ..reader(&[]) };
        let ingress = with(
            with(service("shop"), "/Spec/Labels", json!({})),
            "/Endpoint/Ports",
            json!([port("ingress")]),
        );
        let attached = json!([network("ingress", "overlay", &["10.0.0.5/24"])]);
        let tasks = [task(&ingress, 1, "a"), with(task(&ingress, 2, "b"), "/NetworksAttachments", attached)];
        let wanted = [
            "t1-shop: shop -> 192.0.2.11:8080 as shop.1@host-a",
            "t2-shop: shop -> 192.0.2.12:8080 as shop.2@host-b",
        ];
        assert_eq!(shown(&read_by(&reader, &[ingress], &tasks, &nodes())), wanted);

        // What was asked for says nothing of the port that a task has got.
        let host =
            with(with(service("shop"), "/Spec/Labels", json!({})), "/Endpoint/Ports", json!([port("host")]));
        let own = with(task(&host, 2, "b"), "/Status/PortStatus/Ports", json!([port("host")]));
        let tasks = [task(&host, 1, "a"), own];
        let read = shown(&read_by(&reader, &[host], &tasks, &nodes()));
        assert_eq!(read[1..], wanted[1..]);
        assert!(read[0].starts_with("t1-shop: ("), "{read:?}");
    }
}

#[test]
fn a_network_that_is_not_shared_is_said_once() {
    let shop = service("shop");
    let tasks = [task(&shop, 1, "a"), task(&shop, 2, "b")];
    // A network of this machine with the same name.
    let by = |place: Place| {
        let reader = ServiceReader { host: Host { place, ..Host::default() }, ..reader(&[]) };
        shown(&read_by(&reader, std::slice::from_ref(&shop), &tasks, &nodes()))
    };
    let unshared = "t1-shop: (its network `front` is not shared with this gateway: attach the gateway to it, or publish the port)";
    assert_eq!(by(Place::Container(["front".to_owned(), "x".to_owned()].into())), [unshared]);
    assert_eq!(by(Place::Elsewhere), [unshared]);
    let on_host = by(Place::Host);
    assert!(on_host.len() == 1 && on_host[0].contains("which only containers reach"), "{on_host:?}");
}

#[test]
fn a_network_of_one_machine_is_none_of_the_swarm() {
    let shop = service("shop");
    let bridge = with(
        task(&shop, 1, "b"),
        "/NetworksAttachments",
        json!([network("front", "bridge", &["172.17.0.2/16"])]),
    );
    assert_eq!(
        of(std::slice::from_ref(&shop), &[bridge]),
        ["t1-shop: (it is in no network: start it in one that the gateway is in)"]
    );
    let host = with(task(&shop, 1, "b"), "/NetworksAttachments", json!([network("host", "host", &[])]));
    assert_eq!(of(&[shop], &[host]), ["t1-shop: shop -> 192.0.2.12:80 as shop.1@host-b"]);
}

#[test]
fn a_network_of_a_stack_is_named_as_its_file_has_it() {
    let labels =
        json!({"dockline.port": "80", "dockline.network": "front", "com.docker.stack.namespace": "web"});
    let shop = with(service("shop"), "/Spec/Labels", labels);
    let attached =
        [network("web_back", "overlay", &["10.0.2.3/24"]), network("web_front", "overlay", &["10.0.1.3/24"])];
    let running = with(task(&shop, 1, "a"), "/NetworksAttachments", json!(attached));
    assert_eq!(of(&[shop], &[running]), ["t1-shop: shop -> 10.0.1.3:80 as shop.1@host-a"]);
}

#[test]
fn a_service_is_not_started_on_demand() {
    let shop = with(service("shop"), "/Spec/Labels/dockline.start", json!("on-demand"));
    let running = task(&shop, 1, "a");
    let read = read_by(&reader(&["n-front"]), &[shop], &[running], &nodes());
    assert_eq!(shown(&read)[1], "t1-shop: (`dockline.start` is for containers: the swarm starts its tasks)");
    assert!(!read.owners["t1-shop"].records[0].lifecycle.on_demand);
}

#[test]
fn what_cannot_be_read_of_one_service_hides_no_other() {
    let shop = service("shop");
    let tasks = [task(&shop, 1, "a"), json!({"ID": "x", "Slot": "y"}), json!(3)];
    let services = [json!({"ID": "odd", "Spec": 3}), json!({}), shop];
    assert_eq!(
        of(&services, &tasks),
        [
            "odd: (the manager says of it what is not understood)",
            "t1-shop: shop -> 10.0.1.3:80 as shop.1@host-a"
        ]
    );
    let read = |text: &str| {
        let text = text.as_bytes();
        reader(&[]).read(&SwarmAnswers { services: text, tasks: text, nodes: text })
    };
    assert_eq!(read("null").unwrap(), SwarmRead::default());
    assert!(read("{}").is_err() && read("").is_err() && read("[").is_err());
}

#[test]
fn all_but_ids_may_be_missing_or_null() {
    for services in [
        r#"[{"ID":"s"}]"#,
        r#"[{"ID":"s","CreatedAt":null,"Spec":null,"Endpoint":null,"UpdateStatus":null}]"#,
        r#"[{"ID":"s","Spec":{"Name":null,"Labels":null,"TaskTemplate":{"ContainerSpec":null}},"Endpoint":{"Ports":null}}]"#,
        r#"[{"ID":"s","Spec":{"TaskTemplate":{"ContainerSpec":{"Labels":null,"Env":null}}},"Endpoint":{"Ports":[{"Protocol":null}]}}]"#,
    ] {
        for tasks in [
            r#"[{"ID":"t","ServiceID":"s","NodeID":"n","Status":{"State":"running","PortStatus":{"Ports":null}},"NetworksAttachments":[{"Network":null,"Addresses":null}]}]"#,
            r#"[{"ID":"t","ServiceID":null,"Slot":null,"NodeID":null,"Status":null,"Spec":null,"NetworksAttachments":null}]"#,
        ] {
            for nodes in [
                r#"[{"ID":"n"}]"#,
                r#"[{"ID":"n","Description":null,"Status":{"Addr":null},"ManagerStatus":null}]"#,
            ] {
                let exposed = LabelOptions { exposed_by_default: true, ..LabelOptions::default() };
                let reader = ServiceReader { options: exposed, ..reader(&[]) };
                let answers = SwarmAnswers {
                    services: services.as_bytes(),
                    tasks: tasks.as_bytes(),
                    nodes: nodes.as_bytes(),
                };
                assert!(!reader.read(&answers).unwrap().owners.is_empty());
            }
        }
    }
}

#[test]
fn the_containers_of_tasks_are_left_to_the_swarm() {
    let container = json!({
        "Id": "abc", "Name": "/shop.1.x", "State": {"Running": true},
        "Config": {"Labels": {"dockline.name": "shop", "dockline.port": "80", TASK: "t1"}},
        "NetworkSettings": {"Networks": {"front": {"NetworkID": "n-front", "IPAddress": "10.0.1.3", "IPPrefixLen": 24}}},
    });
    let ServiceReader { node, mut options, host } = reader(&["n-front"]);
    let records = |options: &LabelOptions| {
        let reader = ContainerReader { node: node.clone(), options: options.clone(), host: host.clone() };
        let read = reader.read(container.to_string().as_bytes()).unwrap();
        (read.records.len(), read.unrouted.map(|unrouted| Text::raw(&unrouted.reason).to_owned()))
    };
    assert_eq!(records(&options), (1, None));
    options.without_tasks = true;
    options.exposed_by_default = true;
    assert_eq!(records(&options), (0, None));
}
