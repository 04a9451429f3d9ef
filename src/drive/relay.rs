#![forbid(unsafe_code)]
//! [`Relay`]: performs the steps of a [`RelayMachine`] on two [`Transport`]s.

mod error;
mod options;

pub use error::{PrefillError, SetupError};
pub use options::{Ready, RelayOptions, State, Wants};

use std::io::{self, ErrorKind};
#[cfg(feature = "engine")]
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::lane::{Filled, Lane};
use super::transport::Transport;
use super::worker::{Event, Worker};
use crate::error::Side;
use crate::relay::{Interest, Readiness, RelayMachine, RelayStats, Step};
use crate::sys::{self, Protocol};

/// The most that a host may prefill on one side: more than a buffer for a response head.
pub const PREFILL_LIMIT: usize = 1024 * 1024;

/// What a read costs of the budget at least, so that a quick exchange of small messages lets others
/// have their turn, too: at most 64 reads a pump by default.
const READ_CHARGE: usize = 16 * 1024;

/// Two joined byte streams that the host drives. See the [module](super).
///
/// It never closes what it was given: the host does, once the state is [`State::Done`].
#[derive(Debug)]
pub struct Relay<D, U> {
    machine: RelayMachine,
    downstream: D,
    upstream: U,
    up: Lane,
    down: Lane,
    budget: u32,
    started: bool,
    /// Whether both sides are closed as soon as it is done.
    closes_when_done: bool,
    /// The last error of a system call, with the side whose connection it was on. Boxed: few
    /// tunnels have one, and an idle one is to be small.
    last_error: Option<Box<(Side, io::Error)>>,
}

impl<D: Transport, U: Transport> Relay<D, U> {
    /// Joins two transports.
    ///
    /// # Errors
    /// When a plain side is not a non-blocking stream socket.
    pub fn new(downstream: D, upstream: U, options: RelayOptions, now: Instant) -> Result<Self, SetupError> {
        prepare(&downstream, Side::Downstream, options)?;
        prepare(&upstream, Side::Upstream, options)?;
        let unknown = Ready { downstream: Readiness::ALL, upstream: Readiness::ALL };
        Ok(Self { closes_when_done: false, ..Self::join(downstream, upstream, unknown, options, now) })
    }

    /// Joins two transports that are known to be non-blocking streams with their options set. What
    /// they are not `ready` for will be an event. They are dropped as soon as the relay is done.
    pub(crate) fn join(
        downstream: D,
        upstream: U,
        ready: Ready,
        options: RelayOptions,
        now: Instant,
    ) -> Self {
        let splice = options.splice && downstream.is_plain() && upstream.is_plain();
        Self {
            machine: RelayMachine::new(options.config, now).with_ready(ready.downstream, ready.upstream),
            downstream,
            upstream,
            up: Lane::new(splice),
            down: Lane::new(splice),
            budget: u32::try_from(options.budget).unwrap_or(u32::MAX),
            started: false,
            closes_when_done: true,
            last_error: None,
        }
    }

    /// Turns on keepalive probes for a side.
    #[cfg(feature = "engine")]
    pub(crate) fn probe(&mut self, side: Side) {
        if let Some(socket) = self.transport(side).socket() {
            // Fails for a socket that is not TCP, or whose peer is gone already.
            let _ = sys::set_keepalive(socket);
        }
    }

