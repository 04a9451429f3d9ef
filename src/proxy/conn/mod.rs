#![forbid(unsafe_code)]
//! [`ProxyConn`]: one client connection, and the upstream connections that serve it one after the
//! other.
//!
//! Sans-IO: the owner has the sockets and the clock. The methods form four families:
//!
//! | family | methods |
//! |---|---|
//! | what happened | [`feed`](ProxyConn::feed), [`feed_eof`](ProxyConn::feed_eof), [`feed_error`](ProxyConn::feed_error), [`output_sent`](ProxyConn::output_sent), [`output_refused`](ProxyConn::output_refused), [`offered`](ProxyConn::offered), [`passed`](ProxyConn::passed), [`shut_done`](ProxyConn::shut_done), [`handle_timeout`](ProxyConn::handle_timeout) |
//! | the owner wants | [`upstream_ready`](ProxyConn::upstream_ready), [`upstream_failed`](ProxyConn::upstream_failed), [`rewrite`](ProxyConn::rewrite), [`reply`](ProxyConn::reply), [`drain`](ProxyConn::drain), [`kill`](ProxyConn::kill), [`abandon`](ProxyConn::abandon) |
//! | the owner must do | [`poll_event`](ProxyConn::poll_event), [`output`](ProxyConn::output), [`wants`](ProxyConn::wants), [`poll_timeout`](ProxyConn::poll_timeout) |
//! | queries | [`request`](ProxyConn::request), [`forwarded_for`](ProxyConn::forwarded_for), [`needs_upstream`](ProxyConn::needs_upstream), [`passthrough`](ProxyConn::passthrough), [`in_transit`](ProxyConn::in_transit), [`has_request_to_send`](ProxyConn::has_request_to_send) |
//!
//! After each call of the first two families: take all events, send the output of both sides, read
//! where reading is wanted.
//!
//! ```text
//!          head read            response delivered, both sides may go on
//!   Idle ────────────► Exchange ────────────────────────────────────────► Idle
//!                        │  │ │ response delivered, connection ends here
//!                        │  │ └───────────────► Closing ──► Closed
//!                        │  │ response cut
//!                        │  └─────────────────► Cutting ──► Closed
//!                        │ head of a tunnel delivered
//!                        └────────────────────► Tunnel
//! ```
//!
//! Requests are served in order, one at a time: the next is read when the last byte of the response
//! before it has left.

mod buffer;
mod client;
mod deadlines;
mod error_reply;
mod exchange;
mod facts;
mod forwarded;
mod hop;
mod outcome;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use self::buffer::Buffer;
use self::exchange::{Exchange, RequestHalf, Upstream};
use self::hop::Persistence;
use super::config::ConnConfig;
use super::hijack::HijackKind;
use super::reply::{Reply, reason_phrase};
use super::rewrite::Rewrite;
use crate::error::{Cause, Failure, Phase, Side};
use crate::h1::{BodyFraming, BodyWriter, HeadWriter, RequestHead, RequestHeadReader, Version};

pub use self::hop::Client;
pub(super) use self::hop::is_written_here;
pub use self::outcome::{EndKind, ExchangeEnd, ExchangeSummary, NoReuse, Reuse};

/// Bytes that may wait for a slow receiver, or for an upstream, before their source is no longer
/// read. What one read brought may come on top, and one head.
pub const OUTPUT_BOUND: usize = 64 * 1024;

/// What the owner has to do.
#[derive(Debug)]
pub enum ConnEvent {
    /// A request was read: look at it ([`ProxyConn::request`]), then call
    /// [`ProxyConn::upstream_ready`] once there is a connection, or [`ProxyConn::upstream_failed`],
    /// or [`ProxyConn::reply`].
    NeedUpstream {
        /// Whether an idle connection may be used. If not, make a new one: a request that must not
        /// be sent twice is not risked on a connection that its peer may be closing.
        may_reuse: bool,
        /// Whether the same request was sent before, on an idle connection that turned out to be
        /// dead.
        again: bool,
    },
    /// The upstream connection is not used any more: keep it for others, or close it.
    ReleaseUpstream(Reuse),
    /// An exchange ended. Also comes before [`ConnEvent::Tunnel`].
    ExchangeEnded(Box<ExchangeSummary>),
    /// From here on both connections carry raw bytes: take them with [`ProxyConn::into_tunnel`].
    Tunnel(HijackKind),
    /// Close the client's connection.
    Closed {
        /// By a reset, because its end would be taken for the end of the response.
        reset: bool,
    },
}

