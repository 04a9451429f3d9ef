#![forbid(unsafe_code)]
//! Whether the gateway is ready for clients.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dockline::engine::Upstream;
use dockline::untrusted::Line;

use crate::access_log::write_json_string;
use crate::series::Series;

/// How long a failed attempt counts. If it counted until the next success, a gateway that a load
/// balancer has taken out for it would get no requests, and never succeed.
const FAILURE_COUNTS: Duration = Duration::from_secs(10);

/// What readiness depends on.
#[derive(Debug, Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    draining: AtomicBool,
    upstreams: Mutex<Vec<Arc<Upstream>>>,
    attempts: Series<Arc<str>, Attempts>,
}

/// The outcome of the attempts to reach an upstream.
#[derive(Debug, Default)]
struct Attempts {
    has_failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

#[derive(Clone, Debug)]
struct Failure {
    at: Instant,
    error: String,
}

impl Attempts {
    fn failure(&self, now: Instant) -> Option<Failure> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure.filter(|failure| now.duration_since(failure.at) < FAILURE_COUNTS)
    }
}

impl Health {
    /// Returns a state that is not ready, not draining, without upstreams.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Records whether listeners are up and the configuration is in force.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Records that the gateway is about to stop.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Sets the upstreams that the configuration has.
    pub(crate) fn set_upstreams(&self, upstreams: Vec<Arc<Upstream>>) {
        for upstream in &upstreams {
            self.attempts.get(&upstream.name);
        }
        *self.upstreams.lock().unwrap_or_else(PoisonError::into_inner) = upstreams;
    }

