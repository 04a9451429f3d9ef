#![forbid(unsafe_code)]
//! [`Session`]: one client connection and all that serves it, whatever it is at present.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::closing::ClosingSession;
use super::core::Core;
use super::forward::ForwardSession;
#[cfg(feature = "tls")]
use super::handshake::HandshakeSession;
use super::http::HttpSession;
use super::resolve::Resolved;
use super::tunnel::TunnelSession;
use crate::error::Side;
use crate::relay::Readiness;

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
    pub(super) fn is_dear(&self) -> bool {
        match &self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(_) => true,
            _ => false,
        }
    }

    /// One turn.
    pub(super) fn advance(&mut self, core: &mut Core) -> Next {
        loop {
            let next = match &mut self.kind {
                #[cfg(feature = "tls")]
                Kind::Handshake(session) => session.advance(core),
                Kind::Http(session) => session.advance(core),
                Kind::Forward(session) => session.advance(core),
                Kind::Tunnel(session) => session.advance(core),
                Kind::Closing(session) => session.advance(core),
                Kind::Gone => Next::End,
            };
            if !matches!(next, Next::Become) {
                return next;
            }
            self.kind = match std::mem::replace(&mut self.kind, Kind::Gone) {
                #[cfg(feature = "tls")]
                Kind::Handshake(session) => session.succeed(core),
                Kind::Http(session) => session.succeed(core),
                Kind::Forward(session) => session.succeed(core),
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
    pub(super) fn drain(&mut self, core: &Core) {
        match &mut self.kind {
            Kind::Http(session) => session.drain(core.now),
            Kind::Tunnel(session) => {
                if let Some(Some(limit)) = core.draining {
                    session.drain(limit);
                }
            }
            _ => {}
        }
    }

    /// Closes everything it has and says what there is to say.
    pub(super) fn end(self, core: &mut Core) {
        match self.kind {
            #[cfg(feature = "tls")]
            Kind::Handshake(session) => session.end(core),
            Kind::Http(session) => session.end(core),
            Kind::Forward(session) => session.end(core),
            Kind::Tunnel(session) => session.end(core),
            Kind::Closing(session) => session.end(core),
            Kind::Gone => {}
        }
    }
}
