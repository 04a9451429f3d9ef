//! Whether an address leads to a socket of this host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use crate::{is_dual, is_local, local_address};

/// The local address of a TCP or UDP socket, to find out whether a connection to some address
/// arrives there. Whatever is forwarded to such an address loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    address: SocketAddr,
    /// Whether it is an IPv6 socket that also takes IPv4.
    dual: bool,
}

impl Bound {
    /// Returns where a socket is bound; `None` if it is not an Internet socket.
    ///
    /// # Errors
    /// Those of getsockname(2) and getsockopt(2).
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let Some(address) = local_address(socket)? else { return Ok(None) };
        Ok(Some(Self { address, dual: address.is_ipv6() && is_dual(socket)? }))
    }

    /// Describes a socket of another process that is bound to this address and to nothing wider.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, dual: false }
    }

    /// Returns whether traffic to `target` arrives at this socket, as far as addresses determine
    /// it; firewall rules may redirect. The kernel is asked whether the target is one of this
    /// host's addresses only if the socket is bound to all addresses and the ports are equal.
    #[must_use]
    pub fn is_reached_by(&self, target: SocketAddr) -> bool {
        self.is_reached_by_with(target, is_local)
    }

    /// As [`is_reached_by`](Self::is_reached_by), for a caller that caches which addresses are this
    /// host's.
    pub fn is_reached_by_with(&self, target: SocketAddr, is_local: impl FnOnce(IpAddr) -> bool) -> bool {
        if self.address.port() != target.port() {
            return false;
        }
        // To the kernel, the unspecified address as a destination is this host.
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{connect_datagram, listen_stream};

    fn bound(socket: &impl AsFd) -> Bound {
        Bound::of(socket.as_fd()).unwrap().unwrap()
    }

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
        let all = bound(&listen_stream("0.0.0.0:0".parse().unwrap()).unwrap());
        // The address of the default route; without a network there is none.
        let Ok(probe) = connect_datagram("192.0.2.1:9".parse().unwrap(), None) else { return };
        let own = local_address(probe.as_fd()).unwrap().unwrap().ip();
        assert!(all.is_reached_by(SocketAddr::new(own, all.address.port())));
        assert!(!all.is_reached_by(SocketAddr::new(own, 1)));
    }

    #[test]
    fn whether_a_socket_takes_both_families() {
        let both = std::net::TcpListener::bind("[::]:0").unwrap();
        let kernel = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
        assert_eq!(bound(&both).dual, kernel.trim() == "0");
        let one = listen_stream("[::]:0".parse().unwrap()).unwrap();
        assert!(!bound(&one).dual);
        assert_eq!(Bound::of(UnixStream::pair().unwrap().0.as_fd()).unwrap(), None);
    }
}
