//! The engine on real sockets, between clients and daemons that the tests play.
#![cfg(feature = "engine")]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bodies;
mod faults;
mod forward;
mod limits;
mod pool;
mod support;
mod tunnels;
