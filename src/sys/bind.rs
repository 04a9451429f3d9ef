//! Internet sockets, bound to exactly the address given or connected; and what a socket from elsewhere is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    check(|| unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

/// A bound UDP socket, non-blocking.
pub(crate) fn bind_datagram(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(address, libc::SOCK_DGRAM)?;
    bind(fd.as_fd(), address)?;
    Ok(fd)
}

/// A TCP socket that connects to `peer`, non-blocking: the connection may be there later, or fail later. With a
/// client it comes from the address of that, see [`source`]; with hops it goes no farther.
pub(crate) fn connect_stream(
    peer: SocketAddr,
    client: Option<SocketAddr>,
    hops: Option<u8>,
) -> io::Result<OwnedFd> {
    match connect(peer, libc::SOCK_STREAM, client, hops)? {
        (fd, Ok(())) => Ok(fd),
        (fd, Err(error)) => match error.raw_os_error() {
            // The other two tell of an earlier call on the same socket, which a signal interrupted.
            Some(libc::EINPROGRESS | libc::EALREADY | libc::EISCONN) => Ok(fd),
            _ => Err(error),
        },
    }
}

/// A UDP socket that speaks with `peer` alone, non-blocking; client as for [`connect_stream`].
pub(crate) fn connect_datagram(peer: SocketAddr, client: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let (fd, connected) = connect(peer, libc::SOCK_DGRAM, client, None)?;
    connected.map(|()| fd)
}

/// Whether an address is one of this host's: whoever speaks with it speaks from it.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    let Ok((fd, Ok(()))) = connect(SocketAddr::new(ip, 9), libc::SOCK_DGRAM, None, None) else {
        return false;
    };
    matches!(super::local_address(fd.as_fd()), Ok(Some(local)) if local.ip() == ip)
}

/// Whether an IPv6 socket takes IPv4 connections, too.
pub(crate) fn is_dual(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(int_option(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY)? == 0)
}

fn connect(
    peer: SocketAddr,
    kind: libc::c_int,
    client: Option<SocketAddr>,
    hops: Option<u8>,
) -> io::Result<(OwnedFd, io::Result<()>)> {
    let fd = socket(peer, kind)?;
    if let Some(hops) = hops {
        set_hops(fd.as_fd(), peer.is_ipv6(), hops)?;
    }
    if let Some(source) = client.and_then(|client| source(client, peer)) {
        set_source(fd.as_fd(), source)?;
    }
    let (raw, len) = SockAddr::new(peer);
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    let connected = check(|| unsafe { libc::connect(fd.as_raw_fd(), (&raw const raw).cast(), len) });
    Ok((fd, connected.map(drop)))
}

/// The address by which `peer` sees a connection as the client's own; `None` if it has none there: another family, or
/// an address that means something on its own host or link only.
fn source(client: SocketAddr, peer: SocketAddr) -> Option<IpAddr> {
    let same_family = client.is_ipv4() == peer.is_ipv4();
    let is_local = match client.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    (same_family && (!is_local || peer.ip().is_loopback())).then_some(client.ip())
}

/// Binds to an address that need not be one of this host's (`IP_TRANSPARENT`), which takes CAP_NET_RAW. The kernel
/// chooses the port, when it knows the peer: the same one may serve for different peers.
fn set_source(fd: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    let (level, option) = match source {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    };
    set_int_option(fd, level, option, 1)?;
    // For IPv6, too.
    set_int_option(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    bind(fd, SocketAddr::new(source, 0))
}

/// Has what leaves a socket of a family have a hop limit.
pub(super) fn set_hops(fd: BorrowedFd<'_>, is_ipv6: bool, hops: u8) -> io::Result<()> {
    if is_ipv6 {
        set_int_option(fd, libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, hops.into())
    } else {
        set_int_option(fd, libc::SOL_IP, libc::IP_TTL, hops.into())
    }
}

/// Whether this process may connect from addresses of others. The error is the kernel's reason why not.
pub(crate) fn may_choose_source() -> io::Result<()> {
    let fd = socket(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), libc::SOCK_STREAM)?;
    set_int_option(fd.as_fd(), libc::SOL_IP, libc::IP_TRANSPARENT, 1)
}

fn socket(address: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let domain = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: socket touches no memory of ours.
    let fd = check(|| unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        set_int_option(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    let (raw, len) = SockAddr::new(address);
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    check(|| unsafe { libc::bind(fd.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
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
