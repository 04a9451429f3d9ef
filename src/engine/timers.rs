#![forbid(unsafe_code)]
//! [`Timers`]: when each connection wants to be looked at again.
//!
//! A hierarchical timer wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7).
//! Time is counted in ticks from the start. An entry is filed by the highest digit, in base 64, in which its tick
//! differs from the present one: that digit's place is the level, its value the slot. So the first slot that is
//! taken on the lowest level that has one holds the earliest entry, whatever stands elsewhere.

use std::array;
use std::mem;
use std::time::{Duration, Instant};

/// Milliseconds: what a timer may be late by.
const TICK: u64 = 4;
/// Bits of a digit: a level has as many slots as a `u64` has bits.
const DIGIT: u32 = 6;
const SLOTS: u64 = 1 << DIGIT;

struct Entry<K> {
    key: K,
    due: u64,
}

struct Level<K> {
    /// A bit for each slot that is not empty.
    taken: u64,
    /// The first entry of a slot is its earliest.
    slots: [Vec<Entry<K>>; 1 << DIGIT],
}

impl<K> Default for Level<K> {
    fn default() -> Self {
        Self { taken: 0, slots: array::from_fn(|_| Vec::new()) }
    }
}

/// Deadlines and their keys, for one thread. It reads no clock.
///
/// There is no cancelling: the owner of a key checks, when it comes, whether the deadline still stands.
pub(super) struct Timers<K> {
    origin: Instant,
    /// The tick up to which entries have been handed out. No entry is due before it.
    now: u64,
    /// As many as the farthest entry needed so far.
    levels: Vec<Level<K>>,
}

impl<K: Copy> Timers<K> {
    /// No timers. Time begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { origin: now, now: 0, levels: Vec::new() }
    }

    /// Files `key`, to be handed out once, at `at` or up to one tick (4 ms) later; at once if that is past.
    pub(super) fn schedule(&mut self, key: K, at: Instant) {
        let elapsed = at.saturating_duration_since(self.origin);
        // Rounded up: never early.
        let due = to_ticks(elapsed + Duration::from_millis(TICK) - Duration::from_nanos(1));
        self.file(Entry { key, due: due.max(self.now) });
    }

    /// Adds to `out` the keys whose time has come, in no particular order. A `now` before the latest one counts as
    /// the latest one.
    ///
    /// It costs the entries that it moves, each at most once per level over its life, however far `now` jumps.
    pub(super) fn expired(&mut self, now: Instant, out: &mut Vec<K>) {
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
                for entry in mem::take(&mut self.levels[place].slots[slot]) {
                    if entry.due <= self.now {
                        out.push(entry.key);
                    } else {
                        // Goes to a lower level, which has been dealt with, and to a slot not yet begun.
                        self.file(entry);
                    }
                }
            }
        }
    }

    /// When the next key is to be had from [`Timers::expired`]; `None`: there is none.
    pub(super) fn next(&self) -> Option<Instant> {
        let level = self.levels.iter().find(|level| level.taken != 0)?;
        let earliest = level.slots[level.taken.trailing_zeros() as usize].first()?;
        self.origin.checked_add(Duration::from_millis(earliest.due.saturating_mul(TICK)))
    }

    fn file(&mut self, entry: Entry<K>) {
        let place = (entry.due ^ self.now).checked_ilog2().unwrap_or(0) / DIGIT;
        let slot = (entry.due >> (place * DIGIT)) % SLOTS;
        let place = place as usize;
        if place >= self.levels.len() {
            self.levels.resize_with(place + 1, Level::default);
        }
        let level = &mut self.levels[place];
        level.taken |= 1 << slot;
        let entries = &mut level.slots[slot as usize];
        entries.push(entry);
        let last = entries.len() - 1;
        if entries[last].due < entries[0].due {
            entries.swap(0, last);
        }
    }
}

fn to_ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / u128::from(TICK)).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
