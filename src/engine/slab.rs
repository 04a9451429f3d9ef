#![forbid(unsafe_code)]
//! [`Slab`]: the connections of an engine, and the [`Token`]s that name them.

use std::mem;
use std::num::NonZeroU64;

use crate::error::Side;

/// Names a connection and one of its sides. An old one, of a connection that is gone, names nothing.
///
/// From the lowest bit: 32 bits of index plus one, 31 of generation, one of side. Indices are given out from 0 up, so
/// that the tokens from [`usize::MAX`] down are free for what else the loop waits for. Never zero, so that a place for
/// one takes no more room than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(NonZeroU64);

const GENERATION: u32 = u32::MAX >> 1;
const UPSTREAM: u64 = 1 << 63;

impl Token {
    /// Names nothing, ever: its index is not given out.
    pub(super) const NOTHING: Self = Self(NonZeroU64::MAX);

    fn new(index: u32, generation: u32) -> Self {
        // The last index is NONE, which is not given out: the sum fits its bits.
        Self(NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(index)))
    }

    /// The number of its slot.
    pub(super) fn index(self) -> u32 {
        ((self.0.get() - 1) & 0xffff_ffff) as u32
    }

    fn generation(self) -> u32 {
        ((self.0.get() - 1) >> 32) as u32 & GENERATION
    }

    /// The side; of a token fresh from [`Slab::insert`], the downstream.
    pub(super) fn side(self) -> Side {
        if self.0.get() & UPSTREAM == 0 { Side::Downstream } else { Side::Upstream }
    }

    /// The same connection, that side.
    #[must_use]
    pub(super) fn with_side(self, side: Side) -> Self {
        match side {
            Side::Downstream => Self(NonZeroU64::new(self.0.get() & !UPSTREAM).unwrap_or(NonZeroU64::MIN)),
            Side::Upstream => Self(self.0 | UPSTREAM),
        }
    }
}

const _: () = assert!(usize::BITS == u64::BITS, "an event's token holds an index, a generation and a side");

impl From<Token> for mio::Token {
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    fn from(token: Token) -> Self {
        Self(token.0.get() as usize)
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Self {
        Self(NonZeroU64::new(token.0 as u64).unwrap_or(NonZeroU64::MAX))
    }
}

struct Slot<T> {
    /// How often the slot was emptied, modulo 2^31.
    generation: u32,
    /// Of an empty slot: the next empty one, or [`NONE`].
    next: u32,
    value: Option<T>,
}

/// The end of the list of empty slots.
const NONE: u32 = u32::MAX;

/// A vector with stable places. The side of a token does not matter here.
///
/// A token is good until its value is removed. It would name another value again after its slot has been filled and
/// emptied 2^31 times.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The slot emptied last, which is warm in the cache; or [`NONE`].
    empty: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), empty: NONE, len: 0 }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a value in. The slots grow with the largest number of values at a time, and stay.
    pub(super) fn insert(&mut self, value: T) -> Token {
        self.len += 1;
        if let Some(slot) = self.slots.get_mut(self.empty as usize) {
            let index = mem::replace(&mut self.empty, slot.next);
            slot.value = Some(value);
            return Token::new(index, slot.generation);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a process has not that many descriptors")]
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, next: NONE, value: Some(value) });
        Token::new(index, 0)
    }

    /// The value that the token names; `None`: it is gone.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.slot(token)?.value.as_mut()
    }

    /// The value in a slot, with its token; `None`: it is empty.
    pub(super) fn at(&mut self, index: u32) -> Option<(Token, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let token = Token::new(index, slot.generation);
        slot.value.as_mut().map(|value| (token, value))
    }

    /// Takes the value out. Its token names nothing from now on.
    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let next = self.empty;
        let slot = self.slot(token)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION;
        slot.next = next;
        self.empty = token.index();
        self.len -= 1;
        Some(value)
    }

    /// All values, in the order of their slots.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut T)> {
        (0..).zip(&mut self.slots).filter_map(|(index, slot)| {
            let token = Token::new(index, slot.generation);
            slot.value.as_mut().map(|value| (token, value))
        })
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot<T>> {
        self.slots.get_mut(token.index() as usize).filter(|slot| slot.generation == token.generation())
    }
}

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
