//! What a program does to its own process: descriptors from its parent, signals that end it,
//! limits.
//!
//! These functions are global in their effect. They are for a `main`, not for a library in another
//! program's process.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::check;

/// Takes a descriptor that the process was started with, by its number, and sets close-on-exec on
/// it.
///
/// Only a descriptor without that flag is taken: those that std and this crate open have it, and
/// those that come through exec have not. So nothing else in the process owns it, and it cannot be
/// taken twice. Call this before anything else opens descriptors: a number that was free at the
/// start may be in use later.
///
/// # Errors
/// `EBADF` if it is not open, was not inherited, or was taken before;
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for standard input, output and error.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: F_GETFD takes no argument and touches no memory of ours.
    let flags = check(|| unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD takes an integer and touches no memory of ours.
    check(|| unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and nothing else owns it, as explained above.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns whether a descriptor is a pipe.
///
/// # Errors
/// Those of fstat(2).
pub fn is_pipe(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` is valid for the kernel to write to.
    check(|| unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the kernel has filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

extern "C" fn exit_now(_: libc::c_int) {
    // SAFETY: _exit is one of the functions that a signal handler may call.
    unsafe { libc::_exit(0) }
}

/// Makes SIGINT and SIGTERM end the process at once with status 0. No destructor runs; the kernel
/// closes what is open.
///
/// # Errors
/// Those of sigaction(2), which has no reason to fail.
pub fn exit_on_stop_signals() -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: default action, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = exit_now as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the action is valid and its handler calls only what is safe in one; the previous
        // action is not requested.
        check(|| unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    }
    Ok(())
}

/// Raises the number of descriptors that the process may open (`RLIMIT_NOFILE`) as far as
/// permitted, and returns it.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2). The limit is unchanged then.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the kernel to write to.
    check(|| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel only reads `limit`.
    check(|| unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Returns the effective user ID of the process.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the number of descriptors that the process may open (`RLIMIT_NOFILE`).
///
/// # Errors
/// Those of getrlimit(2).
pub fn max_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the kernel to write to.
    check(|| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}
