#![forbid(unsafe_code)]
//! Routes by host and path: how they are named, kept and looked up. Pure.
//!
//! A route has a [`RouteKey`]: the hosts it serves, and the prefix of the paths. Of several routes
//! for a request, that with the most exact host is taken, then that with the longest prefix.
//!
//! ```
//! use dockline::routes::{HostPattern, Lookup, LookupOptions, PathPrefix, RouteKey, RouteTable};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = LookupOptions::new(["apps.example.com"], false)?;
//! let key = RouteKey { host: HostPattern::name("web")?, path: "/api".parse()? };
//! let table = RouteTable::new(options).with(key, "192.0.2.7:8080");
//!
//! let found = table.lookup(b"web.apps.example.com:80", b"/api/containers?all=1");
//! assert_eq!(found, Lookup::Found { value: &"192.0.2.7:8080", prefix: 4 });
//! assert_eq!(table.lookup(b"web.apps.example.com", b"/"), Lookup::UnknownPath);
//! assert_eq!(table.lookup(b"db.apps.example.com", b"/"), Lookup::UnknownHost);
//! # Ok(()) }
//! # main().unwrap();
//! ```

mod hash;
mod host;
mod lookup;
mod pattern;
#[cfg(test)]
mod samples;
mod snapshot;
mod table;
mod turns;

pub use host::Host;
pub use lookup::{Lookup, LookupOptions};
pub use pattern::{HOST_MAX, HostPattern, PATH_MAX, PathPrefix, PatternError, RouteKey};
pub use snapshot::{FoundRoute, FoundTarget, Snapshot, SnapshotError, SnapshotRoute, SnapshotTarget};
pub use table::RouteTable;
pub use turns::Turns;
