//! The registry in Redis, with real servers, which each test starts for itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]
#![allow(clippy::disallowed_methods, reason = "a test has a clock")]

mod classic;
mod deployments;
mod document;
mod faults;
mod server;
mod structured;
mod support;
