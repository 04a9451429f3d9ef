#![forbid(unsafe_code)]
//! Distributes what the engine reports: to the access log, metrics, health, and the log of the
//! process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use dockline::drive;
use dockline::engine::{Event, Exchange, Observer, Tunnel};
use dockline::error::{Cause, FailedSide, Failure, Phase, Side};
use dockline::untrusted::Untrusted;
use log::Level;
use rustix::io::Errno;

use crate::access_log::AccessLog;
use crate::admin::Health;
use crate::metrics::Metrics;

/// Messages of one kind that are logged per second; the others are counted, and their number is
/// logged later.
const MESSAGES_PER_SECOND: u32 = 10;

/// The observer of all workers.
#[derive(Debug)]
pub(crate) struct Telemetry {
    access: Option<AccessLog>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    started: Instant,
    floods: [Flood; Kind::COUNT],
}

impl Telemetry {
    /// Returns an observer; `None` logs no requests.
    pub(crate) fn new(access: Option<AccessLog>, metrics: Arc<Metrics>, health: Arc<Health>) -> Arc<Self> {
        if let Some(access) = &access {
            metrics.watch_access_log(access.dropped());
        }
        #[expect(clippy::disallowed_methods, reason = "the gateway reads the clock")]
        let started = Instant::now();
        Arc::new(Self { access, metrics, health, started, floods: Default::default() })
    }

    /// Opens log files again, after they were renamed.
    pub(crate) fn reopen(&self) {
        match self.access.as_ref().map(AccessLog::reopen) {
            Some(Err(error)) => log::error!("{error}; the old access log stays in use"),
            Some(Ok(())) => log::info!("the access log was reopened"),
            None => {}
        }
    }
}

impl Telemetry {
    /// Logs a message, unless there were too many of its kind within the second.
    fn log(&self, kind: Kind, level: Level, message: &dyn fmt::Display) {
        if !log::log_enabled!(level) {
            return;
        }
        match self.floods[kind as usize].admit(self.started.elapsed().as_secs()) {
            None => {}
            Some(0) => log::log!(level, "{message}"),
            Some(n) => log::log!(level, "{message} ({n} similar messages were not logged)"),
        }
    }
}

impl Observer for Telemetry {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.metrics.exchange(exchange);
        if let (Some(upstream), Some(status)) = (exchange.upstream, exchange.status) {
            // These may be replies of the engine about an upstream that it did not reach.
            if !matches!(status, 502..=504) {
                self.health.report_upstream(upstream, Ok(()));
            }
        }
        if let Some(access) = &self.access {
            access.exchange(exchange, now());
        }
        if let Some(failure) = exchange.end.failure() {
            self.log(Kind::Exchange, exchange_level(&failure), &FailedExchange(exchange, failure));
        }
    }

    fn wants_requests_of_tunnels(&self) -> bool {
        self.access.is_some()
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        self.metrics.tunnel(tunnel);
        if let Some(access) = &self.access {
            access.tunnel(tunnel, now());
        }
        if let Some(failure) = tunnel.failure {
            self.log(Kind::Tunnel, tunnel_level(&failure), &FailedTunnel(tunnel, failure));
        }
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectFailed { upstream, failure, error, .. } => {
                self.metrics.connect_failure(failure.cause);
                self.health.report_upstream(upstream, Err(error));
            }
            Event::ProxyHeaderFailed { failure, .. } | Event::HandshakeFailed { failure, .. } => {
                self.metrics.failure(failure);
            }
            Event::ForwardFailed { client, upstream, failure } => {
                self.metrics.failure(failure);
                if let Some(access) = &self.access {
                    access.forward_failed(client, upstream, *failure, now());
                }
            }
            _ => {}
        }
        let (kind, level) = classify(event);
        self.log(kind, level, &Message(event));
    }
}

fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "logs tell the time of day")]
    SystemTime::now()
}

/// Kinds of messages whose rate is limited separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Accept,
    Full,
    ProxyHeader,
    Handshake,
    Connect,
    Forward,
    Exchange,
    Tunnel,
    Relay,
    Reset,
    Panic,
    Other,
}

impl Kind {
    const COUNT: usize = Self::Other as usize + 1;
}

/// Error: an operator must act. Warning: service is degraded. Info: concerns one client, but an
/// operator looks for it. Debug: concerns one connection.
fn classify(event: &Event<'_>) -> (Kind, Level) {
    match event {
        Event::AcceptFailed { paused: true, .. } => (Kind::Accept, Level::Warn),
        Event::AcceptFailed { paused: false, .. } => (Kind::Accept, Level::Error),
        Event::Full { .. } => (Kind::Full, Level::Warn),
        // Health checks of load balancers often connect and leave.
        Event::ProxyHeaderFailed { failure, .. } if failure.cause == Cause::ClosedEarly => {
            (Kind::ProxyHeader, Level::Debug)
        }
        Event::ProxyHeaderFailed { .. } => (Kind::ProxyHeader, Level::Info),
        Event::HandshakeFailed { .. } => (Kind::Handshake, Level::Info),
        Event::ConnectFailed { .. } => (Kind::Connect, Level::Warn),
        Event::ForwardFailed { .. } => (Kind::Forward, Level::Info),
        Event::Relay(drive::Event::SpliceUnavailable(_)) => (Kind::Relay, Level::Warn),
        Event::Relay(_) => (Kind::Relay, Level::Debug),
        Event::Reset { .. } => (Kind::Reset, Level::Debug),
        Event::Panicked => (Kind::Panic, Level::Error),
        _ => (Kind::Other, Level::Info),
    }
}

