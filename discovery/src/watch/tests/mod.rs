//! The tracker by itself, on a virtual clock; the watcher with a daemon that does what real ones do
//! at the worst time.

mod daemon;
mod parts;
mod probing;
mod schedules;
mod swarm;
mod tracking;
mod watching;

use std::net::SocketAddr;

use dockline::routes::{HostPattern, PathPrefix, RouteKey};
use dockline::untrusted::Untrusted;
use serde::Deserialize;

use super::*;
use crate::record::{Drain, Lifecycle, Origin, RecordId, RecordState, Target};

fn node() -> Node {
    Node { name: "one".parse().unwrap(), gateway: None }
}

fn owner(id: &str) -> RecordId {
    RecordId { node: node().name, owner: id.into(), index: 0 }
}

fn record(id: &str, name: &str, started: u64, address: Option<SocketAddr>, state: RecordState) -> Record {
    Record {
        id: owner(id),
        title: name.into(),
        started,
        created: 1,
        key: RouteKey { host: HostPattern::name(name).unwrap(), path: PathPrefix::root() },
        strip: false,
        service: None,
        target: address.map(|address| Target {
            address: Origin::Ip(address),
            tls: false,
            proxy_protocol: None,
        }),
        state,
        weight: 1,
        drain: Drain::Never,
        lifecycle: Lifecycle::default(),
    }
}

/// Reads what the daemon of these tests says of a container: each has a record of its name.
fn reader(inspect: &[u8]) -> Result<Read, Text> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspect {
        id: String,
        name: Untrusted<String>,
        running: bool,
        started: u64,
        address: Option<SocketAddr>,
    }
    let Inspect { id, name, running, started, address } =
        serde_json::from_slice(inspect).map_err(|error| error.to_string())?;
    let name = name.raw().trim_start_matches('/');
    assert_ne!(name, "panic", "a bug in the reader");
    let state = match (running, address) {
        (true, None) => RecordState::Live,
        (true, Some(_)) => RecordState::Down("waiting for the port".into()),
        (false, _) => RecordState::Down("not running".into()),
    };
    let address = address.filter(|_| running);
    Ok(Read {
        node: node(),
        records: vec![record(&id, name, started, address, state)],
        unrouted: None,
        probe: running,
    })
}
