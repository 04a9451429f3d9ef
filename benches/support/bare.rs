//! The yardstick: the least a relay built on splice can do.
//!
//! One thread, one edge-triggered epoll, two pipes per connection, no HTTP, no limits, no
//! statistics. It runs as a process of its own (the bench starts itself again), so that its CPU
//! time is read the same way as a worker's.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use super::Result;
use super::sys::{self, Epoll};

/// More than any pipe holds in 4 KiB pages: a slot can carry a 32 KiB fragment, so the slots are
/// the limit.
const SPLICE_LEN: usize = 1 << 20;

/// Tokens of connections follow it.
const LISTENER: usize = 0;

enum Upstream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsRawFd for Upstream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(s) => s.as_raw_fd(),
            Self::Unix(s) => s.as_raw_fd(),
        }
    }
}

impl Upstream {
    fn connect(to: &str) -> io::Result<Self> {
        if to.starts_with('/') {
            let sock = UnixStream::connect(to)?;
            sock.set_nonblocking(true)?;
            return Ok(Self::Unix(sock));
        }
        let sock = TcpStream::connect(to)?;
        sock.set_nodelay(true)?;
        sock.set_nonblocking(true)?;
        Ok(Self::Tcp(sock))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.shutdown(Shutdown::Write),
            Self::Unix(s) => s.shutdown(Shutdown::Write),
        }
    }
}

struct Half {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
    readable: bool,
    writable: bool,
    eof: bool,
}

impl Half {
    fn new(pipe_size: libc::c_int) -> io::Result<Self> {
        let (reader, writer) = sys::pipe(pipe_size)?;
        Ok(Self { reader, writer, held: 0, readable: false, writable: true, eof: false })
    }

    /// Makes one splice in and one out. Returns `false` when neither can go on. The pipe is filled
    /// only when it is empty, so that `WouldBlock` always means the socket.
    fn step(&mut self, from: &impl AsRawFd, to: &impl AsRawFd) -> io::Result<bool> {
        let mut moved = false;
        if self.held == 0 && self.readable && !self.eof {
            match sys::splice(from, &self.writer, SPLICE_LEN) {
                Ok(0) => self.eof = true,
                Ok(n) => {
                    self.held = n;
                    moved = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) => return Err(e),
            }
        }
        if self.held > 0 && self.writable {
            match sys::splice(&self.reader, to, self.held) {
                Ok(n) => {
                    self.held -= n;
                    moved = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(moved)
    }

    fn at_end(&self) -> bool {
        self.eof && self.held == 0
    }
}

struct Conn {
    client: TcpStream,
    upstream: Upstream,
    up: Half,
    down: Half,
    shut_up: bool,
    shut_down: bool,
}

impl Conn {
    /// Returns `false` when both directions have ended.
    fn pump(&mut self) -> io::Result<bool> {
        loop {
            let up = self.up.step(&self.client, &self.upstream)?;
            let down = self.down.step(&self.upstream, &self.client)?;
            if !up && !down {
                break;
            }
        }
        if self.up.at_end() && !self.shut_up {
            self.shut_up = true;
            self.upstream.shutdown_write()?;
        }
        if self.down.at_end() && !self.shut_down {
            self.shut_down = true;
            self.client.shutdown(Shutdown::Write)?;
        }
        Ok(!(self.shut_up && self.shut_down))
    }
}

/// Relays for ever. `args`: pipe size, listening address, upstream.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [size, listen, upstream] = args else { return Err("the bare relay needs three arguments".into()) };
    let pipe_size: libc::c_int = size.parse()?;
    let epoll = Epoll::new()?;
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    epoll.add(&listener, LISTENER, sys::IN)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free = Vec::new();
    let mut events = [sys::NO_EVENT; 512];
    loop {
        let n = epoll.wait(&mut events, -1)?;
        for event in events.iter().take(n) {
            let (token, bits) = (usize::try_from(event.u64)?, event.events);
            if token == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(true)?;
                    client.set_nodelay(true)?;
                    let conn = Conn {
                        client,
                        upstream: Upstream::connect(upstream)?,
                        up: Half::new(pipe_size)?,
                        down: Half::new(pipe_size)?,
                        shut_up: false,
                        shut_down: false,
                    };
                    let slot = free.pop().unwrap_or(conns.len());
                    if slot == conns.len() {
                        conns.push(None);
                    }
                    let token = LISTENER + 1 + 2 * slot;
                    epoll.add(&conn.client, token, sys::IN | sys::OUT | sys::EDGE)?;
                    epoll.add(&conn.upstream, token + 1, sys::IN | sys::OUT | sys::EDGE)?;
                    conns[slot] = Some(conn);
                }
                continue;
            }
            let slot = (token - LISTENER - 1) / 2;
            let Some(conn) = conns.get_mut(slot).and_then(Option::as_mut) else { continue };
            let is_client = (token - LISTENER - 1).is_multiple_of(2);
            let (source, target) =
                if is_client { (&mut conn.up, &mut conn.down) } else { (&mut conn.down, &mut conn.up) };
            source.readable |= bits & (sys::IN | sys::HUP) != 0;
            target.writable |= bits & (sys::OUT | sys::HUP) != 0;
            if !conn.pump().unwrap_or(false) {
                conns[slot] = None;
                free.push(slot);
            }
        }
    }
}
