#![forbid(unsafe_code)]
//! How long is waited for whom.
//!
//! Only the client has to hurry. The upstream does where [`response_time`](crate::limits::Limits::response_time) says
//! so; while it is waited for, no time of the client's runs.

use std::time::{Duration, Instant};

use super::exchange::{RequestHalf, ResponseHalf};
use super::outcome::ExchangeEnd;
use super::{OUTPUT_BOUND, ProxyConn, Stage};
use crate::proxy::hijack::RequestKind;
use crate::proxy::reply::Reply;

/// What a deadline is about.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    KeepAlive,
    Head { started: Instant },
    Client,
    Upstream,
    Closing { reset: bool },
}

impl ProxyConn {
    /// When [`ProxyConn::handle_timeout`] wants to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline().map(|(at, _)| at)
    }

    /// Acts on the deadline, if it has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.restart_clocks(now);
        let Some((_, what)) = self.deadline().filter(|(at, _)| *at <= now) else { return };
        match what {
            Deadline::KeepAlive => self.close(false),
            Deadline::Closing { reset } => self.close(reset),
            Deadline::Head { started } => {
                let message = "the request head took too long";
                self.refuse_request(None, 408, message, ExchangeEnd::ClientTimeout, started, now);
            }
            Deadline::Client => self.client_timed_out(now),
            Deadline::Upstream => {
                let reply = Reply::error(504, "the Docker daemon did not answer in time");
                self.reply(&reply, ExchangeEnd::UpstreamTimeout, now);
            }
        }
        self.settle(now);
    }

    fn client_timed_out(&mut self, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if exchange.has_begun_answer() || !self.down.out.is_empty() {
            self.abandon(ExchangeEnd::ClientTimeout, now);
        } else {
            let reply = Reply::error(408, "the request body took too long");
            self.reply(&reply, ExchangeEnd::ClientTimeout, now);
        }
    }

    /// A clock that nothing waits by stands still: whatever begins to wait in this call has all of its time.
    pub(super) fn restart_clocks(&mut self, now: Instant) {
        if !self.awaits_body() {
            self.down.received = now;
        }
        for port in [&mut self.down, &mut self.up] {
            if port.out.is_empty() {
                port.sent = now;
            }
        }
    }

    /// Whether it is the client's turn to go on with its request.
    fn awaits_body(&self) -> bool {
        let Stage::Exchange(exchange) = &self.stage else { return false };
        match exchange.request {
            RequestHalf::Gathering { .. } => true,
            RequestHalf::Streaming { .. } => {
                self.is_linked() && self.up.out.len() < OUTPUT_BOUND && !exchange.awaits_continue()
            }
            RequestHalf::Received | RequestHalf::Abandoned => false,
        }
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
                let from_client = self.awaits_body().then_some(self.down.received);
                let to_client = (!self.down.out.is_empty()).then_some(self.down.sent);
                let client = from_client.into_iter().chain(to_client).min();
                let client = client.and_then(|since| after(since, limits.body_progress, Deadline::Client));
                let asks = matches!(exchange.response, ResponseHalf::Head { .. })
                    && exchange.plan.kind == RequestKind::Ordinary;
                let to_upstream = (!self.up.out.is_empty()).then_some(self.up.sent);
                let upstream = limits.response_time.filter(|_| asks).and_then(|time| {
                    let since = exchange.asked_at.into_iter().chain(to_upstream).min()?;
                    after(since, time, Deadline::Upstream)
                });
                client.into_iter().chain(upstream).min_by_key(|(at, _)| *at)
            }
            Stage::Tunnel | Stage::Closed => None,
        }
    }
}
