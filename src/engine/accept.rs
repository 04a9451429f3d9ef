#![forbid(unsafe_code)]
//! Listeners: accepting, pausing, and what an accepted connection becomes.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::core::{Core, End, Owner};
use super::forward::ForwardSession;
use super::handle::Accepted;
#[cfg(feature = "tls")]
use super::handshake::HandshakeSession;
use super::http::HttpSession;
use super::observe::{ClientInfo, PeerAddr};
use super::service::{Listener, ListenerHandle, ListenerSettings, Service};
use super::session::{Kind, Session};
use super::slab::Token;
use super::stream::Stream;
use crate::sys::{self, Keepalive};

/// How long a listener waits when there are no descriptors or no memory.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A client that vanished is noticed after 30 s + 6 x 10 s.
const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), probes: 6 };

/// A listener in the loop.
pub(super) struct Port {
    socket: Socket,
    pub(super) handle: ListenerHandle,
    /// Whether connections may be waiting.
    pub(super) ready: bool,
    /// Until when nothing is accepted.
    pub(super) paused: Option<Instant>,
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
    /// Takes a listener into the loop.
    pub(super) fn new(listener: Listener, token: mio::Token, registry: &Registry) -> io::Result<Self> {
        let Listener { socket, handle } = listener;
        if !sys::is_listening(socket.as_fd())? {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a listening stream socket"));
        }
        sys::set_nonblocking(socket.as_fd())?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        let socket = if sys::is_unix(socket.as_fd())? {
            Socket::Unix(mio::net::UnixListener::from_std(socket.into()))
        } else {
            // What is accepted inherits these, and costs no call of its own.
            let _ = sys::set_nodelay(socket.as_fd());
            let _ = sys::set_keepalive(socket.as_fd(), KEEPALIVE);
            Socket::Tcp(mio::net::TcpListener::from_std(socket.into()))
        };
        Ok(Self { socket, handle, ready: true, paused: None })
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
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Got::Failed(error),
                // The peer's business, or a firewall's: nothing that would stop the next one.
                _ => Got::Lost,
            },
        }
    }

    /// Takes it off the poller; dropped, it is closed.
    pub(super) fn close(self, registry: &Registry) {
        let fd = match &self.socket {
            Socket::Tcp(listener) => listener.as_raw_fd(),
            Socket::Unix(listener) => listener.as_raw_fd(),
        };
        // Another process may hold the same socket: then closing it here does not take it off.
        let _ = registry.deregister(&mut SourceFd(&fd));
    }
}

/// The session of an accepted connection.
pub(super) fn begin(accepted: Accepted, token: Token, core: &mut Core) -> io::Result<Session> {
    let Accepted { socket, peer, settings } = accepted;
    let interest = match peer {
        PeerAddr::Ip(_) => Interest::READABLE | Interest::WRITABLE,
        PeerAddr::Unix { .. } | PeerAddr::Unknown => Interest::READABLE,
    };
    let info =
        ClientInfo { peer, listener: Arc::clone(&settings.name), tls: is_tls(&settings), identity: None };
    let stream = stream(socket, &settings)?;
    let client = core.link_as(stream, Owner::Session(token), interest)?;
    let info = Box::new(info);
    #[cfg(feature = "tls")]
    if !matches!(client.stream, Stream::Plain(_)) {
        let session = HandshakeSession::new(client, info, settings, token, core.now);
        return Ok(Session::new(Kind::Handshake(Box::new(session))));
    }
    Ok(Session::new(serve(client, info, settings, token, core)))
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
