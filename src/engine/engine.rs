#![forbid(unsafe_code)]
//! [`Engine`]: the loop, one turn at a time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::accept::{self, Acceptor};
use super::drain::Drain;
use super::handle::{Command, Handle};
use super::local_listeners::LocalListeners;
use super::observe::{Event, Observer};
use super::pool::Pool;
use super::resolve::Resolver;
use super::session::Sessions;
use super::shared::{Owner, Shared};
use super::slab::{Slab, Token};
use super::timers::Timers;
use crate::drive::{RelayOptions, Worker, WorkerOptions};
use crate::relay::Readiness;
use crate::sys;

/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;

/// How long the loop sleeps at most while others have a handle. Then it looks for commands, and for
/// room with its peers, even if the kernel has refused each attempt to wake it. With a kernel that
/// wakes it this is never needed, and a thousand published ports are a thousand processes that wake
/// up for it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// How long to wait before the kernel is asked again for something that it has refused for no
/// lasting reason.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The token of the waker; those below it are the listeners'.
const WAKER: usize = usize::MAX;

/// The bounds and options of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Client connections of an engine at a time; at the bound, accepting waits. `None`: a third of
    /// the descriptors that the process may open (`RLIMIT_NOFILE`), less 64;
    /// [`Workers`](super::Workers) share that equally.
    pub connections: Option<usize>,
    /// Connections accepted per listener and turn of the loop. Default 64.
    pub accepts: usize,
    /// TLS handshakes that get a turn per turn of the loop, so that a flood of them does not delay
    /// tunnels. Default 4.
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

/// The state of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It serves.
    Running,
    /// It finishes what it has begun.
    Draining,
    /// It has stopped or drained: nothing is left to do.
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
/// let settings = ListenerSettings::new("docker", Service::to(daemon));
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
    acceptor: Acceptor,
    sessions: Sessions,
    shared: Shared,
    /// Room for the timers that have expired in a turn.
    expired: Vec<u32>,
    state: EngineState,
}

