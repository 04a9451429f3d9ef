#![forbid(unsafe_code)]
//! Tunnels of all workers: `GET /tunnels.json`, and `POST /kill`, which ends some of them.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dockline::engine::{Decider, Handle, Kill, OpenTunnel, Route};
use dockline::proxy::Reply;
use dockline::untrusted::Untrusted;
use serde::Serialize;

use super::JSON;
use crate::problem::Problem;

/// Limit for the workers to reply.
pub(super) const TIME: Duration = Duration::from_secs(5);

/// Collects what the workers say, each on its own thread. With the last of them it decides.
struct Gathering<T: Default> {
    gathered: Mutex<T>,
    reply: fn(T) -> Reply,
    decider: Option<Decider>,
}

impl<T: Default> Gathering<T> {
    fn new(decider: Decider, reply: fn(T) -> Reply) -> Arc<Self> {
        Arc::new(Self { gathered: Mutex::default(), reply, decider: Some(decider) })
    }

    fn add(&self, add: impl FnOnce(&mut T)) {
        add(&mut self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<T: Default> Drop for Gathering<T> {
    fn drop(&mut self) {
        let gathered = mem::take(self.gathered.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(decider) = self.decider.take() {
            decider.decide(Route::Reply((self.reply)(gathered)));
        }
    }
}

/// A tunnel as JSON.
#[derive(Serialize)]
struct TunnelJson {
    id: u64,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    listener: String,
    upstream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    bytes_up: u64,
    bytes_down: u64,
    age_ms: u64,
    idle_ms: u64,
}

impl TunnelJson {
    fn new(tunnel: OpenTunnel, now: Instant) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: tunnel.id,
            peer: tunnel.peer.to_string(),
            identity: tunnel.identity.as_deref().map(str::to_owned),
            listener: tunnel.listener.to_string(),
            upstream: tunnel.upstream.name.to_string(),
            route: tunnel.route.as_deref().map(str::to_owned),
            bytes_up: tunnel.stats.up.delivered,
            bytes_down: tunnel.stats.down.delivered,
            age_ms: millis(tunnel.age),
            idle_ms: millis(now.saturating_duration_since(tunnel.stats.last_activity)),
        }
    }
}

/// Lists the open tunnels of all workers, at most 1000 of each.
pub(super) fn list(handles: &[Handle], decider: Decider) {
    let gathering = Gathering::new(decider, |tunnels: Vec<OpenTunnel>| {
        let now = now();
        let mut tunnels: Vec<_> = tunnels.into_iter().map(|tunnel| TunnelJson::new(tunnel, now)).collect();
        tunnels.sort_by_key(|tunnel| tunnel.id);
        match serde_json::to_vec(&serde_json::json!({ "tunnels": tunnels })) {
            Ok(json) => Reply::new(200, JSON, json),
            Err(error) => Reply::error(500, &error.to_string()),
        }
    });
    for handle in handles {
        let gathering = Arc::clone(&gathering);
        handle.tunnels(move |tunnels| gathering.add(|all| all.extend(tunnels)));
    }
}

/// Ends what a query names. The reply says how many tunnels and requests there were; 404 if none.
pub(super) fn kill(handles: &[Handle], what: &Kill, decider: Decider) {
    let gathering = Gathering::new(decider, |count: usize| match count {
        0 => Reply::error(404, "there is no such tunnel or request"),
        count => Reply::new(200, JSON, format!("{{\"killed\":{count}}}\n")),
    });
    for handle in handles {
        let gathering = Arc::clone(&gathering);
        handle.kill(what.clone(), move |count| gathering.add(|all| *all += count));
    }
}

/// Returns what the query of a request to end something names: `tunnel=ID`, or `route=NAME`.
pub(super) fn named(query: &str) -> Result<Kill, Problem> {
    match query.split_once('=') {
        Some(("tunnel", id)) => match id.parse() {
            Ok(id) => Ok(Kill::Tunnel(id)),
            Err(_) => {
                Err(Problem::new(format_args!("`{}` is not the number of a tunnel", Untrusted::new(id))))
            }
        },
        Some(("route", name)) if !name.is_empty() => Ok(Kill::Route(name.into())),
        _ => Err(Problem::new("say what to end: /kill?tunnel=ID or /kill?route=NAME")),
    }
}

#[expect(clippy::disallowed_methods, reason = "ages are reckoned from now")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_what_is_to_end() {
        assert!(matches!(named("tunnel=7"), Ok(Kill::Tunnel(7))));
        assert!(matches!(named("route=web/api"), Ok(Kill::Route(name)) if &*name == "web/api"));
        for query in
            ["", "tunnel", "tunnel=", "tunnel=x", "tunnel=-1", "route=", "upstream=x", "tunnel=1&route=x"]
        {
            assert!(named(query).is_err(), "{query}");
        }
    }
}
