//! Internet addresses in the kernel's form.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;
use crate::options::socklen;

/// A `sockaddr` with room for IPv4 and IPv6.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union SockAddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl SockAddr {
    /// An address for the kernel to fill in.
    pub(crate) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// Converts an address, and returns its length with it.
    pub(crate) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: raw_v4(*v4.ip()),
                    sin_zero: [0; 8],
                };
                (Self { v4: raw }, socklen::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: raw_v6(*v6.ip()),
                    sin6_scope_id: v6.scope_id(),
                };
                (Self { v6: raw }, socklen::<libc::sockaddr_in6>())
            }
        }
    }

    /// Returns the address that the kernel wrote; `None` if it is not an Internet address.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        // SAFETY: each variant begins with the family, and EMPTY has initialised all bytes.
        let family = libc::c_int::from(unsafe { self.family });
        match family {
            libc::AF_INET => {
                // SAFETY: any bytes are a valid sockaddr_in, and all are initialised.
                let raw = unsafe { self.v4 };
                Some(SocketAddrV4::new(v4(raw.sin_addr), u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: any bytes are a valid sockaddr_in6, and all are initialised.
                let raw = unsafe { self.v6 };
                let port = u16::from_be(raw.sin6_port);
                // The flow label belongs to one packet, not to the peer.
                Some(SocketAddrV6::new(v6(raw.sin6_addr), port, 0, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Returns the address that a socket is bound to; `None` if it is not an Internet socket.
///
/// # Errors
/// Those of getsockname(2).
pub fn local_address(fd: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    let mut raw = SockAddr::EMPTY;
    let mut len = socklen::<SockAddr>();
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    check(|| unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut raw).cast(), &raw mut len) })?;
    Ok(raw.get())
}

fn family(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or(0)
}

pub(crate) fn v4(raw: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be(raw.s_addr))
}

pub(crate) fn v6(raw: libc::in6_addr) -> Ipv6Addr {
    Ipv6Addr::from(raw.s6_addr)
}

pub(crate) fn raw_v4(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(address).to_be() }
}

pub(crate) fn raw_v6(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}