    /// Returns when it has to be pumped at the latest.
    #[cfg(feature = "engine")]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Returns the socket of a side.
    #[cfg(feature = "engine")]
    pub(crate) fn socket(&self, side: Side) -> Option<BorrowedFd<'_>> {
        match side {
            Side::Downstream => self.downstream.socket(),
            Side::Upstream => self.upstream.socket(),
        }
    }

    /// Takes bytes that the host has already read from a side. They are delivered first.
    ///
    /// # Errors
    /// After the first pump, and above [`PREFILL_LIMIT`]. Nothing was taken then.
    pub fn prefill(&mut self, from: Side, bytes: &[u8]) -> Result<(), PrefillError> {
        if self.started {
            return Err(PrefillError::Started);
        }
        if self.lane(from).spilled().len().saturating_add(bytes.len()) > PREFILL_LIMIT {
            return Err(PrefillError::TooMuch);
        }
        self.prefill_unbounded(from, bytes);
        Ok(())
    }

    /// Like [`prefill`](Self::prefill) before the first pump, for bytes that the caller has
    /// bounded.
    pub(crate) fn prefill_unbounded(&mut self, from: Side, bytes: &[u8]) {
        debug_assert!(!self.started, "bytes can be prefilled before the first pump only");
        if !bytes.is_empty() {
            let all = [self.lane(from).spilled(), bytes].concat();
            self.lane_mut(from).spill(&all);
            let made = self.machine.stats().last_activity;
            self.machine.handle_filled(from, bytes.len(), false, made);
        }
    }

    /// Moves what can be moved. May be called at any time, spuriously.
    pub fn pump(&mut self, worker: &mut Worker, ready: Ready, now: Instant) -> Wants {
        let state = self.advance(worker, ready, now);
        Wants {
            state,
            downstream: self.interest(Side::Downstream),
            upstream: self.interest(Side::Upstream),
            deadline: self.machine.poll_timeout(),
        }
    }

    /// Moves what can be moved, for an owner that asks for interests and the deadline by itself.
    pub(crate) fn advance(&mut self, worker: &mut Worker, ready: Ready, now: Instant) -> State {
        self.started = true;
        if self.machine.close_reason().is_none() {
            self.machine.handle_ready(Side::Downstream, ready.downstream);
            self.machine.handle_ready(Side::Upstream, ready.upstream);
            self.notice_vanished_client(worker, ready.downstream, now);
            self.machine.handle_timeout(now);
        }
        for side in [Side::Downstream, Side::Upstream] {
            if self.is_unflushed(side)
                && let Err(error) = self.transport(side).flush()
            {
                self.written(side.other(), Err(error), worker, now);
            }
        }
        let mut budget = self.budget as usize;
        let exhausted = loop {
            let up = self.turn(Side::Downstream, worker, &mut budget, now);
            let down = self.turn(Side::Upstream, worker, &mut budget, now);
            if budget == 0 && (up || down) {
                break true;
            }
            if !up && !down {
                break false;
            }
        };
        if self.machine.close_reason().is_some() {
            self.finish();
            State::Done
        } else if exhausted {
            State::Yield
        } else {
            State::Running
        }
    }

    /// Handles a dead connection of a side that the host has found by itself.
    pub fn peer_gone(&mut self, side: Side, now: Instant) {
        self.machine.handle_reset(side, now);
    }

    /// Ends the relay, because the host cannot serve a side's connection any longer: the error is
    /// the host's own.
    #[cfg(feature = "engine")]
    pub(crate) fn fail(&mut self, side: Side, error: io::Error, now: Instant) {
        self.last_error = Some(Box::new((side, error)));
        self.machine.handle_reset(side, now);
    }

    /// Lets the relay live until `at`, then ends it.
    pub fn drain(&mut self, at: Instant) {
        self.machine.drain(at);
    }

    /// Ends the relay with the next pump.
    pub fn kill(&mut self) {
        self.machine.kill();
    }

    /// Returns counts, times and reasons so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.machine.stats()
    }

    /// Returns how many bytes went through a pipe in the direction that starts at `from`.
    #[must_use]
    pub fn spliced(&self, from: Side) -> u64 {
        self.lane(from).spliced()
    }

    /// Returns the error of the last system call that failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&io::Error> {
        self.last_error.as_deref().map(|(_, error)| error)
    }

    /// Returns the last error, if it was one of this side's connection.
    #[cfg(feature = "engine")]
    pub(crate) fn error_of(&self, side: Side) -> Option<&io::Error> {
        self.last_error.as_deref().filter(|(failed, _)| *failed == side).map(|(_, error)| error)
    }

    /// Returns whether `side` has to be closed without its clean end (FIN, close_notify), because
    /// its stream was cut. Plain TCP sockets have been prepared for that already (SO_LINGER).
    #[must_use]
    pub fn must_abort(&self, side: Side) -> bool {
        self.machine.must_abort(side)
    }

    /// Returns the transports, to be closed.
    pub fn into_transports(self) -> (D, U) {
        (self.downstream, self.upstream)
    }

    /// Performs the next step of one direction. Returns whether there was one.
    fn turn(&mut self, from: Side, worker: &mut Worker, budget: &mut usize, now: Instant) -> bool {
        match self.machine.next(from) {
            Step::Wait => return false,
            Step::Read if *budget == 0 => return false,
            Step::Read => {
                let n = self.fill(from, worker, now);
                *budget = budget.saturating_sub(n.max(READ_CHARGE));
            }
            Step::Discard if *budget == 0 => return false,
            Step::Discard => {
                let n = self.read(from, worker, now);
                *budget = budget.saturating_sub(n.max(READ_CHARGE));
            }
            Step::Write => self.deliver(from, worker, now),
            Step::ShutWrite => self.shut(from, worker, now),
            Step::Abort { forced } => self.abort(from, forced, now),
        }
        true
    }

    /// Reads once, by copy or splice, and writes what was read. Returns how many bytes were read.
    fn fill(&mut self, from: Side, worker: &mut Worker, now: Instant) -> usize {
        let (lane, source, _) = self.parts(from);
        if lane.is_bulk()
            && let Some(result) = lane.fill_pipe(source, usize::MAX, worker)
        {
            let n = self.filled(from, result, worker, now);
            if n > 0 {
                self.deliver(from, worker, now);
            }
            return n;
        }
        let n = self.read(from, worker, now);
        if n == 0 {
            return 0;
        }
        let (_, _, target) = self.parts(from);
        let (plain, result) = (target.is_plain(), target.write(&worker.scratch[..n]));
        let taken = self.written(from, result, worker, now);
        // A write that failed has been handled; after a short one a socket takes no more now.
        if plain && taken > 0 && taken < n {
            self.machine.handle_write_blocked(from);
        }
        if taken < n && self.machine.buffered(from) > 0 {
            self.lane_mut(from).spill(&worker.scratch[taken..n]);
        }
        n
    }

    /// Reads into the scratch buffer. Returns how many bytes were read.
    fn read(&mut self, from: Side, worker: &mut Worker, now: Instant) -> usize {
        let result = match from {
            Side::Downstream => self.up.read(&mut self.downstream, worker),
            Side::Upstream => self.down.read(&mut self.upstream, worker),
        };
        self.filled(from, result, worker, now)
    }

    /// Handles the result of a read. Returns how many bytes were read.
    fn filled(&mut self, from: Side, result: io::Result<Filled>, worker: &mut Worker, now: Instant) -> usize {
        match result {
            Ok(Filled::Bytes { n, short }) => {
                self.machine.handle_filled(from, n, short, now);
                return n;
            }
            Ok(Filled::End) => self.machine.handle_eof(from, now),
            Ok(Filled::Blocked) => self.machine.handle_read_blocked(from),
            Err(error) => {
                worker.report(&Event::Reset(from, &error));
                self.last_error = Some(Box::new((from, error)));
                self.machine.handle_reset(from, now);
            }
        }
        0
    }

    /// Writes what the direction holds.
    fn deliver(&mut self, from: Side, worker: &mut Worker, now: Instant) {
        let (lane, _, target) = self.parts(from);
        let result = lane.deliver(target, worker);
        self.written(from, result, worker, now);
        if self.machine.buffered(from) == 0 {
            self.lane_mut(from).clear();
        }
    }

    /// Handles the result of a write. Returns how many bytes were taken.
    fn written(&mut self, from: Side, result: io::Result<usize>, worker: &mut Worker, now: Instant) -> usize {
        match result {
            Ok(n) => {
                self.machine.handle_delivered(from, n, now);
                return n;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.machine.handle_write_blocked(from),
            Err(error) if sys::is_starved(&error) => self.machine.handle_write_starved(now),
            Err(error) => self.write_refused(from, error, worker, now),
        }
        0
    }

    fn write_refused(&mut self, from: Side, error: io::Error, worker: &mut Worker, now: Instant) {
        let reset = error.kind() != ErrorKind::BrokenPipe;
        let hung_up = sys::is_hang_up(&error);
        let event = match from.other() {
            Side::Upstream if !reset => Event::UpstreamRefused(&error),
            side => Event::Reset(side, &error),
        };
        worker.report(&event);
        self.last_error = Some(Box::new((from.other(), error)));
        if hung_up {
            self.machine.handle_write_refused(from, reset, now);
        } else {
            // The target would wait for the rest, or for the end.
            self.machine.handle_reset(from.other(), now);
        }
    }

    fn shut(&mut self, from: Side, worker: &mut Worker, now: Instant) {
        if self.closes_when_done
            && self.machine.is_over(from.other())
            && self.transport(from.other()).is_plain()
        {
            // This is the last step: the close that follows sends the end.
            return self.machine.handle_shut(from, now);
        }
        match self.transport(from.other()).shutdown_write() {
            Ok(()) => self.machine.handle_shut(from, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.machine.handle_write_blocked(from),
            Err(error) => self.write_refused(from, error, worker, now),
        }
    }

    /// Handles a reset source: the target's close becomes a reset, once the kernel has sent the
    /// rest.
    fn abort(&mut self, from: Side, forced: bool, now: Instant) {
        let target = self.transport(from.other());
        let in_kernel = target.socket().is_some_and(|socket| {
            matches!(sys::stream_protocol(socket), Ok(Some(Protocol::Tcp)))
                && sys::unsent(socket).is_ok_and(|bytes| bytes > 0)
        });
        let waiting = !forced && (in_kernel || !target.is_flushed());
        if waiting {
            self.machine.handle_abort_pending(now);
        } else {
            self.machine.handle_aborted(from);
        }
    }

    /// Asks whether the client has vanished, if its events are ignored: while its bytes cannot be
    /// forwarded, and after its end. Otherwise its tunnel would stay for ever.
    fn notice_vanished_client(&mut self, worker: &mut Worker, ready: Readiness, now: Instant) {
        if !(ready.hup || ready.read) || !self.machine.ignores_events_of(Side::Downstream) {
            return;
        }
        let write_open = self.machine.may_write(Side::Downstream);
        if self.downstream.socket().is_some_and(|socket| sys::has_failed(socket, write_open)) {
            let error = io::Error::from_raw_os_error(libc::ECONNRESET);
            worker.report(&Event::Reset(Side::Downstream, &error));
            self.last_error = Some(Box::new((Side::Downstream, error)));
            self.machine.handle_reset(Side::Downstream, now);
        }
    }

    /// Releases what is held, and arranges that a cut stream does not look complete.
    fn finish(&mut self) {
        self.up.clear();
        self.down.clear();
        for (side, socket) in
            [(Side::Downstream, self.downstream.socket()), (Side::Upstream, self.upstream.socket())]
        {
            if let Some(socket) = socket.filter(|_| self.machine.must_abort(side)) {
                // There is nothing to arrange on a Unix socket, or on one that is dead already.
                let _ = sys::set_reset_on_close(socket);
            }
        }
    }

    /// Returns the events of a side to wait for.
    pub(crate) fn interest(&self, side: Side) -> Interest {
        let interest = self.machine.interest(side);
        Interest { write: interest.write || self.is_unflushed(side), ..interest }
    }

    /// Returns whether a side's transport keeps bytes that its peer is still to get.
    fn is_unflushed(&self, side: Side) -> bool {
        let flushed = match side {
            Side::Downstream => self.downstream.is_flushed(),
            Side::Upstream => self.upstream.is_flushed(),
        };
        !flushed && self.machine.is_delivering(side.other())
    }

    fn transport(&mut self, side: Side) -> &mut dyn Transport {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    fn lane(&self, from: Side) -> &Lane {
        match from {
            Side::Downstream => &self.up,
            Side::Upstream => &self.down,
        }
    }

    fn lane_mut(&mut self, from: Side) -> &mut Lane {
        match from {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }

    /// Returns the lane, the source and the target of one direction.
    fn parts(&mut self, from: Side) -> (&mut Lane, &mut dyn Transport, &mut dyn Transport) {
        match from {
            Side::Downstream => (&mut self.up, &mut self.downstream, &mut self.upstream),
            Side::Upstream => (&mut self.down, &mut self.upstream, &mut self.downstream),
        }
    }
}

fn prepare(transport: &impl Transport, side: Side, options: RelayOptions) -> Result<(), SetupError> {
    let Some(socket) = transport.socket() else { return Ok(()) };
    let protocol = match sys::stream_protocol(socket) {
        Ok(Some(protocol)) => protocol,
        Ok(None) => return Err(SetupError::NotStream(side)),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
            return Err(SetupError::NotStream(side));
        }
        Err(error) => return Err(SetupError::System(side, error)),
    };
    if !sys::is_nonblocking(socket).map_err(|error| SetupError::System(side, error))? {
        return Err(SetupError::Blocking(side));
    }
    if options.tune_sockets && protocol == Protocol::Tcp {
        // Fails for a socket whose peer is gone already; the first read will find that.
        let _ = sys::set_nodelay(socket);
        let _ = sys::set_keepalive(socket);
    }
    Ok(())
}
