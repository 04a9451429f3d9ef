#![forbid(unsafe_code)]
//! [`Rotation`]: which of several targets is next.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns of a rotation at most; weights whose sum is larger are scaled down.
const TURNS_MAX: usize = 4096;

/// The order in which targets get requests, by their weights, and who is next. A target with twice
/// the weight has twice as many turns, spread evenly (nginx's smooth weighted round robin).
#[derive(Debug)]
pub(super) struct Rotation {
    /// Indexes of targets. Computed once, so that a turn is one addition.
    turns: Box<[u16]>,
    next: AtomicUsize,
}

impl Rotation {
    /// Makes the rotation for targets with these weights. It goes on where `previous` was, so that
    /// changes do not favour the first target.
    pub(super) fn new(weights: &[u16], previous: Option<&Self>) -> Self {
        let next = previous.map_or(0, |previous| previous.next.load(Ordering::Relaxed));
        Self { turns: turns(weights), next: AtomicUsize::new(next) }
    }

    /// Returns the index of the target whose turn it is; `None` without targets.
    pub(super) fn next(&self) -> Option<usize> {
        match &*self.turns {
            [] => None,
            [only] => Some((*only).into()),
            turns => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed) % turns.len();
                turns.get(turn).map(|target| (*target).into())
            }
        }
    }
}

/// Returns the target with the least load for its weight, given as `(load, weight)`; of equal ones
/// that which comes first from `start` on.
pub(super) fn least_loaded(loads: &[(u64, u16)], start: usize) -> Option<usize> {
    let order = (0..loads.len()).map(|offset| (start + offset) % loads.len());
    // a/v < b/w, without a division.
    order.min_by(|&a, &b| {
        let ((load_a, weight_a), (load_b, weight_b)) = (loads[a], loads[b]);
        (load_a * u64::from(weight_b)).cmp(&(load_b * u64::from(weight_a)))
    })
}

fn turns(weights: &[u16]) -> Box<[u16]> {
    let weights = scaled(weights);
    let total: i64 = weights.iter().sum();
    let mut current = vec![0_i64; weights.len()];
    (0..total)
        .filter_map(|_| {
            current.iter_mut().zip(&weights).for_each(|(current, weight)| *current += weight);
            let (at, chosen) = current.iter_mut().enumerate().rev().max_by_key(|(_, current)| **current)?;
            *chosen -= total;
            u16::try_from(at).ok()
        })
        .collect()
}

/// Divides weights by their common divisor, and until their sum is small enough. None becomes 0.
fn scaled(weights: &[u16]) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |divisor, &weight| common_divisor(divisor, weight.max(1)));
    let reduced: Vec<usize> =
        weights.iter().map(|&weight| usize::from(weight.max(1) / divisor.max(1))).collect();
    let sum: usize = reduced.iter().sum();
    let scale = |weight: usize| match sum > TURNS_MAX {
        true => (weight * TURNS_MAX / sum).max(1),
        false => weight,
    };
    reduced.into_iter().map(|weight| i64::try_from(scale(weight)).unwrap_or(1)).collect()
}

fn common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u16], count: usize) -> Vec<usize> {
        let rotation = Rotation::new(weights, None);
        (0..count).filter_map(|_| rotation.next()).collect()
    }

    #[test]
    fn equal_targets_take_turns() {
        assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(Rotation::new(&[7, 7, 7], None).turns.len(), 3);
        assert_eq!(order(&[1], 3), [0, 0, 0]);
        assert_eq!(order(&[], 3), [0; 0]);
    }

    #[test]
    fn a_heavy_target_has_its_turns_spread() {
        assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order(&[2, 4], 3), [1, 0, 1]);
    }

    #[test]
    fn large_weights_are_scaled_and_nobody_is_left_out() {
        let mut weights = vec![1000; 300];
        weights.push(1);
        let rotation = Rotation::new(&weights, None);
        assert!(rotation.turns.len() <= TURNS_MAX + weights.len(), "{}", rotation.turns.len());
        assert_eq!(rotation.turns.iter().filter(|target| **target == 300).count(), 1);
    }

    #[test]
    fn a_rotation_goes_on_where_the_one_before_was() {
        let first = Rotation::new(&[1, 1], None);
        assert_eq!(first.next(), Some(0));
        assert_eq!(Rotation::new(&[1, 1], Some(&first)).next(), Some(1));
    }

    #[test]
    fn the_least_loaded_counts_its_weight() {
        assert_eq!(least_loaded(&[(3, 1), (2, 1), (4, 1)], 0), Some(1));
        assert_eq!(least_loaded(&[(3, 2), (2, 1)], 0), Some(0));
        assert_eq!(least_loaded(&[(1, 1), (1, 1), (1, 1)], 1), Some(1));
        assert_eq!(least_loaded(&[], 0), None);
    }
}
