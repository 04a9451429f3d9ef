//! What a relay asks of stream sockets.

use std::io;
#[cfg(feature = "tls")]
use std::io::IoSlice;
#[cfg(feature = "tls")]
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{check, check_len};

/// Reads what is there. `Ok(0)` is the end of the stream.
pub(crate) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    check_len(|| {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`, which is borrowed for the call.
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) }
    })
}

/// Writes what fits, without raising SIGPIPE.
pub(crate) fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    check_len(|| {
        // SAFETY: the kernel reads at most `buf.len()` bytes of `buf`, which is borrowed for the call.
        unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags) }
    })
}

/// As [`send`], from several buffers.
#[cfg(feature = "tls")]
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid msghdr: no address, no buffers, no control data.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    // An IoSlice has the layout of an iovec, and the kernel does not write to it.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    // Its length is a size_t in glibc, an int in musl; what is left out goes with the next call.
    message.msg_iovlen = u8::try_from(bufs.len()).unwrap_or(u8::MAX).into();
    check_len(|| {
        // SAFETY: `message` names the buffers of `bufs` only, which are borrowed for the call.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Whether the kernel had no memory for a write, which may succeed later.
pub(crate) fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Whether the error of a write tells that the connection is over. Any other is this host's own trouble: the peer is
/// there, and would wait for the rest.
pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::NotConnected
            | Kind::TimedOut
    )
}

/// Half-closes the writing side.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: shutdown touches no memory of ours.
    check(|| unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Whether the descriptor is in non-blocking mode.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours.
    let flags = check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// What a stream socket runs over, as far as a relay cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    /// Unix sockets, and whatever else carries a stream.
    Other,
}

/// The protocol of a stream socket; `None` for a socket of another type. Fails if it is no socket.
pub(crate) fn stream_protocol(fd: BorrowedFd<'_>) -> io::Result<Option<Protocol>> {
    if int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Ok(None);
    }
    let protocol = int_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
    Ok(Some(if protocol == libc::IPPROTO_TCP { Protocol::Tcp } else { Protocol::Other }))
}

/// Probes the peer of a silent TCP connection: one that vanished is noticed after 30 s + 6 x 10 s.
pub(crate) fn set_keepalive(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 30)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 6)
}

/// Sends small writes at once: keystrokes, prompts, response heads.
pub(crate) fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Makes the close of a TCP socket a reset, so that the peer cannot take the end for a clean one.
pub(crate) fn set_reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (value, len) = ((&raw const linger).cast(), socklen::<libc::linger>());
    let set = || {
        // SAFETY: the pointer and the length describe `linger`, which outlives the call.
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len) }
    };
    check(set).map(drop)
}

/// Bytes that the kernel took and the peer has not acknowledged (TCP) or read (Unix).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one integer to `bytes`.
    check(|| unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether the connection failed, without reading from it. `write_open` says that this end has not
/// been shut for writing: then a hang-up, too, means that the peer is gone. (After a half-close both
/// ways a hang-up is the ordinary state of a socket that may still hold unread bytes.)
pub(crate) fn has_failed(fd: BorrowedFd<'_>, write_open: bool) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one pollfd, as the second argument says.
    if !check(|| unsafe { libc::poll(&raw mut poll, 1, 0) }).is_ok_and(|ready| ready > 0) {
        return false;
    }
    poll.revents & (libc::POLLERR | libc::POLLNVAL) != 0 || (write_open && poll.revents & libc::POLLHUP != 0)
}

pub(super) fn int_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = socklen::<libc::c_int>();
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(|| unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

pub(super) fn set_int_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = socklen::<libc::c_int>();
    let set = || {
        // SAFETY: the pointer and the length describe `value`, which outlives the call.
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) }
    };
    check(set).map(drop)
}

pub(super) fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}
