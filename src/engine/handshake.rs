#![forbid(unsafe_code)]
//! [`HandshakeSession`]: a client that does not yet speak TLS.

use std::sync::Arc;
use std::time::Instant;

use super::causes;
use super::core::{Core, End};
use super::handle::count;
use super::observe::{ClientInfo, Event};
use super::service::ListenerSettings;
use super::session::{Kind, Next};
use super::slab::Token;
use super::{accept, stream::Stream};
use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::relay::Readiness;
use crate::untrusted::Untrusted;

pub(super) struct HandshakeSession {
    client: End,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    token: Token,
    deadline: Instant,
}

impl HandshakeSession {
    pub(super) fn new(
        client: End,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        token: Token,
        now: Instant,
    ) -> Self {
        let deadline = now + settings.limits().handshake_time;
        Self { client, info, settings, token, deadline }
    }

    pub(super) fn note(&mut self, ready: Readiness) {
        self.client.note(ready);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(&mut self, core: &mut Core) -> Next {
        let counters = &core.handle.shared.counters;
        if core.now >= self.deadline {
            return self.failed(Cause::Timeout(Timeout::Handshake), "it took too long", core);
        }
        match self.client.handshake(core) {
            Ok(true) => {
                count(&counters.handshakes, 1);
                Next::Become
            }
            Ok(false) => Next::Wait,
            Err(error) => {
                let reason = error.to_string();
                self.failed(causes::of_handshake(&error), &reason, core)
            }
        }
    }

    fn failed(&self, cause: Cause, reason: &str, core: &Core) -> Next {
        count(&core.handle.shared.counters.handshake_failures, 1);
        let failure = Failure::new(Side::Downstream, Phase::Handshake, cause);
        let reason = Untrusted::new(reason);
        core.report(&Event::HandshakeFailed { client: &self.info, failure, reason });
        Next::End
    }

    /// What the connection is for.
    pub(super) fn succeed(mut self, core: &mut Core) -> Kind {
        if let Stream::Tls(stream) = &self.client.stream {
            self.info.identity = stream.identity().cloned();
        }
        accept::serve(self.client, self.info, self.settings, self.token, core)
    }

    pub(super) fn end(self, core: &mut Core) {
        drop(core.unlink(self.client));
    }
}
