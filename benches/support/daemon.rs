//! The fake Docker daemon: one thread, one epoll, on a TCP port and on a Unix socket.
//!
//! | request | what happens |
//! |---|---|
//! | `POST /v1.41/exec/move-D-U/start` | 101; then D bytes down and U bytes up; when U isn't 0 and both are done, one byte of confirmation; from then on an echo |
//! | `GET /_ping` | a small response |
//! | `GET /v1.41/images/F-N/get` | a body of N bytes, F being its framing |
//! | `POST /v1.41/images/load` | reads a body of any length, then sends a small response |
//!
//! It never closes first: stock nginx ends a tunnel at the first EOF, so nothing measured may
//! depend on one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use super::sys::{self, Epoll};
use super::wire::{ACK, EndFinder, Framing, field, head_len};
use super::{CHUNK, Result};

const SWITCHED: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const PONG: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\r\nOK";
const LOADED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

const TCP: usize = 0;
const UNIX: usize = 1;
const FIRST: usize = 2;

/// Starts the daemon for the rest of the process's life; returns its TCP address.
pub(crate) fn start(unix_path: &Path) -> Result<SocketAddr> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    tcp.set_nonblocking(true)?;
    let addr = tcp.local_addr()?;
    let unix = UnixListener::bind(unix_path)?;
    unix.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&tcp, TCP, sys::IN)?;
    epoll.add(&unix, UNIX, sys::IN)?;
    let shared =
        Shared { buf: vec![0; CHUNK], plain: Framing::Length.pattern(), chunked: Framing::Chunked.pattern() };
    let mut daemon = Daemon { epoll, tcp, unix, conns: Vec::new(), free: Vec::new(), shared };
    thread::Builder::new().name("daemon".into()).spawn(move || {
        if let Err(e) = daemon.run() {
            eprintln!("fake daemon: {e}");
        }
    })?;
    Ok(addr)
}

/// Starts a UDP port that sends back what it gets, for the rest of the process's life; returns its
/// address.
pub(crate) fn start_udp() -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let addr = socket.local_addr()?;
    thread::Builder::new().name("daemon-udp".into()).spawn(move || {
        let mut buf = [0; 65_536];
        while let Ok((len, peer)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(&buf[..len], peer);
        }
    })?;
    Ok(addr)
}

struct Daemon {
    epoll: Epoll,
    tcp: TcpListener,
    unix: UnixListener,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    shared: Shared,
}

/// The buffers of all connections.
struct Shared {
    buf: Vec<u8>,
    plain: Vec<u8>,
    chunked: Vec<u8>,
}

enum Phase {
    Head(Vec<u8>),
    Upload(EndFinder, Framing),
    Tunnel,
}

struct Conn {
    /// A socket; `File` reads and writes any descriptor, so the two families need no code of their
    /// own.
    sock: File,
    phase: Phase,
    framing: Framing,
    to_send: u64,
    sent: u64,
    to_take: u64,
    /// Sent when there is nothing more to send or to read.
    last: &'static [u8],
    wants_out: bool,
}

impl Daemon {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [sys::NO_EVENT; 256];
        loop {
            let n = self.epoll.wait(&mut events, -1)?;
            for event in events.iter().take(n) {
                let (token, bits) = (usize::try_from(event.u64).unwrap_or(usize::MAX), event.events);
                match token {
                    TCP => self.accept_tcp()?,
                    UNIX => self.accept_unix()?,
                    _ => self.serve(token - FIRST, bits)?,
                }
            }
        }
    }

    fn accept_tcp(&mut self) -> io::Result<()> {
        while let Some((sock, _)) = would_block(self.tcp.accept())? {
            sock.set_nonblocking(true)?;
            sock.set_nodelay(true)?;
            self.insert(sock.into())?;
        }
        Ok(())
    }

    fn accept_unix(&mut self) -> io::Result<()> {
        while let Some((sock, _)) = would_block(self.unix.accept())? {
            sock.set_nonblocking(true)?;
            self.insert(sock.into())?;
        }
        Ok(())
    }

    fn insert(&mut self, sock: OwnedFd) -> io::Result<()> {
        let conn = Conn {
            sock: sock.into(),
            phase: Phase::Head(Vec::new()),
            framing: Framing::Length,
            to_send: 0,
            sent: 0,
            to_take: 0,
            last: b"",
            wants_out: false,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.epoll.add(&conn.sock, slot + FIRST, sys::IN)?;
        self.conns[slot] = Some(conn);
        Ok(())
    }

    fn serve(&mut self, slot: usize, bits: u32) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        let alive = conn.step(bits, &mut self.shared);
        if !matches!(alive, Ok(true)) {
            if let Err(e) = alive.as_ref()
                && !e.is::<io::Error>()
            {
                eprintln!("fake daemon: {e}");
            }
            self.conns[slot] = None;
            self.free.push(slot);
            return Ok(());
        }
        let wants_out = conn.to_send > 0 || (conn.to_take == 0 && !conn.last.is_empty());
        if wants_out != conn.wants_out {
            conn.wants_out = wants_out;
            let events = if wants_out { sys::IN | sys::OUT } else { sys::IN };
            self.epoll.modify(&conn.sock, slot + FIRST, events)?;
        }
        Ok(())
    }
}

