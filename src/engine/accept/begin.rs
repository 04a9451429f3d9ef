#![forbid(unsafe_code)]
//! Begins the session of an accepted connection, or of an adopted pair.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::engine::handle::{Accepted, Pair};
use crate::engine::in_flight::Flight;
use crate::engine::observe::{ClientInfo, PeerAddr};
use crate::engine::service::{ListenerSettings, Upstream};
use crate::engine::session::{Early, Kind, Origin, ProxiedSession, Sessions, TunnelSession, next_tunnel_id};
use crate::engine::shared::{Owner, Shared};
use crate::engine::slab::Token;
use crate::engine::stream::Stream;
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// Hops (TTL) of a connection to an upstream, unless the client's came with fewer. The default of
/// the host may be more.
const HOPS: u8 = 64;

/// Begins to serve a connection that was counted when it was placed.
pub(in crate::engine) fn begin(accepted: Accepted, sessions: &mut Sessions, shared: &mut Shared) {
    sessions.begin(shared, |token, shared| open(accepted, token, shared));
}

/// Begins the tunnel of a pair of connections.
pub(in crate::engine) fn adopt(pair: Pair, sessions: &mut Sessions, shared: &mut Shared) {
    shared.counters().clients_now.increment();
    sessions.begin(shared, |token, shared| join(pair, token, shared));
}

fn open(accepted: Accepted, token: Token, shared: &mut Shared) -> io::Result<Kind> {
    let Accepted { socket, peer, settings } = accepted;
    let is_tcp = matches!(peer, PeerAddr::Ip(_));
    // A connection that was accepted together with its request (TCP_DEFER_ACCEPT) is read at once.
    // The poller reports the others.
    let deferred = is_tcp && settings.client_speaks_first();
    let ready = Readiness { read: deferred, write: true, hup: false };
    let info = ClientInfo { tls: is_tls(&settings), ..ClientInfo::new(peer, Arc::clone(&settings.name)) };
    let hops = hops_left(socket.as_fd(), &info.peer);
    let owner = Owner::session(token, Side::Downstream);
    let mut client = shared.link_as(Stream::Plain(socket), owner, is_tcp, ready)?;
    client.hops = hops;
    let info = Box::new(info);
    if settings.proxy_protocol.is_some() {
        let session = ProxiedSession::new(client, info, settings, token, shared.now);
        return Ok(Kind::Proxied(Box::new(session)));
    }
    Kind::secured(client, info, settings, token, shared)
}

/// Returns the hops for the connection to an upstream: as a router does, one less than the client's
/// connection has left. So gateways that lead to each other end after a while. A client on another
/// host that arrives with its last hop uses such a TTL on purpose (BGP).
fn hops_left(client: BorrowedFd<'_>, peer: &PeerAddr) -> Option<u8> {
    let PeerAddr::Ip(peer) = peer else { return None };
    match sys::saved_hops(client)? {
        0 | 1 => {
            let ip = peer.ip().to_canonical();
            (ip.is_loopback() || sys::is_local(ip)).then_some(0)
        }
        hops => Some(HOPS.min(hops - 1)),
    }
}

fn join(pair: Pair, token: Token, shared: &mut Shared) -> io::Result<Kind> {
    let Pair { downstream, upstream, downstream_early, upstream_early, name } = pair;
    for socket in [&downstream, &upstream] {
        sys::set_nonblocking(socket.as_fd())?;
        if sys::stream_protocol(socket.as_fd())?.is_none() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a stream socket"));
        }
    }
    let downstream = shared.link(Stream::Plain(downstream), Owner::session(token, Side::Downstream))?;
    let upstream = match shared.link(Stream::Plain(upstream), Owner::session(token, Side::Upstream)) {
        Ok(upstream) => upstream,
        Err(error) => {
            shared.close(downstream);
            return Err(error);
        }
    };
    let info = ClientInfo::new(PeerAddr::Unknown, "");
    let flight = Flight::tunnel(Arc::new(Upstream::new(name, Vec::new())));
    let origin = Origin::new(next_tunnel_id(), Box::new(info), flight);
    let early = Early { downstream: &downstream_early, upstream: &upstream_early };
    Ok(Kind::Tunnel(Box::new(TunnelSession::new(downstream, upstream, &early, None, origin, shared))))
}

#[cfg(feature = "tls")]
fn is_tls(settings: &ListenerSettings) -> bool {
    settings.tls.is_some()
}

#[cfg(not(feature = "tls"))]
fn is_tls(_: &ListenerSettings) -> bool {
    false
}
