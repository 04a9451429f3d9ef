#![forbid(unsafe_code)]
//! [`ProxiedSession`]: a connection of a proxy, which begins with a header of the PROXY protocol.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::{Kind, Next};
use crate::engine::causes;
use crate::engine::endpoint::Endpoint;
use crate::engine::observe::{ClientInfo, Event, PeerAddr, Proxied};
use crate::engine::service::ListenerSettings;
use crate::engine::shared::Shared;
use crate::engine::slab::Token;
use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::proxy::ProxyHeader;
use crate::relay::Readiness;
use crate::sys;

/// A connection whose header is not complete.
pub(in crate::engine) struct ProxiedSession {
    client: Endpoint,
    info: Box<ClientInfo>,
    settings: Arc<ListenerSettings>,
    token: Token,
    deadline: Instant,
}

impl ProxiedSession {
    pub(in crate::engine) fn new(
        client: Endpoint,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        token: Token,
        now: Instant,
    ) -> Self {
        let deadline = now + settings.limits().head_time;
        Self { client, info, settings, token, deadline }
    }

    pub(super) fn note(&mut self, ready: Readiness) {
        self.client.note(ready);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        if !self.is_trusted() {
            return self.failed(Cause::UntrustedPeer, shared);
        }
        if shared.now >= self.deadline {
            return self.failed(Cause::Timeout(Timeout::ProxyHeader), shared);
        }
        match self.read(shared) {
            Ok(Some(header)) => self.succeed(header, shared),
            Ok(None) => Next::Wait(Kind::Proxied(self)),
            Err(cause) => self.failed(cause, shared),
        }
    }

    fn is_trusted(&self) -> bool {
        let address = match self.info.peer {
            PeerAddr::Ip(address) => Some(address.ip()),
            PeerAddr::Unix { .. } | PeerAddr::Unknown => None,
        };
        self.settings.proxy_protocol.as_ref().is_some_and(|trusted| trusted.contains(address))
    }

    /// Takes the header out of the socket once it is there as a whole. What follows it stays, for
    /// TLS or whatever reads next.
    fn read(&mut self, shared: &mut Shared) -> Result<Option<ProxyHeader>, Cause> {
        if !self.client.ready.read {
            return Ok(None);
        }
        let failed = |error: io::Error| causes::of_connection(&error);
        let scratch = &mut shared.worker.scratch()[..ProxyHeader::MAX];
        let n = match sys::peek(self.client.as_fd(), scratch) {
            Ok(0) => return Err(Cause::ClosedEarly),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(failed(error)),
        };
        let header = ProxyHeader::read(&scratch[..n]).map_err(|_| Cause::ProxyHeader)?;
        match &header {
            Some(header) => {
                sys::recv(self.client.as_fd(), &mut scratch[..header.len]).map_err(failed)?;
            }
            // The end is behind these bytes, and nothing else will come.
            None if self.client.ready.hup => return Err(Cause::ClosedEarly),
            None => self.client.ready.read_blocked(),
        }
        Ok(header)
    }

    /// Returns what serves the client that the header names.
    fn succeed(self, header: ProxyHeader, shared: &mut Shared) -> Next {
        let Self { client, mut info, settings, token, .. } = self;
        if let Some((source, destination)) = header.addresses {
            info.proxied = Some(Box::new(Proxied { by: info.peer, destination }));
            info.peer = PeerAddr::Ip(source);
        }
        match Kind::secured(client, info, settings, token, shared) {
            Ok(kind) => kind.advance(shared),
            Err(error) => {
                shared.report(&Event::Reset { side: Side::Downstream, error: &error });
                Next::End
            }
        }
    }

    fn failed(self, cause: Cause, shared: &mut Shared) -> Next {
        let failure = Failure::new(Side::Downstream, Phase::ProxyHeader, cause);
        shared.report(&Event::ProxyHeaderFailed { client: &self.info, failure });
        self.end(shared);
        Next::End
    }

    pub(super) fn end(self, shared: &mut Shared) {
        shared.close(self.client);
    }
}
