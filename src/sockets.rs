#![forbid(unsafe_code)]
//! Sockets for an [`Engine`](crate::engine::Engine) or a [`Batch`](crate::datagram::Batch): made here, inherited, or
//! handed over by another process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// Where a TCP or UDP socket is bound, to tell whether an address leads to it: what is forwarded there would go round in a
/// circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    address: SocketAddr,
    /// Whether it is an IPv6 socket that takes IPv4, too.
    dual: bool,
}

impl Bound {
    /// Where a socket is bound; `None` when it is no Internet socket.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn of(socket: impl AsFd) -> io::Result<Option<Self>> {
        let Some(address) = sys::local_address(socket.as_fd())? else { return Ok(None) };
        Ok(Some(Self { address, dual: address.is_ipv6() && sys::is_dual(socket.as_fd())? }))
    }

    /// A socket of another process that is bound to nothing wider than this address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, dual: false }
    }

    /// Whether what is sent to `target` comes in here, as far as the addresses tell: rules of a firewall can lead
    /// anywhere. Only if it is bound to all addresses and the ports are the same, the kernel is asked whether the target
    /// is one of this host's.
    #[must_use]
    pub fn is_reached_by(&self, target: SocketAddr) -> bool {
        self.is_reached_by_with(target, sys::is_local)
    }

    /// The same for whom knows another way to find out whether an address is this host's.
    pub(crate) fn is_reached_by_with(
        &self,
        target: SocketAddr,
        is_local: impl FnOnce(IpAddr) -> bool,
    ) -> bool {
        if self.address.port() != target.port() {
            return false;
        }
        // The kernel takes nowhere for this host.
        let ip = match target.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let own = self.address.ip().to_canonical();
        let takes_all = own.is_unspecified() && (own.is_ipv4() == ip.is_ipv4() || self.dual);
        own == ip || (takes_all && (ip.is_loopback() || is_local(ip)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_socket() {
        for (bound, dual, target, wanted) in [
            ("127.0.0.1:80", false, "127.0.0.1:80", true),
            ("127.0.0.1:80", false, "127.0.0.1:81", false),
            ("127.0.0.1:80", false, "127.0.0.2:80", false),
            ("127.0.0.1:80", false, "0.0.0.0:80", true),
            ("127.0.0.1:80", false, "[::ffff:127.0.0.1]:80", true),
            ("[::ffff:127.0.0.1]:80", true, "127.0.0.1:80", true),
            ("0.0.0.0:80", false, "127.9.9.9:80", true),
            ("0.0.0.0:80", false, "0.0.0.0:80", true),
            ("0.0.0.0:80", false, "[::ffff:0.0.0.0]:80", true),
            ("0.0.0.0:80", false, "192.0.2.1:80", false),
            ("0.0.0.0:80", false, "[::1]:80", false),
            ("[::]:80", false, "[::1]:80", true),
            ("[::]:80", false, "[::]:80", true),
            ("[::]:80", false, "127.0.0.1:80", false),
            ("[::]:80", true, "127.0.0.1:80", true),
            ("[::]:80", true, "[::ffff:127.0.0.1]:80", true),
            ("[::]:80", true, "[2001:db8::1]:80", false),
            ("[::1]:80", false, "[::]:80", true),
        ] {
            let socket = Bound { address: bound.parse().unwrap(), dual };
            assert_eq!(socket.is_reached_by(target.parse().unwrap()), wanted, "{bound} {dual} {target}");
        }
    }

    #[test]
    fn any_address_of_this_host_leads_to_what_is_bound_to_all() {
        let all = Bound::of(listen_tcp("0.0.0.0:0".parse().unwrap()).unwrap()).unwrap().unwrap();
        // Whichever the way out has; without a network there is none.
        let Ok(probe) = connect_udp("192.0.2.1:9".parse().unwrap(), None) else { return };
        let own = sys::local_address(probe.as_fd()).unwrap().unwrap().ip();
        assert!(all.is_reached_by(SocketAddr::new(own, all.address.port())));
        assert!(!all.is_reached_by(SocketAddr::new(own, 1)));
    }

    #[test]
    fn whether_a_socket_takes_both_families() {
        let both = std::net::TcpListener::bind("[::]:0").unwrap();
        let kernel = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
        assert_eq!(Bound::of(&both).unwrap().unwrap().dual, kernel.trim() == "0");
        let one = listen_tcp("[::]:0".parse().unwrap()).unwrap();
        assert!(!Bound::of(&one).unwrap().unwrap().dual);
        assert_eq!(Bound::of(UnixStream::pair().unwrap().0).unwrap(), None);
    }
}
