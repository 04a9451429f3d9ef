#![forbid(unsafe_code)]
//! Datagrams to and from the container: one socket per client, so that each answer finds its way back.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use dockline::datagram::{self, Batch, LocalAddr};
use dockline::sockets;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::sessions::Sessions;

/// How long a client may be silent, and unanswered, before it is forgotten. The original's figure.
const IDLE: Duration = Duration::from_secs(90);

/// Clients at a time; the one that was silent longest makes room for a new one.
const SESSIONS: usize = 4096;

/// Batches from one socket before it is the next one's turn.
const BATCHES: usize = 4;

/// The token of the listener; a session's is its number.
const LISTENER: Token = Token(usize::MAX);

/// A client, and the address of this host that it speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    peer: SocketAddr,
    local: Option<LocalAddr>,
}

struct Session {
    /// Connected to the container.
    socket: OwnedFd,
    /// Whether it is in the queue of sockets to be read.
    queued: bool,
}

/// Forwards datagrams between a published port and a container.
pub(crate) struct Forwarder {
    poll: Poll,
    listener: OwnedFd,
    listener_queued: bool,
    container: SocketAddr,
    /// Whether it sees the addresses of its clients.
    transparent: bool,
    sessions: Sessions<Client, Session>,
    /// Sockets that may have something to read: mio tells it once, so it is remembered until they are dry.
    queue: VecDeque<Token>,
    batch: Batch,
}

impl Forwarder {
    /// Takes a bound UDP socket.
    pub(crate) fn new(listener: OwnedFd, container: SocketAddr, transparent: bool) -> io::Result<Self> {
        datagram::enable_destination(&listener)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            listener_queued: false,
            container,
            transparent,
            sessions: Sessions::new(),
            queue: VecDeque::new(),
            batch: Batch::new(),
        })
    }

    /// Forwards until the poller fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let timeout = if self.queue.is_empty() { self.next_expiry() } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = now();
            for event in &events {
                self.enqueue(event.token());
            }
            for _ in 0..self.queue.len() {
                if let Some(token) = self.queue.pop_front() {
                    self.serve(token, now);
                }
            }
            while self.sessions.oldest_use().is_some_and(|used| now.duration_since(used) >= IDLE) {
                self.sessions.remove_oldest();
            }
        }
    }

    fn next_expiry(&self) -> Option<Duration> {
        self.sessions.oldest_use().map(|used| (used + IDLE).saturating_duration_since(now()))
    }

    fn enqueue(&mut self, token: Token) {
        let queued = match token {
            LISTENER => &mut self.listener_queued,
            Token(number) => match self.sessions.get_mut(number) {
                Some(session) => &mut session.queued,
                None => return, // forgotten since
            },
        };
        if !std::mem::replace(queued, true) {
            self.queue.push_back(token);
        }
    }

    /// Reads from one socket: until it is dry, or its turn is over.
    fn serve(&mut self, token: Token, now: Instant) {
        for _ in 0..BATCHES {
            let received = match token {
                LISTENER => self.batch.receive(&self.listener),
                Token(number) => match self.sessions.get(number) {
                    Some((_, session)) => self.batch.receive(&session.socket),
                    None => return,
                },
            };
            match (&received, token) {
                (Ok(count), LISTENER) => self.forward(*count, now),
                (Ok(count), Token(number)) => self.answer(number, *count, now),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return self.dry(token),
                // The container's port was closed when an earlier datagram came. It may open again.
                (Err(_), _) => {}
            }
            // Whatever comes after a batch that is not full, datagram or error, is an event of its own.
            if received.is_ok_and(|count| count < Batch::CAPACITY) {
                return self.dry(token);
            }
        }
        self.queue.push_back(token);
    }

    fn dry(&mut self, token: Token) {
        match token {
            LISTENER => self.listener_queued = false,
            Token(number) => {
                if let Some(session) = self.sessions.get_mut(number) {
                    session.queued = false;
                }
            }
        }
    }

    /// Sends what clients have sent to the container, each in its own session.
    fn forward(&mut self, count: usize, now: Instant) {
        let mut start = 0;
        while start < count {
            let client = self.client(start);
            let same = (start + 1..count).take_while(|i| self.client(*i) == client).count();
            let range = start..start + 1 + same;
            start = range.end;
            let Some(client) = client else { continue };
            match self.session(client, now) {
                Ok(number) => {
                    self.sessions.touch(number, now);
                    if let Some((_, session)) = self.sessions.get(number) {
                        send_all(range, |part| self.batch.send(&session.socket, part, None, None));
                    }
                }
                Err(error) => crate::log(format_args!(
                    "cannot forward udp/{} to udp/{}: {error}",
                    client.peer, self.container
                )),
            }
        }
    }

    /// Sends what the container has answered to the client.
    fn answer(&mut self, number: usize, count: usize, now: Instant) {
        self.sessions.touch(number, now);
        if let Some((client, _)) = self.sessions.get(number) {
            send_all(0..count, |part| self.batch.send(&self.listener, part, Some(client.peer), client.local));
        }
    }

    fn client(&self, number: usize) -> Option<Client> {
        let (_, peer, local) = self.batch.datagram(number);
        peer.map(|peer| Client { peer, local })
    }

    /// The session of a client, a new one if need be.
    fn session(&mut self, client: Client, now: Instant) -> io::Result<usize> {
        if let Some(number) = self.sessions.find(&client) {
            return Ok(number);
        }
        if self.sessions.len() >= SESSIONS {
            self.sessions.remove_oldest();
        }
        let source = self.transparent.then_some(client.peer);
        let socket = loop {
            match sockets::connect_udp(self.container, source) {
                Ok(socket) => break socket,
                // One that is used less will do.
                Err(error) if is_out_of_descriptors(&error) && self.sessions.remove_oldest() => {}
                Err(error) => return Err(error),
            }
        };
        let number = self.sessions.next_number();
        let fd = socket.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        self.sessions.insert(client, Session { socket, queued: false }, now);
        Ok(number)
    }
}

/// Sends datagrams; one that cannot be sent is lost, as datagrams may be.
fn send_all(mut range: Range<usize>, send: impl Fn(Range<usize>) -> io::Result<usize>) {
    while !range.is_empty() {
        range.start += send(range.clone()).unwrap_or(1);
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[expect(clippy::disallowed_methods, reason = "the loop of the program is what reads the clock")]
fn now() -> Instant {
    Instant::now()
}
