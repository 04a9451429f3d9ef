//! TCP and UDP sockets, bound to exactly one address or connected.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::address::SockAddr;
use crate::check;
use crate::options::set_int_option;

/// The kernel reduces it to `net.core.somaxconn`.
const BACKLOG: libc::c_int = 65_535;

/// Listens on a TCP address and on nothing wider: an IPv6 socket takes no IPv4 connections.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
pub fn listen_stream(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(address, libc::SOCK_STREAM)?;
    // A port whose last connections are in TIME_WAIT is available.
    set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind(fd.as_fd(), address)?;
    // SAFETY: listen touches no memory of ours.
    check(|| unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

/// Binds a UDP socket to an address and to nothing wider.
///
/// # Errors
/// Those of socket(2) and bind(2).
pub fn bind_datagram(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(address, libc::SOCK_DGRAM)?;
    bind(fd.as_fd(), address)?;
    Ok(fd)
}

/// Starts a TCP connection to `peer`, which is established, or fails, later. Given a client, it
/// comes from the client's IP address, unless that has no meaning at the peer: an address of
/// another family, or of the loopback or an IPv6 link. Given a hop limit (TTL), its packets get no
/// farther.
///
/// # Errors
/// Those of socket(2), setsockopt(2), bind(2) and connect(2); `EPERM` for a client's address
/// without CAP_NET_RAW.
pub fn connect_stream(peer: SocketAddr, client: Option<SocketAddr>, hops: Option<u8>) -> io::Result<OwnedFd> {
    match connect(peer, libc::SOCK_STREAM, client, hops)? {
        (fd, Ok(())) => Ok(fd),
        (fd, Err(error)) => match error.raw_os_error() {
            // The other two are about an earlier call for this socket, which a signal interrupted.
            Some(libc::EINPROGRESS | libc::EALREADY | libc::EISCONN) => Ok(fd),
            _ => Err(error),
        },
    }
}

/// Connects a UDP socket to `peer`. The client is as for [`connect_stream`].
///
/// # Errors
/// Those of socket(2), setsockopt(2), bind(2) and connect(2); `EPERM` for a client's address
/// without CAP_NET_RAW.
pub fn connect_datagram(peer: SocketAddr, client: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let (fd, connected) = connect(peer, libc::SOCK_DGRAM, client, None)?;
    connected.map(|()| fd)
}

/// Returns whether an address is one of this host's: a connection to it also comes from it.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    let Ok((fd, Ok(()))) = connect(SocketAddr::new(ip, 9), libc::SOCK_DGRAM, None, None) else {
        return false;
    };
    matches!(super::local_address(fd.as_fd()), Ok(Some(local)) if local.ip() == ip)
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

/// Returns the address from which `peer` is to see the client's connection; `None` if the client's
/// has no meaning there: it is of another family, or valid only on its own host or link.
fn source(client: SocketAddr, peer: SocketAddr) -> Option<IpAddr> {
    let same_family = client.is_ipv4() == peer.is_ipv4();
    let is_local = match client.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    (same_family && (!is_local || peer.ip().is_loopback())).then_some(client.ip())
}

/// Binds to an address that need not be one of this host's (`IP_TRANSPARENT`), which requires
/// CAP_NET_RAW. The kernel chooses the port once it knows the peer, so that one port can serve
/// several peers.
fn set_source(fd: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    let (level, option) = match source {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    };
    set_int_option(fd, level, option, 1)?;
    // It applies to IPv6 as well.
    set_int_option(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    bind(fd, SocketAddr::new(source, 0))
}

/// Sets the hop limit (TTL) of what a socket of the given family sends.
pub(crate) fn set_hops(fd: BorrowedFd<'_>, is_ipv6: bool, hops: u8) -> io::Result<()> {
    if is_ipv6 {
        set_int_option(fd, libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, hops.into())
    } else {
        set_int_option(fd, libc::SOL_IP, libc::IP_TTL, hops.into())
    }
}

/// Checks that this process may connect from addresses that are not this host's.
///
/// # Errors
/// Those of setsockopt(2) for `IP_TRANSPARENT`: `EPERM` without CAP_NET_RAW.
pub fn may_choose_source() -> io::Result<()> {
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
