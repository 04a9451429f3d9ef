#![forbid(unsafe_code)]
//! [`RelayMachine`]: two [`HalfPipe`]s, what each side is ready for, and the deadlines.

use std::time::{Duration, Instant};

use super::half::HalfPipe;
use super::outcome::{CloseReason, DirectionStats, RelayStats};
use super::readiness::Readiness;
use crate::error::Side;

/// How long the delivery of bytes that were read before a reset may take.
const RESET_PATIENCE: Duration = Duration::from_secs(1);
/// How often the owner is asked whether the last bytes before an abortive close have left.
const ABORT_POLL: Duration = Duration::from_millis(20);
/// How long writes pause after the kernel had no memory for one.
const STARVED_PAUSE: Duration = Duration::from_millis(10);

/// The time limits of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayConfig {
    /// Ends the relay after this time without a byte in either direction. `None`, the default, lets
    /// a silent tunnel live: an attached container may print nothing for days.
    pub idle: Option<Duration>,
    /// How long to wait for the downstream's end, without progress towards the upstream, once the
    /// upstream's end was passed on. Five seconds by default. `None` waits for ever.
    pub linger: Option<Duration>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self { idle: None, linger: Some(Duration::from_secs(5)) }
    }
}

/// What to wait for on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interest {
    /// Wait until the side is readable.
    pub read: bool,
    /// Wait until the side is writable.
    pub write: bool,
}

/// What to do next for one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the source; then report `handle_filled`, `handle_read_blocked`, `handle_eof` or
    /// `handle_reset`.
    Read,
    /// As [`Step::Read`], and throw the bytes away: the target refused them.
    Discard,
    /// Write buffered bytes; then report `handle_delivered`, `handle_write_blocked`,
    /// `handle_write_starved` or `handle_write_refused`.
    Write,
    /// Shut the target for writing; then report `handle_shut`, `handle_write_blocked` or
    /// `handle_write_refused`.
    ShutWrite,
    /// The source was reset: arrange that the target sees an unclean end. Unless `forced`, first
    /// check that the kernel has sent what it was given. Then report `handle_aborted` or
    /// `handle_abort_pending`.
    Abort {
        /// The time for that is over.
        forced: bool,
    },
    /// Nothing until readiness or a deadline.
    Wait,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    half: HalfPipe,
    stats: DirectionStats,
}

impl Flow {
    const FRESH: Self =
        Self { half: HalfPipe::Open { buffered: 0 }, stats: DirectionStats { received: 0, delivered: 0 } };
}

#[derive(Debug, Clone, Copy)]
struct Breakage {
    side: Side,
    since: Instant,
    impatient: bool,
    /// When to check again whether the last bytes have left; `None`: now.
    ask_at: Option<Instant>,
}

/// State that most relays never need.
#[derive(Debug, Clone, Copy, Default)]
struct Rare {
    breakage: Option<Breakage>,
    starved_until: Option<Instant>,
    drain_at: Option<Instant>,
}

/// [`RelayConfig`] in the space of one pointer, because there is one per tunnel. In milliseconds,
/// or [`NEVER`].
#[derive(Debug, Clone, Copy)]
struct Patience {
    idle: u32,
    linger: u32,
}

const NEVER: u32 = u32::MAX;

impl Patience {
    fn new(config: RelayConfig) -> Self {
        let pack = |time: Option<Duration>| {
            time.map_or(NEVER, |time| u32::try_from(time.as_millis()).map_or(NEVER, |ms| ms.min(NEVER - 1)))
        };
        Self { idle: pack(config.idle), linger: pack(config.linger) }
    }

    /// Returns the time `ms` after `since`.
    fn over(ms: u32, since: Instant) -> Option<Instant> {
        (ms != NEVER).then(|| since.checked_add(Duration::from_millis(ms.into())))?
    }
}

