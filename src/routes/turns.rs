#![forbid(unsafe_code)]
//! [`Turns`]: which of several targets gets the next request.

use super::hash::{hash, random_key};
use super::snapshot::{FoundRoute, FoundTarget};

/// Whose turn it is among the targets of each route. Kept when the routes change, in little memory:
/// routes may have a count in common, and then take their turns together.
#[derive(Debug)]
pub struct Turns {
    counts: Vec<u32>,
    hash_key: [u64; 2],
}

impl Turns {
    const COUNTS: usize = 4096;

    /// Returns turns that all begin.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; Self::COUNTS], hash_key: random_key() }
    }

    /// Returns the live target whose turn it is, and then the others in the order in which they are
    /// tried if the one before cannot be reached; those only that get the same path. Empty if none
    /// is live.
    ///
    /// In as many turns as the weights of the live targets come to, each has as many as its weight,
    /// well spread: weights of 2 and 1 do not give two turns in a row to the first, then one to the
    /// second, but `a b a`.
    pub fn order<'s>(&mut self, route: &FoundRoute<'s>) -> impl Iterator<Item = FoundTarget<'s>> + use<'s> {
        let live = route.targets().filter(|target| target.live && target.weight > 0);
        let first = self.first(route.name(), live.clone().map(|target| target.weight.into()));
        let strip = live.clone().nth(first).is_some_and(|target| target.strip);
        live.clone().skip(first).chain(live.take(first)).filter(move |target| target.strip == strip)
    }

    /// Returns which of these weights has its turn.
    fn first(&mut self, name: &str, mut weights: impl Iterator<Item = u32> + Clone) -> usize {
        let total: u32 = weights.clone().sum();
        let at = hash(self.hash_key, name.as_bytes()) % self.counts.len() as u64;
        let Some(count) = usize::try_from(at).ok().and_then(|at| self.counts.get_mut(at)) else { return 0 };
        *count = count.wrapping_add(1);
        let turn = u64::from(*count) * u64::from(stride(total));
        let mut left = turn.checked_rem(total.into()).unwrap_or_default();
        let has_turn = |weight: u32| match left.checked_sub(weight.into()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        };
        weights.position(has_turn).unwrap_or_default()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a step that visits all of `total` places before one again, with neighbours far from each
/// other: next to the golden section, and without a common divisor.
fn stride(total: u32) -> u32 {
    let golden = u64::from(total) * 618 / 1000;
    let golden = u32::try_from(golden).unwrap_or(total);
    (1..=golden).rev().find(|&step| greatest_common_divisor(step, total) == 1).unwrap_or(1)
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::super::{
        HostPattern, Lookup, LookupOptions, RouteKey, Snapshot, SnapshotRoute, SnapshotTarget,
    };
    use super::*;

    /// The weights of the targets, 0 for one that is not live.
    fn snapshot(weights: &[u16]) -> Snapshot {
        let target = |(port, &weight): (u16, &u16)| SnapshotTarget {
            address: ([192, 0, 2, 1], port).into(),
            weight: weight.max(1),
            live: weight > 0,
            strip: false,
        };
        snapshot_of((1..).zip(weights).map(target).collect())
    }

    fn snapshot_of(targets: Vec<SnapshotTarget>) -> Snapshot {
        let key = RouteKey { host: HostPattern::name("web").unwrap(), path: Default::default() };
        let route = SnapshotRoute { key, targets };
        let options = LookupOptions::new([], true).unwrap();
        Snapshot::parse(Snapshot::write(&options, 1, [route]).unwrap()).unwrap()
    }

    fn take(weights: &[u16], turns: usize) -> Vec<Option<usize>> {
        let snapshot = snapshot(weights);
        let Lookup::Found { value: route, .. } = snapshot.lookup(b"web", b"/") else { panic!() };
        let mut state = Turns::new();
        let port = |target: FoundTarget<'_>| target.address.strip_prefix("192.0.2.1:")?.parse().ok();
        (0..turns).map(|_| state.order(&route).next().and_then(port)).collect()
    }

    #[test]
    fn each_target_has_as_many_turns_as_its_weight() {
        for weights in [&[1][..], &[1, 1], &[2, 1], &[1, 2, 3], &[1000, 1], &[1; 17], &[5, 0, 3], &[1000; 9]]
        {
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            let taken = take(weights, 3 * total);
            for (target, &weight) in (1..).zip(weights) {
                let turns = taken.iter().filter(|&&taken| taken == Some(target)).count();
                assert_eq!(turns, 3 * usize::from(weight), "{target} of {weights:?}");
            }
        }
    }

    #[test]
    fn turns_are_spread() {
        let longest_run = |weights: &[u16]| {
            let taken = take(weights, 4000);
            taken.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap()
        };
        assert_eq!(longest_run(&[1, 1]), 1);
        assert!(longest_run(&[100, 99]) <= 2);
        assert!(longest_run(&[1000, 1000, 1000]) <= 2);
        assert!(longest_run(&[3, 1]) <= 4);
    }

    #[test]
    fn only_live_targets_have_turns() {
        assert_eq!(take(&[0, 1, 0], 2), [Some(2), Some(2)]);
        assert_eq!(take(&[0, 0], 1), [None]);
        assert_eq!(take(&[], 1), [None]);
    }

    #[test]
    fn the_others_follow_in_a_circle_if_they_get_the_same_path() {
        let target = |port, live, strip| SnapshotTarget {
            address: ([192, 0, 2, 1], port).into(),
            weight: 1,
            live,
            strip,
        };
        let targets = [
            target(1, true, false),
            target(2, false, false),
            target(3, true, true),
            target(4, true, false),
            target(5, true, false),
        ];
        let snapshot = snapshot_of(targets.to_vec());
        let Lookup::Found { value: route, .. } = snapshot.lookup(b"web", b"/") else { panic!() };
        let mut turns = Turns::new();
        let mut seen: Vec<Vec<&str>> = (0..4)
            .map(|_| {
                turns.order(&route).filter_map(|target| target.address.strip_prefix("192.0.2.1:")).collect()
            })
            .collect();
        seen.sort();
        assert_eq!(seen, [vec!["1", "4", "5"], vec!["3"], vec!["4", "5", "1"], vec!["5", "1", "4"]]);
    }

    #[test]
    fn every_step_visits_all_places() {
        for total in (1..2000).chain([1_024_000]) {
            let step = stride(total);
            assert!(step > 0 && greatest_common_divisor(step, total) == 1, "{total}");
        }
    }
}
