#![forbid(unsafe_code)]
//! Names to addresses, off the loop.
use std::io;
use std::net::SocketAddr;

/// What a look-up came to.
pub(super) struct Resolved {
    pub(super) ticket: u64,
    pub(super) result: io::Result<Vec<SocketAddr>>,
}
