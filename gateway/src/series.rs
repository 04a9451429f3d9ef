#![forbid(unsafe_code)]
//! [`Series`]: values by name, for the few names of a configuration.

use std::iter;
use std::sync::OnceLock;

/// A list of named values that only grows. Any thread reads and extends it without a lock. Its cost
/// grows with the number of names, so it is for names from the configuration, never from clients.
#[derive(Debug)]
pub(crate) struct Series<K, V> {
    first: Slot<K, V>,
}

type Slot<K, V> = OnceLock<Box<Entry<K, V>>>;

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    next: Slot<K, V>,
}

impl<K, V> Default for Series<K, V> {
    fn default() -> Self {
        Self { first: OnceLock::new() }
    }
}

impl<K: Clone + PartialEq, V: Default> Series<K, V> {
    /// Returns the value of this key, which begins as the default.
    pub(crate) fn get(&self, key: &K) -> &V {
        let mut slot = &self.first;
        loop {
            let entry = slot.get_or_init(|| {
                Box::new(Entry { key: key.clone(), value: V::default(), next: OnceLock::new() })
            });
            if entry.key == *key {
                return &entry.value;
            }
            slot = &entry.next;
        }
    }
}

impl<K: PartialEq, V> Series<K, V> {
    /// Returns the value of this key, if it was used before.
    pub(crate) fn find(&self, key: &K) -> Option<&V> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }
}

impl<K, V> Series<K, V> {
    /// Returns all entries, in the order of their first use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        iter::successors(self.first.get(), |entry| entry.next.get()).map(|entry| (&entry.key, &entry.value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_meet_at_a_name_share_its_value() {
        let series: Series<u64, AtomicU64> = Series::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        series.get(&(n % 10)).fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut found: Vec<_> = series.iter().map(|(key, n)| (*key, n.load(Ordering::Relaxed))).collect();
        found.sort_unstable();
        assert_eq!(found, (0..10).map(|key| (key, 400)).collect::<Vec<_>>());
    }
}
