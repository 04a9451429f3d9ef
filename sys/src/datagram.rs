//! UDP: several datagrams per system call, each with the local address that it was sent to.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::address::{SockAddr, raw_v4, raw_v6, v4, v6};
use crate::check;
use crate::options::{int_option, set_int_option, socklen};

/// Datagrams per call. More would save little, and each costs 64 KiB of buffer once a large one has
/// arrived.
pub const SLOTS: usize = 8;

/// Buffer for one datagram. The length field of UDP ends at 65 535, so none is truncated.
pub const SLOT_BYTES: usize = 65_536;

/// The address of this host that a datagram was sent to, for use as the source of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddr {
    ip: IpAddr,
    /// The interface, where the address alone is ambiguous: IPv6 link-local. Otherwise 0, which
    /// leaves the route of the reply to the routing table.
    interface: u32,
}

/// What is known of a received datagram besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// Length in bytes.
    pub len: usize,
    /// The sender.
    pub from: Option<SocketAddr>,
    /// The address that it was sent to, after [`enable_destination`]; `None` if a reply cannot be
    /// sent from it.
    pub to: Option<LocalAddr>,
    /// The remaining hop limit (TTL), after [`enable_destination`].
    pub hops: Option<u8>,
}

/// Ancillary data, aligned for the kernel's headers, with room for either PKTINFO and a number.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Requests the destination address and the hop limit of each datagram.
///
/// # Errors
/// Those of setsockopt(2): the socket is not a UDP socket.
pub fn enable_destination(fd: BorrowedFd<'_>) -> io::Result<()> {
    match int_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? {
        libc::AF_INET6 => {
            set_int_option(fd, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            set_int_option(fd, libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 1)
        }
        _ => {
            set_int_option(fd, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
            set_int_option(fd, libc::SOL_IP, libc::IP_RECVTTL, 1)
        }
    }
}

/// Sets the hop limit (TTL) of datagrams to be sent, at least 1.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_hops(fd: BorrowedFd<'_>, hops: u8) -> io::Result<()> {
    let is_ipv6 = int_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_INET6;
    crate::inet::set_hops(fd, is_ipv6, hops)
}

/// Receives the datagrams that wait, at most [`SLOTS`], each into its [`SLOT_BYTES`] of `buffer`.
/// Returns their number, at least 1.
///
/// # Errors
/// Those of recvmmsg(2), among them errors of datagrams that were sent before.
///
/// # Panics
/// If `buffer` does not have [`SLOTS`] times [`SLOT_BYTES`].
pub fn recv_batch(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    arrivals: &mut [Arrival; SLOTS],
) -> io::Result<usize> {
    assert_eq!(buffer.len(), SLOTS * SLOT_BYTES, "one slot per datagram");
    let mut names = [SockAddr::EMPTY; SLOTS];
    let mut controls = [Control([0; 64]); SLOTS];
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SLOTS];
    let mut headers = [empty_header(); SLOTS];
    for (i, slot) in buffer.chunks_exact_mut(SLOT_BYTES).enumerate() {
        parts[i] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut names[i]).cast();
        header.msg_namelen = socklen::<SockAddr>();
        header.msg_iov = &raw mut parts[i];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[i]).cast();
        header.msg_controllen = size_of::<Control>();
    }
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: each header points to a name, a control buffer and a part of `buffer` with their true
    // lengths; all of them outlive the call.
    let count =
        check(|| unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), 8, flags, ptr::null_mut()) })?;
    let count = usize::try_from(count).unwrap_or(0);
    for (i, arrival) in arrivals.iter_mut().enumerate().take(count) {
        let header = &headers[i];
        let len = usize::try_from(header.msg_len).unwrap_or(SLOT_BYTES).min(SLOT_BYTES);
        let (to, hops) = ancillary(&header.msg_hdr);
        *arrival = Arrival { len, from: names[i].get(), to, hops };
    }
    Ok(count)
}

