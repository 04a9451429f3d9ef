#![forbid(unsafe_code)]
//! [`Inbox`]: commands on their way to the loop, and when to wake it.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What other threads have sent and the loop has not taken yet.
///
/// The loop is woken once for all that is sent before it looks. A wake-up that fails does not
/// count: the next sender tries again. And the loop looks in each turn, whatever it was woken for
/// ([`Inbox::is_waiting`]).
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

    /// Puts a command in, and wakes the loop unless that was done. Returns a command that comes too
    /// late.
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

    /// Returns whether there seem to be commands. One that is being sent may be missed, but then
    /// its wake-up is not.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes all commands.
    pub(super) fn take(&self) -> Vec<T> {
        let mut state = self.lock();
        state.woken = false;
        self.waiting.store(false, Ordering::Release);
        state.commands.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Closes the inbox for good, unless there are commands in it. Returns whether it is closed.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        let empty = state.commands.as_ref().is_none_or(Vec::is_empty);
        if empty {
            state.commands = None;
        }
        empty
    }

    /// Closes the inbox for good. The commands in it are dropped.
    pub(super) fn close(&self) {
        // Not under the lock: a command may send another one when it is dropped.
        let dropped = self.lock().commands.take();
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::ErrorKind;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_wake_up_suffices_for_all_commands_before_the_loop_looks() {
        let (inbox, wakes) = (Inbox::new(), Cell::new(0));
        let wake = || {
            wakes.set(wakes.get() + 1);
            Ok(())
        };
        for round in 1..=3 {
            assert!(!inbox.is_waiting());
            for command in 0..3 {
                inbox.send(command, wake).unwrap();
                assert!(inbox.is_waiting());
            }
            assert_eq!((inbox.take(), wakes.get()), (vec![0, 1, 2], round));
        }
    }

    #[test]
    fn a_closed_inbox_returns_commands() {
        let inbox = Inbox::new();
        inbox.send(1, || Ok(())).unwrap();
        assert!(!inbox.close_if_empty());
        assert_eq!(inbox.take(), [1]);
        assert!(inbox.close_if_empty());
        assert_eq!(inbox.send(2, || panic!("there is no loop to wake")), Err(2));
        assert!(inbox.take().is_empty());
    }

    /// A command that sends another one when it is dropped, as the owner of a socket may.
    struct Answering<'a>(&'a Inbox<Answering<'a>>);

    impl Drop for Answering<'_> {
        fn drop(&mut self) {
            let _ = self.0.send(Answering(self.0), || Ok(())).map_err(mem::forget);
        }
    }

    #[test]
    fn a_command_that_is_dropped_may_send_another() {
        let inbox = Box::leak(Box::new(Inbox::new()));
        assert!(inbox.send(Answering(inbox), || Ok(())).is_ok());
        inbox.close();
    }

    proptest! {
        /// Any of the wake-ups may fail. Commands come out once and in order; and while some wait,
        /// a wake-up is pending unless the last one that was tried has failed.
        #[test]
        fn a_wake_up_that_failed_is_tried_again(steps in vec((any::<bool>(), any::<bool>()), 1..100)) {
            let (inbox, edge) = (Inbox::new(), Cell::new(false));
            let (mut sent, mut got) = (0, 0);
            for (send, works) in steps {
                if send {
                    let before = edge.get();
                    let tried = Cell::new(false);
                    inbox.send(sent, || {
                        tried.set(true);
                        edge.set(before || works);
                        if works { Ok(()) } else { Err(ErrorKind::Interrupted.into()) }
                    }).unwrap();
                    sent += 1;
                    prop_assert!(tried.get() != before, "a wake-up for each command unless one is pending");
                    prop_assert_eq!(edge.get(), before || works);
                } else if edge.take() || works {
                    // The loop was woken, by this or by something else.
                    prop_assert_eq!(inbox.is_waiting(), sent > got);
                    for command in inbox.take() {
                        prop_assert_eq!(command, got);
                        got += 1;
                    }
                    prop_assert_eq!(got, sent);
                }
            }
        }
    }
}
