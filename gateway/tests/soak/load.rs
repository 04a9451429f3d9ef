#![forbid(unsafe_code)]
//! The clients: tunnels that are silent, tunnels that are busy, and tunnels that come and go.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::pattern::Pattern;
use super::{PATIENCE, Result, now};

const REQUEST: &[u8] = b"POST /v1.41/exec/x/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n\
    Upgrade: tcp\r\nContent-Length: 0\r\n\r\n";
/// Bytes of a short tunnel.
const BRIEF_BYTES: u64 = 10_000;
/// Sent at the end to check a silent tunnel.
const LAST_WORDS: u64 = 100;
/// Connections that are opened at a time.
const OPENING: usize = 100;
const TICK: Duration = Duration::from_millis(2);

/// The amounts of a load.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Long tunnels.
    pub(crate) tunnels: usize,
    /// How many of them are busy.
    pub(crate) busy: usize,
    /// Short tunnels.
    pub(crate) per_second: u32,
    pub(crate) time: Duration,
    /// Limit of bytes in flight in a tunnel.
    pub(crate) window: u64,
    /// Whether a tunnel may be refused or cut. What it has carried must be correct even so.
    pub(crate) lossy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Silent,
    Busy,
    Brief,
}

struct Tunnel {
    stream: TcpStream,
    role: Role,
    request_sent: usize,
    /// The response, until it is complete.
    head: Vec<u8>,
    open: bool,
    /// Bytes to send.
    goal: u64,
    sent: u64,
    received: u64,
    shut: bool,
    progress: Instant,
}

pub(crate) struct Load {
    poll: Poll,
    events: Events,
    at: SocketAddr,
    plan: Plan,
    tunnels: Vec<Option<Tunnel>>,
    free: Vec<usize>,
    pattern: Pattern,
    buffer: Vec<u8>,
    opened: usize,
    briefs_begun: u32,
    ended: [u32; 3],
    /// Tunnels that were refused or cut.
    lost: [u32; 3],
    bytes: u64,
    pub(crate) worst_stall: Duration,
}

impl Load {
    pub(crate) fn new(at: SocketAddr, plan: Plan) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            at,
            plan,
            tunnels: Vec::new(),
            free: Vec::new(),
            pattern: Pattern::new(),
            buffer: vec![0; 64 * 1024],
            opened: 0,
            briefs_begun: 0,
            ended: [0; 3],
            lost: [0; 3],
            bytes: 0,
            worst_stall: Duration::ZERO,
        })
    }

    /// Opens the long tunnels.
    pub(crate) fn open_all(&mut self) -> Result<()> {
        let (began, mut begun) = (now(), 0);
        while self.opened < self.plan.tunnels {
            while begun < self.plan.tunnels && begun - self.opened < OPENING {
                self.begin(if begun < self.plan.busy { Role::Busy } else { Role::Silent })?;
                begun += 1;
            }
            self.serve()?;
            if began.elapsed() > 3 * PATIENCE {
                return Err(format!("{} of {} tunnels are open", self.opened, self.plan.tunnels).into());
            }
        }
        Ok(())
    }

    /// Does what is due `elapsed` after the start.
    pub(crate) fn turn(&mut self, elapsed: Duration) -> Result<()> {
        while f64::from(self.briefs_begun) < elapsed.as_secs_f64() * f64::from(self.plan.per_second) {
            self.briefs_begun += 1;
            self.begin(Role::Brief)?;
        }
        self.serve()
    }

    /// Ends all tunnels cleanly: each must have received what it sent.
    pub(crate) fn finish(&mut self) -> Result<()> {
        for place in 0..self.tunnels.len() {
            if let Some(tunnel) = &mut self.tunnels[place] {
                match tunnel.role {
                    Role::Busy => tunnel.goal = tunnel.sent,
                    Role::Silent => tunnel.goal = LAST_WORDS,
                    Role::Brief => {}
                }
                self.advance(place)?;
            }
        }
        let began = now();
        while self.tunnels.iter().any(Option::is_some) {
            self.serve()?;
            if began.elapsed() > PATIENCE {
                let stuck: Vec<String> = self.tunnels.iter().flatten().map(Tunnel::to_string).collect();
                return Err(format!("{} tunnels do not end: {}", stuck.len(), stuck.join("; ")).into());
            }
        }
        let busy = u32::try_from(self.plan.busy)?;
        let expected = [u32::try_from(self.plan.tunnels)? - busy, busy, self.briefs_begun];
        let all: [u32; 3] = std::array::from_fn(|role| self.ended[role] + self.lost[role]);
        if all != expected {
            return Err(format!("tunnels ended: {all:?}, not {expected:?}").into());
        }
        let (lost, ended) = (self.lost.iter().sum::<u32>(), self.ended.iter().sum::<u32>());
        if lost > ended {
            return Err(format!("{lost} tunnels were lost, and only {ended} not").into());
        }
        Ok(())
    }

    fn begin(&mut self, role: Role) -> Result<()> {
        let mut stream = TcpStream::connect(self.at)?;
        let place = self.free.pop().unwrap_or(self.tunnels.len());
        self.poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        let goal = match role {
            Role::Silent => 0,
            Role::Busy => u64::MAX,
            Role::Brief => BRIEF_BYTES,
        };
        let tunnel = Tunnel {
            stream,
            role,
            request_sent: 0,
            head: Vec::new(),
            open: false,
            goal,
            sent: 0,
            received: 0,
            shut: false,
            progress: now(),
        };
        if place == self.tunnels.len() {
            self.tunnels.push(Some(tunnel));
        } else {
            self.tunnels[place] = Some(tunnel);
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(TICK)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let places: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for place in places {
            self.advance(place)?;
        }
        Ok(())
    }

    fn advance(&mut self, place: usize) -> Result<()> {
        let Some(tunnel) = &mut self.tunnels[place] else { return Ok(()) };
        let (was_open, before) = (tunnel.open, tunnel.received);
        let over = match tunnel.advance(place, self.plan.window, &self.pattern, &mut self.buffer) {
            Ok(over) => over,
            Err(error) if self.plan.lossy && !error.is::<Corrupt>() => {
                self.lost[tunnel.role as usize] += 1;
                self.opened += usize::from(!was_open && tunnel.role != Role::Brief);
                self.tunnels[place] = None;
                self.free.push(place);
                return Ok(());
            }
            Err(error) => {
                return Err(format!("tunnel {place} ({tunnel}): {error}").into());
            }
        };
        if tunnel.received > before {
            let stall = std::mem::replace(&mut tunnel.progress, now()).elapsed();
            if tunnel.role == Role::Busy && before > 0 {
                self.worst_stall = self.worst_stall.max(stall);
            }
            self.bytes += tunnel.received - before;
        }
        if tunnel.open && !was_open && tunnel.role != Role::Brief {
            self.opened += 1;
        }
        if over {
            self.ended[tunnel.role as usize] += 1;
            self.tunnels[place] = None;
            self.free.push(place);
        }
        Ok(())
    }
}

