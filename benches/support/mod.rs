//! The parts of the benchmark.

pub(crate) mod args;
pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod contender;
pub(crate) mod daemon;
pub(crate) mod procfs;
pub(crate) mod report;
pub(crate) mod sections;
pub(crate) mod strace;
pub(crate) mod sys;
pub(crate) mod tls;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the load generator reads and writes at a time.
pub(crate) const CHUNK: usize = 128 << 10;

/// The daemon's confirmation that all that went up has arrived.
pub(crate) const ACK: u8 = b'k';
