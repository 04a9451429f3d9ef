#![forbid(unsafe_code)]
//! [`BodyPipes`]: long bodies between plain sockets, spliced past the machine that frames them.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use crate::drive::{LentPipe, SCRATCH_BYTES};
use crate::engine::endpoint::Endpoint;
use crate::engine::shared::Shared;
use crate::error::Side;
use crate::sys::{self, SigpipeBlocked};

/// For fewer bytes one copy is cheaper than two splices.
const LONG: u64 = 64 * 1024;

/// The pipes of the two directions of an exchange; none while it copies.
#[derive(Debug, Default)]
pub(super) struct BodyPipes {
    up: Lane,
    down: Lane,
}

/// What is known of one direction.
#[derive(Debug, Default)]
struct Lane {
    /// Whether the last read filled the buffer: there is more where that came from.
    bulk: bool,
    held: Option<Held>,
}

/// Bytes in the kernel, on their way.
#[derive(Debug)]
struct Held {
    pipe: LentPipe,
    left: usize,
}

impl BodyPipes {
    fn lane(&mut self, from: Side) -> &mut Lane {
        match from {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }

    /// Whether bytes for `to` are in a pipe. They go before all others.
    pub(super) fn holds(&mut self, to: Side) -> bool {
        self.lane(to.other()).held.is_some()
    }

    /// A read was copied; `full` if it filled the buffer.
    pub(super) fn read(&mut self, from: Side, full: bool) {
        self.lane(from).bulk = full;
    }

    /// There was nothing to read.
    pub(super) fn dry(&mut self, from: Side) {
        self.lane(from).bulk = false;
    }

    /// Whether what `from` sends, `left` bytes of it, is worth a pipe.
    pub(super) fn is_long(&mut self, from: Side, left: u64) -> bool {
        left >= LONG && self.lane(from).bulk
    }

    /// Moves up to `left` bytes of `from` into a pipe. `None` if there is none to be had.
    pub(super) fn fill(
        &mut self,
        from: Side,
        left: u64,
        endpoint: &mut Endpoint,
        shared: &mut Shared,
    ) -> Option<io::Result<usize>> {
        let pipe = shared.worker.lend_pipe()?;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(pipe.capacity().max(SCRATCH_BYTES));
        let result = sys::splice(endpoint.as_fd(), pipe.writer(), most);
        match &result {
            Ok(n) if *n > 0 => self.lane(from).held = Some(Held { pipe, left: *n }),
            _ => shared.worker.return_pipe(pipe),
        }
        if let Err(error) = &result {
            match error.kind() {
                // The pipe was empty: it is the socket that has nothing.
                ErrorKind::WouldBlock => {
                    endpoint.ready.read = false;
                    endpoint.ready.hup = false;
                }
                ErrorKind::InvalidInput => {
                    self.lane(from).bulk = false;
                    return None;
                }
                // A copy needs less.
                _ if sys::is_starved(error) => {
                    self.lane(from).bulk = false;
                    return None;
                }
                _ => {}
            }
        }
        Some(result)
    }

    /// Moves bytes from the pipe to `to`; says how many.
    pub(super) fn deliver(
        &mut self,
        to: Side,
        endpoint: &mut Endpoint,
        shared: &mut Shared,
    ) -> io::Result<usize> {
        let lane = self.lane(to.other());
        let Some(Held { pipe, left }) = lane.held.take() else { return Ok(0) };
        let guard = (!shared.worker.ignores_sigpipe()).then(SigpipeBlocked::new);
        let result = sys::splice(pipe.reader(), endpoint.as_fd(), left);
        drop(guard);
        match result {
            Ok(n) if n == left => {
                shared.worker.return_pipe(pipe);
                Ok(n)
            }
            Ok(n) => {
                lane.held = Some(Held { pipe, left: left - n });
                endpoint.blocked(shared)?;
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                lane.held = Some(Held { pipe, left });
                endpoint.blocked(shared)?;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Drops what is on its way to a side: it takes nothing any more.
    pub(super) fn forget_to(&mut self, side: Side) {
        *self.lane(side.other()) = Lane::default();
    }

    /// Drops what is on its way: there is nobody to take it.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
