#![forbid(unsafe_code)]
//! [`RouteTable`]: routes in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hash::{hash, random_key};
use super::lookup::{Lookup, LookupOptions, SortedRoutes, find, host_text, lookup, route_key, route_text};
use super::pattern::RouteKey;

/// A table has as many groups, and each of them as many shards, by the hash: a change copies the
/// list of groups, a group and a shard.
const FANOUT: usize = 128;

/// Routes by host and path. A table never changes: a change makes another one, which shares what
/// is the same, so that those who look up are never in the way of those who change. Values are
/// cloned with their part of the table: an [`Arc`] is a good one.
#[derive(Debug)]
pub struct RouteTable<T> {
    options: Arc<LookupOptions>,
    /// Secret, so that nobody can choose hosts that all have the same hash.
    hash_key: [u64; 2],
    groups: Arc<[Group<T>]>,
    len: usize,
}

type Group<T> = Arc<[Shard<T>]>;

/// Routes in the order of [`SortedRoutes`].
type Shard<T> = Arc<[Entry<T>]>;

#[derive(Clone, Debug)]
struct Entry<T> {
    /// Here, so that a search reads no other memory.
    hash: u64,
    text: Arc<str>,
    value: T,
}

impl<T> RouteTable<T> {
    /// Returns an empty table.
    #[must_use]
    pub fn new(options: LookupOptions) -> Self {
        let shard: Shard<T> = Arc::new([]);
        let group: Group<T> = vec![shard; FANOUT].into();
        Self {
            options: Arc::new(options),
            hash_key: random_key(),
            groups: vec![group; FANOUT].into(),
            len: 0,
        }
    }

    /// Returns the route for a request, by the value of its Host field and its path, with or
    /// without a query. Of several hosts with routes for the path, the order is: the host itself,
    /// the name below a base domain, the wildcard, the name that is the first label. Allocates
    /// nothing.
    #[must_use]
    pub fn lookup(&self, host: &[u8], path: &[u8]) -> Lookup<&T> {
        lookup(&self.options, host, |candidate| {
            let hash = self.hash(candidate);
            let shard = self.shard(hash);
            find(&shard, hash, candidate, path).and_then(|at| shard.get(at).map(|entry| &entry.value))
        })
    }

    /// Returns the value of a route.
    #[must_use]
    pub fn get(&self, key: &RouteKey) -> Option<&T> {
        let text = route_text(key);
        let hash = self.hash(host_text(text.as_bytes()));
        let shard = self.shard(hash);
        let found = shard.binary_search_by(|entry| (entry.hash, &*entry.text).cmp(&(hash, &*text)));
        found.ok().and_then(|at| shard.get(at)).map(|entry| &entry.value)
    }

    /// Returns all routes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (RouteKey, &T)> {
        let shards = self.groups.iter().flat_map(|group| group.iter());
        shards
            .flat_map(|shard| shard.iter())
            .filter_map(|entry| Some((route_key(&entry.text)?, &entry.value)))
    }

    /// Returns how many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns what hosts are looked up by.
    #[must_use]
    pub fn options(&self) -> &LookupOptions {
        &self.options
    }

    fn hash(&self, host: &[u8]) -> u64 {
        hash(self.hash_key, host)
    }

    fn shard(&self, hash: u64) -> &[Entry<T>] {
        let (group, shard) = shard_of(hash);
        self.groups.get(group).and_then(|group| group.get(shard)).map_or(&[], |shard| shard)
    }
}

impl<T: Clone> RouteTable<T> {
    /// Returns a table with a route more, or with another value for it.
    #[must_use]
    pub fn with(&self, key: RouteKey, value: T) -> Self {
        self.with_changes([(key, Some(value))])
    }

    /// Returns a table without a route.
    #[must_use]
    pub fn without(&self, key: &RouteKey) -> Self {
        self.with_changes([(key.clone(), None)])
    }

    /// Returns a table with many changes, made in their order: a value is set, `None` removes the
    /// route. Many cost little more than one where they concern the same part of the table.
    #[must_use]
    pub fn with_changes(&self, changes: impl IntoIterator<Item = (RouteKey, Option<T>)>) -> Self {
        let mut changed: BTreeMap<(usize, usize), Vec<Entry<T>>> = BTreeMap::new();
        let mut len = self.len;
        for (key, value) in changes {
            let text = route_text(&key);
            let hash = self.hash(host_text(text.as_bytes()));
            let entries = changed.entry(shard_of(hash)).or_insert_with(|| self.shard(hash).to_vec());
            let found = entries.binary_search_by(|entry| (entry.hash, &*entry.text).cmp(&(hash, &*text)));
            match (found, value) {
                (Ok(at), Some(value)) => {
                    if let Some(entry) = entries.get_mut(at) {
                        entry.value = value;
                    }
                }
                (Err(at), Some(value)) => {
                    entries.insert(at, Entry { hash, text: text.into(), value });
                    len += 1;
                }
                (Ok(at), None) => {
                    entries.remove(at);
                    len -= 1;
                }
                (Err(_), None) => {}
            }
        }
        let mut groups = self.groups.to_vec();
        for ((group, shard), entries) in changed {
            // Copied by the first change that it has.
            if let Some(shard) = groups.get_mut(group).and_then(|group| Arc::make_mut(group).get_mut(shard)) {
                *shard = entries.into();
            }
        }
        Self { groups: groups.into(), len, ..self.clone() }
    }
}

/// Returns which group and which of its shards has a hash.
fn shard_of(hash: u64) -> (usize, usize) {
    let [group, shard, ..] = hash.to_be_bytes();
    (usize::from(group) % FANOUT, usize::from(shard) % FANOUT)
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self {
            options: Arc::clone(&self.options),
            hash_key: self.hash_key,
            groups: Arc::clone(&self.groups),
            len: self.len,
        }
    }
}

impl<T> SortedRoutes for &[Entry<T>] {
    fn len(&self) -> usize {
        <[Entry<T>]>::len(self)
    }

    fn hash(&self, at: usize) -> u64 {
        self.get(at).map_or(0, |entry| entry.hash)
    }

    fn text(&self, at: usize) -> &[u8] {
        self.get(at).map_or(b"", |entry| entry.text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
