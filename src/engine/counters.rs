#![forbid(unsafe_code)]
//! The counters of an engine, each defined once: [`Counters`] as they are counted, [`Stats`] as
//! they are read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that any thread may read.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds `n`. Only for counters that a single thread writes.
    pub(super) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Subtracts `n`. Only for counters that a single thread writes.
    pub(super) fn subtract(&self, n: u64) {
        self.set(self.get().wrapping_sub(n));
    }

    /// Adds one to a counter that several threads write.
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one from a counter that several threads write. Returns the value before.
    pub(super) fn decrement(&self) -> u64 {
        self.0.fetch_sub(1, Ordering::Relaxed)
    }
}

/// Defines [`Counters`] and [`Stats`] from one list.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The live counters of one engine. Its thread writes them; `clients_now` is also written
        /// by the engines that hand connections over to it.
        #[derive(Default)]
        pub(super) struct Counters {
            $($(#[$doc])+ pub(super) $name: Counter,)+
        }

        impl Counters {
            /// Reads all counters, one after the other.
            pub(super) fn stats(&self) -> Stats {
                Stats { $($name: self.$name.get(),)+ }
            }
        }

        /// Counters of an engine, or their sums over several. All except the `_now` ones only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Stats {
            /// Adds two sets of counters.
            #[must_use]
            pub(super) fn plus(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)+ }
            }
        }
    };
}

counters! {
    /// Client connections accepted or adopted.
    accepted,
    /// Client connections open now.
    clients_now,
    /// Requests whose head was read.
    requests,
    /// Requests that the engine responded to itself: errors, and replies of the router.
    own_replies,
    /// Tunnels opened.
    tunnels,
    /// Tunnels open now.
    tunnels_now,
    /// Tunnel bytes from clients that were delivered.
    tunnel_bytes_up,
    /// Tunnel bytes to clients that were delivered.
    tunnel_bytes_down,
    /// Connections made to upstreams.
    connects,
    /// Requests that used an idle upstream connection of the pool.
    reuses,
    /// Idle upstream connections in the pool now.
    pooled_now,
    /// Failed attempts to connect to an address of an upstream.
    connect_failures,
    /// TLS handshakes of clients that succeeded.
    handshakes,
    /// TLS handshakes of clients that failed.
    handshake_failures,
    /// Times that accepting paused for want of descriptors or memory.
    accept_pauses,
    /// Connections ended by a panic.
    panics,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_read_and_summed_field_by_field() {
        let counters = Counters::default();
        counters.accepted.add(3);
        counters.panics.add(2);
        counters.panics.subtract(1);
        counters.clients_now.increment();
        counters.clients_now.increment();
        assert_eq!(counters.clients_now.decrement(), 2);
        let once = Stats { accepted: 3, panics: 1, clients_now: 1, ..Stats::default() };
        assert_eq!(counters.stats(), once);
        let twice = Stats { accepted: 6, panics: 2, clients_now: 2, ..Stats::default() };
        assert_eq!(once.plus(once), twice);
    }
}
