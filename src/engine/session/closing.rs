#![forbid(unsafe_code)]
//! [`ClosingSession`]: the last bytes of a TLS stream on their way out.

use std::time::Instant;

use super::{Kind, Next};
use crate::engine::endpoint::Endpoint;
use crate::engine::shared::Shared;
use crate::relay::Readiness;

/// A connection that has nothing to send but what its TLS stream has kept.
pub(in crate::engine) struct ClosingSession {
    client: Endpoint,
    deadline: Instant,
}

impl ClosingSession {
    pub(super) fn new(client: Endpoint, deadline: Instant) -> Self {
        Self { client, deadline }
    }

    pub(super) fn note(&mut self, ready: Readiness) {
        self.client.note(ready);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        if shared.now < self.deadline && matches!(self.client.shut_write(shared), Ok(false)) {
            return Next::Wait(Kind::Closing(self));
        }
        self.end(shared);
        Next::End
    }

    pub(super) fn end(self, shared: &mut Shared) {
        shared.close(self.client);
    }
}
