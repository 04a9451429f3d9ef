#![forbid(unsafe_code)]
//! [`Transport`]: the byte streams that a relay joins.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// One side of a relay: a non-blocking byte stream.
///
/// Errors: [`io::ErrorKind::WouldBlock`] means "not now"; of a write, [`io::ErrorKind::BrokenPipe`]
/// means "the peer takes no more, but may still send"; everything else is a failed connection.
///
/// A stream that encodes what it is given (TLS) may keep bytes that it has taken until the socket
/// takes them. It bounds what it keeps by itself: further writes fail with `WouldBlock`.
pub trait Transport {
    /// Reads into `buf`, which is never empty. `Ok(0)` is the end of the stream: FIN, or
    /// close_notify.
    ///
    /// # Errors
    /// See the trait.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of `buf`, which is never empty. Never returns `Ok(0)`.
    ///
    /// # Errors
    /// See the trait.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize>;

    /// Half-closes: FIN, or close_notify. Called once, after the last byte was taken; again only
    /// after `WouldBlock`. `Ok` means that the end, and all that was kept before it, has gone to
    /// the socket.
    ///
    /// # Errors
    /// See the trait.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Returns whether everything that was taken has gone to the socket.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Sends what is kept. `WouldBlock` means that some of it still is: wait until the socket is
    /// writable.
    ///
    /// # Errors
    /// See the trait.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Returns the socket below, for checking whether the peer is gone and for setting how it
    /// closes; `None` if there is none.
    fn socket(&self) -> Option<BorrowedFd<'_>>;

    /// Returns whether the bytes of this stream are those of [`Transport::socket`], so that
    /// splice(2) may move them.
    fn is_plain(&self) -> bool;
}

/// A plain socket: TCP or Unix. Owned or borrowed, as `F` is.
#[derive(Debug)]
pub struct Socket<F>(F);

impl<F: AsFd> Socket<F> {
    /// Makes a relay side of a non-blocking stream socket.
    pub fn new(socket: F) -> Self {
        Self(socket)
    }

    /// Returns the socket.
    pub fn into_inner(self) -> F {
        self.0
    }
}

impl<F: AsFd> Transport for Socket<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        sys::recv(self.0.as_fd(), buf)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        sys::send(self.0.as_fd(), buf)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        sys::shutdown_write(self.0.as_fd())
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn is_plain(&self) -> bool {
        true
    }
}
