#![forbid(unsafe_code)]
//! What a small program does to its own process. Unlike the rest of the library these functions are global in their
//! effect: they are for a `main`, not for a library that lives in somebody else's process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys;

/// Takes a descriptor that the process was started with, by its number, and sets close-on-exec on it.
///
/// Call it before anything else opens descriptors: a number that was free at the start may be another's by then.
///
/// # Errors
/// `EBADF` when it is not open, was not inherited, or was taken before;
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for the three standard ones.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    sys::take_inherited(number)
}

/// Whether a descriptor is a pipe.
///
/// # Errors
/// When the kernel will not say.
pub fn is_pipe(fd: impl AsFd) -> io::Result<bool> {
    sys::is_pipe(fd.as_fd())
}

/// From now on SIGINT and SIGTERM end the process at once, with status 0. No destructor runs; the kernel closes what
/// is open.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub fn exit_on_stop_signals() -> io::Result<()> {
    sys::exit_on_stop_signals()
}

/// Raises the number of descriptors that the process may open (`RLIMIT_NOFILE`) as far as it is allowed to; answers
/// the new bound.
///
/// # Errors
/// When the kernel refuses. The old bound holds then.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    sys::raise_descriptor_limit()
}

/// The user whose rights the process has.
#[must_use]
pub fn effective_uid() -> u32 {
    sys::effective_uid()
}
