#![forbid(unsafe_code)]
//! [`ActiveListener`]: a listening socket in the loop.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Registry;
use mio::unix::SourceFd;

use crate::engine::handle::Accepted;
use crate::engine::local_listeners::Registered;
use crate::engine::observe::{Event, PeerAddr};
use crate::engine::service::{Listener, ListenerHandle};
use crate::engine::shared::Shared;
use crate::sys;

/// How long a listener pauses when there are no descriptors or no memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket in the loop.
pub(super) struct ActiveListener {
    socket: Socket,
    token: mio::Token,
    handle: ListenerHandle,
    /// Whether the poller watches it (level-triggered).
    watched: bool,
    /// Whether connections were waiting at the beginning of this turn.
    ready: bool,
    /// How many connections to accept in a turn: doubled for as long as there are more.
    batch: usize,
    paused_until: Option<Instant>,
    _registered: Registered,
}

enum Socket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// What an attempt to accept a connection came to.
pub(super) enum AcceptResult {
    Client(Accepted),
    /// The connection was gone before it was accepted; there may be others.
    Lost,
    /// No connection waits.
    Nothing,
    Failed(io::Error),
}

impl ActiveListener {
    /// Prepares a listener for the loop. It is not watched yet.
    pub(super) fn new(listener: Listener, token: mio::Token, shared: &Shared) -> io::Result<Self> {
        let Listener { socket, handle } = listener;
        if !sys::is_listening(socket.as_fd())? {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a listening stream socket"));
        }
        sys::set_nonblocking(socket.as_fd())?;
        let registered = shared.local_listeners.add(socket.as_fd());
        let socket = if sys::is_unix(socket.as_fd())? {
            Socket::Unix(mio::net::UnixListener::from_std(socket.into()))
        } else {
            // Accepted connections inherit these options, at no cost of their own.
            let _ = sys::set_nodelay(socket.as_fd());
            let _ = sys::set_keepalive(socket.as_fd());
            let _ = sys::save_syn(socket.as_fd());
            if handle.settings().client_speaks_first() {
                // The kernel reports a connection once it has.
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
            paused_until: None,
            _registered: registered,
        })
    }

    pub(super) fn has_handle(&self, handle: &ListenerHandle) -> bool {
        self.handle.is_same(handle)
    }

    /// Notes an event of the poller: connections wait.
    pub(super) fn note(&mut self) {
        self.ready = true;
    }

    /// Returns how many connections may be accepted in this turn, at most `most`.
    pub(super) fn begin_turn(&mut self, most: usize) -> usize {
        if !std::mem::take(&mut self.ready) {
            self.batch = 1;
            return 0;
        }
        let batch = self.batch;
        self.batch = (batch * 2).min(most.max(1));
        batch
    }

    pub(super) fn accept(&self) -> AcceptResult {
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
            Ok((socket, peer)) => {
                AcceptResult::Client(Accepted { socket, peer, settings: self.handle.settings() })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => AcceptResult::Nothing,
            Err(error) if is_of_one_connection(&error) => AcceptResult::Lost,
            // No descriptor, no memory; or another process that has the same socket has shut it
            // down (EINVAL). An error that may last would be reported without end, so the listener
            // pauses.
            Err(error) => AcceptResult::Failed(error),
        }
    }

    /// Stops accepting for a moment, and reports why.
    pub(super) fn pause(&mut self, error: &io::Error, shared: &Shared) {
        self.paused_until = Some(shared.now + PAUSE);
        let settings = self.handle.settings();
        shared.report(&Event::AcceptFailed { listener: &settings.name, error, paused: true });
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Watches the socket, or stops watching it while nothing can be accepted: that must not wake
    /// the loop.
    pub(super) fn update_watch(&mut self, is_full: bool, shared: &Shared) {
        if self.paused_until.is_some_and(|until| until <= shared.now) {
            self.paused_until = None;
        }
        let wanted = self.paused_until.is_none() && !is_full;
        if let Err(error) = self.watch(wanted, &shared.registry) {
            self.pause(&error, shared);
        }
    }

    fn watch(&mut self, wanted: bool, registry: &Registry) -> io::Result<()> {
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

    /// Removes the listener from the poller and closes it; gives it back if the poller refuses, to
    /// be tried again. Another process may hold the same socket: closed without being removed, it
    /// would wake the loop for ever, and could not be removed any more.
    pub(super) fn close(mut self, registry: &Registry) -> Result<(), Self> {
        self.watch(false, registry).map_err(|_| self)
    }
}

/// Returns whether an error of accept(2) concerns only the connection that it would have returned,
/// or a signal, and implies nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                // Errors of the network that are pending on the new connection: accept(2), "Error
                // handling".
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

impl AsFd for ActiveListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}
