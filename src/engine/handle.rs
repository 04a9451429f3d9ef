#![forbid(unsafe_code)]
//! [`Handle`]: speaks to an engine from anywhere.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::inbox::Inbox;
use super::observe::{OpenTunnel, Stats};
use super::service::{Listener, ListenerHandle};
use crate::sys::EventFd;

/// A client connection that was accepted, by the engine that owns the listener or by the host.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: super::PeerAddr,
    pub(super) settings: Arc<super::ListenerSettings>,
}

/// Two connected stream sockets to be joined, with what was read from each before.
#[derive(Debug)]
pub struct Pair {
    /// The client's connection.
    pub downstream: OwnedFd,
    /// The daemon's connection.
    pub upstream: OwnedFd,
    /// Bytes read from the client and not yet sent on.
    pub downstream_early: Vec<u8>,
    /// Bytes read from the daemon and not yet sent on.
    pub upstream_early: Vec<u8>,
    /// What the record of the tunnel calls the upstream.
    pub name: Arc<str>,
}

pub(super) enum Command {
    Listen(Listener),
    Close(ListenerHandle),
    Accepted(Accepted),
    Pair(Box<Pair>),
    Resolved(super::resolve::Resolved),
    Drain(Option<Duration>),
    Tunnels(Box<dyn FnOnce(Vec<OpenTunnel>) + Send>),
    Stop,
}

/// Counters of one engine: written by its thread, read by anybody.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) clients_now: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) own_replies: AtomicU64,
    pub(super) tunnels: AtomicU64,
    pub(super) tunnels_now: AtomicU64,
    pub(super) tunnel_bytes_up: AtomicU64,
    pub(super) tunnel_bytes_down: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) reuses: AtomicU64,
    pub(super) pooled_now: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) handshake_failures: AtomicU64,
    pub(super) accept_pauses: AtomicU64,
    pub(super) panics: AtomicU64,
}

impl Counters {
    /// So many upstream connections are unused now.
    pub(super) fn pooled(&self, n: usize) {
        self.pooled_now.store(n as u64, Ordering::Relaxed);
    }
}

/// Adds to a counter that one thread writes.
pub(super) fn count(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Takes from a counter that one thread writes.
pub(super) fn discount(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
}

pub(super) struct Shared {
    /// Closed when the engine is done.
    inbox: Inbox<Command>,
    bell: EventFd,
    pub(super) counters: Counters,
}

/// Speaks to an [`Engine`](super::Engine), from any thread, also after the engine is gone: then nothing happens.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(bell: EventFd) -> Self {
        let shared = Shared { inbox: Inbox::new(), bell, counters: Counters::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Serves a listener from the next turn on.
    pub fn listen(&self, listener: Listener) {
        self.send(Command::Listen(listener));
    }

    /// Closes a listener. Its connections live on; what waits in its backlog is refused by the kernel, unless
    /// another process holds the same socket.
    pub fn close(&self, listener: &ListenerHandle) {
        self.send(Command::Close(listener.clone()));
    }

    /// Joins two connected sockets. The engine owns them from now on, and makes them non-blocking.
    pub fn adopt(&self, pair: Pair) {
        self.send(Command::Pair(Box::new(pair)));
    }

    /// Stops: listeners are closed, idle client connections too, running requests finish, tunnels live on. What is
    /// left at `limit`, requests as well, is cut; without a limit nothing is. A second call shortens the limit.
    pub fn drain(&self, limit: Option<Duration>) {
        self.send(Command::Drain(limit));
    }

    /// Stops at once: everything is closed.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Has the engine list its open tunnels, at most 1000 of them. `reply` is called on the thread of the loop and must
    /// not block; it is dropped instead when the engine is done.
    pub fn tunnels(&self, reply: impl FnOnce(Vec<OpenTunnel>) + Send + 'static) {
        self.send(Command::Tunnels(Box::new(reply)));
    }

    /// Makes a waiting [`Engine::poll`](super::Engine::poll) return.
    ///
    /// # Errors
    /// When the kernel refuses the wake-up, each time that it is tried. The loop looks by itself within 10 s.
    pub fn wake(&self) -> io::Result<()> {
        self.shared.bell.signal()
    }

    /// Whether anybody else has a handle of this engine.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let c = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            accepted: get(&c.accepted),
            clients_now: get(&c.clients_now),
            requests: get(&c.requests),
            own_replies: get(&c.own_replies),
            tunnels: get(&c.tunnels),
            tunnels_now: get(&c.tunnels_now),
            tunnel_bytes_up: get(&c.tunnel_bytes_up),
            tunnel_bytes_down: get(&c.tunnel_bytes_down),
            connects: get(&c.connects),
            reuses: get(&c.reuses),
            pooled_now: get(&c.pooled_now),
            connect_failures: get(&c.connect_failures),
            handshakes: get(&c.handshakes),
            handshake_failures: get(&c.handshake_failures),
            accept_pauses: get(&c.accept_pauses),
            panics: get(&c.panics),
        }
    }

    /// Sends; what comes too late is dropped.
    pub(super) fn send(&self, command: Command) {
        drop(self.try_send(command));
    }

    /// Sends, or gives back what comes too late.
    pub(super) fn try_send(&self, command: Command) -> Result<(), Command> {
        self.shared.inbox.send(command, || self.wake())
    }

    /// What others have sent.
    pub(super) fn inbox(&self) -> &Inbox<Command> {
        &self.shared.inbox
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &self.stats()).finish()
    }
}
