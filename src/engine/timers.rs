#![forbid(unsafe_code)]
//! [`Timers`]: when each session needs a turn.
//!
//! A hierarchical timer wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987,
//! scheme 7). Time is counted in ticks from the start. An entry is filed by the highest digit, in
//! base 64, in which its tick differs from the present one: that digit's place is the level, its
//! value the slot. So the first slot in use on the lowest level that has one holds the earliest
//! entry, whatever the others hold.
//!
//! The entries are the rows of one table, and each slot is a list that runs through it. So a
//! session has one timer, which is moved and cancelled in constant time, and the wheel is as large
//! as the number of timers that are set.

mod table;

use std::time::{Duration, Instant};

use table::{Entry, Table};

/// Milliseconds by which a timer may be late.
const TICK: u64 = 4;
/// Bits of a digit: a level has as many slots as a `u64` has bits.
const DIGIT: u32 = 6;
const SLOTS: u64 = 1 << DIGIT;
/// No entry.
const NONE: u32 = u32::MAX;
/// No tick.
const NEVER: u64 = u64::MAX;

struct Level {
    /// A bit for each slot that is not empty.
    taken: u64,
    /// The first entry of each slot.
    heads: [u32; 1 << DIGIT],
    /// No entry of the slot is due before this: the tick of the earliest entry, unless that was
    /// taken out.
    earliest: [u64; 1 << DIGIT],
}

impl Level {
    const EMPTY: Self = Self { taken: 0, heads: [NONE; 1 << DIGIT], earliest: [NEVER; 1 << DIGIT] };
}

/// Deadlines by the number of the session, for one thread. Reads no clock.
pub(super) struct Timers {
    origin: Instant,
    /// The tick up to which entries have been handed out. No entry is due before it.
    now: u64,
    /// As many levels as the farthest entry has needed so far.
    levels: Vec<Level>,
    table: Table,
}

impl Timers {
    /// Makes a wheel without timers, whose time begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { origin: now, now: 0, levels: Vec::new(), table: Table::default() }
    }

    /// Sets the timer of `number`, to expire once, at `at` or up to one tick (4 ms) later; at once
    /// if that is past. A timer that is set already is moved.
    pub(super) fn schedule(&mut self, number: u32, at: Instant) {
        let elapsed = at.saturating_duration_since(self.origin);
        // Rounded up: never early.
        let due = to_ticks(elapsed + Duration::from_millis(TICK) - Duration::from_nanos(1));
        self.cancel(number);
        self.file(number, due.clamp(self.now, NEVER - 1));
    }

    /// Cancels the timer of `number`, if it has one.
    pub(super) fn cancel(&mut self, number: u32) {
        let Some(Entry { due, next, previous }) = self.table.take(number) else { return };
        if let Some(next) = self.table.get_mut(next) {
            next.previous = previous;
        }
        if let Some(previous) = self.table.get_mut(previous) {
            previous.next = next;
            return;
        }
        let (level, slot) = self.place(due);
        let level = &mut self.levels[level];
        level.heads[slot] = next;
        if next == NONE {
            level.taken &= !(1 << slot);
        }
    }

    /// Adds to `out` the numbers whose timers have expired, in no particular order. A `now` before
    /// the latest one counts as the latest one.
    ///
    /// The cost is that of the entries that it moves, each at most once per level over its life,
    /// however far `now` jumps.
    pub(super) fn expired(&mut self, now: Instant, out: &mut Vec<u32>) {
        let before = self.now;
        self.now = before.max(to_ticks(now.saturating_duration_since(self.origin)));
        for (place, shift) in (0..self.levels.len()).zip((0..).step_by(DIGIT as usize)) {
            // The slots that have begun: all of them if a higher digit has changed.
            let begun = if (before ^ self.now) >> shift >> DIGIT == 0 {
                u64::MAX >> (SLOTS - 1 - (self.now >> shift) % SLOTS)
            } else {
                u64::MAX
            };
            let mut slots = self.levels[place].taken & begun;
            self.levels[place].taken &= !begun;
            while slots != 0 {
                let slot = slots.trailing_zeros() as usize;
                slots &= slots - 1;
                let mut number = std::mem::replace(&mut self.levels[place].heads[slot], NONE);
                while let Some(Entry { due, next, .. }) = self.table.take(number) {
                    if due <= self.now {
                        out.push(number);
                    } else {
                        // It goes to a lower level, which is done, and to a slot that has not
                        // begun.
                        self.file(number, due);
                    }
                    number = next;
                }
            }
        }
    }

    /// Returns when [`Timers::expired`] is to be called next: when the next timer expires, or
    /// before, if another one was moved or cancelled, at most once per level. `None` if no timer is
    /// set.
    pub(super) fn next(&self) -> Option<Instant> {
        let level = self.levels.iter().find(|level| level.taken != 0)?;
        let earliest = level.earliest[level.taken.trailing_zeros() as usize];
        self.origin.checked_add(Duration::from_millis(earliest.saturating_mul(TICK)))
    }

    /// Returns level and slot of an entry. They stay the same until the slot has begun.
    fn place(&self, due: u64) -> (usize, usize) {
        let level = (due ^ self.now).checked_ilog2().unwrap_or(0) / DIGIT;
        (level as usize, ((due >> (level * DIGIT)) % SLOTS) as usize)
    }

    fn file(&mut self, number: u32, due: u64) {
        let (level, slot) = self.place(due);
        while level >= self.levels.len() {
            self.levels.push(Level::EMPTY);
        }
        let level = &mut self.levels[level];
        let next = std::mem::replace(&mut level.heads[slot], number);
        let others = if next == NONE { NEVER } else { level.earliest[slot] };
        level.earliest[slot] = others.min(due);
        level.taken |= 1 << slot;
        if let Some(next) = self.table.get_mut(next) {
            next.previous = number;
        }
        self.table.put(number, Entry { due, next, previous: NONE });
    }
}

#[cfg(test)]
impl Timers {
    /// Returns how many timers are set.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns how many timers there is room for.
    pub(super) fn room(&self) -> usize {
        self.table.room()
    }
}

fn to_ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / u128::from(TICK)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
