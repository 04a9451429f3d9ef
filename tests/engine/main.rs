//! The engine on real sockets, between clients and daemons that the tests play. [`support::Bed`] is
//! where to start reading.
#![cfg(feature = "engine")]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bodies;
mod connecting;
mod descriptors;
mod drain;
mod faults;
mod forward;
mod limits;
mod listener_loops;
mod pool;
mod proxied;
mod reasons;
mod routing;
mod support;
mod tunnels;
