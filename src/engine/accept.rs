#![forbid(unsafe_code)]
//! Listeners: accepting, pausing, and what an accepted connection becomes.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::unix::SourceFd;

use super::core::{Core, End, Owner};
use super::forward::ForwardSession;
use super::handle::Accepted;
#[cfg(feature = "tls")]
use super::handshake::HandshakeSession;
use super::http::HttpSession;
use super::observe::{ClientInfo, PeerAddr};
use super::own::Registered;
use super::service::{Listener, ListenerHandle, ListenerSettings, Service};
use super::session::{Kind, Session};
use super::slab::Token;
use super::stream::Stream;
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// How long a listener waits when there are no descriptors or no memory.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Hops (TTL) that a connection to an upstream leaves with, if the client's did not come with less. The host's own default
/// may be more.
const HOPS: u8 = 64;

/// A listener in the loop.
pub(super) struct Port {
    socket: Socket,
    token: mio::Token,
    pub(super) handle: ListenerHandle,
    /// Whether the poller tells of it, and again at each turn as long as connections wait.
    watched: bool,
    /// Whether connections were waiting at the beginning of this turn.
    pub(super) ready: bool,
    /// How many to take at a turn: doubled as long as there are more.
    pub(super) batch: usize,
    /// Until when nothing is accepted.
    pub(super) paused: Option<Instant>,
    _registered: Registered,
}

enum Socket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// What one attempt to accept came to.
pub(super) enum Got {
    Client(Accepted),
    /// The connection was gone before it was accepted; there may be others.
    Lost,
    Nothing,
    Failed(io::Error),
}

impl Port {
    /// Makes a listener ready for the loop, which is still to [watch](Port::watch) it.
    pub(super) fn new(listener: Listener, token: mio::Token, core: &Core) -> io::Result<Self> {
        let Listener { socket, handle } = listener;
        if !sys::is_listening(socket.as_fd())? {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a listening stream socket"));
        }
        sys::set_nonblocking(socket.as_fd())?;
        let registered = core.own.add(socket.as_fd());
        let socket = if sys::is_unix(socket.as_fd())? {
            Socket::Unix(mio::net::UnixListener::from_std(socket.into()))
        } else {
            // What is accepted inherits these, and costs no call of its own.
            let _ = sys::set_nodelay(socket.as_fd());
            let _ = sys::set_keepalive(socket.as_fd());
            let _ = sys::save_syn(socket.as_fd());
            if matches!(handle.settings().service, Service::Http(_)) {
                // Clients of HTTP and of TLS speak first: the kernel wakes us when they have.
                let _ = sys::set_defer_accept(socket.as_fd());
            }
            Socket::Tcp(mio::net::TcpListener::from_std(socket.into()))
        };
        Ok(Self {
            socket,
            token,
            handle,
            watched: false,
            ready: false,
            batch: 1,
            paused: None,
            _registered: registered,
        })
    }

    /// Watches it or not: what cannot be accepted must not wake the loop.
    pub(super) fn watch(&mut self, wanted: bool, registry: &Registry) -> io::Result<()> {
        if self.watched != wanted {
            let fd = self.as_fd();
            if wanted {
                sys::watch_level(registry.as_raw_fd(), fd, self.token.0)?;
            } else {
                sys::uninterrupted(|| registry.deregister(&mut SourceFd(&fd.as_raw_fd())))?;
            }
            self.watched = wanted;
        }
        Ok(())
    }

    pub(super) fn accept(&self) -> Got {
        let accepted = match &self.socket {
            Socket::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (OwnedFd::from(stream), PeerAddr::Ip(peer)))
            }
            Socket::Unix(listener) => listener.accept().map(|(stream, _)| {
                let stream = OwnedFd::from(stream);
                let peer = sys::peer_credentials(stream.as_fd())
                    .map_or(PeerAddr::Unknown, |(pid, uid, gid)| PeerAddr::Unix { pid, uid, gid });
                (stream, peer)
            }),
        };
        match accepted {
            Ok((socket, peer)) => Got::Client(Accepted { socket, peer, settings: self.handle.settings() }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
            Err(error) if is_of_one_connection(&error) => Got::Lost,
            // No descriptor, no memory; or somebody else who has the socket has shut it down (EINVAL). What is not
            // known to be over with this attempt would be told of without end.
            Err(error) => Got::Failed(error),
        }
    }

    /// Takes it off the poller and closes it; or gives it back, to be tried again: another process may hold the same
    /// socket, and then the poller would tell of it without end, and nothing could take it off any more.
    pub(super) fn close(mut self, registry: &Registry) -> Result<(), Self> {
        self.watch(false, registry).map_err(|_| self)
    }
}

/// Whether what accept(2) says is about the connection that it would have given out, or about a signal, and says nothing
/// about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                // Errors of the network that are pending on the new connection: accept(2), "Error handling".
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT
        )
    )
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The session of an accepted connection.
pub(super) fn begin(accepted: Accepted, token: Token, core: &mut Core) -> io::Result<Session> {
    let Accepted { socket, peer, settings } = accepted;
    let is_tcp = matches!(peer, PeerAddr::Ip(_));
    // What was accepted with a request (TCP_DEFER_ACCEPT) is read at once; of the rest the poller tells.
    let deferred = is_tcp && matches!(settings.service, Service::Http(_));
    let ready = Readiness { read: deferred, write: true, hup: false };
    let info =
        ClientInfo { peer, listener: Arc::clone(&settings.name), tls: is_tls(&settings), identity: None };
    let hops = hops_left(socket.as_fd(), &info.peer);
    let stream = stream(socket, &settings)?;
    let mut client = core.link_as(stream, Owner::session(token, Side::Downstream), is_tcp, ready)?;
    client.hops = hops;
    let info = Box::new(info);
    #[cfg(feature = "tls")]
    if !matches!(client.stream, Stream::Plain(_)) {
        let session = HandshakeSession::new(client, info, settings, token, core.now);
        return Ok(Session::new(Kind::Handshake(Box::new(session))));
    }
    Ok(Session::new(serve(client, info, settings, token, core)))
}

/// The hops that an upstream's connection may have: as a router does, one less than the client's has left. So gateways that
/// lead to each other do not for ever. Somebody on another host who comes with the last hop has reasons of his own (BGP).
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

/// What a connection is for, once its bytes can be read.
pub(super) fn serve(
    client: End,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    token: Token,
    core: &Core,
) -> Kind {
    match settings.service.clone() {
        Service::Http(router) => {
            Kind::Http(Box::new(HttpSession::new(client, info, settings, router, token, core)))
        }
        Service::Forward(upstream) => {
            Kind::Forward(Box::new(ForwardSession::new(client, info, settings, &upstream, token, core)))
        }
    }
}

#[cfg(feature = "tls")]
fn is_tls(settings: &ListenerSettings) -> bool {
    settings.tls.is_some()
}

#[cfg(not(feature = "tls"))]
fn is_tls(_: &ListenerSettings) -> bool {
    false
}

#[cfg(feature = "tls")]
fn stream(socket: OwnedFd, settings: &ListenerSettings) -> io::Result<Stream> {
    match &settings.tls {
        Some(tls) => Ok(Stream::Tls(Box::new(tls.accept(socket)?))),
        None => Ok(Stream::Plain(socket)),
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unnecessary_wraps, reason = "with TLS it can fail")]
fn stream(socket: OwnedFd, _: &ListenerSettings) -> io::Result<Stream> {
    Ok(Stream::Plain(socket))
}
