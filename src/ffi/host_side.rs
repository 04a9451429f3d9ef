//! A side of a relay as the host described it: a descriptor or callbacks.

use std::ffi::c_void;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use super::relay_types::{DOCKLINE_IO_AGAIN, dockline_endpoint};
use super::status::Failure;
use crate::drive::{Socket, Transport};

/// A side as the host described it.
pub(super) enum HostSide {
    Plain(Socket<BorrowedFd<'static>>),
    Callbacks(HostIo),
}

/// A side that the host reads and writes.
pub(super) struct HostIo {
    user: *mut c_void,
    socket: Option<BorrowedFd<'static>>,
    read: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> i64,
    write: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> i64,
    shutdown_write: unsafe extern "C" fn(*mut c_void) -> i32,
}

impl HostIo {
    /// Interprets what a callback returned for a buffer of `len` bytes.
    fn result(returned: i64, len: usize) -> io::Result<usize> {
        match usize::try_from(returned) {
            Ok(n) if n <= len => Ok(n),
            Ok(_) => Err(ErrorKind::InvalidData.into()),
            Err(_) if returned == i64::from(DOCKLINE_IO_AGAIN) => Err(ErrorKind::WouldBlock.into()),
            Err(_) => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
        }
    }
}

impl Transport for HostSide {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Callbacks(io) => {
                // SAFETY: the host gave function and argument together, and `buf` is ours for the
                // call.
                let returned = unsafe { (io.read)(io.user, buf.as_mut_ptr().cast(), buf.len()) };
                HostIo::result(returned, buf.len())
            }
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Callbacks(io) => {
                // SAFETY: as in `read`.
                let returned = unsafe { (io.write)(io.user, buf.as_ptr().cast(), buf.len()) };
                match HostIo::result(returned, buf.len()) {
                    Ok(0) => Err(ErrorKind::WouldBlock.into()),
                    result => result,
                }
            }
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown_write(),
            Self::Callbacks(io) => {
                // SAFETY: as in `read`.
                let returned = unsafe { (io.shutdown_write)(io.user) };
                HostIo::result(i64::from(returned), 0).map(drop)
            }
        }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(socket) => socket.socket(),
            Self::Callbacks(io) => io.socket,
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// # Safety
/// The descriptor, if there is one, stays open until the relay is freed.
pub(super) unsafe fn side_from_endpoint(endpoint: &dockline_endpoint) -> Result<HostSide, Failure> {
    let socket = match endpoint.fd {
        ..-1 => return Err(Failure::Value),
        -1 => None,
        // SAFETY: not -1, and the caller's promise.
        fd => Some(unsafe { BorrowedFd::borrow_raw(fd) }),
    };
    match (endpoint.read, endpoint.write, endpoint.shutdown_write) {
        (None, None, None) => Ok(HostSide::Plain(Socket::new(socket.ok_or(Failure::Value)?))),
        (Some(read), Some(write), Some(shutdown_write)) => {
            Ok(HostSide::Callbacks(HostIo { user: endpoint.user, socket, read, write, shutdown_write }))
        }
        _ => Err(Failure::Null),
    }
}
