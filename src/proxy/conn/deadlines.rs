#![forbid(unsafe_code)]
//! Which side is waited for, and for how long.
//!
//! A clock runs for the side that has the turn, and for no other. The client is always limited; the
//! upstream where [`response_time`](crate::limits::Limits::response_time) is set. In one of
//! Docker's streams neither is, once the request is whole, or where its body may pause: there is
//! one clock, for both, and only if [`stream_idle`](crate::limits::Limits::stream_idle) is set.
//!
//! So a connection on which nothing moves ends, unless it waits for an upstream or is a stream and
//! the operator has set no limit for that. While
//! [`ConnEvent::NeedUpstream`](super::ConnEvent::NeedUpstream) waits for the owner, whose connect
//! has a limit of its own, no clock runs.

use std::time::{Duration, Instant};

use super::exchange::{Exchange, RequestHalf, Upstream};
use super::outcome::ExchangeEnd;
use super::{OUTPUT_BOUND, ProxyConn, Stage};
use crate::error::{Cause, Failure, Phase, Side, Timeout};

/// Which deadline.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    KeepAlive,
    Head { started: Instant },
    Client(Timeout),
    Upstream(Timeout),
    StreamIdle,
    Closing { reset: bool },
}

impl ProxyConn {
    /// Returns when [`ProxyConn::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline().map(|(at, _)| at)
    }

    /// Acts on the deadline, if it has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.restart_clocks(now);
        if let Some((_, deadline)) = self.deadline().filter(|(at, _)| *at <= now) {
            self.enter(now, |conn| conn.passed_deadline(deadline, now));
        }
    }

    fn passed_deadline(&mut self, deadline: Deadline, now: Instant) {
        match deadline {
            Deadline::KeepAlive => self.close(false),
            Deadline::Closing { reset } => self.close(reset),
            Deadline::Head { started } => {
                self.refuse_head(None, Cause::Timeout(Timeout::RequestHead), started, now);
            }
            Deadline::Client(timeout) => self.client_timed_out(timeout, now),
            Deadline::Upstream(timeout) => self.upstream_fails(Cause::Timeout(timeout), now),
            // The side that was to continue: a request that is not whole has waited for its client.
            Deadline::StreamIdle if self.is_client_behind() => {
                self.client_timed_out(Timeout::StreamIdle, now);
            }
            Deadline::StreamIdle => self.upstream_fails(Cause::Timeout(Timeout::StreamIdle), now),
        }
    }

    fn client_timed_out(&mut self, timeout: Timeout, now: Instant) {
        let Some(exchange) = self.stage.exchange() else { return };
        let cause = Cause::Timeout(timeout);
        if exchange.has_begun_response() || !self.down.out.is_empty() {
            let phase = match timeout {
                Timeout::ResponseDelivery => Phase::ResponseBody,
                _ => exchange.client_phase(),
            };
            self.abandon(ExchangeEnd::Failed(Failure::new(Side::Downstream, phase, cause)), now);
        } else {
            self.fail(Failure::new(Side::Downstream, Phase::RequestBody, cause), now);
        }
    }

    /// Restarts the clocks that nothing waits for: what begins to wait in this call has all of its
    /// time.
    pub(super) fn restart_clocks(&mut self, now: Instant) {
        if !self.awaits_body() {
            self.down.received = now;
        }
        if !self.awaits_response_body() {
            self.up.received = now;
        }
        // Connecting is limited by the owner.
        if let Some(exchange) = self.stage.exchange_mut().filter(|exchange| exchange.needs_upstream()) {
            exchange.moved_at = now;
        }
        for peer in [&mut self.down, &mut self.up] {
            if !peer.is_behind() {
                peer.sent = now;
            }
        }
    }

    /// Notes that a byte moved.
    pub(super) fn note_progress(&mut self, now: Instant) {
        if let Some(exchange) = self.stage.exchange_mut() {
            exchange.moved_at = now;
        }
    }

    /// Returns whether it is the client's turn to go on with its request.
    fn awaits_body(&self) -> bool {
        self.stage.exchange().is_some_and(|exchange| match exchange.request {
            RequestHalf::Gathering { .. } => true,
            // A client that expects a 100 need not have waited for it (RFC 9110, section 10.1.1).
            RequestHalf::Streaming { .. } => {
                exchange.is_linked() && self.up.out.len() < OUTPUT_BOUND && self.up.offered == 0
            }
            RequestHalf::Received | RequestHalf::Abandoned => false,
        })
    }

    /// Returns whether it is the upstream's turn to go on with its response.
    fn awaits_response_body(&self) -> bool {
        let exchange = self.stage.exchange();
        exchange.is_some_and(|exchange| matches!(exchange.upstream, Upstream::Responding { .. }))
            && self.down.out.len() < OUTPUT_BOUND
            && self.down.offered == 0
    }

    /// Returns whether the client has bytes to take, or to send.
    fn is_client_behind(&self) -> bool {
        self.down.is_behind() || self.awaits_body()
    }

    fn deadline(&self) -> Option<(Instant, Deadline)> {
        let limits = &self.config.limits;
        let after = |since: Instant, time: Duration, what| since.checked_add(time).map(|at| (at, what));
        match &self.stage {
            Stage::Idle { first_byte: Some(started), .. } => {
                after(*started, limits.head_time, Deadline::Head { started: *started })
            }
            Stage::Idle { since, .. } if self.draining => {
                after(*since, limits.head_time, Deadline::KeepAlive)
            }
            Stage::Idle { since, .. } => after(*since, limits.keep_alive, Deadline::KeepAlive),
            Stage::Closing { since, .. } => {
                after(*since, limits.closing_time, Deadline::Closing { reset: false })
            }
            Stage::Cutting { since, reset } => {
                after(*since, limits.closing_time, Deadline::Closing { reset: *reset })
            }
            Stage::Exchange(exchange) => {
                let is_stream = exchange.may_be_silent();
                let idle = limits.stream_idle.filter(|_| is_stream && !exchange.needs_upstream());
                let idle = idle.and_then(|time| after(exchange.moved_at, time, Deadline::StreamIdle));
                let client = self.client_waits_since(exchange);
                let client = client
                    .and_then(|(since, what)| after(since, limits.body_progress, Deadline::Client(what)));
                let upstream = limits.response_time.filter(|_| !is_stream).and_then(|time| {
                    let (since, what) = self.upstream_waits_since(exchange)?;
                    after(since, time, Deadline::Upstream(what))
                });
                [idle, client, upstream].into_iter().flatten().min_by_key(|(at, _)| *at)
            }
            Stage::Tunnel | Stage::Closed => None,
        }
    }

    /// Returns since when the client is to go on, and with what, if it is its turn.
    fn client_waits_since(&self, exchange: &Exchange) -> Option<(Instant, Timeout)> {
        let from_client = self.awaits_body().then_some((self.down.received, Timeout::RequestBody));
        if exchange.may_be_silent() {
            return from_client.filter(|_| !exchange.plan.body_may_pause || exchange.awaits_continue());
        }
        let to_client = self.down.is_behind().then_some((self.down.sent, Timeout::ResponseDelivery));
        from_client.into_iter().chain(to_client).min_by_key(|(since, _)| *since)
    }

    /// Returns since when the upstream is to go on, and with what, if it is its turn.
    fn upstream_waits_since(&self, exchange: &Exchange) -> Option<(Instant, Timeout)> {
        match exchange.upstream {
            Upstream::Asked { since, .. } => {
                let to_upstream = self.up.is_behind().then_some((self.up.sent, Timeout::RequestDelivery));
                let asked = since.map(|at| (at, Timeout::ResponseHead));
                to_upstream.into_iter().chain(asked).min_by_key(|(since, _)| *since)
            }
            Upstream::Responding { .. } => {
                self.awaits_response_body().then_some((self.up.received, Timeout::ResponseBody))
            }
            _ => None,
        }
    }
}
