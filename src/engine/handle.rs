#![forbid(unsafe_code)]
//! [`Handle`]: controls an engine from any thread.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counters, Stats};
use super::decider::Decided;
use super::inbox::Inbox;
use super::observe::{ClientInfo, OpenTunnel, PeerAddr};
use super::resolve::Resolved;
use super::service::{Listener, ListenerHandle, ListenerSettings, Upstream};
use crate::sys::EventFd;

/// An accepted client connection, on its way to the engine that serves it.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) peer: PeerAddr,
    pub(super) settings: Arc<ListenerSettings>,
}

/// Two connected stream sockets to be joined, with the bytes that were read from each of them
/// before.
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
    /// The name of the upstream in the record of the tunnel.
    pub name: Arc<str>,
}

/// What [`Handle::kill`] ends.
#[derive(Clone, Debug)]
pub enum Kill {
    /// The tunnel with this [`id`](OpenTunnel::id).
    Tunnel(u64),
    /// All that goes to this upstream.
    Upstream(Arc<Upstream>),
    /// All that goes by the route with this name.
    Route(Arc<str>),
    /// All of the clients with this [identity](ClientInfo::identity).
    Identity(Arc<str>),
    /// All that came through the listener with this name.
    Listener(Arc<str>),
}

impl Kill {
    /// Returns whether a request or tunnel is meant by what it has in common with others.
    pub(super) fn means(
        &self,
        client: &ClientInfo,
        upstream: Option<&Arc<Upstream>>,
        route: Option<&str>,
    ) -> bool {
        match self {
            Self::Tunnel(_) => false,
            Self::Upstream(meant) => upstream.is_some_and(|upstream| Arc::ptr_eq(upstream, meant)),
            Self::Route(meant) => route == Some(meant),
            Self::Identity(meant) => client.identity.as_deref() == Some(meant),
            Self::Listener(meant) => client.listener == *meant,
        }
    }
}

/// What other threads ask of an engine.
pub(super) enum Command {
    Listen(Listener),
    Close(ListenerHandle),
    Accepted(Accepted),
    Pair(Box<Pair>),
    Resolved(Resolved),
    Decided(Box<Decided>),
    Drain(Option<Duration>),
    Tunnels(Box<dyn FnOnce(Vec<OpenTunnel>) + Send>),
    Kill(Kill, Box<dyn FnOnce(usize) + Send>),
    Stop,
}

/// What the handles of an engine have in common.
struct Inner {
    /// Closed once the engine is done.
    inbox: Inbox<Command>,
    waker: EventFd,
    counters: Counters,
}

/// Controls an [`Engine`](super::Engine) from any thread. After the engine is gone, calls have no
/// effect.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

impl Handle {
    pub(super) fn new(waker: EventFd) -> Self {
        let inner = Inner { inbox: Inbox::new(), waker, counters: Counters::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Serves a listener from the next turn on.
    pub fn listen(&self, listener: Listener) {
        self.send(Command::Listen(listener));
    }

    /// Closes a listener. Its connections live on; the kernel refuses those that wait in its
    /// backlog, unless another process holds the same socket.
    pub fn close(&self, listener: &ListenerHandle) {
        self.send(Command::Close(listener.clone()));
    }

    /// Joins two connected sockets. The engine takes ownership and makes them non-blocking.
    pub fn adopt(&self, pair: Pair) {
        self.send(Command::Pair(Box::new(pair)));
    }

    /// Drains the engine: closes listeners and idle client connections, lets running requests
    /// finish and tunnels live on. What is left at `limit`, requests included, is cut; without a
    /// limit nothing is. A second call can shorten the limit.
    pub fn drain(&self, limit: Option<Duration>) {
        self.send(Command::Drain(limit));
    }

    /// Stops the engine at once: everything is closed.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Lists the open tunnels, at most 1000 of them. `reply` is called on the thread of the loop
    /// and must not block; it is dropped without a call if the engine is done.
    pub fn tunnels(&self, reply: impl FnOnce(Vec<OpenTunnel>) + Send + 'static) {
        self.send(Command::Tunnels(Box::new(reply)));
    }

    /// Ends tunnels, and requests in flight, in the next turn of the loop. `reply` is called with
    /// how many there were, as that of [`Handle::tunnels`] is.
    ///
    /// Both ends of a tunnel are reset. The client of a request gets a 503 if it has nothing of a
    /// response yet; otherwise the response is cut, so that it does not look whole. Either way the
    /// upstream's connection is closed and the record has [`Cause::Killed`]. Connections of clients
    /// that are between requests stay open.
    ///
    /// [`Cause::Killed`]: crate::error::Cause::Killed
    pub fn kill(&self, kill: Kill, reply: impl FnOnce(usize) + Send + 'static) {
        self.send(Command::Kill(kill, Box::new(reply)));
    }

    /// Makes a waiting [`Engine::poll`](super::Engine::poll) return.
    ///
    /// # Errors
    /// If the kernel refuses the wake-up, each time that it is tried. The loop then looks within 10
    /// s by itself.
    pub fn wake(&self) -> io::Result<()> {
        self.inner.waker.signal()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.counters.stats()
    }

    /// Returns whether anybody else has a handle of this engine.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Returns how many clients the engine has, including those that are on their way to it.
    pub(super) fn load(&self) -> u64 {
        self.inner.counters.clients_now.get()
    }

    /// Sends a command; drops one that comes too late.
    pub(super) fn send(&self, command: Command) {
        drop(self.try_send(command));
    }

    /// Sends a command, or gives one back that comes too late.
    pub(super) fn try_send(&self, command: Command) -> Result<(), Command> {
        self.inner.inbox.send(command, || self.wake())
    }

    pub(super) fn inbox(&self) -> &Inbox<Command> {
        &self.inner.inbox
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &self.stats()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_means_what_has_its_name_or_its_upstream() {
        let upstream = |name: &str| Arc::new(Upstream::new(name, Vec::new()));
        let (own, namesake) = (upstream("docker"), upstream("docker"));
        let client = |identity: Option<&str>| ClientInfo {
            tls: true,
            identity: identity.map(Arc::from),
            ..ClientInfo::new(PeerAddr::Unknown, "lan")
        };
        let means = |kill: Kill| kill.means(&client(Some("alice")), Some(&own), Some("app"));
        for kill in [
            Kill::Upstream(Arc::clone(&own)),
            Kill::Route("app".into()),
            Kill::Identity("alice".into()),
            Kill::Listener("lan".into()),
        ] {
            assert!(means(kill.clone()), "{kill:?}");
            let is_known = !matches!(kill, Kill::Listener(_));
            assert!(!(is_known && kill.means(&client(None), None, None)), "{kill:?}");
        }
        for kill in [
            Kill::Tunnel(1),
            Kill::Upstream(namesake),
            Kill::Route("ap".into()),
            Kill::Identity("ALICE".into()),
            Kill::Listener("".into()),
        ] {
            assert!(!means(kill.clone()), "{kill:?}");
        }
    }
}
