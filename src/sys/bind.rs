//! Sockets bound to exactly the address given, and what a socket from elsewhere is.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::address::SockAddr;
use super::check;
use super::socket::{int_option, set_int_option};

/// The kernel cuts this down to `net.core.somaxconn`.
const BACKLOG: libc::c_int = 65_535;

/// A listening TCP socket, non-blocking.
pub(crate) fn bind_stream(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(address, libc::SOCK_STREAM)?;
    // A port whose last connections are in TIME_WAIT is free.
    set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind(fd.as_fd(), address)?;
    // SAFETY: listen touches no memory of ours.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

/// A bound UDP socket, non-blocking.
pub(crate) fn bind_datagram(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(address, libc::SOCK_DGRAM)?;
    bind(fd.as_fd(), address)?;
    Ok(fd)
}

/// A UDP socket that speaks with `peer` alone, non-blocking.
pub(crate) fn connect_datagram(peer: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(peer, libc::SOCK_DGRAM)?;
    let (raw, len) = SockAddr::new(peer);
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const raw).cast(), len) })?;
    Ok(fd)
}

fn socket(address: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let domain = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: socket touches no memory of ours.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_ipv6() {
        set_int_option(fd.as_fd(), libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(fd)
}

fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let (raw, len) = SockAddr::new(address);
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
}

/// What an Internet socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inet {
    /// TCP.
    Tcp {
        /// Whether it takes connections.
        listening: bool,
    },
    /// UDP.
    Udp,
}

/// What the socket is; `None` if it is neither TCP nor UDP. Fails if it is no socket.
pub(crate) fn inet_kind(fd: BorrowedFd<'_>) -> io::Result<Option<Inet>> {
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