/// Returns the level for an exchange that failed, by the same measure. A failed connect was logged
/// with its address.
fn exchange_level(failure: &Failure) -> Level {
    match (failure.side, failure.phase, failure.cause) {
        (FailedSide::Downstream, _, Cause::Parse(_)) => Level::Info,
        (FailedSide::Downstream, ..) | (_, Phase::Connect, _) => Level::Debug,
        (FailedSide::Upstream | FailedSide::Proxy, ..) => Level::Warn,
    }
}

/// Returns the level for a tunnel that failed: a client that breaks its connection off is usual.
fn tunnel_level(failure: &Failure) -> Level {
    match failure.side {
        FailedSide::Downstream => Level::Debug,
        FailedSide::Upstream | FailedSide::Proxy => Level::Info,
    }
}

/// A failed exchange as a log message.
struct FailedExchange<'a>(&'a Exchange<'a>, Failure);

impl fmt::Display for FailedExchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Exchange { client, method, target, upstream, .. }, failure) = self;
        write!(f, "listener {}: ", client.listener)?;
        match method {
            [] => write!(f, "request from {}", client.peer)?,
            _ => write!(f, "{} from {}", Request(method, target), client.peer)?,
        }
        if let Some(upstream) = upstream {
            write!(f, " to {}", upstream.name)?;
        }
        write_failure(failure, f)
    }
}

/// A failed tunnel as a log message.
struct FailedTunnel<'a>(&'a Tunnel<'a>, Failure);

impl fmt::Display for FailedTunnel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Tunnel { client, method, target, upstream, .. }, failure) = self;
        write!(f, "listener {}: tunnel of {} to {}", client.listener, client.peer, upstream.name)?;
        if !method.is_empty() {
            write!(f, " by {}", Request(method, target))?;
        }
        write_failure(failure, f)
    }
}

/// Method and target, as the client sent them.
struct Request<'a>(&'a [u8], &'a [u8]);

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Untrusted::new(self.0), Untrusted::new(self.1))
    }
}

fn write_failure(failure: &Failure, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Failure { side, phase, cause } = failure;
    write!(f, ": {cause}; side={} phase={}", side.name(), phase.name())?;
    write!(f, " cause={}", cause.name())
}

/// An event as a log message.
struct Message<'a>(&'a Event<'a>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::AcceptFailed { listener, error, paused } => {
                write!(f, "listener {listener}: cannot accept a connection: {error}")?;
                let out_of_descriptors =
                    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
                if *paused && out_of_descriptors {
                    f.write_str("; out of file descriptors, raise the limit of open files (LimitNOFILE=)")?;
                }
                Ok(())
            }
            Event::Full { connections } => {
                write!(f, "the limit of {connections} connections is reached; new ones wait until others end")
            }
            Event::ProxyHeaderFailed { client, failure } => {
                let (listener, peer) = (&client.listener, client.peer);
                write!(f, "listener {listener}: connection from {peer} closed: {}", failure.cause)?;
                write_cause(failure.cause, f)
            }
            Event::HandshakeFailed { client, failure, reason } => {
                let listener = &client.listener;
                write!(f, "listener {listener}: TLS handshake with {} failed: {reason}", client.peer)?;
                write_cause(failure.cause, f)
            }
            Event::ConnectFailed { upstream, address, failure, error } => {
                write!(f, "upstream {}: cannot connect to {address}: {error}", upstream.name)?;
                write_cause(failure.cause, f)
            }
            Event::ForwardFailed { client, upstream, failure } => {
                let (listener, peer) = (&client.listener, client.peer);
                write!(
                    f,
                    "listener {listener}: no tunnel from {peer} to {}: {}",
                    upstream.name, failure.cause
                )?;
                write_cause(failure.cause, f)
            }
            Event::Relay(event) => write!(f, "tunnel: {event}"),
            Event::Reset { side: Side::Downstream, error } => {
                write!(f, "the client's connection failed: {error}")
            }
            Event::Reset { side: Side::Upstream, error } => {
                write!(f, "the upstream's connection failed: {error}")
            }
            Event::Panicked => {
                f.write_str("a connection was closed because of a bug in dockline; please report it")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// Writes the name of a cause, to be looked up in docs/REASONS.md, and its TLS alert.
fn write_cause(cause: Cause, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "; cause={}", cause.name())?;
    cause.alert().map_or(Ok(()), |alert| write!(f, " alert={alert}"))
}

/// How many messages there were in one second: the second in the upper half, the number in the
/// lower.
#[derive(Debug, Default)]
struct Flood(AtomicU64);

impl Flood {
    /// Returns the number of messages suppressed before this one, if it may be logged.
    fn admit(&self, second: u64) -> Option<u64> {
        let begins_anew = |window: u64| window >> 32 != second & u64::from(u32::MAX);
        let next = |window: u64| if begins_anew(window) { (second << 32) | 1 } else { window + 1 };
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| Some(next(window)));
        let (Ok(last) | Err(last)) = last;
        let (seen, limit) = (last & u64::from(u32::MAX), u64::from(MESSAGES_PER_SECOND));
        if begins_anew(last) { Some(seen.saturating_sub(limit)) } else { (seen < limit).then_some(0) }
    }
}

#[cfg(test)]
mod tests;
