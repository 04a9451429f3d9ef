#![forbid(unsafe_code)]
//! [`Core`]: what the sessions of an engine share.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::EngineOptions;
use super::handle::Handle;
use super::observe::{Event, Observer};
use super::own::Own;
use super::pool::Pool;
use super::resolve::Resolver;
use super::slab::{Slab, Token};
use super::stream::Stream;
use super::timers::Timers;
#[cfg(feature = "tls")]
use super::tls::{ClientTls, Handshake};
use crate::drive::{Transport, Worker};
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// Whose events the token of a socket stands for: a session's, on the side that it says; or, of an unused upstream
/// connection, nobody's. It changes hands without a system call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(Token);

impl Owner {
    /// The pool of unused upstream connections.
    pub(super) const POOL: Self = Self(Token::NOTHING);

    pub(super) fn session(token: Token, side: Side) -> Self {
        Self(token.with_side(side))
    }

    /// The session, with the side; `None`: the pool.
    pub(super) fn token(self) -> Option<Token> {
        (self.0 != Token::NOTHING).then_some(self.0)
    }
}

/// What the sessions of an engine share.
pub(super) struct Core {
    pub(super) registry: Registry,
    pub(super) options: EngineOptions,
    pub(super) links: Slab<Owner>,
    pub(super) timers: Timers,
    pub(super) pool: Pool,
    pub(super) worker: Worker,
    pub(super) resolver: Resolver,
    pub(super) own: Own,
    pub(super) handle: Handle,
    pub(super) observer: Arc<dyn Observer>,
    /// When the engine was made.
    pub(super) origin: Instant,
    /// When the present turn began.
    pub(super) now: Instant,
    /// Until when tunnels may live, once the engine drains; the inner `None`: until they end.
    pub(super) draining: Option<Option<Instant>>,
}

impl Core {
    pub(super) fn report(&self, event: &Event<'_>) {
        self.observer.event(event);
    }

    /// Tells the poller of a connection, whose events go to `owner`.
    pub(super) fn link(&mut self, stream: Stream, owner: Owner) -> io::Result<End> {
        let is_tcp = !sys::is_unix(stream.as_fd())?;
        self.link_as(stream, owner, is_tcp, Readiness::ALL)
    }

    /// The same, for whom knows what it is and what it is ready for.
    pub(super) fn link_as(
        &mut self,
        stream: Stream,
        owner: Owner,
        is_tcp: bool,
        ready: Readiness,
    ) -> io::Result<End> {
        // What takes bytes would be an event at once, and on a Unix socket each time that its peer reads. So it is
        // watched for that only after it has refused some.
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if ready.write { Interest::READABLE } else { both };
        let token = self.links.insert(owner);
        let fd = stream.as_fd().as_raw_fd();
        let register = || self.registry.register(&mut SourceFd(&fd), token.into(), interest);
        if let Err(error) = sys::uninterrupted(register) {
            self.links.remove(token);
            return Err(error);
        }
        Ok(End { stream, link: token, is_tcp, watches_write: !ready.write, ready, hops: None })
    }

    /// Forgets the events of a connection. Closing its descriptor takes it off the poller.
    pub(super) fn unlink(&mut self, end: End) -> Stream {
        self.links.remove(end.link);
        end.stream
    }

    pub(super) fn give(&mut self, end: &End, owner: Owner) {
        if let Some(present) = self.links.get_mut(end.link) {
            *present = owner;
        }
    }
}

/// A connection that the poller knows, and what it is ready for.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: Stream,
    pub(super) link: Token,
    pub(super) is_tcp: bool,
    /// Whether the poller tells when it takes bytes again.
    pub(super) watches_write: bool,
    pub(super) ready: Readiness,
    /// What a client's connection leaves the one to its upstream of hops (TTL), if that is known; zero: there may be none.
    pub(super) hops: Option<u8>,
}

impl End {
    /// The poller saw something.
    pub(super) fn note(&mut self, ready: Readiness) {
        self.ready.read |= ready.read || ready.hup;
        self.ready.write |= ready.write || ready.hup;
        self.ready.hup |= ready.hup;
    }

    /// Reads what is there; `None` if nothing is.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buf) {
            Ok(n) => {
                // A short read proves that a plain socket is dry, unless its peer has ended: no event would follow.
                if n > 0 && n < buf.len() && self.stream.is_plain() && !self.ready.hup {
                    self.ready.read = false;
                }
                Ok(Some(n))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.read = false;
                self.ready.hup = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what fits; zero if nothing does.
    pub(super) fn write(&mut self, bytes: &[u8], core: &Core) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Ok(n) => {
                if n < bytes.len() && self.stream.is_plain() {
                    self.blocked(core)?;
                }
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(core)?;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what a TLS stream keeps; says whether all has left.
    pub(super) fn flush(&mut self, core: &Core) -> io::Result<bool> {
        if self.stream.is_flushed() {
            return Ok(true);
        }
        match self.stream.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(core)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Half-closes; says whether that has left.
    pub(super) fn shut_write(&mut self, core: &Core) -> io::Result<bool> {
        match self.stream.shutdown_write() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(core)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// It takes nothing now: from here on it is watched for that.
    pub(super) fn blocked(&mut self, core: &Core) -> io::Result<()> {
        self.ready.write = false;
        self.watch_write(core)
    }

    pub(super) fn watch_write(&mut self, core: &Core) -> io::Result<()> {
        if self.watches_write {
            return Ok(());
        }
        watch_write(self.as_fd(), self.link, core)?;
        self.watches_write = true;
        Ok(())
    }
}

/// Has the poller tell when a connection takes bytes again, too.
pub(super) fn watch_write(fd: BorrowedFd<'_>, link: Token, core: &Core) -> io::Result<()> {
    let both = Interest::READABLE | Interest::WRITABLE;
    sys::uninterrupted(|| core.registry.reregister(&mut SourceFd(&fd.as_raw_fd()), link.into(), both))
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(feature = "tls")]
impl End {
    /// Takes the handshake as far as it goes; says whether it is done.
    pub(super) fn handshake(&mut self, core: &Core) -> io::Result<bool> {
        let Stream::Tls(stream) = &mut self.stream else { return Ok(true) };
        match stream.handshake()? {
            Handshake::Done => {
                // What came with the last of it is in the stream, and no event will tell.
                self.ready = Readiness::ALL;
                Ok(true)
            }
            Handshake::WantsRead => {
                self.ready.read = false;
                Ok(false)
            }
            Handshake::WantsWrite => {
                self.blocked(core)?;
                Ok(false)
            }
        }
    }

    /// Begins to speak TLS with an upstream that is known as `host`.
    pub(super) fn into_tls_client(self, tls: &ClientTls, host: &str) -> Result<Self, io::Error> {
        let Self { stream, link, is_tcp, watches_write, ready, hops } = self;
        let stream = match stream {
            Stream::Plain(socket) => Stream::Tls(Box::new(tls.connect(socket, host)?)),
            stream @ Stream::Tls(_) => stream,
        };
        Ok(Self { stream, link, is_tcp, watches_write, ready, hops })
    }
}
