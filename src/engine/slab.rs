#![forbid(unsafe_code)]
//! [`Slab`]: a table with stable places, and the [`Token`]s that name them.

use std::mem;
use std::num::NonZeroU64;

use crate::error::Side;

/// Names an entry of a [`Slab`] and one of its sides. A token of an entry that is gone names
/// nothing.
///
/// From the lowest bit: 32 bits of index plus one, 31 of generation, one of side. Indices are given
/// out from 0 up, so that the tokens from [`usize::MAX`] down are free for other sources of events.
/// Never zero, so that an `Option` of a token is no larger than a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(NonZeroU64);

const GENERATION: u32 = u32::MAX >> 1;
const UPSTREAM: u64 = 1 << 63;

impl Token {
    /// Never names anything: its index is not given out.
    #[cfg(test)]
    pub(super) const NOTHING: Self = Self(NonZeroU64::MAX);

    fn new(index: u32, generation: u32) -> Self {
        // The last index is `NONE`, which is not given out: the sum fits its bits.
        Self(NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(index)))
    }

    /// Returns the index of the slot.
    pub(super) fn index(self) -> u32 {
        ((self.0.get() - 1) & 0xffff_ffff) as u32
    }

    fn generation(self) -> u32 {
        ((self.0.get() - 1) >> 32) as u32 & GENERATION
    }

    /// Returns the side. A new token has the downstream.
    pub(super) fn side(self) -> Side {
        if self.0.get() & UPSTREAM == 0 { Side::Downstream } else { Side::Upstream }
    }

    /// Returns the token of the same entry with another side.
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
    /// Of a free slot: the next free one, or [`NONE`]. Of another: [`IN_USE`].
    next: u32,
    /// `None` in a free slot, and in one that is reserved.
    value: Option<T>,
}

/// The end of the list of free slots.
const NONE: u32 = u32::MAX;
/// The slot is not free. No slot has this index.
const IN_USE: u32 = u32::MAX - 1;