impl Tunnel {
    /// Makes progress, and returns whether the tunnel has ended cleanly.
    fn advance(&mut self, number: usize, window: u64, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool> {
        loop {
            let wrote = self.write(number, window, pattern)?;
            let n = match self.stream.read(buffer) {
                Ok(0) if self.shut && self.received == self.goal => return Ok(true),
                Ok(0) => return Err("it ended early".into()),
                Ok(n) => n,
                Err(error) if is_early(&error) => 0,
                Err(error) => return Err(error.into()),
            };
            self.take(&buffer[..n], number, pattern)?;
            if self.open && !self.shut && self.role_is_done() {
                self.stream.shutdown(Shutdown::Write)?;
                self.shut = true;
            }
            if n == 0 && !wrote {
                return Ok(false);
            }
        }
    }

    fn role_is_done(&self) -> bool {
        self.goal > 0 && self.received == self.goal
    }

    /// Sends what may be sent, and returns whether it has sent anything.
    fn write(&mut self, number: usize, window: u64, pattern: &Pattern) -> Result<bool> {
        let piece = if self.request_sent < REQUEST.len() {
            &REQUEST[self.request_sent..]
        } else if self.open {
            let room = (self.goal - self.sent).min(window - (self.sent - self.received));
            pattern.piece(number, self.sent, usize::try_from(room)?)
        } else {
            return Ok(false);
        };
        if piece.is_empty() {
            return Ok(false);
        }
        match self.stream.write(piece) {
            Ok(n) if self.open => self.sent += n as u64,
            Ok(n) => self.request_sent += n,
            Err(error) if is_early(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    fn take(&mut self, mut bytes: &[u8], number: usize, pattern: &Pattern) -> Result<()> {
        if !self.open && !bytes.is_empty() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
            if self.head.starts_with(b"HTTP/1.1 5") {
                return Err(format!("it is refused: {}", self.head.escape_ascii()).into());
            }
            if !self.head.starts_with(b"HTTP/1.1 101 ") || self.head.len() > end + 4 {
                return Err(Corrupt(format!("the response is {}", self.head.escape_ascii())).into());
            }
            (self.open, self.head, bytes) = (true, Vec::new(), &[]);
        }
        while !bytes.is_empty() {
            let wanted = pattern.piece(number, self.received, bytes.len());
            let (piece, rest) = bytes.split_at(wanted.len());
            if piece != wanted {
                return Err(Corrupt("other bytes came back than were sent".into()).into());
            }
            self.received += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

/// Received data is wrong, which no fault excuses.
#[derive(Debug)]
struct Corrupt(String);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Corrupt {}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, goal, sent, received, shut, .. } = self;
        write!(f, "open: {open}, sent {sent} of {goal}, received {received}, half-closed: {shut}")
    }
}

/// Returns whether there is no connection or no data yet.
fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, ended, lost, bytes, worst_stall, .. } = self;
        write!(
            f,
            "{} tunnels, {} of them busy; {} came and went in {:?}; {} MiB echoed; longest stall of a busy one {worst_stall:?}",
            plan.tunnels,
            plan.busy,
            ended[Role::Brief as usize],
            plan.time,
            bytes >> 20,
        )?;
        if plan.lossy { write!(f, "; {} were lost", lost.iter().sum::<u32>()) } else { Ok(()) }
    }
}
