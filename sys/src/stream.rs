//! Transfer on stream sockets, and what their errors mean.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{check, check_len};

/// Receives without blocking. `Ok(0)` is the end of the stream.
///
/// # Errors
/// Those of recv(2).
#[inline]
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    check_len(|| {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`, which is borrowed for the
        // call.
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) }
    })
}

/// Returns what [`recv`] would, and leaves it in the socket.
///
/// # Errors
/// Those of recv(2).
pub fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    check_len(|| {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`, which is borrowed for the
        // call.
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) }
    })
}

/// Sends without blocking and without raising SIGPIPE.
///
/// # Errors
/// Those of send(2).
#[inline]
pub fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    check_len(|| {
        // SAFETY: the kernel reads at most `buf.len()` bytes of `buf`, which is borrowed for the
        // call.
        unsafe { libc::send(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), flags) }
    })
}

/// As [`send`], from several buffers.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid msghdr: no address, no buffers, no control data.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    // An IoSlice has the layout of an iovec, and the kernel does not write to it.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    // The length is a size_t in glibc, an int in musl. Buffers beyond it go with the next call.
    message.msg_iovlen = u8::try_from(bufs.len()).unwrap_or(u8::MAX).into();
    check_len(|| {
        // SAFETY: `message` names the buffers of `bufs` only, which are borrowed for the call.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Returns whether a write failed for want of kernel memory; it may succeed later.
#[must_use]
pub fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// Returns whether the error of a write means that the connection has ended. Any other is a local
/// failure: the peer is still there, and would wait for the rest.
#[must_use]
pub fn is_hang_up(error: &io::Error) -> bool {
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

/// Half-closes: nothing more will be written.
///
/// # Errors
/// Those of shutdown(2).
pub fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: shutdown touches no memory of ours.
    check(|| unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Returns the number of bytes that were sent and that the peer has not acknowledged (TCP) or read
/// (Unix).
///
/// # Errors
/// Those of ioctl(2) with `TIOCOUTQ`.
pub fn unsent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one integer to `bytes`.
    check(|| unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns whether the connection has failed, without reading from it. `write_open` means that this
/// end has not been half-closed: then a hang-up also means that the peer has gone. (After a
/// half-close in both directions a hang-up is the normal state of a socket, which may still hold
/// unread bytes.)
#[must_use]
pub fn has_failed(fd: BorrowedFd<'_>, write_open: bool) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one pollfd, as the second argument says.
    if !check(|| unsafe { libc::poll(&raw mut poll, 1, 0) }).is_ok_and(|ready| ready > 0) {
        return false;
    }
    poll.revents & (libc::POLLERR | libc::POLLNVAL) != 0 || (write_open && poll.revents & libc::POLLHUP != 0)
}

/// Returns whether a socket is writable, and whether it has hung up or failed.
#[must_use]
pub fn poll_write(fd: BorrowedFd<'_>) -> (bool, bool) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one pollfd, as the second argument says.
    if !check(|| unsafe { libc::poll(&raw mut poll, 1, 0) }).is_ok_and(|ready| ready > 0) {
        return (false, false);
    }
    (poll.revents & libc::POLLOUT != 0, poll.revents & (libc::POLLERR | libc::POLLHUP) != 0)
}
