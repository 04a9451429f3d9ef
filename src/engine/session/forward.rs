#![forbid(unsafe_code)]
//! [`ForwardSession`]: a connection that waits for the one it is to be joined with.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::tunnel::{Early, Origin, TunnelSession};
use super::{Kind, Next};
use crate::engine::causes;
use crate::engine::connect::{Connect, Progress};
use crate::engine::endpoint::Endpoint;
use crate::engine::observe::{ClientInfo, Event, PeerAddr};
use crate::engine::resolve::Resolved;
use crate::engine::service::{ListenerSettings, Upstream};
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::error::{Cause, Failure, Phase, Side};
use crate::relay::Readiness;
use crate::sys;

pub(in crate::engine) struct ForwardSession {
    client: Endpoint,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    connect: Connect,
    /// The connection, once it is there.
    upstream: Option<Endpoint>,
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
        let mut connect = Connect::new(Arc::clone(upstream), token, settings.limits(), client.hops, shared);
        if let (true, PeerAddr::Ip(client)) = (upstream.transparent, &info.peer) {
            connect = connect.on_behalf_of(*client);
        }
        Self { client, info, settings, connect, upstream: None }
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

    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.connect.deadline())
    }

    pub(super) fn advance(&mut self, shared: &mut Shared) -> Next {
        if self.client.ready.hup && sys::has_failed(self.client.as_fd(), true) {
            return self.failed(Side::Downstream, causes::of_vanished(self.client.as_fd()), shared);
        }
        match self.connect.advance(shared) {
            Progress::Pending => Next::Wait,
            Progress::Failed(cause) => self.failed(Side::Upstream, cause, shared),
            Progress::Done(endpoint) => {
                self.upstream = Some(endpoint);
                Next::Become
            }
        }
    }

    fn failed(&self, side: Side, cause: Cause, shared: &Shared) -> Next {
        let failure = Failure::new(side, Phase::Connect, cause);
        let upstream = self.connect.upstream();
        shared.report(&Event::ForwardFailed { client: &self.info, upstream, failure });
        Next::End
    }

    /// The tunnel that it becomes.
    pub(super) fn succeed(self, shared: &mut Shared) -> Kind {
        let Some(upstream) = self.upstream else { return Kind::Gone };
        let origin = Origin::new(self.info, Arc::clone(self.connect.upstream()), None, b"", b"", shared);
        let idle = self.settings.limits().tunnel_idle;
        let client = match origin.client.peer {
            PeerAddr::Ip(address) => Some(address),
            _ => None,
        };
        let local = || sys::local_address(self.client.as_fd()).ok().flatten();
        let header = origin.upstream.proxy_protocol.map(|version| version.header(client, local()));
        let early = Early { downstream: header.as_deref().unwrap_or_default(), ..Early::default() };
        let tunnel = TunnelSession::new(self.client, upstream, &early, idle, origin, shared);
        Kind::Tunnel(Box::new(tunnel))
    }

    /// Gives up. The client was not served: a clean end would tell it that the upstream had nothing to say.
    pub(super) fn end(self, shared: &mut Shared) {
        self.connect.cancel(shared);
        if self.client.is_tcp {
            let _ = sys::set_reset_on_close(self.client.as_fd());
        }
        drop(shared.unlink(self.client));
    }
}
