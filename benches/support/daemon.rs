//! The fake Docker daemon: one thread, one epoll, on a TCP port and on a Unix socket.
//!
//! `POST /v1.41/exec/move-D-U/start` is answered with 101; then the daemon sends D bytes, takes U bytes, and when
//! U isn't 0 and both are done it confirms with one byte. From then on it echoes. It never closes first:
//! stock nginx ends a tunnel at the first EOF, so nothing measured may depend on one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use super::sys::{self, Epoll};
use super::{ACK, CHUNK, Result};

const ANSWER: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

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
    let mut daemon = Daemon {
        epoll,
        tcp,
        unix,
        conns: Vec::new(),
        free: Vec::new(),
        buf: vec![0x5a; CHUNK],
        out: vec![0x5a; CHUNK],
    };
    thread::Builder::new().name("daemon".into()).spawn(move || {
        if let Err(e) = daemon.run() {
            eprintln!("fake daemon: {e}");
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
    buf: Vec<u8>,
    out: Vec<u8>,
}

struct Conn {
    /// A socket; `File` reads and writes any descriptor, so the two families need no code of their own.
    sock: File,
    head: Option<Vec<u8>>,
    to_send: u64,
    to_take: u64,
    ack: bool,
    wants_out: bool,
}

impl Daemon {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [sys::NO_EVENT; 256];
        loop {
            let n = self.epoll.wait(&mut events)?;
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
            head: Some(Vec::new()),
            to_send: 0,
            to_take: 0,
            ack: false,
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
        let alive = conn.step(bits, &mut self.buf, &self.out);
        if !matches!(alive, Ok(true)) {
            self.conns[slot] = None;
            self.free.push(slot);
            return Ok(());
        }
        let wants_out = conn.to_send > 0;
        if wants_out != conn.wants_out {
            conn.wants_out = wants_out;
            let events = if wants_out { sys::IN | sys::OUT } else { sys::IN };
            self.epoll.modify(&conn.sock, slot + FIRST, events)?;
        }
        Ok(())
    }
}

impl Conn {
    /// `false`: the peer is gone.
    fn step(&mut self, bits: u32, buf: &mut [u8], out: &[u8]) -> Result<bool> {
        if bits & (sys::IN | sys::HUP) != 0 {
            match would_block(self.sock.read(buf))? {
                Some(0) => return Ok(false),
                Some(n) => self.take(&buf[..n])?,
                None => {}
            }
        }
        if self.to_send > 0 {
            let len = usize::try_from(self.to_send).unwrap_or(usize::MAX).min(out.len());
            if let Some(n) = would_block(self.sock.write(&out[..len]))? {
                self.to_send -= n as u64;
            }
        }
        if self.ack && self.to_send == 0 && self.to_take == 0 {
            self.ack = false;
            self.sock.write_all(&[ACK])?;
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(head) = &mut self.head else {
            let sunk = usize::try_from(self.to_take).unwrap_or(usize::MAX).min(bytes.len());
            self.to_take -= sunk as u64;
            self.sock.write_all(&bytes[sunk..])?;
            return Ok(());
        };
        head.extend_from_slice(bytes);
        let Some((down, up)) = parse(head)? else { return Ok(()) };
        self.head = None;
        (self.to_send, self.to_take, self.ack) = (down, up, up > 0);
        self.sock.write_all(ANSWER)?;
        Ok(())
    }
}

/// The two byte counts of a complete request; `None` while it is incomplete.
fn parse(request: &[u8]) -> Result<Option<(u64, u64)>> {
    let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&request[..end])?;
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if request.len() < end + 4 + length.unwrap_or(0) {
        return Ok(None);
    }
    let mut token = head.split('/').find(|s| s.starts_with("move-")).unwrap_or_default().split('-').skip(1);
    let mut number = || token.next().and_then(|n| n.parse().ok()).ok_or("bad request to the fake daemon");
    Ok(Some((number()?, number()?)))
}

fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
