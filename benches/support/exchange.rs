//! Round trips over many connections at once, each sending again as soon as its response is
//! complete.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::Result;
use super::client::{STALL_MS, Target, Tunnel, connect};
use super::sys::{self, Epoll};
use super::wire::{field, head_len};

pub(crate) struct Exchange {
    epoll: Epoll,
    conns: Vec<Conn>,
    question: &'static [u8],
    /// Bytes of one response.
    answer: usize,
}

struct Conn {
    sock: TcpStream,
    asked: Instant,
    got: usize,
}

impl Exchange {
    /// One byte and its echo, over `width` tunnels.
    pub(crate) fn echoes(target: &Target, width: usize) -> Result<Self> {
        let open = |_| Ok(Tunnel::open(target, 0, 0)?.into_socket());
        Self::new((0..width).map(open).collect::<Result<_>>()?, b"x", 1)
    }

    /// `GET /_ping` over `width` kept connections.
    pub(crate) fn pings(target: &Target, width: usize) -> Result<Self> {
        const PING: &[u8] =
            b"GET /_ping HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/20.10.24 (linux)\r\n\r\n";
        let mut answer = 0;
        let mut socks = Vec::new();
        for _ in 0..width {
            let mut sock = connect(target.addr)?;
            answer = learn(&mut sock, PING)?;
            socks.push(sock);
        }
        Self::new(socks, PING, answer)
    }

    fn new(socks: Vec<TcpStream>, question: &'static [u8], answer: usize) -> Result<Self> {
        let epoll = Epoll::new()?;
        let mut conns = Vec::new();
        for (token, sock) in socks.into_iter().enumerate() {
            sock.set_nonblocking(true)?;
            epoll.add(&sock, token, sys::IN)?;
            conns.push(Conn { sock, asked: Instant::now(), got: 0 });
        }
        Ok(Self { epoll, conns, question, answer })
    }

    /// Makes `count` round trips in all, and adds the nanoseconds of each to `latencies`.
    pub(crate) fn run(&mut self, count: usize, latencies: &mut Vec<u32>) -> Result<()> {
        let mut unasked = count;
        let mut open = 0;
        for conn in self.conns.iter_mut().take(count) {
            conn.ask(self.question)?;
            unasked -= 1;
            open += 1;
        }
        let mut events = [sys::NO_EVENT; 128];
        let mut buf = [0; 4096];
        while open > 0 {
            let n = self.epoll.wait(&mut events, STALL_MS)?;
            if n == 0 {
                return Err(format!("stalled, {open} answers to come").into());
            }
            for event in events.iter().take(n) {
                let conn = &mut self.conns[usize::try_from(event.u64)?];
                match conn.sock.read(&mut buf)? {
                    0 => return Err("a connection was closed between answers".into()),
                    n => conn.got += n,
                }
                if conn.got > self.answer {
                    return Err(format!("an answer of {} bytes, not of {}", conn.got, self.answer).into());
                }
                if conn.got < self.answer {
                    continue;
                }
                latencies.push(u32::try_from(conn.asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
                if unasked > 0 {
                    conn.ask(self.question)?;
                    unasked -= 1;
                } else {
                    open -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Conn {
    fn ask(&mut self, question: &[u8]) -> Result<()> {
        self.got = 0;
        self.asked = Instant::now();
        Ok(self.sock.write_all(question)?)
    }
}

/// Makes one round trip and returns the length of the response. Later ones are as long: a relay
/// adds the same fields to all.
fn learn(sock: &mut TcpStream, question: &[u8]) -> Result<usize> {
    sock.write_all(question)?;
    let (mut seen, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match sock.read(&mut buf)? {
            0 => return Err(format!("no answer: {}", String::from_utf8_lossy(&seen)).into()),
            n => seen.extend_from_slice(&buf[..n]),
        }
        let Some(len) = head_len(&seen) else { continue };
        let head = std::str::from_utf8(&seen[..len])?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("no answer: {head}").into());
        }
        let body: usize = field(head, "Content-Length").ok_or("an answer without Content-Length")?.parse()?;
        if seen.len() == len + body {
            return Ok(seen.len());
        }
    }
}
