#![forbid(unsafe_code)]
//! Metrics, as Prometheus reads them.
//!
//! What the engines count themselves is summed when the metrics are read. What requests and tunnels
//! add is a few relaxed atomic additions. No label comes from a client.

mod encode;
mod histogram;
mod process;
mod router;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dockline::engine::{Exchange, Handle, Stats, Tunnel};
use dockline::error::{Cause, Failure};

use crate::access_log::tunnel_kind_name;
use crate::admin::Certificates;
use crate::admin::certificates::Certificate;
use crate::router::Routing;
use crate::series::Series;
use encode::{Encoder, MetricType};
use histogram::Histogram;

/// Seconds; many Docker requests wait for something to happen, so the last bucket is far out.
const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Seconds, from `docker exec` to a shell that is left open for a day.
const TUNNEL_SECONDS: &[f64] = &[0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0];

/// Classes of status codes; the first is for requests without a response.
const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    listeners: Series<Arc<str>, Requests>,
    tunnels: Series<(&'static str, &'static str), AtomicU64>,
    tunnel_duration: Histogram,
    failures: Series<(&'static str, &'static str, &'static str), AtomicU64>,
    connect_failures: Series<&'static str, AtomicU64>,
    handles: Mutex<Vec<Handle>>,
    access_log_dropped: OnceLock<Arc<AtomicU64>>,
    routing: OnceLock<Arc<Routing>>,
    certificates: OnceLock<Arc<Certificates>>,
    reload_ok: AtomicBool,
    reload_ok_at: AtomicU64,
}

/// The requests of one listener.
#[derive(Debug)]
struct Requests {
    codes: [AtomicU64; CODES.len()],
    duration: Histogram,
}

impl Default for Requests {
    fn default() -> Self {
        Self { codes: Default::default(), duration: Histogram::new(REQUEST_SECONDS) }
    }
}

