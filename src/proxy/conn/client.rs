#![forbid(unsafe_code)]
//! The client's side: reading requests, ending exchanges and the connection.

use std::collections::VecDeque;
use std::time::Instant;

use super::buffer::Buffer;
use super::error_reply::reply_to;
use super::exchange::{BodyStep, Exchange, RequestHalf, Upstream};
use super::outcome::{ExchangeEnd, ExchangeSummary, NoReuse};
use super::{ConnEvent, ProxyConn, Stage};
use crate::error::{Cause, Failure, ParseError, Phase, Side};
use crate::h1::RequestHead;

impl ProxyConn {
    /// Takes as much of `bytes` as can be processed; they begin where the last call stopped.
    /// Returns how many were taken.
    pub(super) fn consume(&mut self, side: Side, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        loop {
            let step = match side {
                Side::Downstream => self.consume_client(&bytes[used..], now),
                Side::Upstream => self.consume_upstream(&bytes[used..], now),
            };
            match step {
                Some(n) => used += n,
                None => return used,
            }
        }
    }

    /// Goes on with bytes that had to wait.
    pub(super) fn resume(&mut self, side: Side, now: Instant) {
        let mut input = std::mem::take(&mut self.peer_mut(side).input);
        let used = self.consume(side, input.as_slice(), now);
        input.take_front(used);
        if !input.is_empty() {
            self.peer_mut(side).input = input;
        }
    }

    /// Takes one step with bytes of the client; `None` when the rest has to wait.
    fn consume_client(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        match &mut self.stage {
            Stage::Idle { first_byte, .. } => {
                let started = *first_byte.get_or_insert(now);
                match self.reader.read(bytes) {
                    Ok(None) => None,
                    Ok(Some((head, n))) => {
                        self.begin(head, started, now);
                        Some(n)
                    }
                    Err(error) => {
                        self.refuse_head(None, Cause::Parse(error), started, now);
                        Some(bytes.len())
                    }
                }
            }
            Stage::Exchange(exchange) => {
                match exchange.take_body(bytes, &self.config.limits, self.up.out.tail(), now) {
                    Ok(BodyStep::Wait) => None,
                    Ok(BodyStep::Taken(n)) => Some(n),
                    Ok(BodyStep::Gathered(n)) => {
                        self.ask_for_upstream(false);
                        Some(n)
                    }
                    Err(error) => {
                        self.refuse_body(error, now);
                        Some(bytes.len())
                    }
                }
            }
            Stage::Closing { .. } | Stage::Cutting { .. } | Stage::Closed => Some(bytes.len()),
            Stage::Tunnel => None,
        }
    }

