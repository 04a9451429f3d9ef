//! What a loop asks of descriptors that it was given.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;
use super::socket::{int_option, set_int_option, socklen};

/// Puts a descriptor in non-blocking mode.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours.
    let flags = check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK != 0 {
        return Ok(());
    }
    // SAFETY: F_SETFL takes an integer and touches no memory of ours.
    check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Whether the descriptor is a stream socket that listens. Fails if it is no socket.
pub(crate) fn is_listening(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stream = int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
    Ok(stream && int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// Whether the socket belongs to the Unix family.
pub(crate) fn is_unix(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(int_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_UNIX)
}

/// Takes the error of a connection that failed to come about; `None` if there is none.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let code = int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Whether a socket takes bytes, and whether it hung up or failed.
pub(crate) fn poll_write(fd: BorrowedFd<'_>) -> (bool, bool) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one pollfd, as the second argument says.
    if !check(|| unsafe { libc::poll(&raw mut poll, 1, 0) }).is_ok_and(|ready| ready > 0) {
        return (false, false);
    }
    (poll.revents & libc::POLLOUT != 0, poll.revents & (libc::POLLERR | libc::POLLHUP) != 0)
}

/// Has the kernel keep the SYN of what a listener accepts, for [`saved_hops`].
pub(crate) fn save_syn(listener: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)
}

/// The hop limit (TTL) that an accepted connection came with, told once. `None` if its SYN was not kept, as in a flood of
/// them.
pub(crate) fn saved_hops(fd: BorrowedFd<'_>) -> Option<u8> {
    // Longer than both headers can be.
    let mut headers = [0_u8; 256];
    let mut len = socklen::<[u8; 256]>();
    // SAFETY: the pointer and the length describe `headers`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match headers[0] >> 4 {
        4 if result == 0 && len >= 20 => Some(headers[8]),
        6 if result == 0 && len >= 40 => Some(headers[7]),
        _ => None,
    }
}

/// Has a TCP listener give a connection out when its peer has sent something, or a second later.
pub(crate) fn set_defer_accept(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)
}

/// Who made the connection of a Unix socket.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = socklen::<libc::ucred>();
    let (option, value) = (libc::SO_PEERCRED, (&raw mut who).cast());
    // SAFETY: the pointer and the length describe `who`, which outlives the call.
    check(|| unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value, &raw mut len) })?;
    Ok((who.pid, who.uid, who.gid))
}

/// How many descriptors the process may have open.
pub(crate) fn max_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the kernel to write to.
    check(|| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}
