#![forbid(unsafe_code)]
//! [`Gate`]: where the updates of a source pass until it is closed.

use std::sync::{Arc, Mutex, PoisonError};

/// See the [module](self). Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<bool>>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    /// Runs what passes an update on, unless it is closed. Returns whether it is open.
    pub(super) fn pass(&self, pass: impl FnOnce()) -> bool {
        let is_open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_open {
            pass();
        }
        *is_open
    }

    /// Closes it. What is passing is waited for, so that no update comes late: it could bring back
    /// what is gone, and nobody would be there to remove it again.
    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn nothing_passes_after_it_was_closed() {
        let gate = Gate::new();
        let (entered, is_in) = channel();
        let (leave, leaves) = channel::<()>();
        let (passed, all) = channel();
        let passing = gate.clone();
        let source = thread::spawn(move || {
            while passing.pass(|| {
                let _ = entered.send(());
                let _ = leaves.recv();
                passed.send("update").unwrap();
            }) {}
        });
        is_in.recv().unwrap();
        let closing = thread::spawn(move || {
            gate.close();
            gate
        });
        drop(leave);
        let gate = closing.join().unwrap();
        let before = all.try_iter().count();
        source.join().unwrap();
        assert!(before >= 1 && all.try_iter().count() == 0);
        assert!(!gate.pass(|| panic!("it is closed")));
    }
}
