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
