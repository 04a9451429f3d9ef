#![forbid(unsafe_code)]
//! [`Lane`]: moves the bytes of one direction by copy or splice, and holds those on their way.
//!
//! A direction starts by copying, through the scratch buffer of the worker. A read that fills that
//! buffer promises more: from then on the direction borrows a pipe and splices, until the source
//! runs dry. Where splicing is not possible it copies again.

use std::io::{self, ErrorKind};
use std::mem;

use super::transport::Transport;
use super::worker::{Event, LentPipe, Worker};
use crate::sys::{self, SigpipeBlocked};

/// A bulk direction that moved less than this before its source ran dry is interactive again: for
/// so few bytes one copy is cheaper than two splices.
const BULK_MINIMUM: u32 = 16 * 1024;

/// One direction. While idle it holds nothing, neither buffer nor pipe.
#[derive(Debug)]
pub(crate) struct Lane {
    held: Option<Box<Held>>,
    mode: Mode,
    spliced: u64,
}

/// Bytes that were read and are still to be written.
#[derive(Debug)]
enum Held {
    /// In user space, from `at` on.
    Spill { bytes: Box<[u8]>, at: usize },
    /// In the kernel, `left` of them.
    Pipe { pipe: LentPipe, left: usize },
}

/// Whether a direction copies or splices; learnt from how its reads come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Copies for good.
    CopyOnly,
    /// Copies until a read fills the buffer.
    Copy,
    /// Splices; `moved` bytes since the source last ran dry.
    Bulk { moved: u32 },
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes; `short` if there was room for more and that proves that the source is dry.
    Bytes { n: usize, short: bool },
    /// The end of the stream.
    End,
    /// The read would block.
    Blocked,
}

impl Lane {
    /// Makes a lane that splices long transfers, or always copies.
    pub(crate) fn new(splice: bool) -> Self {
        let mode = if splice { Mode::Copy } else { Mode::CopyOnly };
        Self { held: None, mode, spliced: 0 }
    }

    /// Returns how many bytes went through a pipe.
    pub(super) fn spliced(&self) -> u64 {
        self.spliced
    }

