//! TLS on real sockets: who is let in, how sessions are resumed, how streams end.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod half_close;
mod peers;
mod pki;
mod reasons;
mod relay;
mod sessions;
mod stream;
mod verify;
