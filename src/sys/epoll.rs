//! What mio does not offer: level-triggered events.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::check;

/// Has `epoll` tell of a listener as long as connections wait in it, so that it need not be emptied each time:
/// the call that finds nothing is saved. `epoll` is the descriptor of a poller that is alive.
pub(crate) fn watch_level(epoll: RawFd, listener: BorrowedFd<'_>, token: usize) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token as u64 };
    let add = || {
        // SAFETY: `event` is valid for the call, which fails if `epoll` is no poller.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), &raw mut event) }
    };
    check(add).map(drop)
}
