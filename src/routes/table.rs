#![forbid(unsafe_code)]
//! [`RouteTable`]: routes in memory.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::hash::hash;
use super::host::Host;
use super::lookup::{self, Find, HostRef, Lookup, LookupOptions, SortedRoutes, candidates, path_bytes};
use super::pattern::RouteKey;

/// How many parts a table has, by the highest bits of the hash: a change copies one of them, and
/// the list of them.
const SHARDS: usize = 256;

/// Routes by host and path. A table never changes: a change makes another one, which shares what
/// is the same, so that those who look up are never in the way of those who change.
#[derive(Debug)]
pub struct RouteTable<T> {
    options: Arc<LookupOptions>,
    /// Secret, so that nobody can choose hosts that all have the same hash.
    hash_key: [u64; 2],
    shards: Arc<[Shard<T>]>,
    len: usize,
}

/// Routes in the order of [`SortedRoutes`].
type Shard<T> = Arc<[Entry<T>]>;

#[derive(Debug)]
struct Entry<T> {
    /// Here, so that a search reads no other memory.
    hash: u64,
    route: Arc<Route<T>>,
}

#[derive(Debug)]
struct Route<T> {
    key: RouteKey,
    value: T,
}

impl<T> RouteTable<T> {
    /// Returns an empty table.
    #[must_use]
    pub fn new(options: LookupOptions) -> Self {
        let random = || RandomState::new().build_hasher().finish();
        let empty: Shard<T> = Arc::new([]);
        Self {
            options: Arc::new(options),
            hash_key: [random(), random()],
            shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(),
            len: 0,
        }
    }

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
        let mut changed: BTreeMap<usize, Vec<Entry<T>>> = BTreeMap::new();
        let mut len = self.len;
        for (key, value) in changes {
            let hash = self.hash(HostRef::from(&key.host));
            let entries = changed.entry(shard_of(hash)).or_insert_with(|| self.shard(hash).to_vec());
            let order = |entry: &Entry<T>| entry.hash.cmp(&hash).then_with(|| entry.route.key.cmp(&key));
            let found = entries.binary_search_by(order);
            match (found, value) {
                (Ok(at), Some(value)) => {
                    if let Some(entry) = entries.get_mut(at) {
                        entry.route = Arc::new(Route { key, value });
                    }
                }
                (Err(at), Some(value)) => {
                    entries.insert(at, Entry { hash, route: Arc::new(Route { key, value }) });
                    len += 1;
                }
                (Ok(at), None) => {
                    entries.remove(at);
                    len -= 1;
                }
                (Err(_), None) => {}
            }
        }
        let unchanged = self.shards.iter().enumerate();
        let shards = unchanged
            .map(|(at, shard)| changed.remove(&at).map_or_else(|| Arc::clone(shard), Arc::from))
            .collect();
        Self { options: Arc::clone(&self.options), hash_key: self.hash_key, shards, len }
    }

    /// Returns the route for a request, by the value of its Host field and its path, with or
    /// without a query. Of several hosts with routes for the path, the order is: the host itself,
    /// the name below a base domain, the wildcard, the name that is the first label. Allocates
    /// nothing.
    #[must_use]
    pub fn lookup(&self, host: &[u8], path: &[u8]) -> Lookup<'_, T> {
        let Some(host) = Host::parse(host) else { return Lookup::NoHost };
        let is_base_domain =
            |text: &[u8]| self.options.domains().iter().any(|domain| domain.as_bytes() == text);
        let mut otherwise = Lookup::UnknownHost;
        for candidate in candidates(&host, is_base_domain, self.options.first_label()) {
            let hash = self.hash(candidate);
            let shard = self.shard(hash);
            match lookup::find(&shard, hash, candidate, path) {
                Find::At { at, prefix } => {
                    if let Some(entry) = shard.get(at) {
                        return Lookup::Found { value: &entry.route.value, prefix };
                    }
                }
                Find::UnknownPath => otherwise = Lookup::UnknownPath,
                Find::UnknownHost => {}
            }
        }
        otherwise
    }

    /// Returns the value of a route.
    #[must_use]
    pub fn get(&self, key: &RouteKey) -> Option<&T> {
        let hash = self.hash(HostRef::from(&key.host));
        let shard = self.shard(hash);
        let order = |entry: &Entry<T>| entry.hash.cmp(&hash).then_with(|| entry.route.key.cmp(key));
        shard.binary_search_by(order).ok().and_then(|at| shard.get(at)).map(|entry| &entry.route.value)
    }

    /// Returns all routes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&RouteKey, &T)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|entry| (&entry.route.key, &entry.route.value))
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

    fn hash(&self, host: HostRef<'_>) -> u64 {
        hash(self.hash_key, host.text)
    }

    fn shard(&self, hash: u64) -> &[Entry<T>] {
        self.shards.get(shard_of(hash)).map_or(&[], |shard| shard)
    }
}

fn shard_of(hash: u64) -> usize {
    usize::from((hash >> 56) as u8)
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self {
            options: Arc::clone(&self.options),
            hash_key: self.hash_key,
            shards: Arc::clone(&self.shards),
            len: self.len,
        }
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, route: Arc::clone(&self.route) }
    }
}

impl<T> SortedRoutes for &[Entry<T>] {
    fn len(&self) -> usize {
        <[Entry<T>]>::len(self)
    }

    fn hash(&self, at: usize) -> u64 {
        self.get(at).map_or(0, |entry| entry.hash)
    }

    fn host(&self, at: usize) -> HostRef<'_> {
        self.get(at).map_or_else(HostRef::default, |entry| HostRef::from(&entry.route.key.host))
    }

    fn path(&self, at: usize) -> &[u8] {
        self.get(at).map_or(b"", |entry| path_bytes(&entry.route.key.path))
    }
}

#[cfg(test)]
mod tests;