/// The state of one relay. See the [module](super) for how to drive it.
#[derive(Debug, Clone)]
pub struct RelayMachine {
    patience: Patience,
    /// What the two sides are ready for.
    downstream: Readiness,
    upstream: Readiness,
    up: Flow,
    down: Flow,
    last_activity: Instant,
    /// Since when only the downstream's end is missing: the upstream's end was passed on then, or a
    /// byte from the downstream was delivered since.
    lingering_since: Option<Instant>,
    /// A write to the upstream failed with a reset, which the kernel reports only once: the end of
    /// file that follows it is not a clean one.
    upstream_was_reset: bool,
    rare: Option<Box<Rare>>,
    first_closer: Option<Side>,
    close_reason: Option<CloseReason>,
}

impl RelayMachine {
    /// Makes a relay between two open streams. Both sides count as ready for everything until
    /// proven otherwise.
    #[must_use]
    pub fn new(config: RelayConfig, now: Instant) -> Self {
        Self {
            patience: Patience::new(config),
            downstream: Readiness::ALL,
            upstream: Readiness::ALL,
            up: Flow::FRESH,
            down: Flow::FRESH,
            last_activity: now,
            lingering_since: None,
            upstream_was_reset: false,
            rare: None,
            first_closer: None,
            close_reason: None,
        }
    }

    /// Sets what the two sides are ready for, if that is known.
    #[must_use]
    pub fn with_ready(self, downstream: Readiness, upstream: Readiness) -> Self {
        Self { downstream, upstream, ..self }
    }

    /// Returns what to do next for the direction that starts at `from`.
    #[must_use]
    pub fn next(&self, from: Side) -> Step {
        if self.close_reason.is_some() {
            return Step::Wait;
        }
        let writable = self.ready(from.other()).write && self.rare().starved_until.is_none();
        match self.flow(from).half {
            HalfPipe::Open { buffered: 0 } if self.ready(from).read => Step::Read,
            HalfPipe::Discarding if self.ready(from).read => Step::Discard,
            HalfPipe::Open { buffered: 1.. } | HalfPipe::Ending { buffered: 1.. } if writable => Step::Write,
            HalfPipe::Ending { buffered: 0 } if writable => Step::ShutWrite,
            HalfPipe::Breaking { buffered } => self.next_of_broken(buffered, writable),
            _ => Step::Wait,
        }
    }

    fn next_of_broken(&self, buffered: u64, writable: bool) -> Step {
        match self.rare().breakage {
            Some(Breakage { impatient: true, .. }) => Step::Abort { forced: true },
            _ if buffered > 0 => {
                if writable {
                    Step::Write
                } else {
                    Step::Wait
                }
            }
            Some(Breakage { ask_at: Some(_), .. }) => Step::Wait,
            _ => Step::Abort { forced: false },
        }
    }

    /// Returns whether events of a side are ignored, because its bytes cannot be forwarded now or
    /// its end was read. A peer that vanished is then found only by asking the socket.
    #[must_use]
    pub fn ignores_events_of(&self, side: Side) -> bool {
        let half = self.flow(side).half;
        !half.takes_input() || half.buffered() > 0
    }

    /// Returns how many bytes of the direction that starts at `from` were read and not yet
    /// delivered. Falls to zero when the target refuses them: the owner then drops what it holds.
    #[must_use]
    pub fn buffered(&self, from: Side) -> u64 {
        self.flow(from).half.buffered()
    }

    /// Returns whether `side` has not been shut for writing.
    #[must_use]
    pub fn may_write(&self, side: Side) -> bool {
        !self.flow(side.other()).half.is_over()
    }

    /// Returns whether the target of `from` may still get something: bytes, or their end.
    #[must_use]
    pub fn is_delivering(&self, from: Side) -> bool {
        let half = self.flow(from).half;
        self.close_reason.is_none() && !half.is_over() && half != HalfPipe::Discarding
    }

    /// Returns whether nothing is left to do in the direction that starts at `from`.
    #[must_use]
    pub fn is_over(&self, from: Side) -> bool {
        self.flow(from).half.is_over()
    }

    /// Handles an event of the poller on a side.
    pub fn handle_ready(&mut self, side: Side, ready: Readiness) {
        self.ready_mut(side).note(ready);
    }

