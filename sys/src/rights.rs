//! Descriptors passed between processes over Unix sockets (`SCM_RIGHTS`).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::check_len;
use crate::options::socklen;

/// Ancillary data with room for one descriptor; the kernel's padding lets in a second.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends bytes, and a descriptor with the first of them, of which the receiver gets a duplicate.
/// Returns the number of bytes that were taken.
///
/// # Errors
/// Those of sendmsg(2); [`InvalidInput`](io::ErrorKind::InvalidInput) without bytes, because then
/// the descriptor would not be sent either.
pub fn send_descriptor(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    if bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([0; 24]);
    let first: *mut libc::cmsghdr = (&raw mut control).cast();
    // SAFETY: CMSG_LEN only computes.
    let cmsg_len = unsafe { libc::CMSG_LEN(socklen::<RawFd>()) } as usize;
    let header = libc::cmsghdr { cmsg_len, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    // SAFETY: the control buffer is aligned for a header and has room for it.
    unsafe { first.write(header) };
    // SAFETY: `first` is the header just written; this only computes where its data begins.
    let place = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: behind the header there is room for eight bytes.
    unsafe { place.cast::<RawFd>().write_unaligned(fd.as_raw_fd()) };

    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = message(&mut part, &mut control);
    check_len(|| {
        // SAFETY: the message describes `bytes` and the control data, which the kernel only reads.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
    })
}

/// Receives bytes, and the descriptor that came with them, close-on-exec. Further descriptors are
/// closed.
///
/// # Errors
/// Those of recvmsg(2).
pub fn recv_descriptor(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut message = message(&mut part, &mut control);
    let len = check_len(|| {
        // SAFETY: the message describes `buf` and the control buffer, both borrowed for the call.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) }
    })?;
    Ok((len, descriptors(&message).into_iter().flatten().next()))
}

fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut *part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *control).cast();
    message.msg_controllen = size_of::<Control>();
    message
}

/// Takes every descriptor in the control data, so that none stays open by mistake.
fn descriptors(message: &libc::msghdr) -> [Option<OwnedFd>; 2] {
    let mut found = [None, None];
    // SAFETY: the header describes a control buffer that the kernel has filled.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    if first.is_null() {
        return found;
    }
    // SAFETY: a pointer that is not null is to a whole header in the control buffer.
    let header = unsafe { first.read() };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return found;
    }
    // SAFETY: CMSG_LEN only computes.
    let bare = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = header.cmsg_len.saturating_sub(bare) / size_of::<RawFd>();
    // SAFETY: `first` is a header in the control buffer; this only computes where its data begins.
    let data: *const RawFd = unsafe { libc::CMSG_DATA(first) }.cast();
    for (i, place) in found.iter_mut().enumerate().take(count) {
        // SAFETY: the kernel has written `count` descriptors there.
        let address = unsafe { data.add(i) };
        // SAFETY: as above; data behind a header need not be aligned.
        let fd = unsafe { ptr::read_unaligned(address) };
        // SAFETY: the kernel has just opened this descriptor for us alone.
        *place = Some(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    found
}
