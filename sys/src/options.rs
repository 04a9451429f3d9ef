//! Socket options, and the other properties of a descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// Makes a descriptor non-blocking.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours.
    let flags = check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK != 0 {
        return Ok(());
    }
    // SAFETY: F_SETFL takes an integer and touches no memory of ours.
    check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Returns whether a descriptor is a stream socket that listens.
///
/// # Errors
/// `ENOTSOCK` if it is not a socket.
pub fn is_listening(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stream = int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
    Ok(stream && int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// Returns whether a socket belongs to the Unix family.
///
/// # Errors
/// `ENOTSOCK` if it is not a socket.
pub fn is_unix(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(int_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_UNIX)
}

/// Takes the pending error of a socket, such as that of a failed connect; `None` if there is none.
///
/// # Errors
/// Those of getsockopt(2).
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let code = int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Makes the kernel keep the SYN of each connection of a listener, for [`saved_hops`].
///
/// # Errors
/// Those of setsockopt(2).
pub fn save_syn(listener: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)
}

/// Returns the hop limit (TTL) with which the SYN of an accepted connection arrived. It can be read
/// once; `None` if the SYN was not kept, as during a SYN flood.
#[must_use]
pub fn saved_hops(fd: BorrowedFd<'_>) -> Option<u8> {
    // More than the longest IP and TCP headers.
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

/// Makes a TCP listener deliver a connection when its peer has sent something, or after a second.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_defer_accept(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)
}

/// Returns process, user and group of the peer of a Unix socket, as recorded when the connection
/// was made.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = socklen::<libc::ucred>();
    let (option, value) = (libc::SO_PEERCRED, (&raw mut who).cast());
    // SAFETY: the pointer and the length describe `who`, which outlives the call.
    check(|| unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value, &raw mut len) })?;
    Ok((who.pid, who.uid, who.gid))
}

/// Returns whether a descriptor is non-blocking.
///
/// # Errors
/// Those of fcntl(2).
pub fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours.
    let flags = check(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// The protocol under a stream socket, as far as a relay needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// A Unix socket, or anything else that carries a stream.
    Other,
}

/// Returns the protocol of a stream socket; `None` for a socket of another type.
///
/// # Errors
/// `ENOTSOCK` if it is not a socket.
pub fn stream_protocol(fd: BorrowedFd<'_>) -> io::Result<Option<Protocol>> {
    if int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Ok(None);
    }
    let protocol = int_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
    Ok(Some(if protocol == libc::IPPROTO_TCP { Protocol::Tcp } else { Protocol::Other }))
}

/// Enables keep-alive probes on a TCP connection. A peer that vanished is noticed after 30 s + 6 x
/// 10 s.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_keepalive(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 30)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10)?;
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 6)
}

/// Makes TCP send small writes at once: keystrokes, prompts, response heads.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Makes close(2) reset a TCP connection, so that the peer cannot take the end for a clean one.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (value, len) = ((&raw const linger).cast(), socklen::<libc::linger>());
    let set = || {
        // SAFETY: the pointer and the length describe `linger`, which outlives the call.
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len) }
    };
    check(set).map(drop)
}

/// Returns whether an IPv6 socket also takes IPv4.
///
/// # Errors
/// Those of getsockopt(2).
pub fn is_dual(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(int_option(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY)? == 0)
}

/// The kind of an Internet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inet {
    /// TCP.
    Tcp {
        /// Whether it listens.
        listening: bool,
    },
    /// UDP.
    Udp,
}

/// Returns the kind of a socket; `None` if it is neither TCP nor UDP.
///
/// # Errors
/// `ENOTSOCK` if it is not a socket.
pub fn inet_kind(fd: BorrowedFd<'_>) -> io::Result<Option<Inet>> {
    let option = |name| int_option(fd, libc::SOL_SOCKET, name);
    if ![libc::AF_INET, libc::AF_INET6].contains(&option(libc::SO_DOMAIN)?) {
        return Ok(None);
    }
    Ok(match option(libc::SO_PROTOCOL)? {
        libc::IPPROTO_TCP => Some(Inet::Tcp { listening: option(libc::SO_ACCEPTCONN)? != 0 }),
        libc::IPPROTO_UDP => Some(Inet::Udp),
        _ => None,
    })
}

pub(crate) fn int_option(
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

pub(crate) fn set_int_option(
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

pub(crate) fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}
