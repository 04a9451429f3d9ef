#![forbid(unsafe_code)]
//! [`Stream`]: a connection, plain or TLS.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[cfg(feature = "tls")]
use super::tls::TlsStream;
use crate::drive::Transport;
use crate::sys;

/// A non-blocking connected stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(OwnedFd),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Returns whether the end that was read is the stream's own: with TLS, a close_notify and not
    /// only a FIN.
    pub(super) fn end_was_clean(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.end_was_clean(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(fd) => fd.as_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.as_fd(),
        }
    }
}

impl Transport for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(fd) => sys::recv(fd.as_fd(), buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buf),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(fd) => sys::send(fd.as_fd(), buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(fd) => sys::shutdown_write(fd.as_fd()),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.shutdown_write(),
        }
    }

    fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn is_plain(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }
}
