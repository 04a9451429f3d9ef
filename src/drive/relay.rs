#![forbid(unsafe_code)]
//! [`Relay`]: performs the steps of a [`RelayMachine`] on two [`Transport`]s.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::lane::{BULK_MINIMUM, Held, Lane, Mode, spill};
use super::transport::Transport;
use super::worker::{Event, SCRATCH_BYTES, Worker};
use crate::error::Side;
use crate::relay::{Interest, Readiness, RelayConfig, RelayMachine, RelayStats, Step};
use crate::sys::{self, Protocol, SigpipeBlocked};

/// The most that a host may prefill on one side: a response head buffer's worth, with room.
pub const PREFILL_LIMIT: usize = 1024 * 1024;

/// What a read costs of the budget at least, so that a quick exchange of small messages lets others go
/// first, too: at most 64 reads a pump by default.
const READ_CHARGE: usize = 16 * 1024;

/// How a [`Relay`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayOptions {
    /// Time limits.
    pub config: RelayConfig,
    /// About how many bytes one [`Relay::pump`] moves before it lets others go first. 1 MiB by default.
    pub budget: usize,
    /// Whether long transfers may be spliced. On by default.
    pub splice: bool,
    /// Whether TCP sockets get TCP_NODELAY and keepalive probes (30 s, 6 x 10 s). On by default.
    pub tune_sockets: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { config: RelayConfig::default(), budget: 1024 * 1024, splice: true, tune_sockets: true }
    }
}

/// Why a relay cannot be made of two transports.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// A plain socket is in blocking mode: one silent peer would stop the whole loop.
    Blocking(Side),
    /// A descriptor is no stream socket.
    NotStream(Side),
    /// The kernel refused to tell.
    System(Side, io::Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocking(side) => {
                write!(f, "the {side:?} socket is in blocking mode; set O_NONBLOCK first")
            }
            Self::NotStream(side) => write!(f, "the {side:?} descriptor is not a stream socket"),
            Self::System(side, error) => write!(f, "the {side:?} socket: {error}"),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(_, error) => Some(error),
            Self::Blocking(_) | Self::NotStream(_) => None,
        }
    }
}

/// Why bytes were not taken as prefilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefillError {
    /// The relay has been pumped: bytes would overtake others.
    Started,
    /// More than [`PREFILL_LIMIT`] in all on this side.
    TooMuch,
}

impl fmt::Display for PrefillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "bytes can be prefilled before the first pump only",
            Self::TooMuch => "more bytes prefilled than PREFILL_LIMIT allows",
        })
    }
}

impl Error for PrefillError {}

/// What the host saw since the last pump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// Events of the downstream.
    pub downstream: Readiness,
    /// Events of the upstream.
    pub upstream: Readiness,
}

/// Whether and when a relay has to be pumped again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Upon interest or deadline.
    Running,
    /// Soon, but others first: the budget is spent.
    Yield,
    /// It is over: read the [stats](Relay::stats) and close both connections.
    Done,
}

/// What a relay waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Whether to go on.
    pub state: State,
    /// Events of the downstream to wait for.
    pub downstream: Interest,
    /// Events of the upstream to wait for.
    pub upstream: Interest,
    /// Pump at this time at the latest.
    pub deadline: Option<Instant>,
}

/// Two joined byte streams that the host drives. See the [module](super).
///
/// It never closes what it was given: the host does, once the state is [`State::Done`].
#[derive(Debug)]
pub struct Relay<D, U> {
    machine: RelayMachine,
    downstream: D,
    upstream: U,
    up: Path,
    down: Path,
    budget: u32,
    splice: bool,
    started: bool,
    /// Whether both sides are closed as soon as it is done.
    closes_when_done: bool,
    last_error: Option<io::Error>,
}

/// The means of one direction; what it has done is the machine's business.
#[derive(Debug)]
struct Path {
    lane: Lane,
    mode: Mode,
    spliced: u64,
}

impl Path {
    const NEW: Self = Self { lane: None, mode: Mode::Copy, spliced: 0 };
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

