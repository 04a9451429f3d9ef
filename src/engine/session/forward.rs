#![forbid(unsafe_code)]
//! [`ForwardSession`]: a client of a forwarding listener that waits for the connection to its
//! upstream.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::tunnel::{Early, Origin, TunnelSession, next_tunnel_id};
use super::{Kind, Next, proxy_header};
use crate::engine::causes;
use crate::engine::connect::{Connect, Progress};
use crate::engine::endpoint::Endpoint;
use crate::engine::handle::Kill;
use crate::engine::in_flight::Flight;
use crate::engine::observe::{ClientInfo, Event, PeerAddr};
use crate::engine::resolve::Resolved;
use crate::engine::service::{ListenerSettings, Upstream};
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::error::{Cause, Failure, Phase, Side};
use crate::relay::Readiness;
use crate::sys;

/// A client that waits for the connection to its upstream.
pub(in crate::engine) struct ForwardSession {
    client: Endpoint,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    connect: Connect,
    flight: Flight,
    /// Whether the operator has ended it.
    killed: bool,
}

impl ForwardSession {
    pub(super) fn new(
        client: Endpoint,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        upstream: &Arc<Upstream>,
        token: Token,
        shared: &Shared,
    ) -> Self {
        let connect = Connect::new(Arc::clone(upstream), token, settings.limits(), client.hops, shared);
        let mut connect = connect.with_header(proxy_header(upstream, &info, &client));
        if let (true, PeerAddr::Ip(client)) = (upstream.transparent, &info.peer) {
            connect = connect.on_behalf_of(*client);
        }
        let flight = Flight::tunnel(Arc::clone(upstream));
        Self { client, info, settings, connect, flight, killed: false }
    }

    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        match side {
            Side::Downstream => self.client.note(ready),
            Side::Upstream => self.connect.note(ready),
        }
    }

    pub(super) fn resolved(&mut self, resolved: Resolved) {
        self.connect.resolved(resolved);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.connect.deadline()
    }

    /// Ends the session in its next turn, if it is one of those. Returns whether it is.
    pub(super) fn kill(&mut self, kill: &Kill) -> bool {
        self.killed |= kill.means(&self.info, Some(self.flight.upstream()), None);
        self.killed
    }

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        if self.killed {
            return self.failed(Side::Downstream, Cause::Killed, shared);
        }
        let progress = catch_unwind(AssertUnwindSafe(|| {
            if self.has_lost_client() { None } else { Some(self.connect.advance(shared)) }
        }));
        match progress {
            Ok(Some(Progress::Pending)) => Next::Wait(Kind::Forward(self)),
            Ok(Some(Progress::Done(upstream))) => self.join(upstream, shared).advance(shared),
            Ok(Some(Progress::Failed(cause))) => self.failed(Side::Upstream, cause, shared),
            Ok(None) => {
                let cause = causes::of_vanished(self.client.as_fd());
                self.failed(Side::Downstream, cause, shared)
            }
            Err(_) => {
                self.end(shared);
                Next::Panicked
            }
        }
    }

    fn failed(self, side: Side, cause: Cause, shared: &mut Shared) -> Next {
        let failure = Failure::new(side, Phase::Connect, cause);
        let upstream = self.flight.upstream();
        shared.report(&Event::ForwardFailed { client: &self.info, upstream, failure });
        self.end(shared);
        Next::End
    }

    fn has_lost_client(&self) -> bool {
        self.client.ready.hup && sys::has_failed(self.client.as_fd(), true)
    }

    /// Returns the tunnel between the client and its upstream.
    fn join(self, upstream: Endpoint, shared: &mut Shared) -> Box<TunnelSession> {
        let Self { client, info, settings, flight, .. } = self;
        let origin = Origin::new(next_tunnel_id(), info, flight);
        let idle = settings.limits().tunnel_idle;
        Box::new(TunnelSession::new(client, upstream, &Early::default(), idle, origin, shared))
    }

    /// Gives up. The client was not served: a clean end would look as if the upstream had had
    /// nothing to send.
    pub(super) fn end(self, shared: &mut Shared) {
        self.connect.cancel(shared);
        if self.client.is_tcp {
            let _ = sys::set_reset_on_close(self.client.as_fd());
        }
        shared.close(self.client);
    }
}
