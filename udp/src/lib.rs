#![forbid(unsafe_code)]
//! Forwarding of UDP datagrams: several per system call, with a session for each client.
//!
//! [`Forwarder`] serves one port; docker-proxy runs one, and `dockline publish` one for each UDP
//! port. [`Batch`] is what it receives and sends with.

mod batch;
mod forwarder;
mod sessions;

pub use batch::Batch;
pub use forwarder::{Forwarder, Handle, Log, OpenClient, Report, SESSIONS};
