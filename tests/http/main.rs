//! The `h1` and `proxy` layers on bytes, without sockets: cases from `tests/corpus/`, properties,
//! timeouts, and a simulation.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod case_files;
mod deliveries;
mod message_cases;
mod properties;
mod proxy_cases;
mod reader;
mod simulation;
mod timeouts;