impl Engine {
    /// Makes an engine.
    ///
    /// # Errors
    /// If the kernel has no descriptor or memory for it.
    pub fn new(options: EngineOptions, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let poll = sys::uninterrupted(Poll::new)?;
        let waker = sys::EventFd::new()?;
        let fd = waker.as_fd().as_raw_fd();
        sys::uninterrupted(|| {
            poll.registry().register(&mut SourceFd(&fd), mio::Token(WAKER), Interest::READABLE)
        })?;
        let now = now();
        let log = Arc::clone(&observer);
        let shared = Shared {
            registry: sys::uninterrupted(|| poll.registry().try_clone())?,
            options,
            capacity: options.connections.map_or_else(default_connections, Ok)?,
            links: Slab::new(),
            timers: Timers::new(now),
            pool: Pool::default(),
            worker: Worker::new(options.worker)
                .with_log(Box::new(move |event| log.event(&Event::Relay(event)))),
            resolver: Resolver::new(),
            local_listeners: LocalListeners::default(),
            handle: Handle::new(waker),
            peers: Arc::new([]),
            observer,
            origin: now,
            now,
            drain: Drain::No,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            acceptor: Acceptor::new(WAKER - 1),
            sessions: Sessions::new(),
            shared,
            expired: Vec::new(),
            state: EngineState::Running,
        })
    }

    /// Returns a handle, to be used from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.shared.handle.clone()
    }

    /// Spreads the connections that it accepts over these engines, this one included, from now on.
    pub(super) fn join_peers(&mut self, peers: Arc<[Handle]>, local_listeners: &LocalListeners) {
        self.shared.peers = peers;
        self.shared.local_listeners = local_listeners.clone();
    }

    /// Runs turns until the engine is [`EngineState::Done`].
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn run(&mut self) -> io::Result<()> {
        while self.poll(None)? != EngineState::Done {}
        Ok(())
    }

    /// Runs one turn: waits for events, at most for `timeout` (`None`: for ever), and handles them.
    ///
    /// # Errors
    /// If the kernel has nothing to wait with. The engine is unusable then.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<EngineState> {
        if self.state == EngineState::Done {
            return Ok(self.state);
        }
        self.wait(timeout)?;
        self.shared.now = now();
        if self.note_events() || self.shared.handle.inbox().is_waiting() {
            self.take_commands();
        }
        self.take_timers();
        self.acceptor.accept(&mut self.sessions, &mut self.shared);
        self.sessions.take_turns(&mut self.shared);
        self.shared.close_expired();
        if self.acceptor.waits_for_room() {
            // Sessions that have ended made room.
            self.acceptor.accept(&mut self.sessions, &mut self.shared);
        }
        self.finish_drain();
        Ok(self.state)
    }

    /// Returns how long a host may wait for the [`AsRawFd`] descriptor in a loop of its own before
    /// it calls [`Engine::poll`]; `None`: until the descriptor is readable.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        if self.sessions.has_turns() {
            return Some(Duration::ZERO);
        }
        let shared = &self.shared;
        let next = [
            shared.timers.next(),
            self.acceptor.paused_until(),
            shared.drain.limit(),
            shared.pool.next_check(),
        ];
        let next = next.into_iter().flatten().min().map(|next| next.saturating_duration_since(now()));
        let look = shared.handle.is_shared().then_some(LONGEST_SLEEP);
        let close = self.acceptor.is_closing().then_some(RETRY_PAUSE);
        [next, look, close].into_iter().flatten().min()
    }

    /// Waits for events.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = [timeout, self.timeout()].into_iter().flatten().min();
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            self.events.clear();
            match error.raw_os_error() {
                Some(libc::EBADF | libc::EFAULT | libc::EINVAL) => return Err(error),
                Some(libc::EINTR) => {}
                // The events can still be had.
                _ => pause(),
            }
        }
        Ok(())
    }

    /// Notes each event with the owner of its token. Returns whether the loop was woken for
    /// commands.
    fn note_events(&mut self) -> bool {
        let mut woken = false;
        for event in &self.events {
            let token = event.token();
            if token.0 == WAKER {
                woken = true;
                continue;
            }
            if self.acceptor.note(token.0) {
                continue;
            }
            let hup = event.is_read_closed() || event.is_write_closed() || event.is_error();
            let ready = Readiness { read: event.is_readable(), write: event.is_writable(), hup };
            let link = Token::from(token);
            match self.shared.links.get_mut(link).copied() {
                Some(Owner::Session(token)) => self.sessions.note(token, ready),
                Some(Owner::Pool(shelf)) => self.shared.note_idle(shelf, link, ready),
                None => {}
            }
        }
        woken
    }

    fn take_commands(&mut self) {
        let mut stops = false;
        for command in self.shared.handle.inbox().take() {
            match command {
                Command::Listen(listener) => self.acceptor.listen(listener, &self.shared),
                Command::Close(handle) => self.acceptor.close(&handle, &self.shared),
                Command::Accepted(accepted) => {
                    accept::begin(accepted, &mut self.sessions, &mut self.shared);
                }
                Command::Pair(pair) => accept::adopt(*pair, &mut self.sessions, &mut self.shared),
                Command::Resolved(resolved) => self.sessions.resolved(resolved),
                Command::Decided(decided) => self.sessions.decided(*decided),
                Command::Drain(limit) => self.drain(limit),
                Command::Tunnels(reply) => reply(self.sessions.open_tunnels(&self.shared)),
                Command::Kill(kill, reply) => reply(self.sessions.kill(&kill, &mut self.shared)),
                Command::Stop => stops = true,
            }
        }
        // Last: it ends what the commands behind it have begun.
        if stops {
            self.stop();
        }
    }

    fn take_timers(&mut self) {
        self.shared.timers.expired(self.shared.now, &mut self.expired);
        for number in self.expired.drain(..) {
            self.sessions.timer_expired(number);
        }
    }

    /// Closes what is idle and tells the sessions to finish.
    fn drain(&mut self, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| self.shared.now.checked_add(limit));
        self.shared.drain = self.shared.drain.begun(limit);
        self.state = EngineState::Draining;
        self.acceptor.close_all(&self.shared);
        self.shared.close_pool();
        self.sessions.drain(&self.shared);
    }

    /// Ends a drain once all sessions have finished, or its limit has passed.
    fn finish_drain(&mut self) {
        if self.state != EngineState::Draining {
            return;
        }
        if self.sessions.len() == 0 {
            if self.shared.handle.inbox().close_if_empty() {
                self.state = EngineState::Done;
            }
        } else if self.shared.drain.limit().is_some_and(|limit| limit <= self.shared.now) {
            // Tunnels know the limit and end by themselves, but their timers may be a little late.
            // Other sessions do not end by themselves.
            self.sessions.enqueue_all();
            self.sessions.take_turns(&mut self.shared);
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.drain(Some(Duration::ZERO));
        self.sessions.end_all(&mut self.shared);
        self.shared.handle.inbox().close();
        self.state = EngineState::Done;
    }
}

