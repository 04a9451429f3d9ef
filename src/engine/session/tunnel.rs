#![forbid(unsafe_code)]
//! [`TunnelSession`]: a relay, and the record that is written when it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Kind, Next};
use crate::drive::{Ready, Relay, State};
use crate::engine::causes;
use crate::engine::endpoint::Endpoint;
use crate::engine::handle::Kill;
use crate::engine::in_flight::Flight;
use crate::engine::observe::{ClientInfo, Event, OpenTunnel, Tunnel};
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::engine::stream::Stream;
use crate::error::{Cause, Failure, Phase, Side};
use crate::h1::RequestHead;
use crate::proxy::hijack::HijackKind;
use crate::relay::{Readiness, RelayConfig};

/// A tunnel that has lived so long is worth probing for a daemon that vanished. Most are over
/// sooner, and save four system calls.
const SETTLED: Duration = Duration::from_secs(5);

/// Bytes of the target that are kept for the record.
const TARGET_BYTES: usize = 255;

/// A relay, and what is needed for its record.
pub(in crate::engine) struct TunnelSession {
    relay: Relay<Stream, Stream>,
    /// The links of the two connections.
    links: [Token; 2],
    /// Whether the poller reports writability of the two connections.
    watches_write: [bool; 2],
    /// Events since the last turn.
    ready: Ready,
    opened: Instant,
    /// Whether keepalive probes are on for the upstream, or are not needed.
    is_probed: bool,
    origin: Origin,
}

/// Where a tunnel comes from.
pub(in crate::engine) struct Origin {
    id: u64,
    client: Box<ClientInfo>,
    flight: Flight,
    kind: Option<HijackKind>,
    route: Option<Arc<str>>,
    /// Method and target, with a space between.
    request: Option<Box<[u8]>>,
}

impl Origin {
    /// Makes the origin of a tunnel that no request has opened.
    pub(in crate::engine) fn new(id: u64, client: Box<ClientInfo>, flight: Flight) -> Self {
        Self { id, client, flight, kind: None, route: None, request: None }
    }

    /// Adds how a request has opened the tunnel, and the request if the record is to contain it.
    #[must_use]
    pub(super) fn opened_by(
        self,
        kind: HijackKind,
        route: Option<Arc<str>>,
        request: Option<&RequestHead>,
        shared: &Shared,
    ) -> Self {
        let wanted = request.filter(|_| shared.observer.wants_requests_of_tunnels());
        let request = wanted.map(|head| {
            let target = head.target().as_bytes();
            [head.method(), b" ", &target[..target.len().min(TARGET_BYTES)]].concat().into()
        });
        Self { kind: Some(kind), route, request, ..self }
    }
}

/// Returns the number of a new tunnel, unique within the process, whatever engine it belongs to.
pub(in crate::engine) fn next_tunnel_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Bytes to be delivered before those of the two connections.
#[derive(Default)]
pub(in crate::engine) struct Early<'a> {
    pub(in crate::engine) downstream: &'a [u8],
    pub(in crate::engine) upstream: &'a [u8],
}