    /// Returns whether bytes are on their way.
    #[cfg(feature = "engine")]
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Returns whether it is time to splice. Both ends have to be plain sockets then.
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(self.mode, Mode::Bulk { .. })
    }

    /// Reads once from `source` into the scratch buffer of the worker.
    pub(crate) fn read(&mut self, source: &mut impl Transport, worker: &mut Worker) -> io::Result<Filled> {
        match source.read(&mut worker.scratch) {
            Ok(0) => {
                self.ran_dry();
                Ok(Filled::End)
            }
            Ok(n) => {
                let is_full = n == worker.scratch.len();
                if self.mode != Mode::CopyOnly {
                    self.mode = if is_full { Mode::Bulk { moved: 0 } } else { Mode::Copy };
                }
                // Only of a socket does a short read prove that it is dry: a TLS stream gives a
                // record at a time.
                Ok(Filled::Bytes { n, short: !is_full && source.is_plain() })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ran_dry();
                Ok(Filled::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Splices up to `most` bytes from `source` into a pipe; the lane holds nothing before. Returns
    /// `None` if that is not possible now: copy instead.
    pub(crate) fn fill_pipe(
        &mut self,
        source: &mut dyn Transport,
        most: usize,
        worker: &mut Worker,
    ) -> Option<io::Result<Filled>> {
        let socket = source.socket()?;
        let pipe = match worker.pipes.take() {
            Ok(pipe) => pipe?,
            Err(error) => {
                self.stop_splicing(&error, worker);
                return None;
            }
        };
        match sys::splice(socket, pipe.writer(), most.min(pipe.capacity())) {
            Ok(n) if n > 0 => {
                worker.splice_is_unavailable = false;
                self.held = Some(Box::new(Held::Pipe { pipe, left: n }));
                if let Mode::Bulk { moved } = &mut self.mode {
                    *moved = moved.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
                }
                // A pipe can be full before its size in bytes, so "short" proves nothing.
                Some(Ok(Filled::Bytes { n, short: false }))
            }
            result => {
                // It is empty; and a direction whose source is dry or over owns no pipe.
                worker.pipes.put_back(pipe);
                match result {
                    Ok(_) => {
                        self.ran_dry();
                        Some(Ok(Filled::End))
                    }
                    // The pipe was empty, so it is the source that blocks.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.ran_dry();
                        Some(Ok(Filled::Blocked))
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        self.stop_splicing(&error, worker);
                        None
                    }
                    Err(error) if sys::is_starved(&error) => {
                        // A copy needs less memory.
                        self.mode = Mode::Copy;
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }

    /// Writes what the lane holds to `target`, once. Returns how many bytes that took. A write that
    /// is short proves nothing: a signal may have cut a splice. After an error the lane holds what
    /// it held; the owner decides whether to retry.
    pub(crate) fn deliver(&mut self, target: &mut dyn Transport, worker: &mut Worker) -> io::Result<usize> {
        let Some(held) = self.held.as_deref_mut() else { return Ok(0) };
        let (n, is_empty) = match held {
            Held::Spill { bytes, at } => {
                let n = target.write(&bytes[*at..])?;
                *at += n;
                (n, *at >= bytes.len())
            }
            Held::Pipe { pipe, left } => {
                let socket = target.socket().ok_or(ErrorKind::NotConnected)?;
                let guard = (!worker.sigpipe_ignored).then(SigpipeBlocked::new);
                let result = sys::splice(pipe.reader(), socket, *left);
                drop(guard);
                let n = result?;
                *left -= n;
                self.spliced = self.spliced.saturating_add(n as u64);
                (n, *left == 0)
            }
        };
        if is_empty && let Some(Held::Pipe { pipe, .. }) = self.held.take().map(|held| *held) {
            worker.pipes.put_back(pipe);
        }
        Ok(n)
    }

    /// Keeps bytes that were read but not yet written, in place of what the lane holds.
    pub(super) fn spill(&mut self, bytes: &[u8]) {
        self.held = Some(Box::new(Held::Spill { bytes: bytes.into(), at: 0 }));
    }

    /// Returns the bytes in user space that are still to be written.
    pub(super) fn spilled(&self) -> &[u8] {
        match self.held.as_deref() {
            Some(Held::Spill { bytes, at }) => &bytes[*at..],
            Some(Held::Pipe { .. }) | None => &[],
        }
    }

    /// Drops what the lane holds. A pipe with bytes in it is closed.
    pub(super) fn clear(&mut self) {
        self.held = None;
    }

    fn ran_dry(&mut self) {
        self.mode = match self.mode {
            Mode::Bulk { moved } if moved >= BULK_MINIMUM => Mode::Bulk { moved: 0 },
            Mode::Bulk { .. } | Mode::Copy => Mode::Copy,
            Mode::CopyOnly => Mode::CopyOnly,
        };
    }

    fn stop_splicing(&mut self, error: &io::Error, worker: &mut Worker) {
        // Every other lane finds out as well, until it is over.
        if !mem::replace(&mut worker.splice_is_unavailable, true) {
            worker.report(&Event::SpliceUnavailable(error));
        }
        self.mode = Mode::CopyOnly;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::{SCRATCH_BYTES, Socket, WorkerOptions};
    use super::*;

    /// A lane between two sockets whose peers the test holds.
    struct Bed {
        lane: Lane,
        worker: Worker,
        source: Socket<UnixStream>,
        target: Socket<UnixStream>,
        sender: UnixStream,
        receiver: UnixStream,
    }

    fn bed(max_pipes: usize) -> Bed {
        let (sender, source) = UnixStream::pair().unwrap();
        let (target, receiver) = UnixStream::pair().unwrap();
        for socket in [&sender, &source, &target, &receiver] {
            socket.set_nonblocking(true).unwrap();
        }
        let worker = Worker::new(WorkerOptions { max_pipes, ..WorkerOptions::default() });
        let (source, target) = (Socket::new(source), Socket::new(target));
        Bed { lane: Lane::new(true), worker, source, target, sender, receiver }
    }

    impl Bed {
        fn send(&mut self, n: usize) {
            self.sender.write_all(&vec![b'x'; n]).unwrap();
        }

        fn read(&mut self) -> Filled {
            self.lane.read(&mut self.source, &mut self.worker).unwrap()
        }

        fn fill_pipe(&mut self, most: usize) -> Option<Filled> {
            self.lane.fill_pipe(&mut self.source, most, &mut self.worker).map(Result::unwrap)
        }

        fn deliver(&mut self) -> io::Result<usize> {
            self.lane.deliver(&mut self.target, &mut self.worker)
        }
    }

    const fn bytes(n: usize) -> Filled {
        Filled::Bytes { n, short: false }
    }

    #[test]
    fn a_full_read_begins_a_bulk_transfer_and_a_short_one_ends_it() {
        let mut bed = bed(1);
        bed.send(SCRATCH_BYTES);
        assert_eq!((bed.read(), bed.lane.is_bulk()), (bytes(SCRATCH_BYTES), true));
        bed.send(1);
        assert_eq!((bed.read(), bed.lane.is_bulk()), (Filled::Bytes { n: 1, short: true }, false));
        let mut copies = Lane::new(false);
        bed.send(SCRATCH_BYTES);
        copies.read(&mut bed.source, &mut bed.worker).unwrap();
        assert!(!copies.is_bulk());
    }

    #[test]
    fn a_bulk_transfer_goes_on_after_a_dry_spell_only_if_much_came_before() {
        let few = BULK_MINIMUM as usize - 1;
        for (n, stays) in [(few, false), (few + 1, true)] {
            let mut bed = bed(1);
            bed.send(SCRATCH_BYTES);
            bed.read();
            bed.send(n);
            assert_eq!(bed.fill_pipe(usize::MAX), Some(bytes(n)));
            assert_eq!((bed.deliver().unwrap(), bed.lane.spliced()), (n, n as u64));
            assert_eq!((bed.fill_pipe(usize::MAX), bed.lane.is_bulk()), (Some(Filled::Blocked), stays));
            assert_eq!(bed.receiver.read(&mut vec![0; SCRATCH_BYTES]).unwrap(), n);
        }
    }

    #[test]
    fn no_more_than_asked_goes_into_a_pipe_and_a_dry_lane_has_none() {
        let mut bed = bed(1);
        bed.send(3000);
        assert_eq!(bed.fill_pipe(1000), Some(bytes(1000)));
        // The only pipe is lent: another lane copies.
        let mut other = Lane::new(true);
        assert!(other.fill_pipe(&mut bed.source, 1000, &mut bed.worker).is_none());
        assert_eq!(bed.deliver().unwrap(), 1000);
        assert!(other.fill_pipe(&mut bed.source, 2000, &mut bed.worker).is_some());
        drop(other);
        bed.sender.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(bed.fill_pipe(1000), Some(Filled::End));
        assert!(bed.worker.pipes.take().unwrap().is_some());
    }

    #[test]
    fn what_is_not_taken_is_held_until_it_is_cleared() {
        let mut bed = bed(1);
        bed.lane.spill(b"spilled");
        assert_eq!(bed.lane.spilled(), b"spilled");
        assert_eq!((bed.deliver().unwrap(), bed.lane.spilled().is_empty()), (7, true));
        for spliced in [false, true] {
            drop(mem::replace(&mut bed.receiver, UnixStream::pair().unwrap().0));
            if spliced {
                bed.send(5);
                bed.fill_pipe(5).unwrap();
            } else {
                bed.lane.spill(b"spill");
            }
            let error = bed.deliver().unwrap_err();
            assert_eq!((error.kind(), bed.lane.held.is_some()), (ErrorKind::BrokenPipe, true));
            bed.lane.clear();
            assert_eq!(bed.deliver().unwrap(), 0);
        }
        // The pipe was closed with what was in it, and does not count as lent any more.
        assert!(bed.worker.pipes.take().unwrap().is_some());
    }
}