/// Sends datagrams, at most [`SLOTS`], and returns the number that was sent, at least 1. Without
/// `to` the socket must be connected; `from` is the source address, one of this host's.
///
/// # Errors
/// Those of sendmmsg(2), if the first datagram cannot be sent.
pub fn send_batch(
    fd: BorrowedFd<'_>,
    datagrams: &[&[u8]],
    to: Option<SocketAddr>,
    from: Option<LocalAddr>,
) -> io::Result<usize> {
    let mut name = to.map(SockAddr::new);
    let mut control = Control([0; 64]);
    let control_len = from.map_or(0, |from| write_source(&mut control, from));
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SLOTS];
    let mut headers = [empty_header(); SLOTS];
    let mut count = 0;
    for ((datagram, part), header) in datagrams.iter().zip(&mut parts).zip(&mut headers) {
        *part = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        let header = &mut header.msg_hdr;
        if let Some((name, len)) = &mut name {
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = *len;
        }
        header.msg_iov = &raw mut *part;
        header.msg_iovlen = 1;
        if control_len > 0 {
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = control_len;
        }
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers point to the name, the control data and a datagram, with
    // their true lengths; all of them outlive the call, and the kernel only reads them.
    let sent = check(|| unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags) })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid header: no name, no parts, no ancillary
    // data.
    unsafe { mem::zeroed() }
}

/// Reads the destination address and the hop limit from the ancillary data.
fn ancillary(header: &libc::msghdr) -> (Option<LocalAddr>, Option<u8>) {
    let (mut destination, mut hops) = (None, None);
    // SAFETY: the header describes a control buffer that the kernel has filled.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: a pointer that is not null is to a whole header in the control buffer.
        let cmsg = unsafe { next.read() };
        // SAFETY: as above; this only computes where the data begins.
        let data = unsafe { libc::CMSG_DATA(next) };
        match (cmsg.cmsg_level, cmsg.cmsg_type) {
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel puts a whole in_pktinfo behind this header.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                // The destination may be a broadcast address; this is the host's own address for
                // it.
                destination = Some(LocalAddr { ip: v4(info.ipi_spec_dst).into(), interface: 0 });
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the kernel puts a whole in6_pktinfo behind this header.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let ip = v6(info.ipi6_addr);
                let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                // A multicast address cannot be a source: the kernel chooses one.
                destination = (!ip.is_multicast()).then_some(LocalAddr { ip: ip.into(), interface });
            }
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                // SAFETY: the kernel puts a whole int behind this header.
                let number = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                hops = u8::try_from(number).ok();
            }
            _ => {}
        }
        // SAFETY: both belong to the control buffer described above.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    (destination, hops)
}

/// Writes the source address as ancillary data, and returns its length.
fn write_source(control: &mut Control, from: LocalAddr) -> usize {
    match from.ip {
        IpAddr::V4(ip) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: raw_v4(ip),
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_message(control, libc::SOL_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo { ipi6_addr: raw_v6(ip), ipi6_ifindex: from.interface };
            write_message(control, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_message<T: Copy>(control: &mut Control, level: libc::c_int, kind: libc::c_int, data: T) -> usize {
    let size = socklen::<T>();
    // SAFETY: CMSG_SPACE only computes.
    let space = unsafe { libc::CMSG_SPACE(size) } as usize;
    assert!(space <= size_of::<Control>(), "either PKTINFO fits");
    let first: *mut libc::cmsghdr = (&raw mut *control).cast();
    // SAFETY: CMSG_LEN only computes.
    let cmsg_len = unsafe { libc::CMSG_LEN(size) } as usize;
    let header = libc::cmsghdr { cmsg_len, cmsg_level: level, cmsg_type: kind };
    // SAFETY: the control buffer is aligned for a header and has room for it, see the assertion.
    unsafe { first.write(header) };
    // SAFETY: `first` is the header just written; this only computes where its data begins.
    let place = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: `space` counts header and data, and the control buffer has as many bytes.
    unsafe { place.cast::<T>().write_unaligned(data) };
    space
}
