//! The load generator's end of a tunnel.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::sys::{self, Epoll};
use super::tls::{Context, Session};
use super::wire::{ACK, head_len};
use super::{CHUNK, Result};

/// A relay that stalls longer than this has failed.
const STALL: Duration = Duration::from_secs(20);
pub(crate) const STALL_MS: libc::c_int = 20_000;

pub(crate) fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let sock = TcpStream::connect(addr)?;
    sock.set_nodelay(true)?;
    sock.set_read_timeout(Some(STALL))?;
    sock.set_write_timeout(Some(STALL))?;
    Ok(sock)
}

/// Where a contender listens, and by which protocol.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<Context>,
    /// Whether its tunnels are opened by a request with a body, as those of `docker exec` are.
    pub(crate) takes_body: bool,
}

pub(crate) struct Tunnel {
    // Declared before the socket: dropped first, while its descriptor is still open.
    tls: Option<Session>,
    sock: TcpStream,
    /// Bytes that came with the head.
    early: u64,
}

impl Tunnel {
    pub(crate) fn open(target: &Target, down: u64, up: u64) -> Result<Self> {
        let mut tunnel = Self::request(target, down, up)?;
        tunnel.answer()?;
        Ok(tunnel)
    }

    /// The first half of `open`; `answer` is the other. Apart, they let many tunnels open at once.
    pub(crate) fn request(target: &Target, down: u64, up: u64) -> Result<Self> {
        let sock = connect(target.addr)?;
        let tls = target.tls.as_ref().map(|context| context.connect(&sock)).transpose()?;
        let mut tunnel = Self { tls, sock, early: 0 };
        let (path, body) = if target.takes_body {
            (format!("exec/move-{down}-{up}/start"), r#"{"Detach":false,"Tty":false}"#)
        } else {
            (format!("containers/move-{down}-{up}/attach"), "")
        };
        let request = format!(
            "POST /v1.41/{path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: bench\r\nContent-Length: {}\r\n\
             Connection: Upgrade\r\nContent-Type: application/json\r\nUpgrade: tcp\r\n\r\n{body}",
            body.len()
        );
        tunnel.write_all(request.as_bytes())?;
        Ok(tunnel)
    }

    pub(crate) fn answer(&mut self) -> Result<()> {
        let mut buf = [0; 4096];
        let mut len = 0;
        loop {
            match self.read(&mut buf[len..])? {
                0 => return Err(format!("no tunnel: {}", String::from_utf8_lossy(&buf[..len])).into()),
                n => len += n,
            }
            if let Some(end) = head_len(&buf[..len]) {
                if !buf.starts_with(b"HTTP/1.1 101") {
                    return Err(format!("no tunnel: {}", String::from_utf8_lossy(&buf[..end])).into());
                }
                self.early = (len - end) as u64;
                return Ok(());
            }
        }
    }

    pub(crate) fn cipher(&self) -> Option<String> {
        self.tls.as_ref().map(Session::cipher)
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read(buf),
            None => self.sock.read(buf),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.write(buf),
            None => self.sock.write(buf),
        }
    }

    fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.write(buf)?;
            buf = &buf[n..];
        }
        Ok(())
    }

    /// Moves the bytes that `open` asked the daemon for, and waits for its confirmation of those
    /// sent up.
    pub(crate) fn transfer(&mut self, buf: &mut [u8], down: u64, up: u64) -> Result<()> {
        // The confirmation byte is the last one down.
        let mut to_read = (down + u64::from(up > 0)).saturating_sub(std::mem::take(&mut self.early));
        let mut to_write = up;
        let mut last = ACK;
        let both = down > 0 && up > 0;
        self.sock.set_nonblocking(both)?;
        while to_read > 0 || to_write > 0 {
            let mut moved = false;
            if to_write > 0 {
                let len = usize::try_from(to_write).unwrap_or(usize::MAX).min(CHUNK);
                if let Some(n) = would_block(self.write(&buf[..len]), both)? {
                    to_write -= n as u64;
                    moved = true;
                }
            }
            // One direction at a time blocks in its own call.
            if to_read > 0 && (both || to_write == 0) {
                match would_block(self.read(buf), both)? {
                    Some(0) => return Err(format!("tunnel cut, {to_read} bytes short").into()),
                    Some(n) => {
                        to_read =
                            to_read.checked_sub(n as u64).ok_or("the tunnel delivered more than was sent")?;
                        last = buf[n - 1];
                        moved = true;
                    }
                    None => {}
                }
            }
            if !moved {
                let out = if to_write > 0 { libc::POLLOUT } else { 0 };
                if !sys::poll(&self.sock, libc::POLLIN | out, STALL_MS)? {
                    return Err(format!("stalled, {to_read} bytes to read, {to_write} to write").into());
                }
            }
        }
        self.sock.set_nonblocking(false)?;
        if up > 0 && last != ACK {
            return Err("the tunnel garbled the confirmation".into());
        }
        Ok(())
    }

    /// The socket of a plain tunnel without pending bytes.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.sock
    }

    pub(crate) fn send_byte(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    pub(crate) fn expect_byte(&mut self, byte: u8) -> Result<()> {
        let mut buf = [0; 2];
        match self.read(&mut buf)? {
            1 if buf[0] == byte => Ok(()),
            n => Err(format!("expected one byte of echo, got {n}").into()),
        }
    }
}

/// Reads the bytes that come down each of the tunnels, from all at once.
pub(crate) fn download_all(tunnels: &mut [Tunnel], down: u64, buf: &mut [u8]) -> Result<()> {
    let epoll = Epoll::new()?;
    let mut left = Vec::new();
    for (token, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.sock.set_nonblocking(true)?;
        epoll.add(&tunnel.sock, token, sys::IN)?;
        left.push(down - std::mem::take(&mut tunnel.early));
    }
    let mut events = [sys::NO_EVENT; 64];
    while left.iter().any(|left| *left > 0) {
        let n = epoll.wait(&mut events, STALL_MS)?;
        if n == 0 {
            return Err(format!("stalled, {} bytes to read", left.iter().sum::<u64>()).into());
        }
        for event in events.iter().take(n) {
            let token = usize::try_from(event.u64)?;
            match would_block(tunnels[token].read(buf), true)? {
                Some(0) => return Err(format!("tunnel cut, {} bytes short", left[token]).into()),
                Some(n) => left[token] = left[token].checked_sub(n as u64).ok_or("more than was sent")?,
                None => {}
            }
        }
    }
    Ok(())
}

fn would_block(result: io::Result<usize>, nonblocking: bool) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if nonblocking && e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "stalled"))
        }
        Err(e) => Err(e),
    }
}
