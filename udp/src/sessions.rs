//! [`Sessions`]: a table whose entries are kept in the order of their last use.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Entries, found by key or by number. A number is valid until its entry is removed, and is reused
/// then.
pub(crate) struct Sessions<K, V> {
    numbers: HashMap<K, usize>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<usize>,
    ends: Option<Ends>,
}

/// The list of all entries, by last use.
#[derive(Clone, Copy)]
struct Ends {
    oldest: usize,
    newest: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    used: Instant,
    older: Option<usize>,
    newer: Option<usize>,
}

impl<K: Copy + Eq + Hash, V> Sessions<K, V> {
    pub(crate) fn new() -> Self {
        Self { numbers: HashMap::new(), slots: Vec::new(), free: Vec::new(), ends: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the number that the next entry will have.
    pub(crate) fn next_number(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Adds an entry whose key is not in the table, as the newest. Its number was
    /// [`Sessions::next_number`].
    pub(crate) fn insert(&mut self, key: K, value: V, now: Instant) {
        let slot = Some(Slot { key, value, used: now, older: None, newer: None });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.numbers.insert(key, number);
        self.link_newest(number);
    }

    /// Returns the number of an entry.
    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    pub(crate) fn get(&self, number: usize) -> Option<(&K, &V)> {
        self.slots.get(number)?.as_ref().map(|slot| (&slot.key, &slot.value))
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut V> {
        self.slots.get_mut(number)?.as_mut().map(|slot| &mut slot.value)
    }

    /// Returns all entries, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    /// Makes an entry the newest.
    pub(crate) fn touch(&mut self, number: usize, now: Instant) {
        if self.ends.is_some_and(|ends| ends.newest != number) {
            self.unlink(number);
            self.link_newest(number);
        }
        if let Some(slot) = self.slot(number) {
            slot.used = now;
        }
    }

    /// Returns when the oldest entry was last used.
    pub(crate) fn oldest_use(&self) -> Option<Instant> {
        self.slots[self.ends?.oldest].as_ref().map(|slot| slot.used)
    }

    /// Removes the oldest entry. Returns `false` if there is none.
    pub(crate) fn remove_oldest(&mut self) -> bool {
        let Some(Ends { oldest, .. }) = self.ends else { return false };
        self.unlink(oldest);
        if let Some(slot) = self.slots[oldest].take() {
            self.numbers.remove(&slot.key);
            self.free.push(oldest);
        }
        true
    }

    /// Removes the entries that have not been used for `idle`.
    pub(crate) fn remove_unused(&mut self, idle: Duration, now: Instant) {
        while self.oldest_use().is_some_and(|used| now.saturating_duration_since(used) >= idle) {
            self.remove_oldest();
        }
    }

    fn slot(&mut self, number: usize) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(number)?.as_mut()
    }

    fn unlink(&mut self, number: usize) {
        let Some(slot) = self.slot(number) else { return };
        let (older, newer) = (slot.older.take(), slot.newer.take());
        if let Some(slot) = older.and_then(|older| self.slot(older)) {
            slot.newer = newer;
        }
        if let Some(slot) = newer.and_then(|newer| self.slot(newer)) {
            slot.older = older;
        }
        self.ends = self.ends.and_then(|ends| {
            let oldest = if ends.oldest == number { newer? } else { ends.oldest };
            let newest = if ends.newest == number { older? } else { ends.newest };
            Some(Ends { oldest, newest })
        });
    }

    fn link_newest(&mut self, number: usize) {
        let before = self.ends.map(|ends| ends.newest);
        if let Some(slot) = before.and_then(|before| self.slot(before)) {
            slot.newer = Some(number);
        }
        if let Some(slot) = self.slot(number) {
            slot.older = before;
        }
        let oldest = self.ends.map_or(number, |ends| ends.oldest);
        self.ends = Some(Ends { oldest, newest: number });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes all entries, and returns their keys from the oldest to the newest.
    fn order(mut table: Sessions<u32, u32>) -> Vec<u32> {
        let mut keys = Vec::new();
        while let Some(ends) = table.ends {
            keys.push(*table.get(ends.oldest).unwrap().0);
            assert!(table.remove_oldest());
        }
        assert_eq!(table.len(), 0);
        assert!(!table.remove_oldest());
        keys
    }

    fn table(keys: std::ops::Range<u32>, now: Instant) -> Sessions<u32, u32> {
        let mut table = Sessions::new();
        for key in keys {
            table.insert(key, key, now);
        }
        table
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn least_recently_used_goes_first() {
        let start = Instant::now();
        assert_eq!(order(table(0..4, start)), [0, 1, 2, 3]);
        for (touched, wanted) in [(0, [1, 2, 3, 0]), (1, [0, 2, 3, 1]), (3, [0, 1, 2, 3])] {
            let mut table = table(0..4, start);
            table.touch(table.find(&touched).unwrap(), start + Duration::from_secs(1));
            assert_eq!(order(table), wanted);
        }
    }

    /// Each use restarts the time.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn unused_entries_go_at_the_limit_and_not_before() {
        let (start, idle) = (Instant::now(), Duration::from_secs(90));
        let mut table = table(0..2, start);
        table.touch(1, start + Duration::from_secs(30));
        table.remove_unused(idle, start + idle - Duration::from_nanos(1));
        assert_eq!(table.len(), 2);
        table.remove_unused(idle, start + idle);
        assert_eq!((table.find(&0), table.find(&1)), (None, Some(1)));
        table.remove_unused(idle, start + Duration::from_secs(119));
        assert_eq!(table.len(), 1);
        table.remove_unused(idle, start + Duration::from_secs(121));
        assert_eq!(table.len(), 0);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn numbers_are_reused() {
        let start = Instant::now();
        let mut table = table(0..3, start);
        assert!(table.remove_oldest());
        assert_eq!((table.find(&0), table.next_number()), (None, 0));
        table.insert(9, 9, start + Duration::from_secs(1));
        assert_eq!((table.find(&9), table.next_number(), table.len()), (Some(0), 3, 3));
        assert_eq!(table.oldest_use(), Some(start));
        assert_eq!(order(table), [1, 2, 9]);
    }
}