/// What the owner waits for on one side, or does to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnWants {
    /// Read, and [`feed`](ProxyConn::feed).
    pub read: bool,
    /// Send [`output`](ProxyConn::output).
    pub write: bool,
    /// Half-close, then call [`shut_done`](ProxyConn::shut_done).
    pub shut_write: bool,
}

/// What is left of a [`ProxyConn`] that became a tunnel.
///
/// The end of a side's stream is not part of it: reading from the socket reports it again.
#[derive(Debug)]
pub struct IntoTunnel {
    /// Bytes of the client that the upstream has not got: they go first.
    pub to_upstream: Vec<u8>,
    /// Bytes of the upstream that the client has not got: they go first.
    pub to_downstream: Vec<u8>,
}

/// See the [module](self).
pub struct ProxyConn {
    config: Arc<ConnConfig>,
    client: Client,
    /// Whether the client is a trusted proxy.
    is_trusted: bool,
    down: Peer,
    up: Peer,
    /// Reads one head after the other.
    reader: RequestHeadReader,
    stage: Stage,
    events: VecDeque<ConnEvent>,
    requests: u32,
    draining: bool,
}

/// The state of one connection apart from its part in an exchange.
struct Peer {
    /// Received, and not yet understood.
    input: Buffer,
    out: Buffer,
    /// Bytes for it that are in transit past this machine.
    offered: u64,
    /// The peer sends no more.
    ended: bool,
    /// When a byte last came, or began to be waited for.
    received: Instant,
    /// When a byte last went, or began to wait.
    sent: Instant,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            input: Buffer::default(),
            out: Buffer::default(),
            offered: 0,
            ended: false,
            received: now,
            sent: now,
        }
    }

    /// Returns whether it has to accept bytes before more of them are read.
    fn is_behind(&self) -> bool {
        !self.out.is_empty() || self.offered > 0
    }
}

enum Stage {
    /// Between requests, or within a head.
    Idle {
        since: Instant,
        first_byte: Option<Instant>,
    },
    /// From the head of a request to the last byte of its response.
    Exchange(Box<Exchange>),
    /// The last response is delivered, then the client is given time to read it.
    Closing {
        since: Instant,
        shut: bool,
    },
    /// The response was cut: what there is of it is delivered, then the connection ends.
    Cutting {
        since: Instant,
        reset: bool,
    },
    Tunnel,
    Closed,
}

impl Stage {
    fn idle(now: Instant) -> Self {
        Self::Idle { since: now, first_byte: None }
    }

    fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }
}

impl ProxyConn {
    /// Returns a connection that was just accepted.
    #[must_use]
    pub fn new(config: Arc<ConnConfig>, client: Client, now: Instant) -> Self {
        Self {
            reader: RequestHeadReader::new(&config.limits, config.hosts),
            is_trusted: config.forwarding.trusted.contains(client.address),
            config,
            client,
            down: Peer::new(now),
            up: Peer::new(now),
            stage: Stage::idle(now),
            events: VecDeque::new(),
            requests: 0,
            draining: false,
        }
    }

    /// `bytes` came from a side. All of them are taken; call it only when [`ConnWants::read`] is
    /// wanted, or queues grow.
    pub fn feed(&mut self, side: Side, bytes: &[u8], now: Instant) {
        self.enter(now, |conn| {
            conn.note_progress(now);
            let peer = conn.peer_mut(side);
            peer.received = now;
            if peer.input.is_empty() {
                let used = conn.consume(side, bytes, now);
                conn.peer_mut(side).input.tail().extend_from_slice(&bytes[used..]);
            } else {
                peer.input.tail().extend_from_slice(bytes);
                conn.resume(side, now);
            }
        });
    }

    /// The stream of a side ended. For the client that includes the end of TLS without a
    /// close_notify, since a request shows by itself whether it is whole; for the upstream it does
    /// not.
    pub fn feed_eof(&mut self, side: Side, now: Instant) {
        self.enter(now, |conn| {
            conn.peer_mut(side).ended = true;
            match side {
                Side::Downstream => conn.client_ended(now),
                Side::Upstream => conn.upstream_ended(None, now),
            }
        });
    }

    /// The connection of a side failed: a reset ([`Cause::of_io`]), or the end of the upstream's
    /// TLS stream without its close_notify ([`Cause::TlsTruncated`]).
    pub fn feed_error(&mut self, side: Side, cause: Cause, now: Instant) {
        self.enter(now, |conn| {
            conn.peer_mut(side).ended = true;
            match side {
                Side::Downstream => conn.client_lost(cause, now),
                Side::Upstream => conn.upstream_ended(Some(cause), now),
            }
        });
    }

