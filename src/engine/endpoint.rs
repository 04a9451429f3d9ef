#![forbid(unsafe_code)]
//! [`Endpoint`]: a connection that the poller knows, with its readiness.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use super::shared::Shared;
use super::slab::Token;
use super::stream::Stream;
#[cfg(feature = "tls")]
use super::tls::{ClientTls, Handshake, ServerTls};
use crate::drive::{Filled, Lane, Transport, Worker};
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

    /// Reads once into the scratch buffer of the worker.
    pub(super) fn read(&mut self, lane: &mut Lane, worker: &mut Worker) -> io::Result<Filled> {
        let result = lane.read(&mut self.stream, worker);
        self.filled(result)
    }

    /// Splices up to `most` bytes into a pipe of the lane. Returns `None` if that is not possible
    /// now: read instead.
    pub(super) fn fill_pipe(
        &mut self,
        lane: &mut Lane,
        most: usize,
        worker: &mut Worker,
    ) -> Option<io::Result<Filled>> {
        lane.fill_pipe(&mut self.stream, most, worker).map(|result| self.filled(result))
    }

    fn filled(&mut self, result: io::Result<Filled>) -> io::Result<Filled> {
        match result {
            Ok(Filled::Bytes { short: true, .. }) => self.ready.short_read(),
            Ok(Filled::Blocked) => self.ready.read_blocked(),
            // An end stays readable: no event would tell a tunnel of it again.
            Ok(Filled::Bytes { short: false, .. } | Filled::End) | Err(_) => {}
        }
        result
    }

    /// Returns whether there is nothing to read, not even an end.
    pub(super) fn is_silent(&mut self) -> bool {
        if self.ready.hup || !self.ready.read {
            return !self.ready.hup;
        }
        let blocks = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let is_silent = self.stream.read(&mut [0]).is_err_and(|error| blocks(&error));
        if is_silent {
            self.ready.read_blocked();
        }
        is_silent
    }

    /// Writes once what the lane holds. Returns how many bytes that took; zero if nothing fits.
    pub(super) fn deliver(&mut self, lane: &mut Lane, shared: &mut Shared) -> io::Result<usize> {
        let result = lane.deliver(&mut self.stream, &mut shared.worker);
        self.unless_blocked(result, 0, shared)
    }

    /// Writes what fits. Returns how much that was; zero if nothing fits.
    pub(super) fn write(&mut self, bytes: &[u8], shared: &Shared) -> io::Result<usize> {
        let result = self.stream.write(bytes);
        let n = self.unless_blocked(result, 0, shared)?;
        if n > 0 && n < bytes.len() && self.stream.is_plain() {
            self.blocked(shared)?;
        }
        Ok(n)
    }

    /// Sends what a TLS stream has kept. Returns whether all of it has left.
    pub(super) fn flush(&mut self, shared: &Shared) -> io::Result<bool> {
        if self.stream.is_flushed() {
            return Ok(true);
        }
        let result = self.stream.flush().map(|()| true);
        self.unless_blocked(result, false, shared)
    }

    /// Half-closes. Returns whether the end has left.
    pub(super) fn shut_write(&mut self, shared: &Shared) -> io::Result<bool> {
        let result = self.stream.shutdown_write().map(|()| true);
        self.unless_blocked(result, false, shared)
    }

    /// Returns `nothing` for the result of a write that blocked.
    fn unless_blocked<T>(&mut self, result: io::Result<T>, nothing: T, shared: &Shared) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked(shared)?;
                Ok(nothing)
            }
            other => other,
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

    /// Starts TLS as the server of a client.
    pub(super) fn into_tls_server(self, tls: &ServerTls) -> io::Result<Self> {
        let stream = match self.stream {
            Stream::Plain(socket) => Stream::Tls(Box::new(tls.accept(socket)?)),
            stream @ Stream::Tls(_) => stream,
        };
        Ok(Self { stream, ..self })
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
