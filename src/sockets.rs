#![forbid(unsafe_code)]
//! Sockets for an [`Engine`](crate::engine::Engine) or a [`Batch`](crate::datagram::Batch): made here, inherited, or
//! handed over by another process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys;

pub use crate::sys::Inet;

/// Listens on a TCP address, and on nothing wider: an IPv6 socket takes no IPv4 connections. Non-blocking and
/// close-on-exec.
///
/// # Errors
/// What socket(2), bind(2) and listen(2) say.
pub fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    sys::bind_stream(address)
}

/// Binds a UDP socket to an address, and to nothing wider. Non-blocking and close-on-exec.
///
/// # Errors
/// What socket(2) and bind(2) say.
pub fn bind_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    sys::bind_datagram(address)
}

/// A UDP socket that is connected to `peer`. With a client it sends from the client's IP address, which takes
/// CAP_NET_RAW; but not if that is of another family, or of the loopback or an IPv6 link and `peer` is elsewhere.
/// Non-blocking and close-on-exec.
///
/// # Errors
/// What socket(2), setsockopt(2), bind(2) and connect(2) say.
pub fn connect_udp(peer: SocketAddr, client: Option<SocketAddr>) -> io::Result<OwnedFd> {
    sys::connect_datagram(peer, client)
}

/// Whether this process may connect from addresses that are not this host's: whether it has CAP_NET_RAW.
///
/// # Errors
/// What setsockopt(2) says to `IP_TRANSPARENT`: `EPERM` without the capability.
pub fn may_choose_source() -> io::Result<()> {
    sys::may_choose_source()
}

/// What a socket from elsewhere is; `None` when it is neither TCP nor UDP.
///
/// # Errors
/// `ENOTSOCK` when it is no socket.
pub fn inet_kind(fd: impl AsFd) -> io::Result<Option<Inet>> {
    sys::inet_kind(fd.as_fd())
}

/// Sends bytes, and with the first of them a descriptor, which the other end gets a duplicate of. Answers how many
/// bytes were taken.
///
/// # Errors
/// What sendmsg(2) says; [`InvalidInput`](io::ErrorKind::InvalidInput) without bytes, because then no descriptor
/// would be sent either.
pub fn send_descriptor(socket: &UnixStream, bytes: &[u8], fd: impl AsFd) -> io::Result<usize> {
    if bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sys::send_descriptor(socket.as_fd(), bytes, fd.as_fd())
}

/// Receives bytes, and the descriptor that came with them, close-on-exec. Further ones are closed.
///
/// # Errors
/// What recvmsg(2) says.
pub fn recv_descriptor(socket: &UnixStream, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    sys::recv_descriptor(socket.as_fd(), buf)
}

/// The user at the other end of a Unix socket, as the kernel recorded it when the connection was made.
///
/// # Errors
/// What getsockopt(2) says.
pub fn peer_uid(socket: &UnixStream) -> io::Result<u32> {
    sys::peer_credentials(socket.as_fd()).map(|(_, user, _)| user)
}
