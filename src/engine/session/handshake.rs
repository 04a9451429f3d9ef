#![forbid(unsafe_code)]
//! [`HandshakeSession`]: a TLS handshake with a client.

use std::sync::Arc;
use std::time::Instant;

use super::{Kind, Next};
use crate::engine::causes;
use crate::engine::endpoint::Endpoint;
use crate::engine::observe::{ClientInfo, Event};
use crate::engine::service::ListenerSettings;
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::engine::stream::Stream;
use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::relay::Readiness;
use crate::untrusted::Untrusted;

/// A client whose TLS handshake is not complete.
pub(in crate::engine) struct HandshakeSession {
    client: Endpoint,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    token: Token,
    deadline: Instant,
}

impl HandshakeSession {
    pub(in crate::engine) fn new(
        client: Endpoint,
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

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        if shared.now >= self.deadline {
            return self.failed(Cause::Timeout(Timeout::Handshake), "it took too long", shared);
        }
        match self.client.handshake(shared) {
            Ok(true) => self.succeed(shared).advance(shared),
            Ok(false) => Next::Wait(Kind::Handshake(self)),
            Err(error) => {
                let reason = error.to_string();
                self.failed(causes::of_handshake(&error), &reason, shared)
            }
        }
    }

    /// Returns what serves the client from now on.
    fn succeed(self, shared: &Shared) -> Kind {
        let Self { client, mut info, settings, token, .. } = self;
        shared.counters().handshakes.add(1);
        if let Stream::Tls(stream) = &client.stream {
            info.identity = stream.identity().cloned();
        }
        Kind::serving(client, info, settings, token, shared)
    }

    fn failed(self, cause: Cause, reason: &str, shared: &mut Shared) -> Next {
        shared.counters().handshake_failures.add(1);
        let failure = Failure::new(Side::Downstream, Phase::Handshake, cause);
        let reason = Untrusted::new(reason);
        shared.report(&Event::HandshakeFailed { client: &self.info, failure, reason });
        self.end(shared);
        Next::End
    }

    pub(super) fn end(self, shared: &mut Shared) {
        shared.close(self.client);
    }
}
