#![forbid(unsafe_code)]
//! Records in Redis, where the machines of a cluster share them.
//!
//! ```text
//!   Update ──► Publisher ──► Redis ──► Subscriber ──► Update
//!              own nodes               the others
//! ```
//!
//! There are two layouts, which docs/REGISTRY.md describes. In the **structured** one each node has
//! a hash with all of its records and one lease: the hash expires at once if the node is gone.
//! Changes are announced on a channel, with what has changed, so that a reader asks Redis only when
//! it has missed something. The **classic** one is a string for each name, with the address of its
//! target, as nginx with a few lines of Lua reads it.
//!
//! A publisher writes and removes only what it has written itself, by scripts that compare first.
//! Nothing is ever flushed. While Redis is away, readers keep what they know, marked stale; when it
//! is back, what is missing there gets the time of a lease to be written again.

mod address;
mod classic;
mod connection;
mod outgoing;
mod publisher;
mod replica;
mod structured;
mod subscriber;

pub use address::{Address, AddressError, TlsFiles};
pub use publisher::{Publisher, PublisherConfig};
pub use structured::{NODES_MAX, RECORD_MAX, RECORDS_MAX, TOTAL_MAX};
pub use subscriber::{Layout, Subscriber, SubscriberConfig};

use std::time::Duration;

/// How long the records of a node stay without a sign of life, if nothing else is configured.
pub const LEASE: Duration = Duration::from_secs(30);

/// Waits after failures: the first one, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Returns the wait after one more failure.
fn next_backoff(last: Duration) -> Duration {
    (last * 2).clamp(BACKOFF.0, BACKOFF.1)
}

#[cfg(test)]
mod samples {
    use dockline::routes::{HostPattern, PathPrefix, RouteKey};

    use crate::{Drain, Lifecycle, Node, Origin, Record, RecordId, RecordState, Target};

    pub(super) fn node(name: &str) -> Node {
        Node { name: name.parse().unwrap(), gateway: Some("192.0.2.1:80".parse().unwrap()) }
    }

    /// Returns a record of a container `owner` that serves the name `owner`.
    pub(super) fn record(node: &str, owner: &str, target: &str) -> Record {
        Record {
            id: RecordId { node: node.parse().unwrap(), owner: owner.into(), index: 0 },
            title: owner.into(),
            started: 1,
            created: 1,
            key: RouteKey { host: HostPattern::name(owner).unwrap(), path: PathPrefix::root() },
            strip: false,
            service: None,
            target: Some(Target {
                address: Origin::Ip(target.parse().unwrap()),
                tls: false,
                proxy_protocol: None,
            }),
            state: RecordState::Live,
            weight: 1,
            drain: Drain::default(),
            lifecycle: Lifecycle::default(),
        }
    }
}
