//! [`Forwarder`]: datagrams to and from a container, with one socket per client, so that each reply
//! finds its way back.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dockline_sys::{self as sys, LocalAddr};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::batch::Batch;
use crate::sessions::Sessions;

/// How long a client is remembered without a datagram in either direction. The figure of Docker's
/// docker-proxy.
const IDLE: Duration = Duration::from_secs(90);

/// Clients at a time, unless [`Forwarder::limit_clients`] says otherwise. The one that was silent
/// longest makes room for a new one.
pub const SESSIONS: usize = 4096;

/// Attempts to wake the loop. The kernel has no reason to refuse the first one.
const WAKE_TRIES: usize = 8;

/// The longest sleep of the loop while there are handles: it looks for commands even if it could
/// not be woken.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Pause before a call is repeated that failed for a passing reason.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Batches from one socket in its turn.
const BATCHES: usize = 4;

/// Highest hop limit (TTL) of datagrams that are sent.
const HOPS: u8 = 64;

/// Most clients in one report.
const LISTED: usize = 1000;

/// The tokens of the listener and of the waker; a session's is its number.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A client, and the address of this host that it sends to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Client {
    peer: SocketAddr,
    local: Option<LocalAddr>,
}

struct Session {
    /// Connected to the container.
    socket: OwnedFd,
    /// Whether it is in the queue of sockets to read.
    queued: bool,
    opened: Instant,
    bytes_up: u64,
    bytes_down: u64,
}

/// Clients and traffic of a [`Forwarder`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Clients so far, including those that are gone.
    pub clients: u64,
    /// Bytes from clients so far.
    pub bytes_up: u64,
    /// Bytes from the container so far.
    pub bytes_down: u64,
    /// Current clients, at most 1000 of them.
    pub open: Vec<OpenClient>,
}

/// A current client.
#[derive(Clone, Debug)]
pub struct OpenClient {
    /// Its address.
    pub peer: SocketAddr,
    /// Bytes from it.
    pub bytes_up: u64,
    /// Bytes to it.
    pub bytes_down: u64,
    /// Time since its first datagram.
    pub age: Duration,
}

enum Command {
    Target(Option<SocketAddr>),
    Report(Box<dyn FnOnce(Report) + Send>),
    Stop,
}

struct Inbox {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
}

/// Controls a running [`Forwarder`] from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Inbox>);

impl Handle {
    /// Changes the target. Existing sessions are dropped. With `None`, datagrams are dropped.
    pub fn set_target(&self, container: Option<SocketAddr>) {
        self.send(Command::Target(container));
    }

    /// Requests a report, which is passed to `reply` on the forwarder's thread.
    pub fn report(&self, reply: impl FnOnce(Report) + Send + 'static) {
        self.send(Command::Report(Box::new(reply)));
    }

