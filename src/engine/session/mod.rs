#![forbid(unsafe_code)]
//! [`Session`]: one client connection and all that serves it, whatever it is at present.

mod body;
mod closing;
mod forward;
#[cfg(feature = "tls")]
mod handshake;
mod http;
mod table;
mod tunnel;

#[cfg(feature = "tls")]
pub(super) use handshake::HandshakeSession;
pub(super) use table::Sessions;
pub(super) use tunnel::{Early, Origin, TunnelSession};

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::endpoint::Endpoint;
use crate::engine::observe::ClientInfo;
use crate::engine::resolve::Resolved;
use crate::engine::service::{ListenerSettings, Service};
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::error::Side;
use crate::relay::Readiness;
use closing::ClosingSession;
use forward::ForwardSession;
use http::HttpSession;

/// What a client connection is at present. Large states are boxed, so that a table of sessions is small.
pub(super) enum Kind {
    #[cfg(feature = "tls")]
    Handshake(Box<HandshakeSession>),
    Http(Box<HttpSession>),
    Forward(Box<ForwardSession>),
    Tunnel(Box<TunnelSession>),
    /// The last bytes are on their way out of a TLS stream.
    Closing(Box<ClosingSession>),
    /// Over; or, for a moment, between two of the others.
    Gone,
}

impl Kind {
    /// Returns what serves a client whose bytes can be read.
    pub(super) fn serving(
        client: Endpoint,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        token: Token,
        shared: &Shared,
    ) -> Self {
        match settings.service.clone() {
            Service::Http(router) => {
                Self::Http(Box::new(HttpSession::new(client, info, settings, router, token, shared)))
            }
            Service::Forward(upstream) => {
                Self::Forward(Box::new(ForwardSession::new(client, info, settings, &upstream, token, shared)))
            }
        }
    }
}

/// What is to be done with a session that had its turn.
pub(super) enum Next {
    /// It waits for events and its deadline.
    Wait,
    /// It goes on, after others had their turn.
    Again,
    /// It turns into something else, and goes on at once.
    Become,
    /// It is over.
    End,
}

/// A time since the engine was made, in units of some 67 ms, so that a table of sessions is small. Two deadlines in
/// the same unit share a timer, and may be that much late.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Coarse(NonZeroU32);

impl Coarse {
    pub(super) fn new(since: Duration) -> Self {
        Self(NonZeroU32::MIN.saturating_add(u32::try_from(since.as_nanos() >> 26).unwrap_or(u32::MAX)))
    }
}

/// A client connection, and what the loop has to know of it.
pub(super) struct Session {
    pub(super) kind: Kind,
    /// Its timer; it may be too early by now.
    pub(super) timer: Option<Coarse>,
    /// Whether it waits for its turn.
    pub(super) queued: bool,
}

impl Session {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, timer: None, queued: false }
    }

    /// The poller saw something on a side.
    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        match &mut self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(session) => session.note(ready),
            Kind::Http(session) => session.note(side, ready),
            Kind::Forward(session) => session.note(side, ready),
            Kind::Tunnel(session) => session.note(side, ready),
            Kind::Closing(session) => session.note(ready),
            Kind::Gone => {}
        }
    }

    /// Whether its turn is dear, so that only a few get one at a time.
    pub(super) fn is_handshaking(&self) -> bool {
        match &self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(_) => true,
            _ => false,
        }
    }

    /// One turn.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Next {
        loop {
            let next = match &mut self.kind {
                #[cfg(feature = "tls")]
                Kind::Handshake(session) => session.advance(shared),
                Kind::Http(session) => session.advance(shared),
                Kind::Forward(session) => session.advance(shared),
                Kind::Tunnel(session) => session.advance(shared),
                Kind::Closing(session) => session.advance(shared),
                Kind::Gone => Next::End,
            };
            if !matches!(next, Next::Become) {
                return next;
            }
            self.kind = match std::mem::replace(&mut self.kind, Kind::Gone) {
                #[cfg(feature = "tls")]
                Kind::Handshake(session) => session.succeed(shared),
                Kind::Http(session) => session.succeed(shared),
                Kind::Forward(session) => session.succeed(shared),
                Kind::Tunnel(_) | Kind::Closing(_) | Kind::Gone => Kind::Gone,
            };
        }
    }

    /// A name was looked up for it.
    pub(super) fn resolved(&mut self, resolved: Resolved) {
        match &mut self.kind {
            Kind::Http(session) => session.resolved(resolved),
            Kind::Forward(session) => session.resolved(resolved),
            _ => {}
        }
    }

    /// When it wants its turn at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(session) => Some(session.deadline()),
            Kind::Http(session) => session.deadline(),
            Kind::Forward(session) => session.deadline(),
            Kind::Tunnel(session) => session.deadline(),
            Kind::Closing(session) => Some(session.deadline()),
            Kind::Gone => None,
        }
    }

    /// The engine drains: requests finish, tunnels live until the limit.
    pub(super) fn drain(&mut self, shared: &Shared) {
        match &mut self.kind {
            Kind::Http(session) => session.drain(shared.now),
            Kind::Tunnel(session) => {
                if let Some(limit) = shared.drain.limit() {
                    session.drain(limit);
                }
            }
            _ => {}
        }
    }

    /// Closes everything it has and says what there is to say.
    pub(super) fn end(self, shared: &mut Shared) {
        match self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(session) => session.end(shared),
            Kind::Http(session) => session.end(shared),
            Kind::Forward(session) => session.end(shared),
            Kind::Tunnel(session) => session.end(shared),
            Kind::Closing(session) => session.end(shared),
            Kind::Gone => {}
        }
    }
}
