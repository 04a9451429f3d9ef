//! SIGPIPE. send(2) has a flag against it, splice(2) to a socket has none, and a library must not
//! change how its host handles signals. So the signal is blocked in the calling thread while it
//! splices.

use std::mem::MaybeUninit;
use std::ptr;

/// Returns whether the process ignores SIGPIPE, as most servers do.
#[must_use]
pub fn sigpipe_is_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only queries; the kernel writes the current one to `action`.
    let result = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid sigaction, so it is initialised even if the call failed.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Blocks SIGPIPE in the calling thread until it is dropped. A SIGPIPE raised meanwhile is taken
/// from the queue, and the previous mask is restored.
#[must_use]
pub struct SigpipeBlocked {
    before: libc::sigset_t,
    was_pending: bool,
}

impl SigpipeBlocked {
    /// Blocks the signal.
    pub fn new() -> Self {
        let was_pending = sigpipe_is_pending();
        let mut before = empty_set();
        // SAFETY: both sets are valid for the call, which fails only for an unknown first argument.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &sigpipe_set(), &mut before) };
        Self { before, was_pending }
    }
}

impl Default for SigpipeBlocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SigpipeBlocked {
    fn drop(&mut self) {
        if !self.was_pending && sigpipe_is_pending() {
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the set and the timeout are valid for the call; no signal information is
            // asked for.
            unsafe { libc::sigtimedwait(&sigpipe_set(), ptr::null_mut(), &at_once) };
        }
        // SAFETY: `before` was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

fn sigpipe_is_pending() -> bool {
    let mut pending = empty_set();
    // SAFETY: `pending` is valid for the kernel to write to.
    unsafe { libc::sigpending(&mut pending) };
    // SAFETY: `pending` is an initialised set.
    unsafe { libc::sigismember(&pending, libc::SIGPIPE) == 1 }
}

fn sigpipe_set() -> libc::sigset_t {
    let mut set = empty_set();
    // SAFETY: `set` is an initialised set and SIGPIPE a valid signal.
    unsafe { libc::sigaddset(&mut set, libc::SIGPIPE) };
    set
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for writing.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialised it.
    unsafe { set.assume_init() }
}