    /// Handles a read of `n` bytes from `from`; `short` if it proves that the source is dry.
    pub fn handle_filled(&mut self, from: Side, n: usize, short: bool, now: Instant) {
        if short {
            self.ready_mut(from).short_read();
        }
        let flow = self.flow_mut(from);
        flow.stats.received = flow.stats.received.saturating_add(n as u64);
        flow.half = flow.half.filled(n as u64);
        if flow.half != HalfPipe::Discarding {
            self.last_activity = now;
        }
    }

    /// Handles a read from `from` that would block.
    pub fn handle_read_blocked(&mut self, from: Side) {
        self.ready_mut(from).read_blocked();
    }

    /// Handles the end of what `from` sends.
    pub fn handle_eof(&mut self, from: Side, now: Instant) {
        if from == Side::Upstream && self.upstream_was_reset {
            self.handle_reset(from, now);
            return;
        }
        self.first_closer.get_or_insert(from);
        let flow = self.flow_mut(from);
        flow.half = flow.half.source_eof();
        self.settle();
    }

    /// Handles a failed connection of `side`: a reset, or a peer that no longer responds.
    ///
    /// What was read from it before is still delivered, within a second; then the other side is
    /// closed abortively, so that it never sees a clean end.
    pub fn handle_reset(&mut self, side: Side, now: Instant) {
        if self.close_reason.is_some() {
            return;
        }
        self.first_closer.get_or_insert(side);
        let half = self.flow(side).half;
        if side == Side::Upstream && matches!(half, HalfPipe::Ending { .. } | HalfPipe::Shut) {
            // All output of the upstream has been read up to its end; it only takes no more input.
            self.up.half = self.up.half.target_refused();
            self.settle();
            return;
        }
        self.flow_mut(side.other()).half = HalfPipe::Dead;
        self.flow_mut(side).half = half.source_reset();
        self.rare_mut().breakage.get_or_insert(Breakage { side, since: now, impatient: false, ask_at: None });
        self.settle();
    }

    /// Handles a write of `n` bytes to the target of `from`.
    pub fn handle_delivered(&mut self, from: Side, n: usize, now: Instant) {
        let flow = self.flow_mut(from);
        flow.stats.delivered = flow.stats.delivered.saturating_add(n as u64);
        flow.half = flow.half.delivered(n as u64);
        self.last_activity = now;
        if from == Side::Downstream
            && let Some(since) = &mut self.lingering_since
        {
            *since = now;
        }
    }

    /// Handles a write to the target of `from` that would block.
    pub fn handle_write_blocked(&mut self, from: Side) {
        self.ready_mut(from.other()).write_blocked();
    }

    /// Handles a write that failed because the kernel had no memory; no event reports when it has.
    pub fn handle_write_starved(&mut self, now: Instant) {
        self.rare_mut().starved_until = Some(now + STARVED_PAUSE);
    }

    /// Handles a target of `from` that will never take anything again; `reset` if its connection
    /// failed, rather than that it only stopped reading.
    pub fn handle_write_refused(&mut self, from: Side, reset: bool, now: Instant) {
        match from.other() {
            Side::Downstream => self.handle_reset(Side::Downstream, now),
            Side::Upstream => {
                // A daemon that stopped reading stdin may still have all its output to send.
                self.upstream_was_reset |= reset;
                self.first_closer.get_or_insert(Side::Upstream);
                self.up.half = self.up.half.target_refused();
                self.settle();
            }
        }
    }

    /// Handles the half-close of the target of `from`.
    pub fn handle_shut(&mut self, from: Side, now: Instant) {
        if self.flow(from).half == (HalfPipe::Ending { buffered: 0 }) {
            self.flow_mut(from).half = HalfPipe::Shut;
            if from == Side::Upstream {
                self.lingering_since = Some(now);
            }
            self.settle();
        }
    }

    /// Handles that the target of `from` will see an unclean end.
    pub fn handle_aborted(&mut self, from: Side) {
        self.flow_mut(from).half = HalfPipe::Dead;
        self.settle();
    }