/// Returns how many clients the descriptors of the process suffice for: each has a connection, one
/// to its upstream, and now and then a pipe.
pub(super) fn default_connections() -> io::Result<usize> {
    let files = usize::try_from(sys::max_open_files()?).unwrap_or(usize::MAX);
    Ok((files / 3).saturating_sub(64).max(1))
}

/// Pauses, so that a poller that fails does not take the whole processor.
#[expect(clippy::disallowed_methods, reason = "the loop has nothing else to wait with")]
fn pause() {
    std::thread::sleep(RETRY_PAUSE);
}

#[expect(clippy::disallowed_methods, reason = "the loop is what reads the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody looks into the inbox from now on: what is sent is closed at once.
        self.shared.handle.inbox().close();
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
impl Engine {
    /// Returns how many connections the poller watches for sessions and the pool.
    pub(super) fn links(&self) -> usize {
        self.shared.links.len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::super::{Listener, ListenerSettings, Service, Upstream};
    use super::*;

    fn engine() -> Engine {
        Engine::new(EngineOptions::default(), Arc::new(())).unwrap()
    }

    /// Each has a deadline in 300 s, and is closed long before.
    #[test]
    fn connections_that_are_closed_leave_no_timer() {
        let mut engine = engine();
        let address =
            SocketAddr::from_abstract_name(format!("dockline-timers-{}", std::process::id())).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let upstream = Arc::new(Upstream::new("nowhere", Vec::new()));
        let settings = ListenerSettings::new("main", Service::to(upstream));
        engine.handle().listen(Listener::new(listener.into(), settings));
        let turn = |engine: &mut Engine, sessions| {
            while engine.sessions.len() != sessions {
                engine.poll(None).unwrap();
            }
            engine.shared.timers.len()
        };
        for _ in 0..500 {
            let clients = [(); 3].map(|()| UnixStream::connect_addr(&address).unwrap());
            assert_eq!(turn(&mut engine, 3), 3);
            drop(clients);
            assert_eq!((turn(&mut engine, 0), engine.shared.timers.room()), (0, 0));
        }
        assert_eq!(engine.shared.timers.next(), None);
    }

    #[test]
    fn a_loop_that_could_not_be_woken_looks_by_itself() {
        let mut engine = engine();
        let handle = engine.handle();
        assert_eq!(engine.timeout(), Some(LONGEST_SLEEP));
        let sent = handle.inbox().send(Command::Stop, || Err(ErrorKind::OutOfMemory.into()));
        assert!(sent.is_ok());
        // As at the end of that time: nothing has happened.
        assert_eq!(engine.poll(Some(Duration::ZERO)).unwrap(), EngineState::Done);
    }

    #[test]
    fn a_loop_that_nobody_can_send_to_sleeps_until_something_happens() {
        assert_eq!(engine().timeout(), None);
    }
}
