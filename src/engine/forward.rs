#![forbid(unsafe_code)]
//! [`ForwardSession`]: a connection that waits for the one it is to be joined with.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::causes;
use super::connect::{Connect, Progress};
use super::core::{Core, End};
use super::observe::{ClientInfo, Event, PeerAddr};
use super::resolve::Resolved;
use super::service::{ListenerSettings, Upstream};
use super::session::{Kind, Next};
use super::slab::Token;
use super::tunnel::{Early, Origin, TunnelSession};
use crate::error::{Cause, Failure, Phase, Side};
use crate::relay::Readiness;
use crate::sys;

pub(super) struct ForwardSession {
    client: End,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    connect: Connect,
    /// The connection, once it is there.
    upstream: Option<End>,
}

impl ForwardSession {
    pub(super) fn new(
        client: End,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        upstream: &Arc<Upstream>,
        token: Token,
        core: &Core,
    ) -> Self {
        let mut connect = Connect::new(Arc::clone(upstream), token, settings.limits(), client.hops, core);
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

    pub(super) fn advance(&mut self, core: &mut Core) -> Next {
        if self.client.ready.hup && sys::has_failed(self.client.as_fd(), true) {
            return self.failed(Side::Downstream, causes::of_vanished(self.client.as_fd()), core);
        }
        match self.connect.advance(core) {
            Progress::Pending => Next::Wait,
            Progress::Failed(cause) => self.failed(Side::Upstream, cause, core),
            Progress::Done(end) => {
                self.upstream = Some(end);
                Next::Become
            }
        }
    }

    fn failed(&self, side: Side, cause: Cause, core: &Core) -> Next {
        let failure = Failure::new(side, Phase::Connect, cause);
        let upstream = self.connect.upstream();
        core.report(&Event::ForwardFailed { client: &self.info, upstream, failure });
        Next::End
    }

    /// The tunnel that it becomes.
    pub(super) fn succeed(self, core: &mut Core) -> Kind {
        let Some(upstream) = self.upstream else { return Kind::Gone };
        let origin = Origin::new(self.info, Arc::clone(self.connect.upstream()), None, b"", b"", core);
        let idle = self.settings.limits().tunnel_idle;
        let client = match origin.client.peer {
            PeerAddr::Ip(address) => Some(address),
            _ => None,
        };
        let local = || sys::local_address(self.client.as_fd()).ok().flatten();
        let header = origin.upstream.proxy_protocol.map(|version| version.header(client, local()));
        let early = Early { downstream: header.as_deref().unwrap_or_default(), ..Early::default() };
        let tunnel = TunnelSession::new(self.client, upstream, &early, idle, origin, core);
        Kind::Tunnel(Box::new(tunnel))
    }

    /// Gives up. The client was not served: a clean end would tell it that the upstream had nothing to say.
    pub(super) fn end(self, core: &mut Core) {
        self.connect.cancel(core);
        if self.client.is_tcp {
            let _ = sys::set_reset_on_close(self.client.as_fd());
        }
        drop(core.unlink(self.client));
    }
}