    /// A side took `n` bytes of its [`output`](Self::output).
    pub fn output_sent(&mut self, side: Side, n: usize, now: Instant) {
        self.enter(now, |conn| {
            conn.note_progress(now);
            let peer = conn.peer_mut(side);
            peer.out.take_front(n);
            peer.sent = now;
        });
    }

    /// A side will never accept another byte. A response of the upstream is still waited for.
    pub fn output_refused(&mut self, side: Side, cause: Cause, now: Instant) {
        self.enter(now, |conn| match side {
            Side::Downstream => conn.client_lost(cause, now),
            Side::Upstream => {
                conn.up.out.clear();
                conn.up.offered = 0;
                if conn.stage.exchange_mut().is_some_and(|exchange| exchange.upstream_refused(now)) {
                    conn.down.input.clear();
                }
            }
        });
    }

    /// `n` of the [`passthrough`](Self::passthrough) bytes of a side were received, and wait past
    /// this machine for the other side to accept them: it has the turn. An owner that keeps none
    /// waiting need not call it.
    pub fn offered(&mut self, from: Side, n: u64, now: Instant) {
        self.enter(now, |conn| {
            conn.note_progress(now);
            conn.peer_mut(from).received = now;
            let to = conn.peer_mut(from.other());
            if to.offered == 0 {
                to.sent = now;
            }
            to.offered = to.offered.saturating_add(n);
        });
    }

    /// `n` of the [`passthrough`](Self::passthrough) bytes of a side were delivered to the other,
    /// past this machine.
    pub fn passed(&mut self, from: Side, n: u64, now: Instant) {
        self.enter(now, |conn| {
            conn.note_progress(now);
            conn.peer_mut(from).received = now;
            let to = conn.peer_mut(from.other());
            to.sent = now;
            to.offered = to.offered.saturating_sub(n);
            match (from, conn.stage.exchange_mut()) {
                (Side::Downstream, Some(exchange)) => exchange.body_passed(n, now),
                (Side::Upstream, Some(exchange)) => exchange.response_passed(n),
                (_, None) => {}
            }
        });
    }

    /// A side was half-closed, as [`ConnWants::shut_write`] asked.
    pub fn shut_done(&mut self, side: Side, now: Instant) {
        self.enter(now, |conn| match (side, &mut conn.stage) {
            (Side::Downstream, Stage::Closing { shut, .. }) => *shut = true,
            (Side::Upstream, Stage::Exchange(exchange)) => exchange.half_closed(),
            _ => {}
        });
    }

    /// Changes how the present request is sent, each time that it is. Ignored when no upstream is
    /// needed.
    pub fn rewrite(&mut self, rewrite: impl Into<Arc<Rewrite>>) {
        if let Some(exchange) = self.stage.exchange_mut().filter(|exchange| exchange.needs_upstream()) {
            exchange.changes = Some(rewrite.into());
        }
    }

    /// There is a connection for the request. `host` replaces its `Host`. Ignored when none is
    /// needed (any more).
    pub fn upstream_ready(&mut self, host: Option<&str>, reused: bool, now: Instant) {
        self.enter(now, |conn| {
            conn.send_request(host, reused, now);
            conn.resume(Side::Downstream, now);
            if conn.down.ended {
                conn.client_ended(now);
            }
        });
    }

    /// There is no connection for the request. Ignored when none is needed. The client gets 503 if
    /// the cause is [`Cause::OutOfResources`], 504 for a timeout, and else 502.
    pub fn upstream_failed(&mut self, cause: Cause, now: Instant) {
        let failure = Failure::new(Side::Upstream, Phase::Connect, cause);
        self.reply_instead(&error_reply::reply_to(&failure, &self.config), ExchangeEnd::Failed(failure), now);
    }

    /// Responds to the request without an upstream. Ignored when none is needed.
    pub fn reply(&mut self, reply: &Reply, now: Instant) {
        self.reply_instead(reply, ExchangeEnd::Replied, now);
    }

    /// As [`reply`](Self::reply), since there is no connection for the request: the exchange has
    /// failed for this cause.
    pub fn reply_to_failure(&mut self, reply: &Reply, cause: Cause, now: Instant) {
        let failure = Failure::new(Side::Upstream, Phase::Connect, cause);
        self.reply_instead(reply, ExchangeEnd::Failed(failure), now);
    }