    /// Joins two transports that are known to be non-blocking streams, tuned as they should be, and `ready` for so
    /// much: what is not named will be an event. They are dropped as soon as the relay is done.
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
            up: Path::NEW,
            down: Path::NEW,
            budget: u32::try_from(options.budget).unwrap_or(u32::MAX),
            splice,
            started: false,
            closes_when_done: true,
            last_error: None,
        }
    }

    /// Has the kernel probe a side while it is silent.
    #[cfg(feature = "engine")]
    pub(crate) fn probe(&mut self, side: Side) {
        if let Some(socket) = self.transport(side).socket() {
            // Refused by what is no TCP socket, and by one whose peer is gone already.
            let _ = sys::set_keepalive(socket);
        }
    }

    /// When it wants to be pumped at the latest.
    #[cfg(feature = "engine")]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// The socket of a side.
    #[cfg(feature = "engine")]
    pub(crate) fn socket(&self, side: Side) -> Option<BorrowedFd<'_>> {
        match side {
            Side::Downstream => self.downstream.socket(),
            Side::Upstream => self.upstream.socket(),
        }
    }

    /// Hands over bytes that the host has already read from a side. They are delivered first.
    ///
    /// # Errors
    /// After the first pump, and above [`PREFILL_LIMIT`]; nothing was taken then.
    pub fn prefill(&mut self, from: Side, bytes: &[u8]) -> Result<(), PrefillError> {
        if self.started {
            return Err(PrefillError::Started);
        }
        if self.prefilled(from).len().saturating_add(bytes.len()) > PREFILL_LIMIT {
            return Err(PrefillError::TooMuch);
        }
        self.prefill_unbounded(from, bytes);
        Ok(())
    }

    /// Like [`prefill`](Self::prefill) before the first pump, of bytes that somebody else has bounded.
    pub(crate) fn prefill_unbounded(&mut self, from: Side, bytes: &[u8]) {
        debug_assert!(!self.started, "bytes can be prefilled before the first pump only");
        if !bytes.is_empty() {
            let lane = spill(&[self.prefilled(from), bytes].concat());
            self.path_mut(from).lane = lane;
            let made = self.machine.stats().last_activity;
            self.machine.handle_filled(from, bytes.len(), false, made);
        }
    }

    fn prefilled(&self, from: Side) -> &[u8] {
        match self.path(from).lane.as_deref() {
            Some(Held::Spill { bytes, .. }) => bytes,
            Some(Held::Pipe { .. }) | None => &[],
        }
    }

    /// Moves what can be moved. May be called at any time, spuriously.
    pub fn pump(&mut self, worker: &mut Worker, ready: Ready, now: Instant) -> Wants {
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
        }
        self.wants(exhausted)
    }

    /// Tells that a side's connection is dead, which the host found out by itself.
    pub fn peer_gone(&mut self, side: Side, now: Instant) {
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

    /// Counts, times and reasons so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.machine.stats()
    }

    /// Bytes that went through a pipe in the direction that starts at `from`.
    #[must_use]
    pub fn spliced(&self, from: Side) -> u64 {
        self.path(from).spliced
    }

    /// What the last failed system call said.
    #[must_use]
    pub fn last_error(&self) -> Option<&io::Error> {
        self.last_error.as_ref()
    }

    /// Whether `side` has to be closed without its clean end (FIN, close_notify), because its stream was
    /// cut. Plain TCP sockets have been told already (SO_LINGER).
    #[must_use]
    pub fn must_abort(&self, side: Side) -> bool {
        self.machine.must_abort(side)
    }

    /// The transports, to be closed.
    pub fn into_transports(self) -> (D, U) {
        (self.downstream, self.upstream)
    }

    /// Performs steps of one direction until it has to wait or its turn is over. Says whether it did anything.
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

    /// Reads once, by the means that the direction's mode says, and writes what was read.
    fn fill(&mut self, from: Side, worker: &mut Worker, now: Instant) -> usize {
        if self.path(from).mode != Mode::Copy
            && let Some(n) = self.fill_pipe(from, worker, now)
        {
            return n;
        }
        let n = self.read(from, worker, now);
        if n == 0 {
            return 0;
        }
        if n == SCRATCH_BYTES && self.splice {
            self.path_mut(from).mode = Mode::Bulk { moved: 0 };
        }
        let target = self.transport(from.other());
        let (plain, result) = (target.is_plain(), target.write(&worker.scratch[..n]));
        let taken = self.written(from, result, worker, now);
        // A write that failed has said why; of one that was short a socket takes no more now.
        if plain && taken > 0 && taken < n {
            self.machine.handle_write_blocked(from);
        }
        if taken < n && self.machine.buffered(from) > 0 {
            self.path_mut(from).lane = spill(&worker.scratch[taken..n]);
        }
        n
    }

    /// Reads into the scratch buffer.
    fn read(&mut self, from: Side, worker: &mut Worker, now: Instant) -> usize {
        let source = self.transport(from);
        // Only of a socket does a short read tell that it is dry: a TLS session gives a record at a time.
        let (plain, result) = (source.is_plain(), source.read(&mut worker.scratch));
        match result {
            Ok(0) => self.machine.handle_eof(from, now),
            Ok(n) => {
                self.machine.handle_filled(from, n, plain && n < SCRATCH_BYTES, now);
                return n;
            }
            Err(error) => self.read_failed(from, error, worker, now),
        }
        0
    }

    fn read_failed(&mut self, from: Side, error: io::Error, worker: &mut Worker, now: Instant) {
        if error.kind() == ErrorKind::WouldBlock {
            self.machine.handle_read_blocked(from);
        } else {
            worker.report(&Event::Reset(from, &error));
            self.last_error = Some(error);
            self.machine.handle_reset(from, now);
        }
    }

    /// Splices from the source to a pipe, and on. `None` if there is no pipe to be had: copy.
    fn fill_pipe(&mut self, from: Side, worker: &mut Worker, now: Instant) -> Option<usize> {
        let pipe = match worker.pipes.take() {
            Ok(pipe) => pipe?,
            Err(error) => {
                self.stop_splicing(&error, worker);
                return None;
            }
        };
        let Some(source) = self.transport(from).socket() else {
            worker.pipes.put_back(pipe);
            return None;
        };
        let n = match sys::splice(source, pipe.writer(), pipe.capacity()) {
            Ok(0) => {
                self.machine.handle_eof(from, now);
                0
            }
            Ok(n) => n,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                worker.pipes.put_back(pipe);
                self.stop_splicing(&error, worker);
                return None;
            }
            Err(error) if sys::is_starved(&error) => {
                // A copy needs less.
                worker.pipes.put_back(pipe);
                self.path_mut(from).mode = Mode::Copy;
                return None;
            }
            Err(error) => {
                self.read_failed(from, error, worker, now);
                0
            }
        };
        if n == 0 {
            // The source is dry or over; an idle direction owns no pipe.
            worker.pipes.put_back(pipe);
            let path = self.path_mut(from);
            path.mode = match path.mode {
                Mode::Bulk { moved } if moved >= BULK_MINIMUM => Mode::Bulk { moved: 0 },
                Mode::Bulk { .. } | Mode::Copy => Mode::Copy,
            };
            return Some(0);
        }
        // A pipe can be full before its size in bytes, so "short" says nothing about the source.
        self.machine.handle_filled(from, n, false, now);
        let path = self.path_mut(from);
        path.lane = Some(Box::new(Held::Pipe { pipe, left: n }));
        if let Mode::Bulk { moved } = &mut path.mode {
            *moved = moved.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        self.deliver(from, worker, now);
        Some(n)
    }

    fn stop_splicing(&mut self, error: &io::Error, worker: &mut Worker) {
        worker.report(&Event::SpliceUnavailable(error));
        self.splice = false;
        self.up.mode = Mode::Copy;
        self.down.mode = Mode::Copy;
    }

    /// Writes what the lane holds.
    fn deliver(&mut self, from: Side, worker: &mut Worker, now: Instant) {
        match self.path_mut(from).lane.take().map(|held| *held) {
            None => {}
            Some(Held::Spill { bytes, at }) => {
                let result = self.transport(from.other()).write(&bytes[at..]);
                let at = at + self.written(from, result, worker, now);
                if at < bytes.len() && self.machine.buffered(from) > 0 {
                    self.path_mut(from).lane = Some(Box::new(Held::Spill { bytes, at }));
                }
            }
            Some(Held::Pipe { pipe, left }) => {
                let result = self.splice_out(from, pipe.reader(), left, worker.sigpipe_ignored);
                let taken = self.written(from, result, worker, now);
                let path = self.path_mut(from);
                path.spliced = path.spliced.saturating_add(taken as u64);
                if taken == left {
                    worker.pipes.put_back(pipe);
                } else if self.machine.buffered(from) > 0 {
                    self.path_mut(from).lane = Some(Box::new(Held::Pipe { pipe, left: left - taken }));
                }
            }
        }
    }

    fn splice_out(
        &mut self,
        from: Side,
        pipe: BorrowedFd<'_>,
        held: usize,
        sigpipe_ignored: bool,
    ) -> io::Result<usize> {
        let _guard = (!sigpipe_ignored).then(SigpipeBlocked::new);
        let target = self.transport(from.other()).socket().ok_or(ErrorKind::NotConnected)?;
        sys::splice(pipe, target, held)
    }

    /// Takes note of a write's result; returns how many bytes are gone from the buffer.
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
        self.last_error = Some(error);
        if hung_up {
            self.machine.handle_write_refused(from, reset, now);
        } else {
            // It would wait for the rest, or for the end.
            self.machine.handle_reset(from.other(), now);
        }
    }

    fn shut(&mut self, from: Side, worker: &mut Worker, now: Instant) {
        if self.closes_when_done
            && self.machine.is_over(from.other())
            && self.transport(from.other()).is_plain()
        {
            // The last there is to do: the close that follows says the same.
            return self.machine.handle_shut(from, now);
        }
        match self.transport(from.other()).shutdown_write() {
            Ok(()) => self.machine.handle_shut(from, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.machine.handle_write_blocked(from),
            Err(error) => self.write_refused(from, error, worker, now),
        }
    }

    /// The source was reset: the target's close becomes a reset, as soon as the kernel has sent the rest.
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

    /// Events of the client cannot be read while its bytes cannot be forwarded, or after its EOF. One
    /// that vanished then is found by asking, or its tunnel would stay for ever.
    fn notice_vanished_client(&mut self, worker: &mut Worker, ready: Readiness, now: Instant) {
        if !(ready.hup || ready.read) || !self.machine.ignores_events_of(Side::Downstream) {
            return;
        }
        let write_open = self.machine.may_write(Side::Downstream);
        if self.downstream.socket().is_some_and(|socket| sys::has_failed(socket, write_open)) {
            let error = io::Error::from_raw_os_error(libc::ECONNRESET);
            worker.report(&Event::Reset(Side::Downstream, &error));
            self.last_error = Some(error);
            self.machine.handle_reset(Side::Downstream, now);
        }
    }

    /// Gives everything back and sees that a cut stream does not look whole.
    fn finish(&mut self) {
        self.up.lane = None;
        self.down.lane = None;
        for (side, socket) in
            [(Side::Downstream, self.downstream.socket()), (Side::Upstream, self.upstream.socket())]
        {
            if let Some(socket) = socket.filter(|_| self.machine.must_abort(side)) {
                // On a Unix socket, or one that is dead already, there is nothing to arrange.
                let _ = sys::set_reset_on_close(socket);
            }
        }
    }

    fn wants(&self, exhausted: bool) -> Wants {
        let state = if self.machine.close_reason().is_some() {
            State::Done
        } else if exhausted {
            State::Yield
        } else {
            State::Running
        };
        Wants {
            state,
            downstream: self.interest(Side::Downstream),
            upstream: self.interest(Side::Upstream),
            deadline: self.machine.poll_timeout(),
        }
    }

    fn interest(&self, side: Side) -> Interest {
        let interest = self.machine.interest(side);
        Interest { write: interest.write || self.is_unflushed(side), ..interest }
    }

    /// Whether a side's transport keeps bytes that its peer is still to get.
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

    fn path(&self, from: Side) -> &Path {
        match from {
            Side::Downstream => &self.up,
            Side::Upstream => &self.down,
        }
    }

    fn path_mut(&mut self, from: Side) -> &mut Path {
        match from {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
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
        // Refused by a socket whose peer is gone already; the first read will say so.
        let _ = sys::set_nodelay(socket);
        let _ = sys::set_keepalive(socket);
    }
    Ok(())
}
