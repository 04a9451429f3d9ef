#![forbid(unsafe_code)]
//! [`Stream`]: TLS for a thread that may wait.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dockline::drive::Transport;
use dockline::engine::tls::{ClientTls, Handshake, ServerTls, TlsStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Limit for a handshake, and for a peer to take a part of what is sent.
const STEP: Duration = Duration::from_secs(10);

/// What [`Stream::wait`] has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The peer has sent something, or has gone.
    Peer,
    /// The other descriptor is readable.
    Other,
    /// Nothing happened in time.
    Timeout,
}

/// A TLS connection with time limits for all that waits.
pub(super) struct Stream {
    tls: TlsStream,
}

impl Stream {
    /// Makes the server's side of an accepted connection. Returns after the handshake.
    pub(super) fn accept(tls: &ServerTls, socket: TcpStream) -> io::Result<Self> {
        prepare(&socket)?;
        Self::begin(tls.accept(socket.into())?)
    }

    /// Makes the client's side of a connection to `host`. Returns after the handshake.
    pub(super) fn connect(tls: &ClientTls, host: &str, socket: TcpStream) -> io::Result<Self> {
        prepare(&socket)?;
        Self::begin(tls.connect(OwnedFd::from(socket), host)?)
    }

    fn begin(tls: TlsStream) -> io::Result<Self> {
        let mut stream = Self { tls };
        let deadline = now() + STEP;
        loop {
            let flags = match stream.tls.handshake()? {
                Handshake::Done => return Ok(stream),
                Handshake::WantsRead => PollFlags::IN,
                Handshake::WantsWrite => PollFlags::OUT,
            };
            stream.poll(flags, deadline)?;
        }
    }

    /// Returns the peer's certificate, in DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.peer_certificate()
    }

    /// Sends all bytes.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut deadline = now() + STEP;
        while !bytes.is_empty() || !self.tls.is_flushed() {
            let sent = if bytes.is_empty() { self.tls.flush().map(|()| 0) } else { self.tls.write(bytes) };
            match sent {
                Ok(n) => {
                    bytes = &bytes[n..];
                    // There may be a lot of it, and the way may be slow.
                    if n > 0 {
                        deadline = now() + STEP;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.poll(PollFlags::OUT, deadline)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives some bytes; 0 is the end of the stream. [`ErrorKind::TimedOut`] after `limit`.
    pub(super) fn receive(&mut self, buf: &mut [u8], limit: Duration) -> io::Result<usize> {
        let deadline = now() + limit;
        loop {
            match self.tls.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.poll(PollFlags::IN, deadline)?,
                result => return result,
            }
        }
    }

    /// Receives what is there, without waiting; `None`: nothing.
    pub(super) fn receive_now(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.tls.read(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the peer has sent something or `other` is readable, at most for `limit`. To be
    /// called after [`Stream::receive_now`] has returned `None`: bytes that the TLS library keeps
    /// wake nobody.
    pub(super) fn wait(&self, other: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
        let mut fds =
            [PollFd::from_borrowed_fd(self.socket()?, PollFlags::IN), PollFd::new(&other, PollFlags::IN)];
        let count = match poll(&mut fds, Some(&timespec(limit))) {
            Err(rustix::io::Errno::INTR) => 0,
            count => count?,
        };
        Ok(match count {
            0 => Woken::Timeout,
            _ if !fds[0].revents().is_empty() => Woken::Peer,
            _ => Woken::Other,
        })
    }

    fn socket(&self) -> io::Result<BorrowedFd<'_>> {
        self.tls.socket().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn poll(&self, flags: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::from_borrowed_fd(self.socket()?, flags)];
        match poll(&mut fds, Some(&timespec(left))) {
            Err(rustix::io::Errno::INTR) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    dockline_sys::set_keepalive(socket.as_fd())
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

#[expect(clippy::disallowed_methods, reason = "the thread waits for this connection only")]
fn now() -> Instant {
    Instant::now()
}