    fn reply_instead(&mut self, reply: &Reply, end: ExchangeEnd, now: Instant) {
        self.enter(now, |conn| {
            if conn.needs_upstream() {
                conn.respond(reply, end, now);
            }
        });
    }

    /// Ends the connection as soon as the response to the present request, if there is one, was
    /// delivered. A connection without one yet has
    /// [`Limits::head_time`](crate::limits::Limits::head_time) from its beginning to send it.
    pub fn drain(&mut self, now: Instant) {
        self.enter(now, |conn| {
            conn.draining = true;
            if let Some(exchange) = conn.stage.exchange_mut() {
                exchange.end_connection();
            }
        });
    }

    /// Ends the present request, if there is one: with a 503 if the client has nothing of a
    /// response yet, else by cutting that. The cause is [`Cause::Killed`].
    pub fn kill(&mut self, now: Instant) {
        self.enter(now, |conn| {
            conn.forget_upstream();
            conn.upstream_fails(Cause::Killed, now);
        });
    }

    /// Takes back what the owner may not have been asked yet.
    fn forget_upstream(&mut self) {
        if self.needs_upstream() {
            self.events.retain(|event| !matches!(event, ConnEvent::NeedUpstream { .. }));
        }
    }

    /// Returns what is going on from the client's point of view. Between two exchanges, that is the
    /// wait for the next request.
    pub(crate) fn phase(&self) -> Phase {
        self.stage.exchange().map_or(Phase::RequestHead, Exchange::client_phase)
    }

