#![forbid(unsafe_code)]
//! The relay: two byte streams joined after a switch of protocols, as a pure state machine.
//!
//! [`RelayMachine`] holds no bytes, no socket and no clock. Its owner asks [`RelayMachine::next`]
//! what to do for one direction, does it, and reports what came of it through a `handle_*` method.
//! Readiness is remembered until an operation proves otherwise, so the owner may ask at any time,
//! spuriously, under an edge-triggered as well as under a level-triggered poller.
//!
//! A direction is named by its source: `Side::Downstream` is the way up to the daemon.

mod half;
mod machine;
mod outcome;
mod readiness;

pub use half::HalfPipe;
pub use machine::{Interest, RelayConfig, RelayMachine, Step};
pub use outcome::{CloseReason, DirectionStats, RelayStats};
pub use readiness::Readiness;
