#![forbid(unsafe_code)]
//! Which containers announce which routes.
//!
//! ```text
//!   sources                         directory                     sinks
//!   Docker daemons  ──┐                                       ┌──► the gateway's router
//!   a registry      ──┼── Update ──► who owns which route ────┼──► a snapshot file, for nginx
//!   joined workers  ──┤              (pure)                   ├──► a registry (own records only)
//!   fixed routes    ──┘                                       └──► the front door (own records only)
//! ```
//!
//! A source sends [`Update`]s: what it knows of the [`Record`]s of its own, one by one or all at
//! once. Nothing is ever flushed: a source that cannot be reached is stale, and its last records
//! stay. The source for a Docker daemon is [`watch`].

pub mod address;
pub mod container;
pub mod directory;
pub mod join;
mod outbox;
mod record;
pub mod registry;
pub mod snapshot_file;
pub mod suggest;
mod update;
mod view;
pub mod watch;

use std::time::Instant;

pub use outbox::Outbox;
pub use record::{
    Drain, Lifecycle, Node, NodeName, Origin, Record, RecordId, RecordState, Service, Target, Text,
};
pub use update::{Change, Source, Unrouted, Update};
pub use view::{Readers, View};

#[expect(clippy::disallowed_methods, reason = "the threads that wait have to know for how long")]
fn now() -> Instant {
    Instant::now()
}
