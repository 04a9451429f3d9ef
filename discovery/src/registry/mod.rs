#![forbid(unsafe_code)]
//! Stores by which machines share their records. Within one process none is needed: sources send
//! their updates to the directory.

#[cfg(feature = "redis")]
pub mod redis;
