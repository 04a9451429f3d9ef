//! Routes as a large installation has them, and requests for them in random order.

#![expect(clippy::expect_used, reason = "these are names, hosts and paths")]

use dockline::routes::{HostPattern, LookupOptions, PathPrefix, RouteKey};

/// Requests of one kind: more than the caches of a processor hold.
const REQUESTS: usize = 200_000;

pub(crate) struct Routes {
    pub(crate) options: LookupOptions,
    pub(crate) keys: Vec<RouteKey>,
}

#[derive(Default)]
pub(crate) struct Request {
    pub(crate) host: Vec<u8>,
    pub(crate) path: Vec<u8>,
}

impl Clone for Request {
    fn clone(&self) -> Self {
        Self { host: self.host.clone(), path: self.path.clone() }
    }

    /// Allocates nothing if there is room.
    fn clone_from(&mut self, other: &Self) {
        self.host.clone_from(&other.host);
        self.path.clone_from(&other.path);
    }
}

impl Routes {
    /// Of ten routes seven have a name, one a host, one a host and a path that it shares with
    /// nine others, and one a wildcard.
    pub(crate) fn new(count: usize) -> Self {
        let host = |text: String| HostPattern::host(&text).expect("a host");
        let keys = (0..count).map(|at| {
            let (host, path) = match at % 10 {
                0 => (host(format!("shop-{at}.example.net")), PathPrefix::root()),
                1 => (host(format!("*.tenant-{at}.example.net")), PathPrefix::root()),
                2 => (
                    host(format!("api-{}.example.net", at / 100)),
                    format!("/services/{at}").parse().expect("a path"),
                ),
                _ => (HostPattern::name(&format!("project-{at}-web")).expect("a name"), PathPrefix::root()),
            };
            RouteKey { host, path }
        });
        let options = LookupOptions::new(["example.org", "apps.example.com"], false).expect("domains");
        Self { options, keys: keys.collect() }
    }

    /// Requests for all routes alike, and requests for hosts that have none.
    pub(crate) fn requests(&self) -> [(&'static str, Vec<Request>); 2] {
        let mut random = Random(1);
        let keys = (0..REQUESTS).filter_map(|_| self.keys.get(random.below(self.keys.len())));
        let known = keys.map(|key| {
            let host = match &key.host {
                HostPattern::Name(name) => format!("{name}.apps.example.com"),
                HostPattern::Exact(host) => host.to_string(),
                HostPattern::Wildcard(parent) => format!("www.{parent}"),
            };
            let prefix = if key.path.is_root() { "" } else { key.path.as_str() };
            Request { host: host.into_bytes(), path: format!("{prefix}/assets/app.js?v=3").into_bytes() }
        });
        let known = known.collect();
        let unknown = (0..REQUESTS).map(|at| Request {
            host: format!("stranger-{at}.apps.example.com").into_bytes(),
            path: b"/wp-login.php".to_vec(),
        });
        [("known", known), ("unknown", unknown.collect())]
    }
}

/// The same numbers in each run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap_or_default()
    }
}
