#![forbid(unsafe_code)]
//! The queue between the loops and the writer, and the writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::AccessLogTarget;

/// Lines that may wait.
pub(super) const LINES: usize = 4096;
/// How long the writer lets lines gather, so that a busy gateway pays for few writes and wake-ups.
const GATHER: Duration = Duration::from_millis(10);
/// How long closing waits for the writer.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Whole lines on their way to the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    for_writer: Condvar,
    for_closer: Condvar,
    lost: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    /// The queued lines, one after the other: a push costs a copy, and no allocation once it has
    /// grown.
    bytes: Vec<u8>,
    lines: usize,
    replacement: Option<File>,
    closing: bool,
    closed: bool,
}

impl State {
    fn is_urgent(&self) -> bool {
        self.lines >= LINES / 2 || self.closing || self.replacement.is_some()
    }
}

impl Queue {
    /// Adds a line, with its LF; loses it if the queue is full.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines == LINES {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        let wake = state.lines == 1 || state.lines == LINES / 2;
        drop(state);
        if wake {
            self.for_writer.notify_one();
        }
    }

    /// Makes the writer continue with another file.
    pub(super) fn replace(&self, file: File) {
        self.lock().replacement = Some(file);
        self.for_writer.notify_one();
    }

    /// Ends the writer, and waits a limited time until it has written what is queued.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.for_writer.notify_one();
        let waited = self.for_closer.wait_timeout_while(state, CLOSE_LIMIT, |state| !state.closed);
        drop(waited);
    }

    /// Returns how many lines were lost.
    pub(super) fn lost(&self) -> &Arc<AtomicU64> {
        &self.lost
    }

    /// Writes what is queued, until the queue is closed.
    pub(super) fn run(&self, sink: &mut Sink) {
        let mut batch = Vec::new();
        loop {
            let (replacement, closing) = self.take(&mut batch);
            if let Some(file) = replacement {
                *sink = Sink::new(file);
            }
            sink.write(&batch, &self.lost);
            batch.clear();
            if closing {
                self.lock().closed = true;
                self.for_closer.notify_one();
                return;
            }
        }
    }

    /// Waits for something to do, and takes all of it.
    fn take(&self, batch: &mut Vec<u8>) -> (Option<File>, bool) {
        let idle = |state: &mut State| state.lines == 0 && !state.is_urgent();
        let state = self.for_writer.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |state: &mut State| !state.is_urgent();
        let gathered = self.for_writer.wait_timeout_while(state, GATHER, gathering);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(batch, &mut state.bytes);
        state.lines = 0;
        (state.replacement.take(), state.closing)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLogTarget {
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Self::File(path) => {
                OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot open the access log {}: {error}", path))
                })
            }
        }
    }
}

/// The file that lines are written to. It survives errors: writing is tried again with the next
/// lines.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// Whether the last line broke off before its end.
    torn: bool,
    /// Lines lost since an error, if there was one and nothing could be written since.
    failing: Option<u64>,
}

impl Sink {
    pub(super) fn new(file: File) -> Self {
        Self { file, torn: false, failing: None }
    }

    /// Writes lines; counts those that could not be written.
    pub(super) fn write(&mut self, batch: &[u8], lost: &AtomicU64) {
        let mut rest = batch;
        let result = self.end_torn_line().and_then(|()| write_all(&mut self.file, &mut rest));
        match result {
            Ok(()) if batch.is_empty() => {}
            Ok(()) => {
                if let Some(lines) = self.failing.take() {
                    log::info!("the access log is written again; {lines} lines are missing");
                }
            }
            Err(error) => {
                if let Some(last) = batch[..batch.len() - rest.len()].last() {
                    self.torn = *last != b'\n';
                }
                let lines = rest.iter().map(|&byte| u64::from(byte == b'\n')).sum();
                lost.fetch_add(lines, Ordering::Relaxed);
                if self.failing.is_none() {
                    log::error!("cannot write the access log, lines are lost until it works again: {error}");
                }
                self.failing = Some(self.failing.unwrap_or(0) + lines);
            }
        }
    }

    /// Ends a line that broke off, so that the next line does not continue it.
    fn end_torn_line(&mut self) -> io::Result<()> {
        if mem::take(&mut self.torn) {
            let result = write_all(&mut self.file, &mut &b"\n"[..]);
            self.torn = result.is_err();
            return result;
        }
        Ok(())
    }
}

/// Writes all, and leaves in `rest` what could not be written.
fn write_all(file: &mut File, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