/// A vector with stable places. The side of a token does not matter here.
///
/// A token is valid until its slot is released. It would name another value again after the slot
/// has been filled and emptied 2^31 times.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The slot emptied last, which is warm in the cache; or [`NONE`].
    free: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0 }
    }

    /// Returns how many slots are filled or reserved.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reserves a slot, to be filled by [`put`](Self::put) or given up by
    /// [`release`](Self::release). The slots grow with the largest number in use at a time, and
    /// stay.
    pub(super) fn reserve(&mut self) -> Token {
        self.len += 1;
        if let Some(slot) = self.slots.get_mut(self.free as usize) {
            let index = mem::replace(&mut self.free, mem::replace(&mut slot.next, IN_USE));
            return Token::new(index, slot.generation);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a process has not that many descriptors")]
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, next: IN_USE, value: None });
        Token::new(index, 0)
    }

    /// Puts a value into a reserved slot.
    pub(super) fn put(&mut self, token: Token, value: T) {
        if let Some(slot) = self.slot(token) {
            slot.value = Some(value);
        }
    }

    /// Takes the value out of a slot, which stays reserved.
    pub(super) fn take(&mut self, token: Token) -> Option<T> {
        self.slot(token)?.value.take()
    }

    /// Frees a slot and drops a value that is in it. The token names nothing from now on.
    pub(super) fn release(&mut self, token: Token) {
        let next = self.free;
        let Some(slot) = self.slot(token) else { return };
        slot.value = None;
        slot.generation = (slot.generation + 1) & GENERATION;
        slot.next = next;
        self.free = token.index();
        self.len -= 1;
    }

    /// Puts a value into a free slot.
    pub(super) fn insert(&mut self, value: T) -> Token {
        let token = self.reserve();
        self.put(token, value);
        token
    }

    /// Takes the value out of a slot, which is freed.
    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let value = self.take(token)?;
        self.release(token);
        Some(value)
    }

    /// Returns the value that the token names; `None` if it is gone.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.slot(token)?.value.as_mut()
    }

    /// Returns the value in a slot, with its token; `None` if there is none.
    pub(super) fn at(&mut self, index: u32) -> Option<(Token, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let token = Token::new(index, slot.generation);
        slot.value.as_mut().map(|value| (token, value))
    }

    /// Iterates over all values, in the order of their slots.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut T)> {
        (0..).zip(&mut self.slots).filter_map(|(index, slot)| {
            let token = Token::new(index, slot.generation);
            slot.value.as_mut().map(|value| (token, value))
        })
    }

    /// Returns the slot that the token names, filled or reserved.
    fn slot(&mut self, token: Token) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(token.index() as usize)?;
        (slot.generation == token.generation() && slot.next == IN_USE).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    #[test]
    fn a_slot_is_no_larger_than_its_box_and_a_word() {
        assert_eq!(size_of::<Slot<Box<u8>>>(), 16);
    }

    #[test]
    fn the_slot_emptied_last_is_filled_first_and_old_tokens_name_nothing() {
        let mut slab = Slab::new();
        let tokens: Vec<Token> = (0..3).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.remove(tokens[0]), slab.remove(tokens[2])), (Some(0), Some(2)));
        assert_eq!((slab.remove(tokens[0]), slab.len()), (None, 1));
        let again = slab.insert(3);
        assert_eq!(again.index(), tokens[2].index());
        assert_ne!(again, tokens[2]);
        assert_eq!(slab.get_mut(tokens[2]), None);
        assert_eq!(slab.remove(tokens[2]), None);
        assert_eq!(slab.get_mut(again), Some(&mut 3));
        assert_eq!(slab.insert(4).index(), tokens[0].index());
        assert_eq!(slab.insert(5).index(), 3);
    }

    #[test]
    fn a_token_knows_its_side_and_survives_an_event() {
        let mut slab = Slab::new();
        let token = slab.insert('a');
        assert_eq!(token.side(), Side::Downstream);
        let upstream = Token::from(mio::Token::from(token.with_side(Side::Upstream)));
        assert_eq!(upstream.side(), Side::Upstream);
        assert_eq!(upstream.with_side(Side::Downstream), token);
        assert_eq!(slab.get_mut(upstream), Some(&mut 'a'));
        assert_eq!(slab.remove(upstream), Some('a'));
    }

    #[test]
    fn the_generation_wraps_and_leaves_the_side_alone() {
        let mut slab = Slab::new();
        slab.insert(1);
        slab.slots[0].generation = GENERATION;
        let last = Token::new(0, GENERATION);
        assert_eq!((last.side(), last.generation()), (Side::Downstream, GENERATION));
        assert_eq!(slab.remove(last.with_side(Side::Upstream)), Some(1));
        assert_eq!(slab.insert(2), Token::new(0, 0));
        assert_eq!(slab.get_mut(last), None);
    }

    #[test]
    fn a_reserved_slot_is_empty_and_not_given_out_again() {
        let mut slab = Slab::new();
        let token = slab.reserve();
        assert_eq!((slab.len(), slab.get_mut(token)), (1, None));
        assert!(slab.at(0).is_none());
        assert_ne!(slab.insert(1).index(), token.index());
        slab.put(token, 2);
        assert_eq!((slab.take(token), slab.take(token), slab.remove(token)), (Some(2), None, None));
        assert_eq!(slab.len(), 2);
        slab.release(token);
        slab.release(token);
        assert_eq!(slab.len(), 1);
        slab.put(token, 3);
        assert_eq!(slab.get_mut(token), None);
        assert_eq!(slab.iter_mut().count(), 1);
    }

    #[test]
    fn tokens_that_were_never_given_out_name_nothing() {
        let mut slab = Slab::new();
        slab.insert(1);
        for raw in [0, 2, usize::MAX, usize::MAX - 1] {
            assert_eq!(slab.get_mut(Token::from(mio::Token(raw))), None);
            assert_eq!(slab.remove(Token::from(mio::Token(raw))), None);
        }
    }

    proptest! {
        /// Against a map of tokens: `None` inserts, `Some` removes what an earlier token named.
        #[test]
        fn like_a_map(steps in vec(any::<Option<Index>>(), 1..300)) {
            let mut slab = Slab::new();
            let mut model = HashMap::new();
            let mut tokens = Vec::new();
            for (value, step) in (0..).zip(steps) {
                match step {
                    Some(which) if !tokens.is_empty() => {
                        let token: &Token = which.get(&tokens);
                        prop_assert_eq!(slab.remove(*token), model.remove(token));
                    }
                    _ => {
                        let token = slab.insert(value);
                        prop_assert!(!tokens.contains(&token));
                        tokens.push(token);
                        model.insert(token, value);
                    }
                }
                prop_assert_eq!(slab.len(), model.len());
                for token in &tokens {
                    prop_assert_eq!(slab.get_mut(*token).copied(), model.get(token).copied());
                }
                let all: HashMap<Token, i32> = slab.iter_mut().map(|(token, value)| (token, *value)).collect();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