    /// Records the outcome of an attempt to reach an upstream. Targets of the router do not count.
    pub(crate) fn report_upstream(&self, upstream: &Upstream, result: Result<(), &io::Error>) {
        let Some(attempts) = self.attempts.find(&upstream.name) else { return };
        // Repeated success is the usual case, and costs no lock.
        if result.is_ok() && !attempts.has_failed.load(Ordering::Relaxed) {
            return;
        }
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        // A container may have the name of an upstream.
        if !upstreams.iter().any(|configured| std::ptr::eq(&**configured, upstream)) {
            return;
        }
        let failure = result.err().map(|error| Failure { at: now(), error: error.to_string() });
        attempts.has_failed.store(failure.is_some(), Ordering::Relaxed);
        *attempts.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns the present state.
    pub(crate) fn report(&self) -> Report {
        self.report_at(now())
    }

    fn report_at(&self, now: Instant) -> Report {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |upstream: &Arc<Upstream>| {
            (Arc::clone(&upstream.name), self.attempts.get(&upstream.name).failure(now))
        };
        Report {
            at: now,
            started: self.ready.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
            upstreams: upstreams.iter().map(status).collect(),
        }
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the gateway reads the clock")]
    Instant::now()
}

/// What readiness depended on at one moment.
#[derive(Debug)]
pub(crate) struct Report {
    at: Instant,
    started: bool,
    draining: bool,
    /// The upstreams, with the failure of the last attempt if it counts.
    upstreams: Vec<(Arc<str>, Option<Failure>)>,
}

impl Report {
    /// Returns whether clients should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        self.started && !self.draining && self.has_upstream()
    }

    /// Returns whether there is an upstream whose last attempt did not fail, or none is configured.
    fn has_upstream(&self) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|(_, failure)| failure.is_none())
    }

    fn seconds_since(&self, failure: &Failure) -> u64 {
        self.at.duration_since(failure.at).as_secs()
    }

    /// Returns one line for people.
    pub(crate) fn text(&self) -> String {
        if self.draining {
            "not ready: draining, about to stop\n".into()
        } else if !self.started {
            "not ready: still starting\n".into()
        } else if !self.has_upstream() {
            let reason = |(name, failure): &(Arc<str>, Option<Failure>)| {
                let failure = failure.as_ref()?;
                Some(format!(
                    "{}: {}, {} s ago",
                    Line(name),
                    Line(&failure.error),
                    self.seconds_since(failure)
                ))
            };
            let reasons: Vec<_> = self.upstreams.iter().filter_map(reason).collect();
            format!("not ready: no upstream was reachable at the last attempt ({})\n", reasons.join("; "))
        } else {
            "ready\n".into()
        }
    }

    /// Returns the checks, one by one, as JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        let mut out = format!(
            r#"{{"ready":{},"started":{},"draining":{},"upstreams":["#,
            self.is_ready(),
            self.started,
            self.draining
        )
        .into_bytes();
        for (number, (name, failure)) in self.upstreams.iter().enumerate() {
            out.extend_from_slice(if number == 0 { br#"{"name":"# } else { br#",{"name":"# });
            write_json_string(&mut out, name.as_bytes());
            out.extend_from_slice(format!(r#","failing":{}"#, failure.is_some()).as_bytes());
            if let Some(failure) = failure {
                let ago = self.seconds_since(failure);
                out.extend_from_slice(format!(r#","seconds_ago":{ago},"error":"#).as_bytes());
                write_json_string(&mut out, failure.error.as_bytes());
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    fn started(upstreams: &[&str]) -> Health {
        let health = Health::new();
        health.set_ready(true);
        health
            .set_upstreams(upstreams.iter().map(|name| Arc::new(Upstream::new(*name, Vec::new()))).collect());
        health
    }

    /// Reports an attempt to reach the upstream of this name.
    fn report(health: &Health, name: &str, result: Result<(), &io::Error>) {
        let upstreams = health.upstreams.lock().unwrap().clone();
        let upstream = upstreams.iter().find(|upstream| &*upstream.name == name).unwrap();
        health.report_upstream(upstream, result);
    }

    #[test]
    fn ready_from_the_word_go_until_draining() {
        let health = started(&["one"]);
        assert_eq!(health.report().text(), "ready\n");
        health.set_draining();
        assert!(!health.report().is_ready());
        assert_eq!(health.report().text(), "not ready: draining, about to stop\n");
        let health = Health::new();
        assert!(!health.report().is_ready());
        assert_eq!(health.report().text(), "not ready: still starting\n");
    }

    #[test]
    fn one_reachable_upstream_is_enough() {
        let health = started(&["one", "two"]);
        report(&health, "one", Err(&refused()));
        assert!(health.report().is_ready());
        report(&health, "two", Err(&refused()));
        assert!(!health.report().is_ready());
        report(&health, "one", Ok(()));
        assert!(health.report().is_ready());
    }

    #[test]
    fn an_upstream_that_is_gone_does_not_count() {
        let health = started(&["old"]);
        report(&health, "old", Ok(()));
        health.set_upstreams(vec![Arc::new(Upstream::new("new", Vec::new()))]);
        report(&health, "new", Err(&refused()));
        let expected =
            "not ready: no upstream was reachable at the last attempt (new: connection refused, 0 s ago)\n";
        assert_eq!(health.report().text(), expected);
    }

    #[test]
    fn a_failure_is_forgiven_after_a_while() {
        let health = started(&["one"]);
        report(&health, "one", Err(&refused()));
        assert!(!health.report_at(now() + FAILURE_COUNTS - Duration::from_secs(1)).is_ready());
        assert!(health.report_at(now() + FAILURE_COUNTS).is_ready());
    }

    #[test]
    fn the_checks_are_json() {
        let health = started(&["a\"b", "c"]);
        report(&health, "a\"b", Err(&refused()));
        let checks: serde_json::Value = serde_json::from_slice(&health.report().json()).unwrap();
        let expected = serde_json::json!({
            "ready": true, "started": true, "draining": false,
            "upstreams": [
                { "name": "a\"b", "failing": true, "seconds_ago": 0, "error": "connection refused" },
                { "name": "c", "failing": false },
            ],
        });
        assert_eq!(checks, expected);
    }

    #[test]
    fn a_target_of_the_router_does_not_count_whatever_its_name() {
        let health = started(&["one"]);
        for name in ["one", "two"] {
            health.report_upstream(&Upstream::new(name, Vec::new()), Err(&refused()));
            assert!(health.report().is_ready(), "{name}");
        }
        assert!(health.attempts.find(&Arc::from("two")).is_none(), "nothing is kept of it");
    }
}
