#![forbid(unsafe_code)]
//! [`Engine`]: the loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::handle::Handle;
use super::observe::Observer;
use crate::drive::{RelayOptions, WorkerOptions};

/// The bounds and habits of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Client connections at a time; at the bound, accepting waits. `None`: a third of the descriptors that the
    /// process may open (`RLIMIT_NOFILE`), less 64.
    pub connections: Option<usize>,
    /// Connections accepted per listener and turn of the loop. Default 64.
    pub accepts: usize,
    /// TLS handshake steps per turn of the loop, so that a flood of handshakes leaves tunnels their turn. Default 4.
    pub handshakes: usize,
    /// How tunnels are relayed. Their idle limit comes from [`Limits`](crate::limits::Limits).
    pub relay: RelayOptions,
    /// The pipes of tunnels and long bodies.
    pub worker: WorkerOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            connections: None,
            accepts: 64,
            handshakes: 4,
            relay: RelayOptions::default(),
            worker: WorkerOptions::default(),
        }
    }
}

/// Whether an engine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It serves.
    Running,
    /// It finishes what it has begun.
    Draining,
    /// It has stopped, or drained: nothing is left to do.
    Done,
}

/// One loop. See the [module](super).
pub struct Engine {}

impl Engine {
    /// Makes an engine.
    ///
    /// # Errors
    /// When the kernel has no descriptor or memory for it.
    pub fn new(_options: EngineOptions, _observer: Arc<dyn Observer>) -> io::Result<Self> {
        Err(io::Error::other("not yet"))
    }

    /// A handle, to be used from anywhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        unimplemented!()
    }

    /// Makes it place what it accepts on these engines, itself among them.
    pub(super) fn join_peers(&mut self, _peers: Arc<[Handle]>) {}

    /// One turn: waits for events, at most for `timeout` (`None`: for ever), and deals with them.
    ///
    /// # Errors
    /// When the kernel refuses to wait. The engine is unusable then.
    pub fn poll(&mut self, _timeout: Option<Duration>) -> io::Result<EngineState> {
        Ok(EngineState::Done)
    }

    /// Turns until it is [`EngineState::Done`].
    ///
    /// # Errors
    /// As [`Engine::poll`].
    pub fn run(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// How long a host that waits for [`AsFd`] in a loop of its own may wait before it calls [`Engine::poll`];
    /// `None`: until the descriptor is readable.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        None
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
