#![forbid(unsafe_code)]
//! Which of the routes serves a request: the same for a table in memory and for a snapshot.

use std::cmp::Ordering;

use super::host::Host;
use super::pattern::{HostPattern, PATH_MAX, PathPrefix, PatternError};

/// What the hosts of requests are looked up by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupOptions {
    domains: Vec<Box<str>>,
    first_label: bool,
}

impl LookupOptions {
    /// Base domains at most.
    pub const DOMAINS_MAX: usize = 64;

    /// Returns options. The names of routes are looked up below each of the base domains, and with
    /// `first_label` also by the first label of any host.
    ///
    /// # Errors
    /// If a domain is not a host name, or if there are more than [`DOMAINS_MAX`](Self::DOMAINS_MAX)
    /// ([`PatternError::TooLong`]).
    pub fn new<'d>(
        domains: impl IntoIterator<Item = &'d str>,
        first_label: bool,
    ) -> Result<Self, PatternError> {
        let domain = |text| match HostPattern::host(text)? {
            HostPattern::Exact(domain)
                if Host::parse(domain.as_bytes()).is_some_and(|host| !host.is_address()) =>
            {
                Ok(domain)
            }
            _ => Err(PatternError::Label),
        };
        let domains = domains.into_iter().map(domain).collect::<Result<Vec<_>, _>>()?;
        if domains.len() > Self::DOMAINS_MAX {
            return Err(PatternError::TooLong);
        }
        Ok(Self { domains, first_label })
    }

    /// Returns the base domains.
    #[must_use]
    pub fn domains(&self) -> &[Box<str>] {
        &self.domains
    }

    /// Returns whether names are looked up by the first label of any host.
    #[must_use]
    pub fn first_label(&self) -> bool {
        self.first_label
    }
}

/// What was found for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'t, T> {
    /// A route.
    Found {
        /// Its value.
        value: &'t T,
        /// Bytes of the path that its prefix matches; 0 if it serves all paths. What follows is
        /// empty or begins with `/`, `?` or `#`.
        prefix: usize,
    },
    /// The host has routes, none of them for this path.
    UnknownPath,
    /// No route for the host.
    UnknownHost,
    /// The request has no host, or it is neither a name nor an address.
    NoHost,
}

/// The hosts of a route, borrowed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostRef<'a> {
    pub(super) kind: HostKind,
    pub(super) text: &'a [u8],
}

/// The kinds of [`HostPattern`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostKind {
    #[default]
    Name,
    Exact,
    Wildcard,
}

impl<'a> From<&'a HostPattern> for HostRef<'a> {
    fn from(host: &'a HostPattern) -> Self {
        let (kind, text) = match host {
            HostPattern::Name(text) => (HostKind::Name, text),
            HostPattern::Exact(text) => (HostKind::Exact, text),
            HostPattern::Wildcard(text) => (HostKind::Wildcard, text),
        };
        Self { kind, text: text.as_bytes() }
    }
}

/// Returns what a prefix is compared as: the root is a prefix of all paths.
pub(super) fn path_bytes(path: &PathPrefix) -> &[u8] {
    if path.is_root() { b"" } else { path.as_str().as_bytes() }
}

/// Returns the hosts whose routes serve a host, the most exact first.
pub(super) fn candidates<'h>(
    host: &'h Host,
    is_base_domain: impl Fn(&[u8]) -> bool,
    first_label: bool,
) -> impl Iterator<Item = HostRef<'h>> {
    let of = |kind, text: Option<&'h [u8]>| text.map(|text| HostRef { kind, text });
    let (label, parent) = (host.first_label(), host.parent());
    let is_below = parent.is_some_and(is_base_domain);
    let name = of(HostKind::Name, label);
    [
        of(HostKind::Exact, Some(host.as_bytes())),
        name.filter(|_| is_below),
        of(HostKind::Wildcard, parent),
        name.filter(|_| first_label && !is_below),
    ]
    .into_iter()
    .flatten()
}

/// Routes in the order of the hash of the host's text, the host, and the path. What is read from a
/// file may be in any order: then another route is found, or none.
pub(super) trait SortedRoutes {
    fn len(&self) -> usize;
    fn hash(&self, at: usize) -> u64;
    fn host(&self, at: usize) -> HostRef<'_>;
    /// As [`path_bytes`].
    fn path(&self, at: usize) -> &[u8];
}

pub(super) enum Find {
    At { at: usize, prefix: usize },
    UnknownPath,
    UnknownHost,
}

/// Finds the route of a host with the longest prefix of a path.
pub(super) fn find(routes: &impl SortedRoutes, hash: u64, host: HostRef<'_>, path: &[u8]) -> Find {
    let is_host = |at| at < routes.len() && routes.hash(at) == hash && routes.host(at) == host;
    let path = without_query(path);
    let mut limit = path;
    loop {
        // Prefixes of a path are sorted before it, and between the two there is only what begins
        // with that prefix.
        let end = first_behind(routes, hash, host, limit);
        let Some(at) = end.checked_sub(1).filter(|at| is_host(*at)) else {
            return if is_host(end) { Find::UnknownPath } else { Find::UnknownHost };
        };
        let prefix = routes.path(at);
        if is_prefix(prefix, path) {
            return Find::At { at, prefix: prefix.len() };
        }
        if limit.is_empty() {
            return Find::UnknownPath;
        }
        let shared = prefix.iter().zip(limit).take_while(|(a, b)| a == b).count();
        let shorter = limit.get(..=shared).unwrap_or(limit);
        let slash = shorter.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
        limit = limit.get(..slash).unwrap_or_default();
    }
}

/// Returns how many of the routes are not behind a host and path.
fn first_behind(routes: &impl SortedRoutes, hash: u64, host: HostRef<'_>, path: &[u8]) -> usize {
    let (mut start, mut end) = (0, routes.len());
    while start < end {
        let middle = start.midpoint(end);
        // Only routes with the same hash are read.
        let order = routes
            .hash(middle)
            .cmp(&hash)
            .then_with(|| routes.host(middle).cmp(&host))
            .then_with(|| routes.path(middle).cmp(path));
        if order == Ordering::Greater { end = middle } else { start = middle + 1 }
    }
    start
}

/// Returns the path as far as a prefix can reach, with the byte that ends the segment.
fn without_query(path: &[u8]) -> &[u8] {
    let path = path.get(..=PATH_MAX).unwrap_or(path);
    let end = path.iter().position(|byte| b"?#".contains(byte));
    path.get(..end.unwrap_or(path.len())).unwrap_or(path)
}

fn is_prefix(prefix: &[u8], path: &[u8]) -> bool {
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}
