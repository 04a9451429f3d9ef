#![forbid(unsafe_code)]
//! [`Placement`]: which engine serves an accepted connection.

use crate::engine::handle::{Accepted, Command, Handle};
use crate::engine::observe::Event;
use crate::engine::shared::Shared;

/// Spreads connections over an engine and its peers.
#[derive(Default)]
pub(super) struct Placement {
    was_full: bool,
}

impl Placement {
    /// Returns whether there is no room, neither here nor with a peer.
    pub(super) fn is_full(&mut self, shared: &Shared) -> bool {
        let least = shared.peers.iter().map(Handle::load).min().unwrap_or_else(|| shared.handle.load());
        let is_full = least >= shared.capacity as u64;
        if is_full && !self.was_full {
            shared.report(&Event::Full { connections: shared.capacity });
        }
        self.was_full = is_full;
        is_full
    }

    pub(super) fn was_full(&self) -> bool {
        self.was_full
    }

    /// Hands a connection over to the peer with the fewest, or returns it if that is this engine.
    /// It is counted by the engine that gets it.
    pub(super) fn place(&self, accepted: Accepted, shared: &Shared) -> Option<Accepted> {
        let least = shared.peers.iter().min_by_key(|peer| peer.load());
        let accepted = match least {
            Some(peer) if peer.load() < shared.handle.load() => {
                peer.counters().clients_now.increment();
                match peer.try_send(Command::Accepted(accepted)) {
                    // The peer is done already, while this engine has yet to be told to drain.
                    Err(Command::Accepted(accepted)) => {
                        peer.counters().clients_now.decrement();
                        accepted
                    }
                    Ok(()) | Err(_) => return None,
                }
            }
            _ => accepted,
        };
        shared.counters().clients_now.increment();
        Some(accepted)
    }
}