impl Metrics {
    /// Returns metrics that have counted nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            listeners: Series::default(),
            tunnels: Series::default(),
            tunnel_duration: Histogram::new(TUNNEL_SECONDS),
            failures: Series::default(),
            connect_failures: Series::default(),
            handles: Mutex::default(),
            access_log_dropped: OnceLock::new(),
            routing: OnceLock::new(),
            certificates: OnceLock::new(),
            reload_ok: AtomicBool::new(false),
            reload_ok_at: AtomicU64::new(0),
        }
    }

    /// Records whether a configuration could be loaded, the first one included.
    pub(crate) fn config_reloaded(&self, ok: bool) {
        self.reload_ok.store(ok, Ordering::Relaxed);
        if ok {
            #[expect(clippy::disallowed_methods, reason = "the metric is a time of day")]
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.reload_ok_at.store(now.as_secs(), Ordering::Relaxed);
        }
    }

    /// Sets the engines whose counters are shown.
    pub(crate) fn watch(&self, handles: Vec<Handle>) {
        *self.handles() = handles;
    }

    /// Sets the counter of lines that the access log lost; the first one stays.
    pub(crate) fn watch_access_log(&self, dropped: Arc<AtomicU64>) {
        let _ = self.access_log_dropped.set(dropped);
    }

    /// Sets the router whose counters are shown; the first one stays.
    pub(crate) fn watch_router(&self, routing: Arc<Routing>) {
        let _ = self.routing.set(routing);
    }

    /// Sets the certificates whose validity is shown; the first ones stay.
    pub(crate) fn watch_certificates(&self, certificates: Arc<Certificates>) {
        let _ = self.certificates.set(certificates);
    }

    /// Counts a request.
    pub(crate) fn exchange(&self, exchange: &Exchange<'_>) {
        let requests = self.listeners.get(&exchange.client.listener);
        let class = usize::from(exchange.status.unwrap_or(0) / 100);
        requests.codes[if class < CODES.len() { class } else { 0 }].fetch_add(1, Ordering::Relaxed);
        requests.duration.observe(exchange.duration);
        if let Some(failure) = exchange.end.failure() {
            self.failure(&failure);
        }
    }

    /// Counts a tunnel that ended.
    pub(crate) fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let close = tunnel.stats.close_reason.map_or("none", |reason| reason.name());
        self.tunnels.get(&(tunnel_kind_name(tunnel.kind), close)).fetch_add(1, Ordering::Relaxed);
        self.tunnel_duration.observe(tunnel.duration);
        if let Some(failure) = &tunnel.failure {
            self.failure(failure);
        }
    }

    /// Counts a failure: of an exchange, a handshake, a forwarded connection or a tunnel.
    pub(crate) fn failure(&self, failure: &Failure) {
        let labels = (failure.phase.name(), failure.side.name(), failure.cause.name());
        self.failures.get(&labels).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt to connect to an address of an upstream that failed. If another address
    /// serves, nothing else fails.
    pub(crate) fn connect_failure(&self, cause: Cause) {
        self.connect_failures.get(&cause.name()).fetch_add(1, Ordering::Relaxed);
    }

    /// Returns everything, in the text format.
    pub(crate) fn render(&self) -> String {
        let stats: Vec<Stats> = self.handles().iter().map(Handle::stats).collect();
        let mut out = Encoder::default();
        out.family("dockline_build_info", MetricType::Gauge, "The running version; always 1.");
        out.sample("dockline_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.collect_requests(&mut out);
        self.collect_tunnels(&mut out);
        self.collect_failures(&mut out);
        collect_stats(&mut out, &stats);
        self.collect_config(&mut out);
        if let Some(routing) = self.routing.get() {
            router::collect(&mut out, routing);
        }
        if let Some(certificates) = self.certificates.get() {
            collect_certificates(&mut out, &certificates.list());
        }
        process::collect(&mut out);
        out.finish()
    }

    fn collect_requests(&self, out: &mut Encoder) {
        let name = "dockline_requests_total";
        out.family(name, MetricType::Counter, "Requests, by the class of the response status.");
        for (listener, requests) in self.listeners.iter() {
            for (code, count) in CODES.iter().zip(&requests.codes) {
                out.sample(name, &[("listener", listener), ("code", code)], count.load(Ordering::Relaxed));
            }
        }
        let name = "dockline_request_duration_seconds";
        out.family(
            name,
            MetricType::Histogram,
            "From the first byte of a request to the end of its response.",
        );
        for (listener, requests) in self.listeners.iter() {
            requests.duration.encode(out, name, &[("listener", listener)]);
        }
    }

    fn collect_tunnels(&self, out: &mut Encoder) {
        let name = "dockline_tunnels_total";
        out.family(
            name,
            MetricType::Counter,
            "Tunnels that ended, by how they were opened and why they ended.",
        );
        for ((kind, close), count) in self.tunnels.iter() {
            out.sample(name, &[("kind", kind), ("close", close)], count.load(Ordering::Relaxed));
        }
        let name = "dockline_tunnel_duration_seconds";
        out.family(name, MetricType::Histogram, "How long tunnels that ended were open.");
        self.tunnel_duration.encode(out, name, &[]);
    }

    fn collect_failures(&self, out: &mut Encoder) {
        let name = "dockline_failures_total";
        out.family(
            name,
            MetricType::Counter,
            "Failed exchanges, handshakes, forwarded connections and tunnels, by phase, side and cause.",
        );
        for ((phase, side, cause), count) in self.failures.iter() {
            let labels = [("phase", *phase), ("side", *side), ("cause", *cause)];
            out.sample(name, &labels, count.load(Ordering::Relaxed));
        }
        let name = "dockline_upstream_connect_failures_total";
        let help = "Failed attempts to connect to an address of an upstream, by cause.";
        out.family(name, MetricType::Counter, help);
        for (cause, count) in self.connect_failures.iter() {
            out.sample(name, &[("cause", cause)], count.load(Ordering::Relaxed));
        }
    }

    fn collect_config(&self, out: &mut Encoder) {
        let name = "dockline_access_log_dropped_total";
        out.family(name, MetricType::Counter, "Access log lines that were lost.");
        let dropped = self.access_log_dropped.get().map_or(0, |dropped| dropped.load(Ordering::Relaxed));
        out.sample(name, &[], dropped);
        let name = "dockline_config_last_reload_successful";
        out.family(name, MetricType::Gauge, "Whether the last attempt to load the configuration succeeded.");
        out.sample(name, &[], u8::from(self.reload_ok.load(Ordering::Relaxed)));
        let name = "dockline_config_last_reload_success_timestamp_seconds";
        out.family(
            name,
            MetricType::Gauge,
            "When the configuration was last loaded, in seconds since the epoch.",
        );
        out.sample(name, &[], self.reload_ok_at.load(Ordering::Relaxed));
    }

    fn handles(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What engines count: a family, and for each of its samples a label and the counter.
type StatsFamily = (&'static str, MetricType, &'static str, &'static [StatsSample]);
type StatsSample = (&'static [(&'static str, &'static str)], fn(&Stats) -> u64);

const STATS: &[StatsFamily] = &[
    (
        "dockline_client_connections_open",
        MetricType::Gauge,
        "Client connections open now.",
        &[(&[], |s| s.clients_now)],
    ),
    (
        "dockline_connections_total",
        MetricType::Counter,
        "Client connections accepted.",
        &[(&[], |s| s.accepted)],
    ),
    ("dockline_tunnels_open", MetricType::Gauge, "Tunnels open now.", &[(&[], |s| s.tunnels_now)]),
    (
        "dockline_relay_bytes_total",
        MetricType::Counter,
        "Tunnel bytes delivered: up to the daemon, down to the client.",
        &[
            (&[("direction", "up")], |s| s.tunnel_bytes_up),
            (&[("direction", "down")], |s| s.tunnel_bytes_down),
        ],
    ),
    (
        "dockline_upstream_connects_total",
        MetricType::Counter,
        "Connections established to upstreams.",
        &[(&[], |s| s.connects)],
    ),
    (
        "dockline_upstream_connections_reused_total",
        MetricType::Counter,
        "Requests that used an idle upstream connection.",
        &[(&[], |s| s.reuses)],
    ),
    (
        "dockline_upstream_connections_idle",
        MetricType::Gauge,
        "Idle upstream connections.",
        &[(&[], |s| s.pooled_now)],
    ),
    (
        "dockline_tls_handshakes_total",
        MetricType::Counter,
        "TLS handshakes of clients.",
        &[(&[("result", "ok")], |s| s.handshakes), (&[("result", "failed")], |s| s.handshake_failures)],
    ),
    (
        "dockline_accept_pauses_total",
        MetricType::Counter,
        "Times that accepting paused for lack of descriptors or memory.",
        &[(&[], |s| s.accept_pauses)],
    ),
    ("dockline_panics_total", MetricType::Counter, "Connections ended by a panic.", &[(&[], |s| s.panics)]),
];

fn collect_certificates(out: &mut Encoder, certificates: &[Certificate]) {
    let name = "dockline_certificate_days_left";
    out.family(
        name,
        MetricType::Gauge,
        "Days for which a certificate is valid, negative once it has expired.",
    );
    // Of several with one name, that which ends first.
    let mut days: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for one in certificates {
        let left = days.entry((&one.listener, &one.name)).or_insert(one.days_left);
        *left = one.days_left.min(*left);
    }
    for ((listener, certificate), left) in days {
        out.sample(name, &[("listener", listener), ("certificate", certificate)], left);
    }
}

fn collect_stats(out: &mut Encoder, stats: &[Stats]) {
    for (name, kind, help, samples) in STATS {
        out.family(name, *kind, help);
        for (labels, counter) in *samples {
            out.sample(name, labels, stats.iter().map(counter).sum::<u64>());
        }
    }
}

#[cfg(test)]
mod tests;
