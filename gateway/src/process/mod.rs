#![forbid(unsafe_code)]
//! What the program does to its own process: signals, threads, limits, descriptors from outside,
//! the background, and its replacement by another process.

pub(crate) mod background;
pub(crate) mod inherited;
pub(crate) mod notify;
pub(crate) mod signals;
pub(crate) mod upgrade;

use std::thread;

use dockline_sys as sys;
use log::warn;

use crate::problem::Problem;

/// Raises the number of descriptors that the process may open as far as permitted, and returns it.
/// The soft limit is low for the sake of programs that use select(2).
pub(crate) fn raise_descriptor_limit() -> u64 {
    sys::process::raise_descriptor_limit().unwrap_or_else(|error| {
        warn!("the limit of open files (RLIMIT_NOFILE) cannot be raised: {error}");
        sys::max_open_files().unwrap_or_default()
    })
}

/// Starts a thread that is not waited for.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(drop).map_err(Problem::wrap("cannot start a thread"))
}
