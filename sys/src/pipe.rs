//! Pipes and splice(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::{check, check_len};

/// Both ends of a pipe. Closed on drop.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// Makes a pipe of `capacity` bytes, or as many as the kernel grants: it refuses large pipes to
    /// users who own many (`fs.pipe-user-pages-soft`).
    ///
    /// # Errors
    /// Those of pipe2(2).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for the two descriptors that the kernel writes.
        check(|| unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
        let [reader, writer] = ends;
        // SAFETY: pipe2 has just made this descriptor, and nothing else owns it.
        let reader = unsafe { OwnedFd::from_raw_fd(reader) };
        // SAFETY: as above.
        let writer = unsafe { OwnedFd::from_raw_fd(writer) };
        let wanted = libc::c_int::try_from(capacity).unwrap_or(libc::c_int::MAX);
        // SAFETY: F_SETPIPE_SZ takes an integer and touches no memory of ours.
        let granted = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
        let capacity = match usize::try_from(granted) {
            Ok(granted) => granted,
            Err(_) => {
                // SAFETY: F_GETPIPE_SZ takes no argument and touches no memory of ours.
                let present = check(|| unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
                usize::try_from(present).unwrap_or(0)
            }
        };
        Ok(Self { reader, writer, capacity })
    }

    /// Returns the end to read from.
    #[must_use]
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Returns the end to write to.
    #[must_use]
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Returns the capacity in bytes. The pipe may be full with less, if they arrived in many small
    /// pieces.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Moves up to `len` bytes between a socket and a pipe, in either direction. `Ok(0)` is the end of
/// `from`.
///
/// # Errors
/// Those of splice(2). [`WouldBlock`](io::ErrorKind::WouldBlock) does not reveal which end was not
/// ready; the caller knows it from what the pipe holds.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    check_len(|| {
        // SAFETY: both descriptors are open because they are borrowed, and with null offsets the
        // kernel reads and writes no memory of ours.
        unsafe {
            libc::splice(from.as_raw_fd(), ptr::null_mut(), to.as_raw_fd(), ptr::null_mut(), len, flags)
        }
    })
}