    /// A request head was read.
    fn begin(&mut self, head: RequestHead, started: Instant, now: Instant) {
        self.requests = self.requests.saturating_add(1);
        match Exchange::new(head, &self.config, started, now) {
            Ok(mut exchange) => {
                if self.draining || self.requests >= self.config.limits.requests {
                    exchange.end_connection();
                }
                let gathering = exchange.is_gathering();
                if gathering && exchange.head.expects_continue() {
                    // The client waits for this; the daemon will not be asked before the body is
                    // here.
                    self.down.out.tail().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                self.stage = Stage::Exchange(exchange);
                if !gathering {
                    self.ask_for_upstream(false);
                }
            }
            Err(refusal) => {
                let (cause, head) = *refusal;
                self.refuse_head(Some(head), cause, started, now);
            }
        }
    }

    pub(super) fn ask_for_upstream(&mut self, again: bool) {
        if let Some(exchange) = self.stage.exchange() {
            let may_reuse = exchange.may_repeat() && !again;
            self.events.push_back(ConnEvent::NeedUpstream { may_reuse, again });
        }
    }

    /// The head of a request cannot be accepted: after that nothing more is read as HTTP. One
    /// response, then the end.
    pub(super) fn refuse_head(
        &mut self,
        request: Option<RequestHead>,
        cause: Cause,
        started: Instant,
        now: Instant,
    ) {
        let failure = Failure::new(Side::Downstream, Phase::RequestHead, cause);
        let reply = reply_to(&failure, &self.config);
        let is_head = request.as_ref().is_some_and(|head| head.method() == b"HEAD");
        let bytes_down = self.write_reply(&reply, true, is_head);
        let duration = now.saturating_duration_since(started);
        self.events.push_back(ConnEvent::ExchangeEnded(Box::new(ExchangeSummary {
            request,
            status: Some(reply.status().as_u16()),
            end: ExchangeEnd::Failed(failure),
            own_reply: true,
            tunnel: None,
            bytes_up: 0,
            bytes_down,
            duration,
            time_to_head: Some(duration),
        })));
        self.stage = Stage::Closing { since: now, shut: false };
    }

    /// The body of the request cannot be accepted.
    fn refuse_body(&mut self, error: ParseError, now: Instant) {
        if let Some(exchange) = self.stage.exchange_mut() {
            exchange.abandon_request();
            self.fail(Failure::new(Side::Downstream, Phase::RequestBody, Cause::Parse(error)), now);
        }
    }

    /// The client has gone, or is given up.
    pub(super) fn client_lost(&mut self, cause: Cause, now: Instant) {
        let phase = self.phase();
        self.abandon(ExchangeEnd::Failed(Failure::new(Side::Downstream, phase, cause)), now);
    }

    /// The client sends no more. That ends only a request that is not whole; one that is whole is
    /// still served.
    pub(super) fn client_ended(&mut self, now: Instant) {
        let is_within_request = match &self.stage {
            Stage::Idle { .. } => true,
            Stage::Exchange(exchange) => match exchange.request {
                RequestHalf::Gathering { .. } => true,
                // The rest of the body may be here, and waits for the upstream.
                RequestHalf::Streaming { .. } => self.down.input.is_empty() || !exchange.needs_upstream(),
                RequestHalf::Received | RequestHalf::Abandoned => false,
            },
            // What is still in the queue goes out first.
            Stage::Closing { .. } | Stage::Cutting { .. } | Stage::Tunnel | Stage::Closed => false,
        };
        if is_within_request {
            self.client_lost(Cause::ClosedEarly, now);
        }
    }

    /// Does what follows from the present state without anything else happening.
    pub(super) fn settle(&mut self, now: Instant) {
        self.release_responded();
        loop {
            match &mut self.stage {
                Stage::Exchange(exchange) if exchange.has_responded() && self.down.out.is_empty() => {
                    self.finish(now);
                    if !matches!(self.stage, Stage::Idle { .. }) {
                        continue;
                    }
                    self.resume(Side::Downstream, now);
                    if self.down.ended {
                        self.client_ended(now);
                    }
                    if matches!(self.stage, Stage::Idle { .. }) {
                        self.rest(now);
                        return;
                    }
                    self.release_responded();
                }
                Stage::Idle { .. } => {
                    self.rest(now);
                    return;
                }
                Stage::Closing { shut, .. } if self.down.out.is_empty() && *shut && self.down.ended => {
                    return self.close(false);
                }
                Stage::Cutting { reset, .. } if self.down.out.is_empty() => {
                    let reset = *reset;
                    return self.close(reset);
                }
                _ => return,
            }
        }
    }

    /// Waits between requests, and frees what is not needed meanwhile.
    fn rest(&mut self, now: Instant) {
        if self.down.ended {
            return self.client_lost(Cause::ClosedEarly, now);
        }
        if !matches!(self.stage, Stage::Idle { first_byte: None, .. }) {
            return;
        }
        // A client that has only just connected has a request on its way, and would lose it.
        let is_new = self.requests == 0;
        if self.draining && !is_new {
            return self.close(false);
        }
        self.down.out.release();
        self.up.out.release();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    pub(super) fn close(&mut self, reset: bool) {
        self.stage = Stage::Closed;
        for peer in [&mut self.down, &mut self.up] {
            peer.input = Buffer::default();
            peer.out = Buffer::default();
        }
        self.events.push_back(ConnEvent::Closed { reset });
    }

    /// The last byte of a response has left.
    fn finish(&mut self, now: Instant) {
        let Stage::Exchange(exchange) = std::mem::replace(&mut self.stage, Stage::Closed) else { return };
        let tunnel = exchange.tunnel();
        let keeps = !exchange.ending.close && exchange.is_received();
        let lingers = exchange.ending.linger || !exchange.is_received() || !self.down.input.is_empty();
        self.events.push_back(ConnEvent::ExchangeEnded(exchange.into_summary(None, now)));
        match tunnel {
            Some(kind) => {
                self.stage = Stage::Tunnel;
                self.events.push_back(ConnEvent::Tunnel(kind));
            }
            None if keeps => self.stage = Stage::idle(now),
            None if lingers && !self.down.ended => {
                self.down.input = Buffer::default();
                self.stage = Stage::Closing { since: now, shut: false };
            }
            None => self.close(false),
        }
    }

    /// Gives the upstream connection back as soon as it has responded: the client may take its
    /// time.
    fn release_responded(&mut self) {
        let exchange = self.stage.exchange();
        if exchange.is_some_and(|exchange| matches!(exchange.upstream, Upstream::Responded { .. })) {
            self.release_upstream(None);
        }
    }

    /// Gives the upstream's connection back, if there is one.
    pub(super) fn release_upstream(&mut self, because: Option<NoReuse>) {
        let sent = self.up.out.is_empty();
        let clean = self.up.input.is_empty() && !self.up.ended;
        let reuse = self.stage.exchange_mut().and_then(|exchange| exchange.release(because, sent, clean));
        let Some(reuse) = reuse else { return };
        self.up.out.clear();
        self.up.input = Buffer::default();
        self.up.ended = false;
        // What was on its way past this machine goes with the connection.
        self.up.offered = 0;
        self.down.offered = 0;
        self.events.push_back(ConnEvent::ReleaseUpstream(reuse));
    }
}
