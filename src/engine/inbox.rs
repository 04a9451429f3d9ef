#![forbid(unsafe_code)]
//! [`Inbox`]: commands on their way to the loop, and who has to wake it.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What other threads have sent and the loop has not taken yet.
///
/// The loop is woken once for all that is sent before it looks. A wake-up that failed counts for nothing: the next
/// one to send tries again. And the loop looks at each turn, whatever it was woken for ([`Inbox::is_waiting`]).
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// A hint, so that a turn without commands takes no lock.
    waiting: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    /// `None`: closed for good.
    commands: Option<Vec<T>>,
    /// Whether the loop was woken since it last looked.
    woken: bool,
}

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        let state = State { commands: Some(Vec::new()), woken: false };
        Self { state: Mutex::new(state), waiting: AtomicBool::new(false) }
    }

    /// Puts a command in, and wakes the loop unless that was done. Comes back with what is too late.
    pub(super) fn send(&self, command: T, wake: impl FnOnce() -> io::Result<()>) -> Result<(), T> {
        let mut state = self.lock();
        let Some(commands) = &mut state.commands else { return Err(command) };
        commands.push(command);
        self.waiting.store(true, Ordering::Release);
        if !state.woken {
            state.woken = wake().is_ok();
        }
        Ok(())
    }

    /// Whether there seems to be something. What is sent at this moment may be missed, but then its wake-up is not.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes all there is.
    pub(super) fn take(&self) -> Vec<T> {
        let mut state = self.lock();
        state.woken = false;
        self.waiting.store(false, Ordering::Release);
        state.commands.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Closes it for good, unless there is something in it. Returns whether it is closed.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        let empty = state.commands.as_ref().is_none_or(Vec::is_empty);
        if empty {
            state.commands = None;
        }
        empty
    }

    /// Closes it for good. What is in it is dropped.
    pub(super) fn close(&self) {
        // Not under the lock: a command that is dropped may send one.
        let dropped = self.lock().commands.take();
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
