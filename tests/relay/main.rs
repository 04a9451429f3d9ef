//! The relay: against a model of its two peers, and on real sockets.
#![cfg(feature = "drive")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod properties;
mod sockets;