impl TunnelSession {
    /// Joins two connections. The early bytes have been bounded by whoever read them: by the limits
    /// of an HTTP connection, which are as large as the operator wants.
    pub(in crate::engine) fn new(
        downstream: Endpoint,
        upstream: Endpoint,
        early: &Early<'_>,
        idle: Option<Duration>,
        origin: Origin,
        shared: &Shared,
    ) -> Self {
        let is_probed = !upstream.is_tcp;
        let mut options = shared.options.relay;
        options.config = RelayConfig { idle, ..options.config };
        let ready = Ready { downstream: downstream.ready, upstream: upstream.ready };
        let links = [downstream.link, upstream.link];
        let watches_write = [downstream.watches_write, upstream.watches_write];
        let mut relay = Relay::join(downstream.stream, upstream.stream, ready, options, shared.now);
        relay.prefill_unbounded(Side::Downstream, early.downstream);
        relay.prefill_unbounded(Side::Upstream, early.upstream);
        let mut tunnel = Self {
            relay,
            links,
            watches_write,
            ready: Ready::default(),
            opened: shared.now,
            is_probed,
            origin,
        };
        tunnel.drain(shared);
        // Last: from here on `end` is called, whatever happens.
        shared.counters().tunnels.add(1);
        shared.counters().tunnels_now.add(1);
        tunnel
    }

    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        match side {
            Side::Downstream => self.ready.downstream.note(ready),
            Side::Upstream => self.ready.upstream.note(ready),
        }
    }

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        match catch_unwind(AssertUnwindSafe(|| self.pump(shared))) {
            Ok(State::Running) => Next::Wait(Kind::Tunnel(self)),
            Ok(State::Yield) => Next::Again(Kind::Tunnel(self)),
            Ok(State::Done) => {
                self.end(shared);
                Next::End
            }
            Err(_) => {
                let failure = Failure::new(Side::Downstream, Phase::Tunnel, Cause::Panicked);
                self.close(Some(failure), shared);
                Next::Panicked
            }
        }
    }

    /// Moves what can be moved, and watches what that has to wait for.
    fn pump(&mut self, shared: &mut Shared) -> State {
        if !self.is_probed && shared.now >= self.opened + SETTLED {
            self.is_probed = true;
            self.relay.probe(Side::Upstream);
        }
        let ready = std::mem::take(&mut self.ready);
        let state = self.relay.advance(&mut shared.worker, ready, shared.now);
        for side in [Side::Downstream, Side::Upstream] {
            if !self.watches_write[side as usize] && self.relay.interest(side).write {
                self.watches_write[side as usize] = true;
                let watched =
                    self.relay.socket(side).map(|fd| shared.watch_write(fd, self.links[side as usize]));
                if let Some(Err(error)) = watched {
                    // It would wait for an event that never comes.
                    shared.report(&Event::Reset { side, error: &error });
                    self.relay.fail(side, error, shared.now);
                    return State::Yield;
                }
            }
        }
        state
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let settled = (!self.is_probed).then(|| self.opened + SETTLED);
        [self.relay.deadline(), settled].into_iter().flatten().min()
    }

    pub(super) fn describe(&self, now: Instant) -> OpenTunnel {
        let Origin { id, client, flight, route, .. } = &self.origin;
        OpenTunnel {
            id: *id,
            peer: client.peer,
            identity: client.identity.clone(),
            listener: Arc::clone(&client.listener),
            upstream: Arc::clone(flight.upstream()),
            route: route.clone(),
            stats: self.relay.stats(),
            age: now.saturating_duration_since(self.opened),
        }
    }

    /// Ends the tunnel in its next turn, if it is one of those. Returns whether it is.
    pub(super) fn kill(&mut self, kill: &Kill) -> bool {
        let Origin { id, client, flight, route, .. } = &self.origin;
        let is_meant = match kill {
            Kill::Tunnel(tunnel) => tunnel == id,
            kill => kill.means(client, Some(flight.upstream()), route.as_deref()),
        };
        if is_meant {
            self.relay.kill();
        }
        is_meant
    }

    pub(super) fn drain(&mut self, shared: &Shared) {
        if let Some(limit) = shared.drain.limit() {
            self.relay.drain(limit);
        }
    }

    pub(super) fn end(self: Box<Self>, shared: &mut Shared) {
        self.close(None, shared);
    }

    /// Closes both connections and writes the record, with a failure of the proxy or else that of
    /// the relay.
    fn close(mut self: Box<Self>, failure: Option<Failure>, shared: &mut Shared) {
        shared.counters().tunnels_now.subtract(1);
        for link in self.links {
            shared.links.remove(link);
        }
        if self.relay.stats().close_reason.is_none() {
            self.relay.kill();
            self.relay.advance(&mut shared.worker, Ready::default(), shared.now);
        }
        let stats = self.relay.stats();
        shared.counters().tunnel_bytes_up.add(stats.up.delivered);
        shared.counters().tunnel_bytes_down.add(stats.down.delivered);
        let request = self.origin.request.as_deref().unwrap_or_default();
        let space = request.iter().position(|&byte| byte == b' ').unwrap_or(request.len());
        let (method, target) = (&request[..space], request.get(space + 1..).unwrap_or_default());
        shared.observer.tunnel(&Tunnel {
            id: self.origin.id,
            client: &self.origin.client,
            method,
            target,
            upstream: self.origin.flight.upstream(),
            route: self.origin.route.as_deref(),
            kind: self.origin.kind,
            failure: failure
                .or_else(|| causes::of_tunnel(stats.close_reason, |side| self.relay.error_of(side))),
            stats,
            duration: shared.now.saturating_duration_since(self.opened),
        });
    }
}
