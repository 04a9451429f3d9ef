//! TLS on real sockets: which peers are accepted, how sessions are resumed, how streams and
//! half-closes end.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod half_close;
mod peers;
mod pki;
mod proxied;
mod reasons;
mod relay;
mod sessions;
mod stream;
mod verify;
