//! A watcher of a swarm and its manager; a manager of classic Swarm.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::swarm::{BUSY, CALM, Swarm};
use super::super::{Inventory, Listing};
use super::daemon::{Daemon, ok, status};
use super::watching::View;
use super::*;
use crate::container::{ContainerReader, Host, LabelOptions, Place};
use crate::directory::{Directory, DirectoryOptions, Trust};

/// What the target of the request for tasks ends with.
const TASKS: &str = "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D";

/// A manager that says this of its tasks.
fn manager(tasks: &str) -> Daemon {
    let daemon = Daemon::start(&[]);
    daemon.lock().instead.insert("/services", ok("[]"));
    daemon.lock().instead.insert("/nodes", ok("[]"));
    set(&daemon, tasks);
    daemon
}

fn set(daemon: &Daemon, tasks: &str) {
    daemon.lock().instead.insert(TASKS, ok(tasks));
}

/// Reads the tasks of these tests: each is a name, which is live. One that is `busy` is about to
/// start.
fn reader(answers: &SwarmAnswers<'_>) -> Result<SwarmRead, Text> {
    assert_eq!((answers.services, answers.nodes), (&b"[]"[..], &b"[]"[..]));
    let names: Vec<String> = serde_json::from_slice(answers.tasks).map_err(|error| error.to_string())?;
    let is_busy = names.iter().any(|name| name == "busy");
    let read = |name: String| {
        let records = vec![record(&name, &name, 1, None, RecordState::Live)];
        (name, Read { node: node(), records, unrouted: None, probe: false })
    };
    let owners = names.into_iter().filter(|name| name != "busy").map(read).collect();
    Ok(SwarmRead { owners, is_busy })
}

fn watch(daemon: &Daemon) -> View {
    let mut view = View::start(|sink| {
        Watcher::start_swarm(daemon.client(), "swarm:test".into(), node(), Arc::new(reader), sink)
    });
    view.until("the first sync", |view| !view.records.is_empty());
    view
}