    /// Handles that bytes which the kernel took for the target of a reset direction have not left
    /// yet.
    pub fn handle_abort_pending(&mut self, now: Instant) {
        if let Some(breakage) = &mut self.rare_mut().breakage {
            breakage.ask_at = Some(now + ABORT_POLL);
        }
    }

    /// Returns when [`RelayMachine::handle_timeout`] has to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.close_reason.is_some() {
            return None;
        }
        let rare = self.rare();
        let broken = rare.breakage.filter(|b| !b.impatient).map(|b| {
            let patience = b.since + RESET_PATIENCE;
            b.ask_at.map_or(patience, |ask_at| ask_at.min(patience))
        });
        [self.idle_at(), self.linger_at(), rare.drain_at, rare.starved_until, broken]
            .into_iter()
            .flatten()
            .min()
    }

    /// Acts on the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.close_reason.is_some() {
            return;
        }
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if let Some(rare) = &mut self.rare {
            if passed(rare.starved_until) {
                rare.starved_until = None;
            }
            if let Some(breakage) = &mut rare.breakage {
                breakage.impatient |= breakage.since + RESET_PATIENCE <= now;
                if passed(breakage.ask_at) {
                    breakage.ask_at = None;
                }
            }
        }
        if passed(self.rare().drain_at) {
            self.close_reason = Some(CloseReason::Drain);
        } else if passed(self.linger_at()) {
            self.close_reason = Some(CloseReason::Linger);
        } else if passed(self.idle_at()) {
            self.close_reason = Some(CloseReason::Idle);
        }
    }

    /// Ends the relay at `at`, if it has not ended by then; an earlier limit stays.
    pub fn drain(&mut self, at: Instant) {
        let drain_at = &mut self.rare_mut().drain_at;
        *drain_at = Some(drain_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Ends the relay now.
    pub fn kill(&mut self) {
        self.close_reason.get_or_insert(CloseReason::Killed);
    }

    /// Returns what to wait for on a side.
    #[must_use]
    pub fn interest(&self, side: Side) -> Interest {
        if self.close_reason.is_some() {
            return Interest::default();
        }
        let ready = self.ready(side);
        let outgoing = self.flow(side.other()).half;
        let wants_to_write = outgoing.buffered() > 0 || matches!(outgoing, HalfPipe::Ending { .. });
        Interest {
            read: !ready.read && !self.ignores_events_of(side),
            write: wants_to_write && !ready.write && self.rare().starved_until.is_none(),
        }
    }

    /// Returns why the relay ended; `None` while it runs.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    /// Returns whether `side` has to be closed abortively at the end, because its stream was cut.
    #[must_use]
    pub fn must_abort(&self, side: Side) -> bool {
        self.close_reason.is_some_and(CloseReason::is_cut) && self.flow(side.other()).half != HalfPipe::Shut
    }

    /// Returns counts, times and reasons so far.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            up: self.up.stats,
            down: self.down.stats,
            last_activity: self.last_activity,
            first_closer: self.first_closer,
            close_reason: self.close_reason,
        }
    }

    fn settle(&mut self) {
        if self.close_reason.is_none() && self.up.half.is_over() && self.down.half.is_over() {
            let reason = self.rare().breakage.map_or(CloseReason::Eof, |b| CloseReason::reset_of(b.side));
            self.close_reason = Some(reason);
        }
    }

    fn rare(&self) -> Rare {
        self.rare.as_deref().copied().unwrap_or_default()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn idle_at(&self) -> Option<Instant> {
        Patience::over(self.patience.idle, self.last_activity)
    }

    fn linger_at(&self) -> Option<Instant> {
        Patience::over(self.patience.linger, self.lingering_since?)
    }

    fn ready(&self, side: Side) -> Readiness {
        match side {
            Side::Downstream => self.downstream,
            Side::Upstream => self.upstream,
        }
    }

    fn ready_mut(&mut self, side: Side) -> &mut Readiness {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    fn flow(&self, from: Side) -> &Flow {
        match from {
            Side::Downstream => &self.up,
            Side::Upstream => &self.down,
        }
    }

    fn flow_mut(&mut self, from: Side) -> &mut Flow {
        match from {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }
}
