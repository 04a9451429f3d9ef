//! Level-triggered events, which mio does not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::check;

/// Adds a listener to `epoll`, level-triggered: it is reported for as long as connections wait, so
/// that it need not be drained each time, which saves the call that finds nothing. `epoll` is the
/// descriptor of a live poller.
///
/// # Errors
/// Those of epoll_ctl(2): above all `EBADF` and `EINVAL` if `epoll` is not a poller.
pub fn watch_level(epoll: RawFd, listener: BorrowedFd<'_>, token: usize) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token as u64 };
    let add = || {
        // SAFETY: `event` is valid for the call, which fails if `epoll` is not a poller.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), &raw mut event) }
    };
    check(add).map(drop)
}
