#![forbid(unsafe_code)]
//! [`ClosingSession`]: the last bytes of a TLS stream on their way out.

use std::time::Instant;

use super::Next;
use crate::engine::endpoint::Endpoint;
use crate::engine::shared::Shared;
use crate::relay::Readiness;

/// A connection that has nothing more to say than what its TLS stream still keeps.
pub(in crate::engine) struct ClosingSession {
    endpoint: Endpoint,
    deadline: Instant,
}

impl ClosingSession {
    pub(super) fn new(endpoint: Endpoint, deadline: Instant) -> Self {
        Self { endpoint, deadline }
    }

    pub(super) fn note(&mut self, ready: Readiness) {
        self.endpoint.note(ready);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(&mut self, shared: &Shared) -> Next {
        if shared.now >= self.deadline || !matches!(self.endpoint.shut_write(shared), Ok(false)) {
            return Next::End;
        }
        Next::Wait
    }

    pub(super) fn end(self, shared: &mut Shared) {
        drop(shared.unlink(self.endpoint));
    }
}