#[test]
fn tasks_come_and_go_with_the_events_of_services() {
    let daemon = manager(r#"["a"]"#);
    let mut view = watch(&daemon);
    view.until_names(&["a"]);
    set(&daemon, r#"["a","b"]"#);
    daemon.emit("service", "update", "s");
    view.until_names(&["a", "b"]);
    // While the event is recent, without another one.
    set(&daemon, r#"["b"]"#);
    view.until_names(&["b"]);
    let subscriptions = &daemon.lock().subscriptions;
    assert!(
        subscriptions.len() == 1 && subscriptions[0].contains("%73%65%72%76%69%63%65"),
        "{subscriptions:?}"
    );
}

#[test]
fn the_next_list_is_asked_for_sooner_while_something_is_going_on() {
    let daemon = manager(r#"["a"]"#);
    let swarm = Swarm::new(daemon.client(), Arc::new(reader));
    let again = || swarm.list().unwrap().again;
    assert_eq!(again(), CALM);
    set(&daemon, r#"["a","busy"]"#);
    assert_eq!(again(), BUSY);
    set(&daemon, r#"["a"]"#);
    assert_eq!(again(), CALM);
    swarm.hint(br#"{"Type":"network","Action":"remove"}"#);
    assert_eq!(again(), CALM);
    swarm.hint(br#"{"Type":"service","Action":"update"}"#);
    assert_eq!(again(), BUSY);
}

#[test]
fn a_task_that_has_not_changed_looks_the_same() {
    let daemon = manager(r#"["a","b"]"#);
    let changes = Arc::new(Mutex::new(1));
    let started = Arc::clone(&changes);
    let reader = move |answers: &SwarmAnswers<'_>| {
        let mut read = reader(answers)?;
        if let Some(b) = read.owners.get_mut("b") {
            b.records[0].started = *started.lock().unwrap();
        }
        Ok(read)
    };
    let swarm = Swarm::new(daemon.client(), Arc::new(reader));
    let fingerprints = || {
        let Listing { entries, .. } = swarm.list().unwrap();
        entries.iter().map(|entry| (entry.id.to_string(), entry.fingerprint)).collect::<Vec<_>>()
    };
    let before = fingerprints();
    assert_eq!(fingerprints(), before);
    *changes.lock().unwrap() = 2;
    let after = fingerprints();
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    // One that was away is another one.
    set(&daemon, r#"["b"]"#);
    fingerprints();
    set(&daemon, r#"["a","b"]"#);
    assert_ne!(fingerprints()[0], before[0]);
}

#[test]
fn a_daemon_that_is_no_manager_says_so_and_what_was_known_stays() {
    let daemon = manager(r#"["a"]"#);
    let mut view = watch(&daemon);
    let services = daemon.lock().instead.insert("/services", status(503)).unwrap();
    daemon.emit("node", "update", "n");
    view.until("it is stale", |view| view.stale.is_some());
    assert!(view.stale.as_ref().unwrap().starts_with("GET /services: "), "{:?}", view.stale);
    view.until_names(&["a"]);
    daemon.lock().instead.insert("/services", services);
    set(&daemon, r#"["b"]"#);
    view.until("it is back", |view| view.stale.is_none() && view.names() == ["b"]);
    set(&daemon, "no list");
    daemon.emit("node", "update", "n");
    view.until("it is stale again", |view| view.stale.is_some());
    view.until_names(&["b"]);
}

/// A container on a machine, as a manager of classic Swarm says; its port 80 is published.
fn of_machine(id: &str, name: &str, number: u8) -> Value {
    let ip = format!("192.0.2.{number}");
    json!({
        "Id": id, "Name": format!("/{id}"), "Created": "2026-11-27T18:26:13Z",
        "State": {"Running": true, "StartedAt": "2026-11-27T18:26:14Z", "Health": {"Status": "healthy"}},
        "Config": {"Labels": {"dockline.name": name}, "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": ip, "HostPort": "8080"}]},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "Gateway": "172.17.0.1"}},
        },
        "Node": {"ID": "X", "IP": ip, "Addr": format!("{ip}:2375"), "Name": format!("machine-{number}")},
    })
}

#[test]
fn a_manager_of_classic_swarm_has_the_containers_of_its_machines_also_of_later_ones() {
    let daemon = Daemon::start(&["a"]);
    let say = |target: &'static str, container: &Value| {
        daemon.lock().instead.insert(target, ok(&container.to_string()));
    };
    say("/a/json", &of_machine("a", "one", 1));
    // The gateway is on a third machine, whose bridge has the same addresses.
    let host = Host {
        place: Place::Elsewhere,
        own_addresses: ["192.0.2.9", "172.17.0.1"].map(|ip| ip.parse().unwrap()).into(),
        ..Host::default()
    };
    let reader = ContainerReader { node: node(), options: LabelOptions::default(), host };
    let reader = move |inspect: &[u8]| reader.read(inspect).map_err(|error| error.to_string().into());
    let mut options = DirectoryOptions::default();
    options.trust.insert("docker:test".into(), Trust::Daemon);
    let directory = Arc::new(Mutex::new(Directory::new(options)));
    let applied = Arc::clone(&directory);
    let mut view = View::start(|mut sink| {
        Watcher::start(daemon.client(), "docker:test".into(), node(), Arc::new(reader), move |update| {
            applied.lock().unwrap().apply(update.clone());
            sink(update)
        })
    });
    view.until_names(&["a"]);
    say("/b/json", &of_machine("b", "two", 2));
    daemon.put("b", "b", true);
    daemon.emit("container", "start", "b");
    view.until_names(&["a", "b"]);
    let directory = directory.lock().unwrap();
    let mut served: Vec<_> = directory
        .routes()
        .flat_map(|(key, route)| route.serving.into_iter().map(move |claim| (key.clone(), claim)))
        .map(|(key, claim)| {
            let record = claim.record();
            format!("{key} by {} at {}", record.id.node, record.target.as_ref().unwrap().address)
        })
        .collect();
    served.sort();
    assert_eq!(served, ["one by machine-1 at 192.0.2.1:8080", "two by machine-2 at 192.0.2.2:8080"]);
}
