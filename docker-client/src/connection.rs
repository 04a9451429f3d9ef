#![forbid(unsafe_code)]
//! [`Connection`]: a connection to the daemon, whose every wait has an end.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::drive::{Socket, Transport};
use dockline::engine::Address;
use dockline::engine::tls::{ClientTls, Handshake};
use dockline_sys as sys;
use dockline_sys::EventFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::exchange::Patience;
use crate::now;

/// Pause before a Unix socket is tried again whose queue is full: no event tells that it has room.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// A connection to the daemon.
pub(crate) struct Connection {
    stream: Box<dyn Transport + Send>,
    closed: Arc<EventFd>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the first address of a name that accepts, and takes the TLS handshake. A name is
    /// looked up for as long as the system's resolver takes.
    pub(crate) fn open(
        address: &Address,
        tls: Option<&ClientTls>,
        closed: &Arc<EventFd>,
        patience: Patience,
    ) -> io::Result<Self> {
        let (socket, host) = match address {
            Address::Unix(path) => (connect_unix(path, closed, patience.next())?, "localhost"),
            Address::Tcp { host, port } => {
                let addresses = (host.as_str(), *port).to_socket_addrs()?;
                (connect_first(addresses, closed, patience)?, host.as_str())
            }
        };
        let stream: Box<dyn Transport + Send> = match tls {
            None => Box::new(Socket::new(socket)),
            Some(tls) => {
                let mut stream = tls.connect(socket, host)?;
                loop {
                    let flags = match stream.handshake()? {
                        Handshake::Done => break Box::new(stream),
                        Handshake::WantsRead => PollFlags::IN,
                        Handshake::WantsWrite => PollFlags::OUT,
                    };
                    wait(stream.socket(), flags, closed, patience.next())?;
                }
            }
        };
        Ok(Self { stream, closed: Arc::clone(closed) })
    }

    /// Reads some bytes; 0 is the end.
    pub(crate) fn read(&mut self, buf: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(self.socket(), PollFlags::IN, &self.closed, until)?;
                }
                result => return result,
            }
        }
    }

    /// Writes all bytes.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8], patience: Patience) -> io::Result<()> {
        while !bytes.is_empty() || !self.stream.is_flushed() {
            let written =
                if bytes.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(bytes) };
            match written {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(self.socket(), PollFlags::OUT, &self.closed, patience.next())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.socket()
    }

    /// Returns whether the daemon has neither closed the connection nor sent anything: what comes
    /// before a request is not the response to it.
    pub(crate) fn is_silent(&self) -> bool {
        let Some(socket) = self.socket() else { return false };
        matches!(
            poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&Timespec::default())),
            Ok(0)
        )
    }
}

fn connect_first(
    addresses: impl Iterator<Item = SocketAddr>,
    closed: &EventFd,
    patience: Patience,
) -> io::Result<OwnedFd> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match connect_tcp(address, closed, patience.next()) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_tcp(address: SocketAddr, closed: &EventFd, until: Instant) -> io::Result<OwnedFd> {
    let socket = sys::connect_stream(address, None, None)?;
    wait(Some(socket.as_fd()), PollFlags::OUT, closed, until)?;
    if let Some(error) = sys::take_error(socket.as_fd())? {
        return Err(error);
    }
    sys::set_nodelay(socket.as_fd())?;
    // There may be no event for days. Without these probes a daemon whose machine is gone would
    // look the same.
    sys::set_keepalive(socket.as_fd())?;
    Ok(socket)
}

fn connect_unix(path: &Path, closed: &EventFd, until: Instant) -> io::Result<OwnedFd> {
    let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(path)?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(error) if error == rustix::io::Errno::AGAIN => {
                match wait(None, PollFlags::empty(), closed, until.min(now() + BACKLOG_PAUSE)) {
                    Err(error) if error.kind() == ErrorKind::TimedOut && now() < until => {}
                    waited => waited?,
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until a socket is ready.
///
/// # Errors
/// [`TimedOut`](ErrorKind::TimedOut) when that has not happened by then;
/// [`NotConnected`](ErrorKind::NotConnected) when the client is closed.
fn wait(
    socket: Option<BorrowedFd<'_>>,
    flags: PollFlags,
    closed: &EventFd,
    until: Instant,
) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(now());
        // At most 2^63 seconds: what does not fit into a timespec is no limit.
        let timeout = Timespec::try_from(left).ok();
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::new(closed, PollFlags::IN));
        fds.extend(socket.map(|socket| PollFd::from_borrowed_fd(socket, flags)));
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        if !fds[0].revents().is_empty() {
            return Err(io::Error::new(ErrorKind::NotConnected, "the client is closed"));
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(());
        }
        if now() >= until {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}
