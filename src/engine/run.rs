#![forbid(unsafe_code)]
//! [`Engine`]: the loop.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::accept::{self, Got, PAUSE, Port};
use super::core::{Core, End, Owner};
use super::handle::{Accepted, Command, Handle, Pair, count};
use super::observe::{ClientInfo, Event, Observer, OpenTunnel, PeerAddr};
use super::own::Own;
use super::pool::Pool;
use super::resolve::Resolver;
use super::service::{Listener, ListenerHandle, Upstream};
use super::session::{Coarse, Kind, Next, Session};
use super::slab::{Slab, Token};
use super::stream::Stream;
use super::timers::Timers;
use super::tunnel::{Early, Origin, TunnelSession};
use crate::drive::{RelayOptions, Worker, WorkerOptions};
use crate::error::Side;
use crate::relay::Readiness;
use crate::sys;

/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;

/// How long the loop sleeps at most while others have a handle: it looks for commands, and for room with its peers,
/// even if the kernel has refused each attempt to wake it. It is never needed with an honest kernel, and a thousand
/// published ports are a thousand processes that wake for it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Before the kernel is asked again for what it has refused without a reason that lasts.
const BREATH: Duration = Duration::from_millis(10);

/// Most tunnels in one list.
const LISTED: usize = 1000;

/// Tokens from here on up are listeners'; the last is the waker's.
const WAKER: usize = usize::MAX;
const FIRST_PORT: usize = WAKER - 1;

/// The bounds and habits of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Client connections of an engine at a time; at the bound, accepting waits. `None`: a third of the descriptors
    /// that the process may open (`RLIMIT_NOFILE`), less 64; [`Workers`](super::Workers) have an equal share of that.
    pub connections: Option<usize>,
    /// Connections accepted per listener and turn of the loop. Default 64.
    pub accepts: usize,
    /// TLS handshakes that get their turn per turn of the loop, so that a flood of them leaves tunnels theirs.
    /// Default 4.
    pub handshakes: usize,
    /// How tunnels are relayed. Their idle limit comes from [`Limits`](crate::limits::Limits).
    pub relay: RelayOptions,
    /// The pipes of tunnels and long bodies.
    pub worker: WorkerOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            connections: None,
            accepts: 64,
            handshakes: 4,
            relay: RelayOptions::default(),
            worker: WorkerOptions::default(),
        }
    }
}

/// Whether an engine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It serves.
    Running,
    /// It finishes what it has begun.
    Draining,
    /// It has stopped, or drained: nothing is left to do.
    Done,
}

/// One loop. See the [module](super).
///
/// ```
/// use std::net::TcpListener;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use dockline::engine::{
///     Address, Engine, EngineOptions, EngineState, Listener, ListenerSettings, Service, Upstream,
/// };
///
/// # fn main() -> std::io::Result<()> {
/// let daemon = Upstream::new("docker", vec![Address::Unix("/var/run/docker.sock".into())]);
/// let settings = ListenerSettings::new("docker", Service::Http(Arc::new(Arc::new(daemon))));
/// let socket = TcpListener::bind("127.0.0.1:0")?;
///
/// let mut engine = Engine::new(EngineOptions::default(), Arc::new(()))?;
/// let handle = engine.handle(); // to be used from anywhere
/// handle.listen(Listener::new(socket.into(), settings));
/// # handle.drain(Some(Duration::ZERO));
/// while engine.poll(None)? != EngineState::Done {}
/// # Ok(()) }
/// ```
pub struct Engine {
    poll: Poll,
    events: Events,
    core: Core,
    sessions: Slab<Session>,
    ports: Vec<Option<Port>>,
    /// Closed, but the poller would not let go of them yet.
    leaving: Vec<Port>,
    /// Sessions that wait for their turn.
    queue: VecDeque<Token>,
    /// Those whose turn is dear.
    dear: VecDeque<Token>,
    due: Vec<u32>,
    /// Engines among which accepted connections are spread, this one among them.
    peers: Option<Arc<[Handle]>>,
    most: usize,
    was_full: bool,
    pool_check: Option<Instant>,
    state: EngineState,
}

