#![forbid(unsafe_code)]
//! Which of the routes serves a request: the same for a table in memory and for a snapshot.

use std::cmp::Ordering;

use super::host::Host;
use super::pattern::{HostPattern, PatternError, RouteKey};

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
pub enum Lookup<V> {
    /// A route.
    Found {
        /// Its value.
        value: V,
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

impl<V> Lookup<V> {
    /// Replaces the value; without one nothing was found.
    pub(super) fn and_then<W>(self, value: impl FnOnce(V) -> Option<W>) -> Lookup<W> {
        match self {
            Self::Found { value: old, prefix } => {
                value(old).map_or(Lookup::UnknownHost, |value| Lookup::Found { value, prefix })
            }
            Self::UnknownPath => Lookup::UnknownPath,
            Self::UnknownHost => Lookup::UnknownHost,
            Self::NoHost => Lookup::NoHost,
        }
    }
}

/// Looks the hosts up that serve the host of a request, the most exact first.
#[inline]
pub(super) fn lookup<V>(
    options: &LookupOptions,
    field: &[u8],
    mut find: impl FnMut(&[u8]) -> Lookup<V>,
) -> Lookup<V> {
    let Some(host) = Host::parse(field) else { return Lookup::NoHost };
    let mut otherwise = Lookup::UnknownHost;
    for candidate in candidates(&host, options) {
        match find(candidate) {
            found @ Lookup::Found { .. } => return found,
            Lookup::UnknownPath => otherwise = Lookup::UnknownPath,
            Lookup::UnknownHost | Lookup::NoHost => {}
        }
    }
    otherwise
}

fn candidates<'h>(host: &'h Host, options: &LookupOptions) -> impl Iterator<Item = &'h [u8]> {
    let domain = host.parent().and_then(|parent| parent.get(1..));
    let is_below = options.domains.iter().any(|known| Some(known.as_bytes()) == domain);
    [
        Some(host.as_bytes()),
        host.name().filter(|_| is_below),
        host.parent(),
        host.name().filter(|_| options.first_label && !is_below),
    ]
    .into_iter()
    .flatten()
}

/// Returns a route as it is looked up, one text for each: `www.example.com/` for a host,
/// `.example.com/` for a wildcard, `web./` for a name, each followed by the path. So the hosts of
/// the routes for a host are all parts of that host's own text.
pub(super) fn route_text(key: &RouteKey) -> String {
    let path = key.path.as_str();
    match &key.host {
        HostPattern::Name(name) => format!("{name}.{path}"),
        HostPattern::Exact(host) => format!("{host}{path}"),
        HostPattern::Wildcard(parent) => format!(".{parent}{path}"),
    }
}

/// Returns the part before the path, which is what is hashed.
pub(super) fn host_text(route: &[u8]) -> &[u8] {
    route.split(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Returns what has this text; `None` if nothing has.
pub(super) fn route_key(text: &str) -> Option<RouteKey> {
    let (host, path) = text.split_at_checked(text.find('/')?)?;
    let host = match (host.strip_suffix('.'), host.strip_prefix('.')) {
        (Some(name), _) => HostPattern::name(name).ok()?,
        (None, Some(_)) => HostPattern::host(&format!("*{host}")).ok()?,
        (None, None) => HostPattern::host(host).ok()?,
    };
    let key = RouteKey { host, path: path.parse().ok()? };
    (route_text(&key) == text).then_some(key)
}

/// Routes in the order of the hash of their host, and of their text. What is read from a file may
/// be in any order: then another route is found, or none.
pub(super) trait SortedRoutes {
    fn len(&self) -> usize;
    fn hash(&self, at: usize) -> u64;
    fn text(&self, at: usize) -> &[u8];
}

/// Returns where the route of a host with the longest prefix of a path is.
pub(super) fn find(routes: &impl SortedRoutes, hash: u64, host: &[u8], path: &[u8]) -> Lookup<usize> {
    let prefix_of = |at| {
        let text = if at < routes.len() && routes.hash(at) == hash { routes.text(at) } else { b"" };
        text.strip_prefix(host).filter(|prefix| prefix.starts_with(b"/"))
    };
    // What is no path, as of `OPTIONS *`, is served by the root alone.
    let path = if path.starts_with(b"/") { path } else { b"/" };
    let mut limit = path;
    loop {
        // Prefixes of a path are sorted before it, and between the two there is only what begins
        // with that prefix.
        let end = first_behind(routes, hash, host, limit);
        let Some((at, prefix)) = end.checked_sub(1).and_then(|at| Some((at, prefix_of(at)?))) else {
            return if prefix_of(end).is_some() { Lookup::UnknownPath } else { Lookup::UnknownHost };
        };
        match prefix {
            b"/" => return Lookup::Found { value: at, prefix: 0 },
            _ if is_prefix(prefix, path) => return Lookup::Found { value: at, prefix: prefix.len() },
            _ if limit == b"/" => return Lookup::UnknownPath,
            _ => {}
        }
        let shared = prefix.iter().zip(limit).take_while(|(a, b)| a == b).count();
        let shorter = limit.get(..=shared).unwrap_or(limit);
        let segment = shorter.iter().rposition(is_end).unwrap_or_default();
        limit = limit.get(..segment.max(1)).unwrap_or_default();
    }
}

/// Returns how many of the routes are not behind a host and path.
fn first_behind(routes: &impl SortedRoutes, hash: u64, host: &[u8], path: &[u8]) -> usize {
    let (mut start, mut end) = (0, routes.len());
    while start < end {
        let middle = start.midpoint(end);
        // Only texts with the same hash are read.
        let order = routes.hash(middle).cmp(&hash).then_with(|| {
            let text = routes.text(middle);
            let (of_host, of_path) = text.split_at(host.len().min(text.len()));
            of_host.cmp(host).then_with(|| of_path.cmp(path))
        });
        if order == Ordering::Greater { end = middle } else { start = middle + 1 }
    }
    start
}

/// Returns whether a prefix ends where a segment of the path does.
fn is_prefix(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.first().is_none_or(is_end))
}

/// Returns whether a byte of a request's path ends a segment. No prefix has a `?` or `#`.
fn is_end(byte: &u8) -> bool {
    matches!(byte, b'/' | b'?' | b'#')
}
