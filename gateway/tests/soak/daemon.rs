#![forbid(unsafe_code)]
//! A daemon that responds to every request with 101, then echoes, and ends with its client.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};

use super::Result;

const LISTENER: Token = Token(usize::MAX);
const ANSWER: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
/// Bytes buffered for a slow client before reading stops.
const WAITING: usize = 64 * 1024;

struct Conn {
    stream: UnixStream,
    head: Vec<u8>,
    answered: bool,
    ended: bool,
    out: Vec<u8>,
}

pub(crate) fn run(path: &Path) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    let mut poll = Poll::new()?;
    let mut listener = UnixListener::bind(path)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ready");
    let (mut conns, mut free) = (Vec::<Option<Conn>>::new(), Vec::new());
    let mut buffer = vec![0; WAITING];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let place = free.pop().unwrap_or(conns.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(place), both)?;
                    let conn =
                        Conn { stream, head: Vec::new(), answered: false, ended: false, out: Vec::new() };
                    if place == conns.len() {
                        conns.push(Some(conn));
                    } else {
                        conns[place] = Some(conn);
                    }
                }
                continue;
            }
            let place = event.token().0;
            if let Some(conn) = &mut conns[place]
                && !conn.serve(&mut buffer)
            {
                conns[place] = None;
                free.push(place);
            }
        }
    }
}

impl Conn {
    /// Makes progress, and returns whether the connection continues.
    fn serve(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            while !self.out.is_empty() {
                match self.stream.write(&self.out) {
                    Ok(n) => drop(self.out.drain(..n)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
            if self.ended {
                return !self.out.is_empty();
            }
            if self.out.len() >= WAITING {
                return true;
            }
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => self.take(&buffer[..n]),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.answered {
            return self.out.extend_from_slice(bytes);
        }
        self.head.extend_from_slice(bytes);
        if let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") {
            self.answered = true;
            self.out.extend_from_slice(ANSWER);
            self.out.extend_from_slice(&self.head[end + 4..]);
            self.head = Vec::new();
        }
    }
}