impl Engine {
    /// Makes an engine.
    ///
    /// # Errors
    /// When the kernel has no descriptor or memory for it.
    pub fn new(options: EngineOptions, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let poll = sys::uninterrupted(Poll::new)?;
        let bell = sys::EventFd::new()?;
        let fd = bell.as_fd().as_raw_fd();
        sys::uninterrupted(|| {
            poll.registry().register(&mut SourceFd(&fd), mio::Token(WAKER), Interest::READABLE)
        })?;
        let most = options.connections.map_or_else(default_connections, Ok)?;
        let now = now();
        let events = Arc::clone(&observer);
        let worker =
            Worker::new(options.worker).with_log(Box::new(move |event| events.event(&Event::Relay(event))));
        let core = Core {
            registry: sys::uninterrupted(|| poll.registry().try_clone())?,
            options,
            links: Slab::new(),
            timers: Timers::new(now),
            pool: Pool::default(),
            worker,
            resolver: Resolver::new(),
            own: Own::default(),
            handle: Handle::new(bell),
            observer,
            origin: now,
            now,
            draining: None,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            core,
            sessions: Slab::new(),
            ports: Vec::new(),
            leaving: Vec::new(),
            queue: VecDeque::new(),
            dear: VecDeque::new(),
            due: Vec::new(),
            peers: None,
            most,
            was_full: false,
            pool_check: None,
            state: EngineState::Running,
        })
    }

    /// A handle, to be used from anywhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.handle.clone()
    }

    /// Makes it spread what it accepts over these engines, itself among them.
    pub(super) fn join_peers(&mut self, peers: Arc<[Handle]>, own: &Own) {
        self.peers = Some(peers);
        self.core.own = own.clone();
    }

    /// One turn: waits for events, at most for `timeout` (`None`: for ever), and deals with them.
    ///
    /// # Errors
    /// When the kernel says that there is nothing to wait with. The engine is unusable then.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<EngineState> {
        if self.state == EngineState::Done {
            return Ok(self.state);
        }
        let patience = [timeout, self.timeout()].into_iter().flatten().min();
        if let Err(error) = self.poll.poll(&mut self.events, patience) {
            self.events.clear();
            match error.raw_os_error() {
                Some(libc::EBADF | libc::EFAULT | libc::EINVAL) => return Err(error),
                Some(libc::EINTR) => {}
                // The events are still to be had.
                _ => breathe(),
            }
        }
        self.core.now = now();
        if self.note_events() || self.core.handle.inbox().is_waiting() {
            self.take_commands();
        }
        self.take_timers();
        self.accept();
        self.take_turns();
        self.tend_pool();
        if self.was_full {
            // Whoever has ended made room.
            self.accept();
        }
        self.settle();
        Ok(self.state)
    }

    /// Turns until it is [`EngineState::Done`].
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn run(&mut self) -> io::Result<()> {
        while self.poll(None)? != EngineState::Done {}
        Ok(())
    }

    /// How long a host that waits for its [`AsRawFd`] descriptor in a loop of its own may wait before it calls [`Engine::poll`];
    /// `None`: until the descriptor is readable.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() || !self.dear.is_empty() {
            return Some(Duration::ZERO);
        }
        let paused = self.ports.iter().flatten().filter_map(|port| port.paused).min();
        let drain = self.core.draining.flatten();
        let next = [self.core.timers.next(), paused, drain, self.pool_check].into_iter().flatten().min();
        let next = next.map(|next| next.saturating_duration_since(now()));
        let look = self.core.handle.is_shared().then_some(LONGEST_SLEEP);
        let leave = (!self.leaving.is_empty()).then_some(BREATH);
        [next, look, leave].into_iter().flatten().min()
    }

    /// Sorts what the kernel says; tells whether there are commands.
    fn note_events(&mut self) -> bool {
        let mut commands = false;
        let mut idle = Vec::new();
        for event in &self.events {
            let token = event.token().0;
            if token == WAKER {
                commands = true;
                continue;
            }
            if let Some(port) = port_index(token, self.ports.len()) {
                if let Some(port) = &mut self.ports[port] {
                    port.ready = true;
                }
                continue;
            }
            let hup = event.is_read_closed() || event.is_write_closed() || event.is_error();
            let ready = Readiness { read: event.is_readable(), write: event.is_writable(), hup };
            let link = Token::from(event.token());
            match self.core.links.get_mut(link).map(|owner| owner.token()) {
                Some(Some(owner)) => {
                    if let Some(session) = self.sessions.get_mut(owner) {
                        session.note(owner.side(), ready);
                        enqueue(session, owner, &mut self.queue, &mut self.dear);
                    }
                }
                Some(None) if ready.read || hup => idle.push(link),
                Some(None) | None => {}
            }
        }
        for link in idle {
            // An end, or bytes that nobody asked for: either way it serves nobody any more.
            if let Some(end) = self.core.pool.remove(link) {
                drop(self.core.unlink(end));
                self.core.handle.shared.counters.pooled(self.core.pool.len());
            }
        }
        commands
    }

    fn take_commands(&mut self) {
        for command in self.core.handle.inbox().take() {
            match command {
                Command::Listen(listener) => self.listen(listener),
                Command::Close(handle) => self.close_listener(&handle),
                Command::Accepted(accepted) => self.begin(accepted),
                Command::Pair(pair) => self.adopt(*pair),
                Command::Resolved(resolved) => {
                    let token = Token::from(mio::Token(usize::try_from(resolved.ticket).unwrap_or(WAKER)));
                    if let Some(session) = self.sessions.get_mut(token) {
                        session.resolved(resolved);
                        enqueue(session, token, &mut self.queue, &mut self.dear);
                    }
                }
                Command::Drain(limit) => self.drain(limit),
                Command::Tunnels(reply) => reply(self.open_tunnels()),
                Command::Stop => self.stop(),
            }
        }
    }

    fn open_tunnels(&mut self) -> Vec<OpenTunnel> {
        let now = self.core.now;
        let tunnels = self.sessions.iter_mut().filter_map(|(_, session)| match &session.kind {
            Kind::Tunnel(tunnel) => Some(tunnel.describe(now)),
            _ => None,
        });
        tunnels.take(LISTED).collect()
    }

    fn take_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.core.timers.expired(self.core.now, &mut due);
        for number in due.drain(..) {
            if let Some((token, session)) = self.sessions.at(number) {
                session.timer = None;
                enqueue(session, token, &mut self.queue, &mut self.dear);
            }
        }
        self.due = due;
    }

    /// Closes unused connections that have waited long enough. After all turns: they may have left one to the pool, and
    /// nothing else need ever happen.
    fn tend_pool(&mut self) {
        if self.pool_check.is_some_and(|at| at <= self.core.now) {
            for end in self.core.pool.expired(self.core.now) {
                drop(self.core.unlink(end));
            }
            self.core.handle.shared.counters.pooled(self.core.pool.len());
            self.pool_check = None;
        }
        if self.pool_check.is_none() && self.core.pool.len() > 0 {
            self.pool_check = self.core.pool.next_expiry();
        }
    }

    /// Gives each session that waits for it one turn; handshakes after all others, and only some of them.
    fn take_turns(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(token) = self.queue.pop_front() else { break };
            self.turn(token);
        }
        for _ in 0..self.core.options.handshakes.min(self.dear.len()) {
            let Some(token) = self.dear.pop_front() else { break };
            self.turn(token);
        }
    }

    fn turn(&mut self, token: Token) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        session.queued = false;
        let core = &mut self.core;
        // A panic ends this connection, and no other.
        let next = catch_unwind(AssertUnwindSafe(|| session.advance(core)));
        match next {
            Ok(Next::Wait | Next::Become) => {
                if let Some(deadline) = session.deadline() {
                    let coarse = Coarse::new(deadline.saturating_duration_since(self.core.origin));
                    if session.timer.is_none_or(|timer| coarse < timer) {
                        session.timer = Some(coarse);
                        self.core.timers.schedule(token.index(), deadline);
                    }
                }
            }
            Ok(Next::Again) => enqueue(session, token, &mut self.queue, &mut self.dear),
            Ok(Next::End) => self.end(token),
            Err(_) => {
                count(&self.core.handle.shared.counters.panics, 1);
                self.core.report(&Event::Panicked);
                self.end(token);
            }
        }
    }

    fn end(&mut self, token: Token) {
        let Some(session) = self.sessions.remove(token) else { return };
        let core = &mut self.core;
        if session.timer.is_some() {
            core.timers.cancel(token.index());
        }
        // What a panic left behind may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| session.end(core)));
        let before = self.core.handle.shared.counters.clients_now.fetch_sub(1, Ordering::Relaxed);
        if before == self.most as u64 {
            // There is room again: whoever holds a listener back for want of it has to know.
            for peer in self.peers.iter().flat_map(|peers| peers.iter()) {
                // One that the kernel does not let through looks by itself (LONGEST_SLEEP).
                let _ = peer.wake();
            }
        }
    }

    fn listen(&mut self, listener: Listener) {
        let place = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        let name = Arc::clone(&listener.handle().settings().name);
        match Port::new(listener, mio::Token(FIRST_PORT - place), &self.core) {
            // It is watched before this turn is over.
            Ok(port) if self.core.draining.is_none() => {
                if place == self.ports.len() {
                    self.ports.push(None);
                }
                self.ports[place] = Some(port);
            }
            Ok(_) => {}
            Err(error) => {
                self.core.report(&Event::AcceptFailed { listener: &name, error: &error, paused: false });
            }
        }
    }

    fn close_listener(&mut self, handle: &ListenerHandle) {
        self.close_ports(|port| port.handle.is_same(handle));
    }

    fn close_ports(&mut self, which: impl Fn(&Port) -> bool) {
        let closed = self.ports.iter_mut().filter_map(|place| place.take_if(|port| which(port)));
        self.leaving.extend(closed);
        self.take_leave();
    }

    /// Closes what is to be closed, as far as the poller lets go of it.
    fn take_leave(&mut self) {
        let all = std::mem::take(&mut self.leaving);
        self.leaving = all.into_iter().filter_map(|port| port.close(&self.core.registry).err()).collect();
    }

    /// Takes new connections, after all others had their turn.
    fn accept(&mut self) {
        if !self.leaving.is_empty() {
            self.take_leave();
        }
        for place in 0..self.ports.len() {
            self.accept_from(place);
            let full = self.is_full();
            let Some(port) = &mut self.ports[place] else { continue };
            if port.paused.is_some_and(|until| until <= self.core.now) {
                port.paused = None;
            }
            if let Err(error) = port.watch(port.paused.is_none() && !full, &self.core.registry) {
                let settings = port.handle.settings();
                port.paused = Some(self.core.now + PAUSE);
                self.core.report(&Event::AcceptFailed {
                    listener: &settings.name,
                    error: &error,
                    paused: true,
                });
            }
        }
    }

    fn accept_from(&mut self, place: usize) {
        let Some(port) = &mut self.ports[place] else { return };
        if !std::mem::take(&mut port.ready) {
            port.batch = 1;
            return;
        }
        let batch = port.batch;
        port.batch = (batch * 2).min(self.core.options.accepts.max(1));
        for _ in 0..batch {
            if self.is_full() {
                return;
            }
            let Some(port) = &mut self.ports[place] else { return };
            match port.accept() {
                Got::Client(accepted) => self.place(accepted),
                Got::Lost => {}
                Got::Nothing => return,
                Got::Failed(error) => {
                    port.paused = Some(self.core.now + PAUSE);
                    let settings = port.handle.settings();
                    count(&self.core.handle.shared.counters.accept_pauses, 1);
                    let event = Event::AcceptFailed { listener: &settings.name, error: &error, paused: true };
                    return self.core.report(&event);
                }
            }
        }
    }

    /// Whether there is no room, here or with a peer.
    fn is_full(&mut self) -> bool {
        let least = match &self.peers {
            Some(peers) => peers.iter().map(load).min(),
            None => Some(load(&self.core.handle)),
        };
        let full = least.is_some_and(|least| least >= self.most as u64);
        if full && !self.was_full {
            self.core.report(&Event::Full { connections: self.most });
        }
        self.was_full = full;
        full
    }

    /// Gives a connection to the engine that has the fewest.
    fn place(&mut self, accepted: Accepted) {
        let own = load(&self.core.handle);
        let least = self.peers.as_ref().and_then(|peers| peers.iter().min_by_key(|peer| load(peer)));
        match least {
            Some(peer) if load(peer) < own => {
                peer.shared.counters.clients_now.fetch_add(1, Ordering::Relaxed);
                // It may have drained already, while this one has still to be told.
                if let Err(Command::Accepted(accepted)) = peer.try_send(Command::Accepted(accepted)) {
                    peer.shared.counters.clients_now.fetch_sub(1, Ordering::Relaxed);
                    self.core.handle.shared.counters.clients_now.fetch_add(1, Ordering::Relaxed);
                    self.begin(accepted);
                }
            }
            _ => {
                self.core.handle.shared.counters.clients_now.fetch_add(1, Ordering::Relaxed);
                self.begin(accepted);
            }
        }
    }

    /// Begins to serve a connection that was counted when it was placed.
    fn begin(&mut self, accepted: Accepted) {
        count(&self.core.handle.shared.counters.accepted, 1);
        let token = self.sessions.insert(Session::new(Kind::Gone));
        match accept::begin(accepted, token, &mut self.core) {
            Ok(session) => {
                if let Some(place) = self.sessions.get_mut(token) {
                    *place = session;
                    enqueue(place, token, &mut self.queue, &mut self.dear);
                }
            }
            Err(error) => {
                self.core.report(&Event::Reset { side: Side::Downstream, error: &error });
                self.end(token);
            }
        }
    }

    fn adopt(&mut self, pair: Pair) {
        let counters = &self.core.handle.shared.counters;
        count(&counters.accepted, 1);
        counters.clients_now.fetch_add(1, Ordering::Relaxed);
        let token = self.sessions.insert(Session::new(Kind::Gone));
        match self.join(pair, token) {
            Ok(tunnel) => {
                if let Some(place) = self.sessions.get_mut(token) {
                    *place = Session::new(Kind::Tunnel(Box::new(tunnel)));
                    enqueue(place, token, &mut self.queue, &mut self.dear);
                }
            }
            Err(error) => {
                self.core.report(&Event::Reset { side: Side::Downstream, error: &error });
                self.end(token);
            }
        }
    }

    fn join(&mut self, pair: Pair, token: Token) -> io::Result<TunnelSession> {
        let Pair { downstream, upstream, downstream_early, upstream_early, name } = pair;
        for socket in [&downstream, &upstream] {
            sys::set_nonblocking(socket.as_fd())?;
            if sys::stream_protocol(socket.as_fd())?.is_none() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "not a stream socket"));
            }
        }
        let core = &mut self.core;
        let mut link = |socket, side| -> io::Result<End> {
            core.link(Stream::Plain(socket), Owner::session(token, side))
        };
        let (down, up) = (link(downstream, Side::Downstream)?, link(upstream, Side::Upstream)?);
        let info = ClientInfo { peer: PeerAddr::Unknown, listener: "".into(), tls: false, identity: None };
        let target = Arc::new(Upstream::new(name, Vec::new()));
        let origin = Origin::new(Box::new(info), target, None, b"", b"", core);
        let early = Early { downstream: &downstream_early, upstream: &upstream_early };
        Ok(TunnelSession::new(down, up, &early, None, origin, &mut self.core))
    }

    fn drain(&mut self, limit: Option<Duration>) {
        let at = limit.and_then(|limit| self.core.now.checked_add(limit));
        let at = match self.core.draining {
            // An earlier limit stays.
            Some(present) => [present, at].into_iter().flatten().min(),
            None => at,
        };
        self.core.draining = Some(at);
        self.state = EngineState::Draining;
        self.close_ports(|_| true);
        for end in self.core.pool.drain() {
            drop(self.core.unlink(end));
        }
        self.core.handle.shared.counters.pooled(0);
        for (token, session) in self.sessions.iter_mut() {
            session.drain(&self.core);
            enqueue(session, token, &mut self.queue, &mut self.dear);
        }
    }

    fn stop(&mut self) {
        self.drain(Some(Duration::ZERO));
        let all: Vec<Token> = self.sessions.iter_mut().map(|(token, _)| token).collect();
        for token in all {
            self.end(token);
        }
        self.core.handle.inbox().close();
        self.state = EngineState::Done;
    }

    /// Whether what was begun is finished, or its time is over.
    fn settle(&mut self) {
        if self.state != EngineState::Draining {
            return;
        }
        if self.sessions.len() == 0 {
            if self.core.handle.inbox().close_if_empty() {
                self.state = EngineState::Done;
            }
        } else if self.core.draining.flatten().is_some_and(|limit| limit <= self.core.now) {
            // Tunnels know the limit, but their timers may be a little late. Who is still here then does not go by itself.
            for (token, session) in self.sessions.iter_mut() {
                enqueue(session, token, &mut self.queue, &mut self.dear);
            }
            self.take_turns();
            self.stop();
        }
    }
}

