#![forbid(unsafe_code)]
//! [`Endpoint`]: a connection that the poller knows, with its readiness.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use super::shared::Shared;
use super::slab::Token;
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::{ClientTls, Handshake};
use crate::drive::Transport;
use crate::relay::Readiness;

/// A connection that the poller knows, with its readiness.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) stream: Stream,
    pub(super) link: Token,
    pub(super) is_tcp: bool,
    /// Whether the poller reports writability.
    pub(super) watches_write: bool,
    pub(super) ready: Readiness,
    /// Of a client's connection: the hops (TTL) for the connection to its upstream, if known; zero
    /// if there may be none.
    pub(super) hops: Option<u8>,
}

impl Endpoint {
    /// Notes an event of the poller.
    pub(super) fn note(&mut self, ready: Readiness) {
        self.ready.note(ready);
    }

    /// Reads what is there; `None` if a read would block.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buf) {
            Ok(n) => {
                if n > 0 && n < buf.len() && self.stream.is_plain() {
                    self.ready.short_read();
                }
                Ok(Some(n))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.read_blocked();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what fits. Returns how much that was; zero if nothing fits.
    pub(super) fn write(&mut self, bytes: &[u8], shared: &Shared) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Ok(n) => {
                if n < bytes.len() && self.stream.is_plain() {
                    self.blocked(shared)?;
                }
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(shared)?;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what a TLS stream has kept. Returns whether all of it has left.
    pub(super) fn flush(&mut self, shared: &Shared) -> io::Result<bool> {
        if self.stream.is_flushed() {
            return Ok(true);
        }
        let result = self.stream.flush();
        self.unless_blocked(result, shared)
    }

    /// Half-closes. Returns whether the end has left.
    pub(super) fn shut_write(&mut self, shared: &Shared) -> io::Result<bool> {
        let result = self.stream.shutdown_write();
        self.unless_blocked(result, shared)
    }

    fn unless_blocked(&mut self, result: io::Result<()>, shared: &Shared) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(shared)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that a write blocked, and watches for writability from now on.
    pub(super) fn blocked(&mut self, shared: &Shared) -> io::Result<()> {
        self.ready.write_blocked();
        if !self.watches_write {
            shared.watch_write(self.as_fd(), self.link)?;
            self.watches_write = true;
        }
        Ok(())
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(feature = "tls")]
impl Endpoint {
    /// Takes the TLS handshake as far as it goes. Returns whether it is done.
    pub(super) fn handshake(&mut self, shared: &Shared) -> io::Result<bool> {
        let Stream::Tls(stream) = &mut self.stream else { return Ok(true) };
        match stream.handshake()? {
            Handshake::Done => {
                // What came with the last message of the handshake is in the stream; no event will
                // report it.
                self.ready = Readiness::ALL;
                Ok(true)
            }
            Handshake::WantsRead => {
                self.ready.read_blocked();
                Ok(false)
            }
            Handshake::WantsWrite => {
                self.blocked(shared)?;
                Ok(false)
            }
        }
    }

    /// Starts TLS as the client of an upstream with the name `host`.
    pub(super) fn into_tls_client(self, tls: &ClientTls, host: &str) -> io::Result<Self> {
        let stream = match self.stream {
            Stream::Plain(socket) => Stream::Tls(Box::new(tls.connect(socket, host)?)),
            stream @ Stream::Tls(_) => stream,
        };
        Ok(Self { stream, ..self })
    }
}
