#![forbid(unsafe_code)]
//! [`ClosingSession`]: the last bytes of a TLS stream on their way out.

use std::time::Instant;

use super::core::{Core, End};
use super::session::Next;
use crate::relay::Readiness;

/// A connection that has nothing more to say than what its TLS stream still keeps.
pub(super) struct ClosingSession {
    end: End,
    deadline: Instant,
}

impl ClosingSession {
    pub(super) fn new(end: End, deadline: Instant) -> Self {
        Self { end, deadline }
    }

    pub(super) fn note(&mut self, ready: Readiness) {
        self.end.note(ready);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(&mut self, core: &Core) -> Next {
        if core.now >= self.deadline || !matches!(self.end.shut_write(core), Ok(false)) {
            return Next::End;
        }
        Next::Wait
    }

    pub(super) fn end(self, core: &mut Core) {
        drop(core.unlink(self.end));
    }
}
