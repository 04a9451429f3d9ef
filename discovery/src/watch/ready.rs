#![forbid(unsafe_code)]
//! [`Prober`]: tells when ports accept connections.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dockline_sys as sys;

use super::event::Id;
use crate::now;

/// First and longest pause between attempts for as long as [`EAGER`], each twice as long as the one
/// before, and the pause after that.
const PAUSES: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(40), Duration::from_secs(1)];
/// A program that has just been started is expected to listen soon.
const EAGER: Duration = Duration::from_secs(5);
/// First and longest pause before looking after an attempt that the kernel has not decided at once,
/// as it does on a bridge of this machine.
const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];
/// Time for an attempt.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Undecided attempts at a time.
pub(super) const UNDECIDED_MAX: usize = 256;

/// Connects to ports, again and again, until they accept. It has one thread. Dropping it ends that.
pub(super) struct Prober {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// The addresses of a container to probe from now on in place of all others of it, with the
    /// ticket under which they are reported.
    orders: BTreeMap<Id, (u64, Vec<SocketAddr>)>,
    closed: bool,
}

impl Prober {
    /// Starts it. `accepts` is called once with each address that accepts, its container and
    /// ticket.
    pub(super) fn start(accepts: impl Fn(Id, u64, SocketAddr) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let its = Arc::clone(&shared);
        thread::Builder::new().name("docker-probe".into()).spawn(move || its.run(&accepts))?;
        Ok(Self { shared })
    }

    /// Probes these addresses of a container, in place of those before.
    pub(super) fn probe(&self, id: Id, ticket: u64, addresses: Vec<SocketAddr>) {
        self.shared.lock().orders.insert(id, (ticket, addresses));
        self.shared.wake.notify_one();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, accepts: &impl Fn(Id, u64, SocketAddr)) {
        let mut probes = Probes::default();
        while let Some(orders) = self.wait(probes.deadline()) {
            for (id, (ticket, addresses)) in orders {
                probes.replace(&id, ticket, addresses, now());
            }
            while let Some((id, ticket, address)) = probes.next(now()) {
                accepts(id, ticket, address);
            }
        }
    }

    /// Waits for orders, or until a time, and returns the orders; `None`: it is closed.
    fn wait(&self, until: Option<Instant>) -> Option<BTreeMap<Id, (u64, Vec<SocketAddr>)>> {
        let mut state = self.lock();
        while state.orders.is_empty() && !state.closed {
            state = match until.map(|until| until.saturating_duration_since(now())) {
                Some(Duration::ZERO) => break,
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        (!state.closed).then(|| std::mem::take(&mut state.orders))
    }
}

/// The ports that do not accept yet.
#[derive(Default)]
pub(super) struct Probes {
    probes: BTreeMap<(Id, SocketAddr), Probe>,
    /// When to go on with each of them. One that was replaced is found by its ticket.
    due: BinaryHeap<Reverse<(Instant, u64, Id, SocketAddr)>>,
    /// Attempts that the kernel has not decided.
    pub(super) undecided: usize,
}

struct Probe {
    ticket: u64,
    /// When it was begun.
    since: Instant,
    pause: Duration,
    attempt: Option<Attempt>,
}

/// A connection that is being made.
struct Attempt {
    socket: OwnedFd,
    until: Instant,
    look: Duration,
}

impl Probes {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn replace(&mut self, id: &Id, ticket: u64, addresses: Vec<SocketAddr>, now: Instant) {
        self.probes.retain(|(owner, _), probe| {
            self.undecided -= usize::from(owner == id && probe.attempt.is_some());
            owner != id
        });
        for address in addresses {
            let probe = Probe { ticket, since: now, pause: PAUSES[0], attempt: None };
            self.probes.insert((Id::clone(id), address), probe);
            self.due.push(Reverse((now, ticket, Id::clone(id), address)));
        }
    }

    /// Goes on with what is due, until one accepts. Returns that, which is none of them any more.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Id, u64, SocketAddr)> {
        while self.deadline().is_some_and(|at| at <= now) {
            let Reverse((_, ticket, id, address)) = self.due.pop()?;
            let key = (id, address);
            let Some(probe) = self.probes.get_mut(&key).filter(|probe| probe.ticket == ticket) else {
                continue;
            };
            self.undecided -= usize::from(probe.attempt.is_some());
            let step = probe.step(address, self.undecided < UNDECIDED_MAX, now);
            self.undecided += usize::from(probe.attempt.is_some());
            match step {
                Some(pause) => self.due.push(Reverse((now + pause, ticket, key.0, address))),
                None => {
                    self.probes.remove(&key);
                    return Some((key.0, ticket, address));
                }
            }
        }
        None
    }
}

impl Probe {
    /// Takes one step. Returns after which time to take the next one; `None`: the port accepts.
    fn step(&mut self, address: SocketAddr, may_connect: bool, now: Instant) -> Option<Duration> {
        let mut attempt = match self.attempt.take() {
            Some(attempt) => attempt,
            None if !may_connect => return Some(LOOKS[1]),
            None => match sys::connect_stream(address, None, None) {
                Ok(socket) => Attempt { socket, until: now + ATTEMPT, look: LOOKS[0] },
                Err(_) => return Some(self.next_pause(now)),
            },
        };
        match sys::poll_write(attempt.socket.as_fd()) {
            (false, false) if now < attempt.until => {
                let look = attempt.look;
                attempt.look = (look * 2).min(LOOKS[1]);
                self.attempt = Some(attempt);
                Some(look)
            }
            (true, false) if matches!(sys::take_error(attempt.socket.as_fd()), Ok(None)) => None,
            _ => Some(self.next_pause(now)),
        }
    }

    fn next_pause(&mut self, now: Instant) -> Duration {
        let [_, longest, patient] = PAUSES;
        if now.saturating_duration_since(self.since) >= EAGER {
            return patient;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(longest);
        pause
    }
}