    /// Ends [`Forwarder::run`].
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        self.0.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        for _ in 0..WAKE_TRIES {
            if self.0.waker.wake().is_ok() {
                return;
            }
        }
        // The loop looks for commands by itself, see LONGEST_SLEEP.
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// A function that logs a line.
pub type Log = fn(fmt::Arguments<'_>);

/// Forwards datagrams between a published port and a container.
pub struct Forwarder {
    poll: Poll,
    listener: OwnedFd,
    listener_queued: bool,
    container: Option<SocketAddr>,
    /// Whether datagrams to the container have the addresses of their clients.
    transparent: bool,
    sessions: Sessions<Client, Session>,
    /// Clients at a time.
    most: usize,
    /// Sockets that may be readable. mio reports it once, so it is remembered until a read would
    /// block.
    queue: VecDeque<Token>,
    batch: Batch,
    inbox: Option<Arc<Inbox>>,
    /// The next report, without the list of clients.
    totals: Report,
    /// Whether a loop has been logged.
    loop_logged: bool,
    log: Log,
}

impl Forwarder {
    /// Makes a forwarder for a bound UDP socket. Without a container, datagrams are dropped until a
    /// [`Handle`] sets one. With `transparent` the container sees the addresses of the clients,
    /// which requires CAP_NET_RAW and policy routing.
    ///
    /// # Errors
    /// If the socket is not a UDP socket, or the kernel has no descriptor or memory left.
    pub fn new(
        listener: OwnedFd,
        container: Option<SocketAddr>,
        transparent: bool,
        log: Log,
    ) -> io::Result<Self> {
        sys::enable_destination(listener.as_fd())?;
        let poll = Poll::new()?;
        watch(&poll, &listener, LISTENER)?;
        Ok(Self {
            poll,
            listener,
            listener_queued: false,
            container,
            transparent,
            sessions: Sessions::new(),
            most: SESSIONS,
            queue: VecDeque::new(),
            batch: Batch::new(),
            inbox: None,
            totals: Report::default(),
            loop_logged: false,
            log,
        })
    }

    /// Sets the limit of clients, at least 1.
    pub fn limit_clients(&mut self, most: usize) {
        self.most = most.max(1);
    }

    /// Returns a handle.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn handle(&mut self) -> io::Result<Handle> {
        if let Some(inbox) = &self.inbox {
            return Ok(Handle(Arc::clone(inbox)));
        }
        let waker = Waker::new(self.poll.registry(), WAKER)?;
        let inbox = Arc::new(Inbox { commands: Mutex::default(), waker });
        self.inbox = Some(Arc::clone(&inbox));
        Ok(Handle(inbox))
    }

    /// Forwards until a [`Handle`] stops it.
    ///
    /// # Errors
    /// If the poller fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let timeout = if self.queue.is_empty() { self.poll_timeout() } else { Some(Duration::ZERO) };
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                events.clear();
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::OutOfMemory => {
                        #[expect(clippy::disallowed_methods, reason = "there is nothing else to wait with")]
                        thread::sleep(RETRY_PAUSE);
                    }
                    _ => return Err(error),
                }
            }
            let now = now();
            for event in &events {
                if event.token() != WAKER {
                    self.enqueue(event.token());
                }
            }
            if self.run_commands(now) {
                return Ok(());
            }
            for _ in 0..self.queue.len() {
                if let Some(token) = self.queue.pop_front() {
                    self.serve(token, now);
                }
            }
            self.sessions.remove_unused(IDLE, now);
        }
    }

    /// Executes the commands of handles, and returns whether to stop.
    fn run_commands(&mut self, now: Instant) -> bool {
        let Some(inbox) = &self.inbox else { return false };
        let commands = std::mem::take(&mut *inbox.commands.lock().unwrap_or_else(PoisonError::into_inner));
        for command in commands {
            match command {
                Command::Target(container) => {
                    self.container = container;
                    self.loop_logged = false;
                    while self.sessions.remove_oldest() {}
                }
                Command::Report(reply) => reply(self.report(now)),
                Command::Stop => return true,
            }
        }
        false
    }

    fn report(&self, now: Instant) -> Report {
        let open = self.sessions.iter().take(LISTED).map(|(client, session)| OpenClient {
            peer: client.peer,
            bytes_up: session.bytes_up,
            bytes_down: session.bytes_down,
            age: now.saturating_duration_since(session.opened),
        });
        Report { open: open.collect(), ..self.totals.clone() }
    }

    /// Returns the time until there is something to do besides events.
    fn poll_timeout(&self) -> Option<Duration> {
        let expiry = self.sessions.oldest_use().map(|used| (used + IDLE).saturating_duration_since(now()));
        let look = self.inbox.is_some().then_some(LONGEST_SLEEP);
        [expiry, look].into_iter().flatten().min()
    }

    fn enqueue(&mut self, token: Token) {
        let queued = match token {
            LISTENER => &mut self.listener_queued,
            Token(number) => match self.sessions.get_mut(number) {
                Some(session) => &mut session.queued,
                None => return, // removed meanwhile
            },
        };
        if !std::mem::replace(queued, true) {
            self.queue.push_back(token);
        }
    }

    /// Reads from one socket, until a read would block or its turn is over.
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
                (Ok(count), Token(number)) => self.forward_replies(number, *count, now),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return self.mark_dry(token),
                // The container's port was closed when an earlier datagram arrived. It may open
                // again.
                (Err(_), _) => {}
            }
            // After a batch that is not full, the next datagram or error causes a new event.
            if received.is_ok_and(|count| count < Batch::CAPACITY) {
                return self.mark_dry(token);
            }
        }
        self.queue.push_back(token);
    }

    fn mark_dry(&mut self, token: Token) {
        match token {
            LISTENER => self.listener_queued = false,
            Token(number) => {
                if let Some(session) = self.sessions.get_mut(number) {
                    session.queued = false;
                }
            }
        }
    }

    /// Sends datagrams of clients to the container, each through its session.
    fn forward(&mut self, count: usize, now: Instant) {
        let Some(container) = self.container else { return };
        let mut start = 0;
        while start < count {
            let client = self.client(start);
            let same = (start + 1..count).take_while(|i| self.client(*i) == client).count();
            let range = start..start + 1 + same;
            start = range.end;
            let Some(client) = client else { continue };
            match self.session(client, container, self.batch.hops(range.start), now) {
                Ok(None) => {}
                Ok(Some(number)) => {
                    self.sessions.touch(number, now);
                    let bytes = self.bytes(range.clone());
                    self.totals.bytes_up += bytes;
                    if let Some(session) = self.sessions.get_mut(number) {
                        session.bytes_up += bytes;
                        send_all(range, |part| self.batch.send(&session.socket, part, None, None));
                    }
                }
                Err(error) => {
                    let text = format_args!("cannot forward udp/{} to udp/{container}: {error}", client.peer);
                    (self.log)(text);
                }
            }
        }
    }

    /// Sends datagrams of the container to the client of a session.
    fn forward_replies(&mut self, number: usize, count: usize, now: Instant) {
        self.sessions.touch(number, now);
        let bytes = self.bytes(0..count);
        self.totals.bytes_down += bytes;
        if let Some(session) = self.sessions.get_mut(number) {
            session.bytes_down += bytes;
        }
        if let Some((client, _)) = self.sessions.get(number) {
            send_all(0..count, |part| self.batch.send(&self.listener, part, Some(client.peer), client.local));
        }
    }

    fn client(&self, number: usize) -> Option<Client> {
        let (_, peer, local) = self.batch.datagram(number);
        peer.map(|peer| Client { peer, local })
    }

    fn bytes(&self, range: Range<usize>) -> u64 {
        range.map(|number| self.batch.datagram(number).0.len() as u64).sum()
    }

    /// Returns the session of a client, a new one if necessary; `None` if the hops of the datagram
    /// are used up.
    ///
    /// As a router does, a session sends with one hop less than its first datagram had left. Where
    /// forwarders lead to each other, each hop is a new client, and without a limit there would be
    /// no end to it.
    fn session(
        &mut self,
        client: Client,
        container: SocketAddr,
        hops: Option<u8>,
        now: Instant,
    ) -> io::Result<Option<usize>> {
        if let Some(number) = self.sessions.find(&client) {
            return Ok(Some(number));
        }
        // Always set, because the default of the host may be higher.
        let hops = hops.map_or(HOPS, |hops| HOPS.min(hops.saturating_sub(1)));
        if hops == 0 {
            if !std::mem::replace(&mut self.loop_logged, true) {
                (self.log)(format_args!(
                    "datagrams to udp/{container} are forwarded in a loop: they are dropped"
                ));
            }
            return Ok(None);
        }
        if self.sessions.len() >= self.most {
            self.sessions.remove_oldest();
        }
        let source = self.transparent.then_some(client.peer);
        let socket = loop {
            match sys::connect_datagram(container, source) {
                Ok(socket) => break socket,
                // The session that was unused longest makes room.
                Err(error) if is_out_of_descriptors(&error) && self.sessions.remove_oldest() => {}
                Err(error) => return Err(error),
            }
        };
        sys::set_hops(socket.as_fd(), hops)?;
        let number = self.sessions.next_number();
        watch(&self.poll, &socket, Token(number))?;
        self.totals.clients += 1;
        let session = Session { socket, queued: false, opened: now, bytes_up: 0, bytes_down: 0 };
        self.sessions.insert(client, session, now);
        Ok(Some(number))
    }
}

/// Registers a socket with the poller.
fn watch(poll: &Poll, socket: &OwnedFd, token: Token) -> io::Result<()> {
    loop {
        match poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sends datagrams. One that cannot be sent is dropped, as UDP permits.
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

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("container", &self.container).finish_non_exhaustive()
    }
}
