//! The few system calls the harness needs and std doesn't have.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn check_size(ret: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

pub(crate) struct Epoll(OwnedFd);

pub(crate) type Event = libc::epoll_event;

pub(crate) const IN: u32 = libc::EPOLLIN.cast_unsigned();
pub(crate) const OUT: u32 = libc::EPOLLOUT.cast_unsigned();
pub(crate) const HUP: u32 = (libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLERR).cast_unsigned();
pub(crate) const EDGE: u32 = libc::EPOLLET.cast_unsigned() | libc::EPOLLRDHUP.cast_unsigned();
pub(crate) const NO_EVENT: Event = Event { events: 0, u64: 0 };

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn ctl(&self, op: libc::c_int, fd: RawFd, token: usize, events: u32) -> io::Result<()> {
        let mut event = Event { events, u64: token as u64 };
        // SAFETY: `event` lives across the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd, &raw mut event) }).map(drop)
    }

    pub(crate) fn add(&self, fd: &impl AsRawFd, token: usize, events: u32) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, events)
    }

    pub(crate) fn modify(&self, fd: &impl AsRawFd, token: usize, events: u32) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, events)
    }

    /// Waits, for ever with -1. No events mean that the time has passed.
    pub(crate) fn wait(&self, events: &mut [Event], timeout_ms: libc::c_int) -> io::Result<usize> {
        let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
        loop {
            // SAFETY: the kernel writes at most `room` entries of `events`.
            let got = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) };
            match check(got) {
                Ok(n) => return Ok(usize::try_from(n).unwrap_or(0)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A nonblocking pipe: the end to read from, the end to write to.
pub(crate) fn pipe(size: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors the call stores.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and has no other owner.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) })?;
    Ok((reader, writer))
}

pub(crate) fn splice(from: &impl AsRawFd, to: &impl AsRawFd, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: the offsets may be null for sockets and pipes.
    check_size(unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags) })
}

/// Waits until `fd` is ready for one of `events` (`POLLIN`, `POLLOUT`); `false` means the time
/// passed.
pub(crate) fn poll(fd: &impl AsRawFd, events: libc::c_short, timeout_ms: libc::c_int) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, alive across the call.
    Ok(check(unsafe { libc::poll(&raw mut entry, 1, timeout_ms) })? > 0)
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: `cpu_set_t` is a plain bit array; all zeroes is the empty set.
    unsafe { std::mem::zeroed() }
}

/// The processors this process may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: `set` is writable and its true size is given.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let max = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: `cpu` is below the number of bits in the set.
    Ok((0..max).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Ties the calling thread, and what it starts later, to these processors.
pub(crate) fn pin_to(cpus: &[usize]) -> io::Result<()> {
    let mut set = empty_set();
    for cpu in cpus {
        // SAFETY: `cpu` comes from `allowed_cpus`, hence is within the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: `set` is readable and its true size is given.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

/// Raises the descriptor limit as far as allowed and returns it.
pub(crate) fn raise_fd_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is readable.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

pub(crate) fn signal(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub(crate) fn is_root() -> bool {
    // SAFETY: cannot fail, takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// For a child between fork and exec: die with the bench, however that ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: `prctl(PR_SET_PDEATHSIG)` takes a number and is safe after fork.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }).map(drop)
}

/// For a child between fork and exec: gives a descriptor a second number, open across exec.
pub(crate) fn duplicate_to(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::dup2(fd, number) }).map(drop)
}