impl Conn {
    /// Returns `false` when the peer has closed.
    fn step(&mut self, bits: u32, shared: &mut Shared) -> Result<bool> {
        if bits & (sys::IN | sys::HUP) != 0 {
            match would_block(self.sock.read(&mut shared.buf))? {
                Some(0) => return Ok(false),
                Some(n) => self.take(&shared.buf[..n])?,
                None => {}
            }
        }
        if self.to_send > 0 {
            let pattern = if self.framing == Framing::Chunked { &shared.chunked } else { &shared.plain };
            let at = usize::try_from(self.sent % pattern.len() as u64)?;
            let len = usize::try_from(self.to_send).unwrap_or(usize::MAX).min(pattern.len() - at);
            if let Some(n) = would_block(self.sock.write(&pattern[at..at + len]))? {
                self.to_send -= n as u64;
                self.sent += n as u64;
            }
        }
        if self.to_send == 0
            && self.to_take == 0
            && !self.last.is_empty()
            && let Some(n) = would_block(self.sock.write(self.last))?
        {
            self.last = &self.last[n..];
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.phase {
            Phase::Head(seen) => {
                seen.extend_from_slice(bytes);
                let Some(len) = head_len(seen) else { return Ok(()) };
                let head = std::str::from_utf8(&seen[..len])?;
                let body_len = field(head, "Content-Length").and_then(|v| v.parse().ok());
                // The small body of a tunnel's request is part of the request.
                if head.contains("/move-") && seen.len() < len + body_len.unwrap_or(0) {
                    return Ok(());
                }
                let mut seen = std::mem::take(seen);
                let rest = self.answer(&seen, len, body_len)?;
                if rest < seen.len() {
                    return self.take(&seen.split_off(rest));
                }
            }
            Phase::Upload(end, framing) => {
                self.to_take = match framing {
                    Framing::Length => {
                        self.to_take.checked_sub(bytes.len() as u64).ok_or("more than was announced")?
                    }
                    Framing::Chunked if end.ends_with(bytes) => 0,
                    Framing::Chunked => self.to_take,
                };
                if self.to_take == 0 {
                    self.phase = Phase::Head(Vec::new());
                }
            }
            Phase::Tunnel => {
                let sunk = usize::try_from(self.to_take).unwrap_or(usize::MAX).min(bytes.len());
                self.to_take -= sunk as u64;
                self.sock.write_all(&bytes[sunk..])?;
            }
        }
        Ok(())
    }

    /// Begins what a request asks for. Returns where in `seen` the request ends, an upload's body
    /// not being part of it.
    fn answer(&mut self, seen: &[u8], head_len: usize, body_len: Option<usize>) -> Result<usize> {
        let head = std::str::from_utf8(&seen[..head_len])?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let part = target.split('/').nth(3).unwrap_or_default();
        if target == "/_ping" {
            self.phase = Phase::Head(Vec::new());
            self.sock.write_all(PONG)?;
        } else if let Some(counts) = part.strip_prefix("move-") {
            let (down, up) = counts.split_once('-').ok_or("a tunnel without amounts")?;
            (self.framing, self.sent) = (Framing::Length, 0);
            (self.to_send, self.to_take) = (down.parse()?, up.parse()?);
            self.last = if self.to_take > 0 { &[ACK] } else { b"" };
            self.phase = Phase::Tunnel;
            self.sock.write_all(SWITCHED)?;
            return Ok(head_len + body_len.unwrap_or(0));
        } else if target.ends_with("/images/load") {
            let framing = if body_len.is_some() { Framing::Length } else { Framing::Chunked };
            self.to_take = body_len.map_or(u64::MAX, |len| len as u64);
            self.last = LOADED;
            self.phase = Phase::Upload(EndFinder::default(), framing);
        } else if let Some((name, len)) = part.rsplit_once('-') {
            let (framing, len) = (Framing::named(name).ok_or("an unknown framing")?, len.parse()?);
            (self.framing, self.sent) = (framing, 0);
            (self.to_send, self.last) = (framing.wire_len(len), framing.end());
            self.phase = Phase::Head(Vec::new());
            write!(
                self.sock,
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n{}\r\n",
                framing.field(len)
            )?;
        } else {
            return Err(format!("what is {target}?").into());
        }
        Ok(head_len)
    }
}

fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
