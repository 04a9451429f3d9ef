//! eventfd(2), by which one thread wakes another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{check, check_len};

/// Attempts to signal. The kernel has no reason to refuse the first one.
const TRIES: usize = 8;

/// A counter in the kernel. A poller that watches it, edge-triggered, is woken by each signal;
/// nobody reads it.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Makes a counter.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd touches no memory of ours.
        let fd = check(|| unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the poller. It neither blocks nor takes a lock, so a signal handler may call it.
    ///
    /// # Errors
    /// Those of write(2), after several attempts.
    pub fn signal(&self) -> io::Result<()> {
        let mut result = self.add_one();
        for _ in 1..TRIES {
            match &result {
                Ok(()) => break,
                // The counter is full. A write that cannot change it is no edge, so it is reset.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.reset(),
                Err(_) => {}
            }
            result = self.add_one();
        }
        result
    }

    fn add_one(&self) -> io::Result<()> {
        let one = 1_u64.to_ne_bytes();
        // Not repeated without end after `EINTR`: the caller may be a signal handler.
        // SAFETY: the kernel reads the eight bytes of `one`, which outlives the call.
        let written = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn reset(&self) {
        let mut count = [0; 8];
        // `EAGAIN` means it is empty, as it should be; any other failure shows at the next write.
        // SAFETY: the kernel writes at most eight bytes to `count`, which is borrowed for the call.
        let _ = check_len(|| unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), 8) });
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    use super::*;

    /// Also when the counter is full, which no number of wake-ups brings about.
    #[test]
    fn each_signal_is_an_event() {
        let bell = EventFd::new().unwrap();
        let mut counter = File::from(bell.0.try_clone().unwrap());
        let mut poll = Poll::new().unwrap();
        let mut source = SourceFd(&bell.as_fd().as_raw_fd());
        poll.registry().register(&mut source, Token(7), Interest::READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        let mut woken = || {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        assert!(!woken());
        for _ in 0..3 {
            bell.signal().unwrap();
            assert!(woken() && !woken());
        }
        counter.write_all(&(u64::MAX - 4).to_ne_bytes()).unwrap();
        assert!(woken());
        bell.signal().unwrap();
        assert!(woken() && !woken());
    }
}