/// How many clients an engine has, and is about to have.
fn load(handle: &Handle) -> u64 {
    handle.shared.counters.clients_now.load(Ordering::Relaxed)
}

/// Puts a session in the line that it belongs to, once.
fn enqueue(session: &mut Session, token: Token, queue: &mut VecDeque<Token>, dear: &mut VecDeque<Token>) {
    if !session.queued {
        session.queued = true;
        if session.is_dear() { dear } else { queue }.push_back(token.with_side(Side::Downstream));
    }
}

fn port_index(token: usize, ports: usize) -> Option<usize> {
    FIRST_PORT.checked_sub(token).filter(|place| *place < ports)
}

/// How many clients the descriptors of the process are good for: each has a connection, one to its upstream, and the odd
/// pipe.
pub(super) fn default_connections() -> io::Result<usize> {
    let files = usize::try_from(sys::max_open_files()?).unwrap_or(usize::MAX);
    Ok((files / 3).saturating_sub(64).max(1))
}

/// Waits a moment, so that a poller that fails does not take the processor.
#[expect(clippy::disallowed_methods, reason = "the loop has nothing else to wait with")]
fn breathe() {
    std::thread::sleep(BREATH);
}

#[expect(clippy::disallowed_methods, reason = "the loop is what reads the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody will look into it: what is sent from now on is closed at once.
        self.core.handle.inbox().close();
    }
}

/// Readable when [`Engine::poll`] has something to do. Valid as long as the engine lives.
impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("state", &self.state).field("sessions", &self.sessions.len()).finish()
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