    /// Ends everything now.
    pub fn abandon(&mut self, end: ExchangeEnd, now: Instant) {
        if matches!(self.stage, Stage::Closed | Stage::Tunnel) {
            return;
        }
        self.forget_upstream();
        self.release_upstream(Some(NoReuse::Abandoned));
        let reset = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Exchange(exchange) => {
                let until_close = exchange.ending.until_close;
                self.events.push_back(ConnEvent::ExchangeEnded(exchange.into_summary(Some(end), now)));
                until_close
            }
            Stage::Cutting { reset, .. } => reset,
            _ => false,
        };
        self.close(reset);
    }

    /// Runs the body of a call between what every call begins and ends with: the clocks of sides
    /// that do not wait restart, and what follows from the new state is done.
    fn enter(&mut self, now: Instant, act: impl FnOnce(&mut Self)) {
        self.restart_clocks(now);
        act(self);
        self.settle(now);
    }

    /// Returns the next thing to do.
    pub fn poll_event(&mut self) -> Option<ConnEvent> {
        self.events.pop_front()
    }

    /// Returns the bytes for a side. They stay until [`output_sent`](Self::output_sent).
    #[must_use]
    pub fn output(&self, side: Side) -> &[u8] {
        self.peer(side).out.as_slice()
    }

    /// Returns what to do on a side, or wait for.
    #[must_use]
    pub fn wants(&self, side: Side) -> ConnWants {
        let write = !self.peer(side).out.is_empty();
        match side {
            Side::Downstream => ConnWants {
                read: !self.down.ended && self.wants_client_bytes(),
                write,
                shut_write: !write && matches!(self.stage, Stage::Closing { shut: false, .. }),
            },
            Side::Upstream => ConnWants {
                read: !self.up.ended && self.awaits_upstream() && self.down.out.len() < OUTPUT_BOUND,
                write,
                shut_write: !write && self.wants_half_close(),
            },
        }
    }

    /// Returns the request in progress.
    #[must_use]
    pub fn request(&self) -> Option<&RequestHead> {
        self.stage.exchange().map(|exchange| &exchange.head)
    }

    /// Returns the address of the client of the request in progress, if the connection is that of a
    /// trusted proxy and its `X-Forwarded-For` names one: the last address in it that is not
    /// [listed](crate::proxy::TrustedPeers::lists), or else the first.
    #[must_use]
    pub fn forwarded_for(&self) -> Option<IpAddr> {
        let request = self.request().filter(|_| self.is_trusted)?;
        forwarded::client_address(&request.fields, &self.config.forwarding.trusted)
    }

    /// Returns whether [`ConnEvent::NeedUpstream`] waits for the owner.
    #[must_use]
    pub fn needs_upstream(&self) -> bool {
        self.stage.exchange().is_some_and(Exchange::needs_upstream)
    }

    /// Returns how many bytes may be moved from a side to the other past this machine: the rest of
    /// a body that needs no new framing. Report them with [`passed`](Self::passed). Zero while
    /// bytes that precede them are queued here.
    #[must_use]
    pub fn passthrough(&self, from: Side) -> u64 {
        let to = self.peer(from.other());
        let Some(exchange) = self.stage.exchange().filter(|exchange| exchange.is_linked()) else { return 0 };
        if !self.peer(from).input.is_empty() || !to.out.is_empty() {
            return 0;
        }
        let left = match (from, &exchange.request, &exchange.upstream) {
            (Side::Downstream, RequestHalf::Streaming { reader, .. }, _) => reader.raw_left(),
            (Side::Upstream, _, Upstream::Responding { reader, writer: BodyWriter::Raw, .. }) => {
                reader.raw_left()
            }
            _ => 0,
        };
        left.saturating_sub(to.offered)
    }

    /// Returns whether a request that was received whole has not gone to its upstream yet. It takes
    /// effect even if its client is gone: without a proxy the daemon would have it by now.
    #[must_use]
    pub fn has_request_to_send(&self) -> bool {
        self.stage.exchange().is_some_and(|exchange| {
            exchange.is_received()
                && (exchange.needs_upstream() || (exchange.is_linked() && self.up.is_behind()))
        })
    }

    /// Returns how many bytes of a side were [`offered`](Self::offered) to the other and have not
    /// [`passed`](Self::passed).
    #[must_use]
    pub fn in_transit(&self, from: Side) -> u64 {
        self.peer(from.other()).offered
    }

    /// Takes the bytes that belong to the tunnel.
    #[must_use]
    pub fn into_tunnel(self) -> IntoTunnel {
        let mut to_upstream = self.up.out.into_bytes();
        to_upstream.extend_from_slice(self.down.input.as_slice());
        IntoTunnel { to_upstream, to_downstream: self.up.input.into_bytes() }
    }

    fn peer(&self, side: Side) -> &Peer {
        match side {
            Side::Downstream => &self.down,
            Side::Upstream => &self.up,
        }
    }

    fn peer_mut(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Downstream => &mut self.down,
            Side::Upstream => &mut self.up,
        }
    }

    fn awaits_upstream(&self) -> bool {
        self.stage.exchange().is_some_and(Exchange::awaits_upstream)
    }

    fn wants_client_bytes(&self) -> bool {
        match &self.stage {
            Stage::Idle { .. } | Stage::Closing { .. } => true,
            Stage::Exchange(exchange) => match &exchange.request {
                RequestHalf::Gathering { .. } | RequestHalf::Abandoned => true,
                RequestHalf::Streaming { .. } if exchange.is_linked() => self.up.out.len() < OUTPUT_BOUND,
                RequestHalf::Streaming { .. } => self.down.input.len() < OUTPUT_BOUND,
                // Read on, or the client's end would go unseen.
                RequestHalf::Received => {
                    self.down.input.len() < self.config.limits.held && exchange.tunnel().is_none()
                }
            },
            Stage::Cutting { .. } | Stage::Tunnel | Stage::Closed => false,
        }
    }

    /// Returns whether the client's end is to be passed on. A daemon that follows something, or
    /// works, for a client that has left cannot know otherwise that nobody waits for it. On a short
    /// request it is not passed on: some servers would not respond then.
    fn wants_half_close(&self) -> bool {
        self.down.ended
            && self.down.input.is_empty()
            && self.stage.exchange().is_some_and(Exchange::may_half_close)
    }

    /// Returns what the head of a final response states about the connection.
    fn persistence(&self, close: bool) -> Persistence {
        if close {
            return Persistence::Close;
        }
        self.config.told_keep_alive().map_or(Persistence::Untold, Persistence::Kept)
    }

    /// Writes a response of the proxy's own to the client's queue, and returns the length of its
    /// body there.
    fn write_reply(&mut self, reply: &Reply, close: bool, is_head: bool) -> u64 {
        let persistence = self.persistence(close);
        let out = self.down.out.tail();
        let status = reply.status();
        let reason = reason_phrase(status.as_u16()).as_bytes();
        let mut head =
            HeadWriter::response(Version::Http11, status, reason, out).lines(reply.fields().iter());
        if status.as_u16() != 204 {
            head = head.framing(BodyFraming::Length(reply.body().len() as u64));
        }
        persistence.write(head).end();
        if is_head || matches!(status.as_u16(), 204 | 304) {
            return 0;
        }
        out.extend_from_slice(reply.body());
        reply.body().len() as u64
    }
}
