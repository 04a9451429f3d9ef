#![forbid(unsafe_code)]
//! The routes as JSON, for `dockline routes` and the page: `GET /routes.json`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::engine::Route;
use dockline::proxy::Reply;
use dockline::routes::{HostPattern, RouteTable};
use dockline_discovery::directory::{Directory, Loser};
use dockline_discovery::{RecordState, Source, Text, Unrouted};
use serde::Serialize;

use super::entry::{Entry, Member};
use super::target::Way;

/// Limit for the keeper to reply.
pub(super) const TIME: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct All<'a> {
    routes: Vec<RouteJson<'a>>,
    unrouted: Vec<UnroutedJson>,
    sources: Vec<SourceJson<'a>>,
}

#[derive(Serialize)]
struct RouteJson<'a> {
    /// A name below the base domains.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    path: &'a str,
    state: &'static str,
    targets: Vec<TargetJson<'a>>,
    losers: Vec<LoserJson>,
}

#[derive(Serialize)]
struct TargetJson<'a> {
    title: &'a Text,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The router of its node, if it is reached by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    /// `live`, or why it gets no requests.
    state: String,
    weight: u16,
    requests: u64,
    in_flight: u32,
    tunnels: u32,
}

#[derive(Serialize)]
struct LoserJson {
    title: Text,
    node: String,
    reason: Text,
}

#[derive(Serialize)]
struct UnroutedJson {
    title: Text,
    node: String,
    reason: Text,
}

#[derive(Serialize)]
struct SourceJson<'a> {
    name: &'a str,
    /// `live`, or why it cannot be reached.
    state: String,
    /// Milliseconds for which it has been so.
    since: u64,
    records: usize,
}

/// Returns the reply with all routes.
pub(super) fn reply(
    directory: &Directory,
    table: &RouteTable<Arc<Entry>>,
    since: &BTreeMap<Source, (bool, Instant)>,
    now: Instant,
) -> Route {
    let mut routes: Vec<_> = table.iter().collect();
    routes.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut unrouted: Vec<UnroutedJson> = directory.unrouted().map(UnroutedJson::from).collect();
    unrouted.sort_by(|a, b| (a.title.raw(), &a.node).cmp(&(b.title.raw(), &b.node)));
    let mut sources: Vec<SourceJson<'_>> = directory
        .sources()
        .map(|status| SourceJson {
            name: status.name,
            state: status.stale.map_or_else(|| "live".into(), |reason| format!("stale: {}", reason.raw())),
            since: since.get(status.name).map_or(0, |(_, at)| millis(now.duration_since(*at))),
            records: status.records,
        })
        .collect();
    sources.sort_by_key(|source| source.name);
    let losers = |entry: &Entry| {
        let state = directory.route(&entry.key).unwrap_or_default();
        state.losers.into_iter().map(LoserJson::from).collect()
    };
    let all = All {
        routes: routes.into_iter().map(|(_, entry)| RouteJson::new(entry, losers(entry))).collect(),
        unrouted,
        sources,
    };
    Route::Reply(match serde_json::to_vec(&all) {
        Ok(json) => Reply::new(200, "application/json", json),
        Err(error) => Reply::error(500, &error.to_string()),
    })
}

/// Returns the state of a route in a word, and its targets, for the log.
pub(super) fn summary(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "gone".into() };
    let names: Vec<&str> = entry.live().map(|target| &*target.upstream.name).collect();
    match names.is_empty() {
        true => "no target now".into(),
        false => format!("served by {}", names.join(", ")),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> RouteJson<'a> {
    fn new(entry: &'a Entry, losers: Vec<LoserJson>) -> Self {
        let (name, host) = match &entry.key.host {
            HostPattern::Name(name) => (Some(&**name), None),
            host => (None, Some(host.to_string())),
        };
        Self {
            name,
            host,
            path: entry.key.path.as_str(),
            state: entry.state().name(),
            targets: entry.members.iter().map(TargetJson::new).collect(),
            losers,
        }
    }
}

impl<'a> TargetJson<'a> {
    fn new(member: &'a Member) -> Self {
        let record = member.claim.record();
        let target = member.target.as_ref();
        let in_flight = target.map(|target| target.upstream.in_flight()).unwrap_or_default();
        Self {
            title: &record.title,
            node: record.id.node.as_str(),
            address: record.target.as_ref().map(|target| target.address.to_string()),
            gateway: match target.map(|target| target.way()) {
                Some(Way::Gateway(gateway)) => Some(gateway.to_string()),
                _ => None,
            },
            state: match &record.state {
                RecordState::Live if target.is_some() => "live".into(),
                RecordState::Live => "it speaks TLS: set target_tls in [router]".into(),
                RecordState::Down(reason) => reason.raw().to_owned(),
                RecordState::Stopped => "stopped".into(),
            },
            weight: record.weight,
            requests: target.map_or(0, |target| target.requests()),
            in_flight: in_flight.requests,
            tunnels: in_flight.tunnels,
        }
    }
}

impl From<Loser> for LoserJson {
    fn from(loser: Loser) -> Self {
        let record = loser.claim.record();
        Self { title: record.title.clone(), node: record.id.node.to_string(), reason: loser.reason }
    }
}

impl From<Unrouted> for UnroutedJson {
    fn from(unrouted: Unrouted) -> Self {
        Self { title: unrouted.title, node: unrouted.owner.node.to_string(), reason: unrouted.reason }
    }
}
