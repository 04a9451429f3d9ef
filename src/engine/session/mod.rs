#![forbid(unsafe_code)]
//! Sessions: a client connection and all that serves it, one [`Kind`] at a time.
//!
//! A kind goes into its turn by value, and comes back in [`Next`]. What it becomes (a handshake
//! HTTP, HTTP a tunnel) it makes from what it has, and continues with in the same turn.

mod closing;
mod forward;
#[cfg(feature = "tls")]
mod handshake;
mod http;
mod proxied;
mod table;
mod tunnel;

pub(super) use proxied::ProxiedSession;
pub(super) use table::Sessions;
pub(super) use tunnel::{Early, Origin, TunnelSession, next_tunnel_id};

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use closing::ClosingSession;
use forward::ForwardSession;
#[cfg(feature = "tls")]
use handshake::HandshakeSession;
use http::HttpSession;

use super::decider::Decided;
use super::endpoint::Endpoint;
use super::handle::Kill;
use super::observe::{ClientInfo, PeerAddr};
use super::resolve::Resolved;
use super::service::{ListenerSettings, Service, Upstream};
use super::shared::Shared;
use super::slab::Token;
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// Returns the header of the PROXY protocol for a connection to an upstream on behalf of a client;
/// empty if the upstream expects none.
fn proxy_header(upstream: &Upstream, info: &ClientInfo, client: &Endpoint) -> Vec<u8> {
    let Some(version) = upstream.proxy_protocol else { return Vec::new() };
    let source = match info.peer {
        PeerAddr::Ip(address) => Some(address),
        PeerAddr::Unix { .. } | PeerAddr::Unknown => None,
    };
    let destination = match &info.proxied {
        Some(proxied) => Some(proxied.destination),
        None => sys::local_address(client.as_fd()).ok().flatten(),
    };
    version.header(source, destination)
}

/// What a session is at present. Boxed, so that the table of sessions is small and moving a session
/// costs two words.
pub(super) enum Kind {
    Proxied(Box<ProxiedSession>),
    #[cfg(feature = "tls")]
    Handshake(Box<HandshakeSession>),
    Http(Box<HttpSession>),
    Forward(Box<ForwardSession>),
    Tunnel(Box<TunnelSession>),
    /// The last bytes of a TLS stream are on their way out.
    Closing(Box<ClosingSession>),
}

/// What becomes of a session after its turn.
enum Next {
    /// It waits for events and its deadline.
    Wait(Kind),
    /// It continues after others had their turn.
    Again(Kind),
    /// It has ended: its records are written and its connections closed.
    End,
    /// It has ended by a panic.
    Panicked,
}

impl Kind {
    /// Returns what serves a client that speaks TLS first, if the listener does.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "with TLS it can fail"))]
    pub(super) fn secured(
        client: Endpoint,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        token: Token,
        shared: &mut Shared,
    ) -> io::Result<Self> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &settings.tls {
            let client = shared.start_tls(client, tls)?;
            let session = HandshakeSession::new(client, info, settings, token, shared.now);
            return Ok(Self::Handshake(Box::new(session)));
        }
        Ok(Self::serving(client, info, settings, token, shared))
    }

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

    /// Takes one turn.
    #[inline]
    fn advance(self, shared: &mut Shared) -> Next {
        match self {
            Self::Proxied(session) => session.advance(shared),
            #[cfg(feature = "tls")]
            Self::Handshake(session) => session.advance(shared),
            Self::Http(session) => session.advance(shared),
            Self::Forward(session) => session.advance(shared),
            Self::Tunnel(session) => session.advance(shared),
            Self::Closing(session) => session.advance(shared),
        }
    }

    /// Notes an event of the poller.
    fn note(&mut self, side: Side, ready: Readiness) {
        match self {
            Self::Proxied(session) => session.note(ready),
            #[cfg(feature = "tls")]
            Self::Handshake(session) => session.note(ready),
            Self::Http(session) => session.note(side, ready),
            Self::Forward(session) => session.note(side, ready),
            Self::Tunnel(session) => session.note(side, ready),
            Self::Closing(session) => session.note(ready),
        }
    }

    /// Takes the result of a name look-up.
    fn resolved(&mut self, resolved: Resolved) {
        match self {
            Self::Http(session) => session.resolved(resolved),
            Self::Forward(session) => session.resolved(resolved),
            _ => {}
        }
    }

    /// Takes a decision about the request that waits for it.
    fn decided(&mut self, decided: Decided) {
        if let Self::Http(session) = self {
            session.decided(decided);
        }
    }

    /// Returns when the session needs a turn at the latest.
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Proxied(session) => Some(session.deadline()),
            #[cfg(feature = "tls")]
            Self::Handshake(session) => Some(session.deadline()),
            Self::Http(session) => session.deadline(),
            Self::Forward(session) => Some(session.deadline()),
            Self::Tunnel(session) => session.deadline(),
            Self::Closing(session) => Some(session.deadline()),
        }
    }

    /// Begins to drain: requests finish, tunnels live until the limit.
    fn drain(&mut self, shared: &Shared) {
        match self {
            Self::Http(session) => session.drain(shared),
            Self::Tunnel(session) => session.drain(shared),
            _ => {}
        }
    }

    /// Makes the next turn end what is meant: the tunnel, or the request in flight. Returns whether
    /// there is any.
    fn kill(&mut self, kill: &Kill, shared: &mut Shared) -> bool {
        match self {
            Self::Http(session) => session.kill(kill, shared),
            Self::Forward(session) => session.kill(kill),
            Self::Tunnel(session) => session.kill(kill),
            _ => false,
        }
    }

    /// Ends the session: writes its records and closes its connections.
    fn end(self, shared: &mut Shared) {
        match self {
            Self::Proxied(session) => session.end(shared),
            #[cfg(feature = "tls")]
            Self::Handshake(session) => session.end(shared),
            Self::Http(session) => session.end(shared),
            Self::Forward(session) => session.end(shared),
            Self::Tunnel(session) => session.end(shared),
            Self::Closing(session) => session.end(shared),
        }
    }

    /// Returns whether its turns belong into the handshake queue.
    fn is_handshaking(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Handshake(_) => true,
            _ => false,
        }
    }
}
