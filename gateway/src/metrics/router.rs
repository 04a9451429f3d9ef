#![forbid(unsafe_code)]
//! What the router counts.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::encode::{Encoder, MetricType};
use crate::router::{Busiest, EntryState, Routing, TargetCounts};

/// Targets that have samples of their own at most: those with the most requests.
const TARGETS_MAX: usize = 1000;

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

    collect_targets(out, &routing.busiest(TARGETS_MAX));

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

/// A family for each target: its name, its type, its help, and what a target has of it.
type TargetFamily = (&'static str, MetricType, &'static str, fn(&TargetCounts) -> u64);

const TARGET_FAMILIES: &[TargetFamily] = &[
    (
        "dockline_router_target_requests_total",
        MetricType::Counter,
        "Requests whose first choice a target was, since its container was started.",
        |counts| counts.requests,
    ),
    (
        "dockline_router_target_requests_in_flight",
        MetricType::Gauge,
        "Requests that a target has now.",
        |counts| counts.in_flight.requests.into(),
    ),
    ("dockline_router_target_tunnels_open", MetricType::Gauge, "Tunnels that a target has now.", |counts| {
        counts.in_flight.tunnels.into()
    }),
];

pub(super) fn collect_targets(out: &mut Encoder, busiest: &Busiest) {
    for (name, kind, help, count) in TARGET_FAMILIES {
        out.family(name, *kind, help);
        for (target, counts) in &busiest.targets {
            let labels = [("route", &*target.route), ("node", &target.node), ("target", &target.target)];
            out.sample(name, &labels, count(counts));
        }
    }
    let name = "dockline_router_targets_left_out";
    out.family(
        name,
        MetricType::Gauge,
        "Targets without samples of their own: only the thousand with the most requests have them.",
    );
    out.sample(name, &[], busiest.others);
}

#[expect(clippy::disallowed_methods, reason = "the metric is a time up to now")]
fn now() -> Instant {
    Instant::now()
}
