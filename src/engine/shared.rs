#![forbid(unsafe_code)]
//! [`Shared`]: what the sessions of one engine share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::EngineOptions;
use super::counters::Counters;
use super::drain::Drain;
use super::endpoint::Endpoint;
use super::handle::Handle;
use super::local_listeners::LocalListeners;
use super::observe::{Event, Observer};
use super::pool::{Pool, ShelfKey};
use super::resolve::Resolver;
use super::slab::{Slab, Token};
use super::stream::Stream;
use super::timers::Timers;
#[cfg(feature = "tls")]
use super::tls::ServerTls;
use crate::drive::Worker;
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// Who gets the events of a connection. Changing the owner takes no system call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// A session, by its token with the side.
    Session(Token),
    /// The pool of idle upstream connections, where it keeps this one.
    Pool(ShelfKey),
}

impl Owner {
    pub(super) fn session(token: Token, side: Side) -> Self {
        Self::Session(token.with_side(side))
    }
}

/// What the sessions of an engine share.
pub(super) struct Shared {
    pub(super) registry: Registry,
    pub(super) options: EngineOptions,
    /// Most client connections at a time.
    pub(super) capacity: usize,
    /// The owners of all connections that the poller watches.
    pub(super) links: Slab<Owner>,
    pub(super) timers: Timers,
    pub(super) pool: Pool,
    pub(super) worker: Worker,
    pub(super) resolver: Resolver,
    pub(super) local_listeners: LocalListeners,
    pub(super) handle: Handle,
    /// The engines among which accepted connections are spread, including this one; empty for an
    /// engine on its own.
    pub(super) peers: Arc<[Handle]>,
    pub(super) observer: Arc<dyn Observer>,
    /// When the engine was made.
    pub(super) origin: Instant,
    /// When the present turn began.
    pub(super) now: Instant,
    pub(super) drain: Drain,
}

impl Shared {
    pub(super) fn report(&self, event: &Event<'_>) {
        self.observer.event(event);
    }

    pub(super) fn counters(&self) -> &Counters {
        self.handle.counters()
    }

    /// Registers a connection with the poller. Its events go to `owner`.
    pub(super) fn link(&mut self, stream: Stream, owner: Owner) -> io::Result<Endpoint> {
        let is_tcp = !sys::is_unix(stream.as_fd())?;
        self.link_as(stream, owner, is_tcp, Readiness::ALL)
    }

    /// Like [`link`](Self::link), for a connection whose kind and readiness are known.
    pub(super) fn link_as(
        &mut self,
        stream: Stream,
        owner: Owner,
        is_tcp: bool,
        ready: Readiness,
    ) -> io::Result<Endpoint> {
        // Writability would be an event at once, and on a Unix socket each time that the peer
        // reads. So it is watched only after a write has blocked.
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if ready.write { Interest::READABLE } else { both };
        let link = self.links.insert(owner);
        let fd = stream.as_fd().as_raw_fd();
        let register = || self.registry.register(&mut SourceFd(&fd), link.into(), interest);
        if let Err(error) = sys::uninterrupted(register) {
            self.links.remove(link);
            return Err(error);
        }
        Ok(Endpoint { stream, link, is_tcp, watches_write: !ready.write, ready, hops: None })
    }

    /// Drops the events of a connection from now on. Closing its descriptor removes it from the
    /// poller.
    pub(super) fn unlink(&mut self, endpoint: Endpoint) -> Stream {
        self.links.remove(endpoint.link);
        endpoint.stream
    }

    /// Starts TLS as the server of a client that is linked.
    #[cfg(feature = "tls")]
    pub(super) fn start_tls(&mut self, client: Endpoint, tls: &ServerTls) -> io::Result<Endpoint> {
        let link = client.link;
        let started = client.into_tls_server(tls);
        if started.is_err() {
            self.links.remove(link);
        }
        started
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, endpoint: Endpoint) {
        drop(self.unlink(endpoint));
    }

    /// Drops the events of all connections of a session that has lost them by a panic.
    pub(super) fn unlink_session(&mut self, session: Token) {
        let session = session.with_side(Side::Downstream);
        let is_owned = |owner: &Owner| match owner {
            Owner::Session(token) => token.with_side(Side::Downstream) == session,
            Owner::Pool(_) => false,
        };
        let lost = self.links.iter_mut().filter(|(_, owner)| is_owned(owner)).map(|(link, _)| link);
        for link in lost.collect::<Vec<Token>>() {
            self.links.remove(link);
        }
    }

    /// Gives a connection to another owner.
    pub(super) fn give(&mut self, endpoint: &Endpoint, owner: Owner) {
        if let Some(present) = self.links.get_mut(endpoint.link) {
            *present = owner;
        }
    }

    /// Makes the poller report writability of a connection, too.
    pub(super) fn watch_write(&self, fd: BorrowedFd<'_>, link: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        sys::uninterrupted(|| self.registry.reregister(&mut SourceFd(&fd.as_raw_fd()), link.into(), both))
    }

    /// Notes an event of an idle upstream connection. After its end, or after bytes without a
    /// request, it is of no further use, and is closed.
    pub(super) fn note_idle(&mut self, shelf: ShelfKey, link: Token, ready: Readiness) {
        if let Some(endpoint) = self.pool.note(shelf, link, ready) {
            self.close(endpoint);
            self.count_idle();
        }
    }

    /// Closes the idle upstream connections that have been kept long enough.
    pub(super) fn close_expired(&mut self) {
        if let Some(expired) = self.pool.take_expired(self.now) {
            expired.into_iter().for_each(|endpoint| self.close(endpoint));
            self.count_idle();
        }
    }

    /// Closes all idle upstream connections.
    pub(super) fn close_pool(&mut self) {
        for endpoint in self.pool.take_all() {
            self.close(endpoint);
        }
        self.count_idle();
    }

    /// Publishes the size of the pool.
    pub(super) fn count_idle(&self) {
        self.counters().pooled_now.set(self.pool.len() as u64);
    }

    /// Counts a client connection as ended.
    pub(super) fn client_ended(&self) {
        if self.counters().clients_now.decrement() == self.capacity as u64 {
            // There is room again: the owners of listeners that wait for it have to know. One that
            // the kernel does not let us wake looks by itself (`LONGEST_SLEEP`).
            for peer in &*self.peers {
                let _ = peer.wake();
            }
        }
    }
}
