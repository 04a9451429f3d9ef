#![forbid(unsafe_code)]
//! [`Snapshot`]: what the admin listener says.

use dockline::untrusted::Untrusted;
use serde::Deserialize;

use crate::admin::client::AdminClient;
use crate::problem::Problem;

type Text = Untrusted<String>;

/// Tunnels and routes at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) routes: Vec<Route>,
    pub(super) unrouted: Vec<Unrouted>,
}

/// A tunnel of `/tunnels.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Tunnel {
    pub(super) id: u64,
    pub(super) peer: Text,
    pub(super) identity: Option<Text>,
    pub(super) listener: Text,
    pub(super) upstream: Text,
    pub(super) route: Option<Text>,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) age_ms: u64,
    pub(super) idle_ms: u64,
}

/// A route of `/routes.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Route {
    pub(super) name: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) path: Option<Text>,
    pub(super) state: Text,
    pub(super) targets: Vec<Target>,
}

/// A target of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Target {
    pub(super) title: Text,
    pub(super) node: Option<Text>,
    pub(super) address: Option<Text>,
    pub(super) state: Text,
    pub(super) requests: u64,
    pub(super) tunnels: u64,
}

/// A container without a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Unrouted {
    pub(super) title: Text,
    pub(super) node: Option<Text>,
    pub(super) reason: Text,
}

#[derive(Deserialize)]
struct Tunnels {
    tunnels: Vec<Tunnel>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Routes {
    routes: Vec<Route>,
    unrouted: Vec<Unrouted>,
}

impl Snapshot {
    pub(super) fn fetch(client: &AdminClient) -> Result<Self, Problem> {
        let Tunnels { tunnels } = client.get_json("/tunnels.json")?;
        let Routes { routes, unrouted } = client.get_json("/routes.json")?;
        Ok(Self { tunnels, routes, unrouted })
    }
}
