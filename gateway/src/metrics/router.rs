#![forbid(unsafe_code)]
//! What the router counts.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::encode::{Encoder, MetricType};
use crate::router::{EntryState, Routing};

/// Writes the metrics of the router.
pub(super) fn collect(out: &mut Encoder, routing: &Routing) {
    let counters = routing.counters();
    let name = "dockline_router_routes";
    out.family(name, MetricType::Gauge, "Routes, by state.");
    for state in EntryState::ALL {
        out.sample(name, &[("state", state.name())], counters.routes(state));
    }
    for (name, help, count) in [
        ("dockline_router_requests_total", "Requests that were sent to a target.", &counters.routed),
        ("dockline_router_not_found_total", "Requests without a route (404).", &counters.not_found),
        ("dockline_router_held_total", "Requests that had to wait for a target.", &counters.held),
        (
            "dockline_router_unavailable_total",
            "Requests that waited in vain, or could not wait (503).",
            &counters.unavailable,
        ),
        ("dockline_router_loops_total", "Requests that came back (508).", &counters.loops),
        ("dockline_router_changes_total", "Changes of routes.", &counters.changes),
        (
            "dockline_router_records_refused_total",
            "Records of containers and nodes that were refused.",
            &counters.refused,
        ),
    ] {
        out.family(name, MetricType::Counter, help);
        out.sample(name, &[], count.load(Ordering::Relaxed));
    }
    let name = "dockline_router_waiting";
    out.family(name, MetricType::Gauge, "Requests that wait for a target now.");
    out.sample(name, &[], routing.waiting());

    let sources = counters.sources().clone();
    let name = "dockline_router_source_up";
    out.family(
        name,
        MetricType::Gauge,
        "Whether a source of routes can be reached; else its routes are stale.",
    );
    for (source, (is_up, _)) in &sources {
        out.sample(name, &[("source", source)], u8::from(*is_up));
    }
    let name = "dockline_router_source_state_seconds";
    out.family(name, MetricType::Gauge, "How long a source of routes has been reachable, or not.");
    for (source, (_, since)) in &sources {
        let seconds = now().saturating_duration_since(*since).as_secs();
        out.sample(name, &[("source", source)], seconds);
    }
}

#[expect(clippy::disallowed_methods, reason = "the metric is a time up to now")]
fn now() -> Instant {
    Instant::now()
}
