#![forbid(unsafe_code)]
//! [`Worker`]: what the relays of one thread share.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::Side;
use crate::sys::{self, Pipe};

/// Size of the scratch buffer, and so the most that a direction spills. A power of two that holds
/// four TLS records or one full loopback segment.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Empty pipes kept for the next bulk transfer. More are closed, so that a burst does not occupy
/// descriptors.
const MAX_SPARE_PIPES: usize = 16;

/// The bounds of a [`Worker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Pipes that may be lent at a time, two descriptors each. 64 by default; 0 never splices. A
    /// pipe is lent for as long as bytes are in it, so only slow readers keep one. A direction that
    /// gets none copies.
    pub max_pipes: usize,
    /// Bytes requested for each pipe, 1 MiB by default: 64 KiB, the kernel's own choice, cost 1.2
    /// to 1.8 times the CPU. Together with `max_pipes` that is the 64 MiB that the kernel grants an
    /// ordinary user (`fs.pipe-user-pages-soft`); beyond it the kernel grants less, which is fine.
    pub pipe_bytes: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { max_pipes: 64, pipe_bytes: 1024 * 1024 }
    }
}

/// An event for the operator's log. Nothing else reports it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// splice(2) or pipe2(2) cannot be used; the relay copies instead.
    SpliceUnavailable(&'a io::Error),
    /// The upstream takes no more bytes: what the downstream still sends is discarded.
    UpstreamRefused(&'a io::Error),
    /// A connection failed.
    Reset(Side, &'a io::Error),
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpliceUnavailable(error) => write!(f, "cannot splice, copying instead: {error}"),
            Self::UpstreamRefused(error) => {
                write!(f, "the upstream takes no more input, discarding the rest: {error}")
            }
            Self::Reset(Side::Downstream, error) => write!(f, "the downstream connection failed: {error}"),
            Self::Reset(Side::Upstream, error) => write!(f, "the upstream connection failed: {error}"),
        }
    }
}

/// Receives the events of a worker.
pub type Log = Box<dyn FnMut(&Event<'_>) + Send>;

/// The scratch buffer, the pipes and the log of all relays that one thread drives.
pub struct Worker {
    pub(super) scratch: Box<[u8]>,
    pub(super) pipes: PipePool,
    /// Whether the process ignores SIGPIPE, so that splicing to a socket needs no protection from
    /// it.
    pub(super) sigpipe_ignored: bool,
    /// Whether the last attempt to splice found that it is not possible, which was reported.
    pub(super) splice_is_unavailable: bool,
    log: Option<Log>,
}

impl Worker {
    /// Makes a worker. It owns no descriptor until a transfer turns out to be long.
    ///
    /// Whether the process ignores SIGPIPE is asked once, now: a host that changes that later makes
    /// a new worker.
    #[must_use]
    pub fn new(options: WorkerOptions) -> Self {
        Self {
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            pipes: PipePool::new(options),
            sigpipe_ignored: sys::sigpipe_is_ignored(),
            splice_is_unavailable: false,
            log: None,
        }
    }

    /// Sets the receiver of events. It is called from within [`Relay::pump`](super::Relay::pump).
    #[must_use]
    pub fn with_log(mut self, log: Log) -> Self {
        self.log = Some(log);
        self
    }

    /// Returns the scratch buffer. It stays here, so that a panic does not take it away from all
    /// others.
    #[cfg(feature = "engine")]
    pub(crate) fn scratch(&mut self) -> &mut [u8] {
        &mut self.scratch
    }

    pub(super) fn report(&mut self, event: &Event<'_>) {
        if let Some(log) = &mut self.log {
            log(event);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("pipes", &self.pipes).finish_non_exhaustive()
    }
}

/// The pipes of one thread: lent to directions in bulk transfer, spare in between.
#[derive(Debug)]
pub(super) struct PipePool {
    options: WorkerOptions,
    spare: Vec<Pipe>,
    /// Has one more reference for each pipe that is lent.
    lent: Arc<()>,
}

/// A pipe of a [`PipePool`]. If dropped, it is closed together with what it holds.
#[derive(Debug)]
pub(crate) struct LentPipe {
    pipe: Pipe,
    _lent: Arc<()>,
}

impl Deref for LentPipe {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.pipe
    }
}

impl PipePool {
    fn new(options: WorkerOptions) -> Self {
        Self { options, spare: Vec::new(), lent: Arc::new(()) }
    }

    /// Lends a pipe; `Ok(None)` if as many are in use as may be.
    pub(super) fn take(&mut self) -> io::Result<Option<LentPipe>> {
        if Arc::strong_count(&self.lent) > self.options.max_pipes {
            return Ok(None);
        }
        let pipe = match self.spare.pop() {
            Some(pipe) => pipe,
            None => Pipe::new(self.options.pipe_bytes)?,
        };
        Ok(Some(LentPipe { pipe, _lent: Arc::clone(&self.lent) }))
    }

    /// Takes a pipe back that holds no byte.
    pub(super) fn put_back(&mut self, lent: LentPipe) {
        if self.spare.len() < MAX_SPARE_PIPES {
            self.spare.push(lent.pipe);
        }
    }
}
