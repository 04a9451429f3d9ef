#![forbid(unsafe_code)]
//! The host-driven relay: [`RelayMachine`](crate::relay::RelayMachine) on real sockets, with the
//! loop and the clock left to the host.
//!
//! A tunnel is idle most of its life, then interactive, rarely bulk. So an idle [`Relay`] owns
//! neither buffer nor pipe: small reads go through the one scratch buffer of the [`Worker`] and
//! straight out, three system calls a keystroke including the poll. What the target does not take
//! at once is kept ("spilled") until it does. When a read fills the buffer and both sides are plain
//! sockets, the direction borrows a pipe of the worker and splices until the source runs dry.
//!
//! # Bounds
//! One direction holds at most [`SCRATCH_BYTES`] in user space or one pipe's content in the kernel,
//! never both: it reads again only when everything was delivered. Prefilled bytes are bounded by
//! [`PREFILL_LIMIT`]. A worker owns [`SCRATCH_BYTES`] and at most `max_pipes` pipes.

mod lane;
mod relay;
mod transport;
mod worker;

#[cfg(feature = "engine")]
pub(crate) use lane::{Filled, Lane};
pub use relay::{PREFILL_LIMIT, PrefillError, Ready, Relay, RelayOptions, SetupError, State, Wants};
pub use transport::{Socket, Transport};
pub use worker::{Event, Log, SCRATCH_BYTES, Worker, WorkerOptions};
