#![forbid(unsafe_code)]
//! [`HttpSession`]: performs what a [`ProxyConn`] wants on two connections.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::body::BodyPipes;
use super::causes;
use super::closing::ClosingSession;
use super::connect::{Connect, Progress};
use super::core::{Core, End, Owner};
use super::handle::count;
use super::observe::{ClientInfo, Event, Exchange, PeerAddr};
use super::resolve::Resolved;
use super::service::{ListenerSettings, Route, Router, Upstream};
use super::session::{Kind, Next};
use super::slab::Token;
use super::tunnel::{Early, Origin, TunnelSession};
use crate::drive::Transport;
use crate::error::{Cause, Side};
use crate::proxy::conn::{Client, ConnEvent, ExchangeSummary, Reuse};
use crate::proxy::hijack::HijackKind;
use crate::proxy::{ExchangeEnd, ProxyConn};
use crate::relay::Readiness;
use crate::sys;

/// Bytes read in one turn, so that a fast peer lets others go first.
const TURN: usize = 1024 * 1024;
/// What a read counts for at least.
const READ: usize = 32 * 1024;

pub(super) struct HttpSession {
    conn: ProxyConn,
    client: End,
    upstream: Way,
    info: Box<ClientInfo>,
    router: Arc<dyn Router>,
    settings: Arc<ListenerSettings>,
    token: Token,
    /// Where the present request goes.
    target: Option<Arc<Upstream>>,
    reused: bool,
    /// Whether the client has half-closed or failed since the last turn.
    hung_up: bool,
    pipes: BodyPipes,
    fate: Fate,
}

/// The way to the upstream.
enum Way {
    None,
    Connecting(Box<Connect>),
    Open(Box<End>),
}

/// What becomes of the session when [`ProxyConn`] is done with it.
enum Fate {
    Serving,
    Tunnel(HijackKind, Box<ExchangeSummary>),
    Closed { reset: bool },
}

impl HttpSession {
    pub(super) fn new(
        client: End,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        router: Arc<dyn Router>,
        token: Token,
        core: &Core,
    ) -> Self {
        let address = match info.peer {
            PeerAddr::Ip(address) => Some(address.ip()),
            PeerAddr::Unix { .. } | PeerAddr::Unknown => None,
        };
        let facts = Client { address, tls: info.tls };
        let mut conn = ProxyConn::new(Arc::clone(&settings.conn), facts, core.now);
        if core.draining.is_some() {
            conn.drain(core.now);
        }
        Self {
            conn,
            client,
            upstream: Way::None,
            info,
            router,
            settings,
            token,
            target: None,
            reused: false,
            hung_up: false,
            pipes: BodyPipes::default(),
            fate: Fate::Serving,
        }
    }

    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        match (side, &mut self.upstream) {
            (Side::Downstream, _) => {
                self.hung_up |= ready.hup;
                self.client.note(ready);
            }
            (Side::Upstream, Way::Connecting(connect)) => connect.note(ready),
            (Side::Upstream, Way::Open(end)) => end.note(ready),
            (Side::Upstream, Way::None) => {}
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let connect = match &self.upstream {
            Way::Connecting(connect) => Some(connect.deadline()),
            Way::None | Way::Open(_) => None,
        };
        [self.conn.poll_timeout(), connect].into_iter().flatten().min()
    }

    pub(super) fn drain(&mut self, now: Instant) {
        self.conn.drain(now);
    }

    pub(super) fn resolved(&mut self, resolved: Resolved) {
        if let Way::Connecting(connect) = &mut self.upstream {
            connect.resolved(resolved);
        }
    }

    pub(super) fn advance(&mut self, core: &mut Core) -> Next {
        self.conn.handle_timeout(core.now);
        if let Way::Connecting(connect) = &mut self.upstream {
            let progress = connect.advance(core);
            self.connected(progress, core);
        }
        let mut budget = TURN;
        loop {
            self.take_events(core);
            if !matches!(self.fate, Fate::Serving) {
                return self.fated(core);
            }
            let mut moved = self.write(Side::Downstream, core);
            moved |= self.write(Side::Upstream, core);
            for from in [Side::Upstream, Side::Downstream] {
                if self.may_read(from) {
                    if budget == 0 {
                        return Next::Again;
                    }
                    budget = budget.saturating_sub(self.read(from, core).max(READ));
                    moved = true;
                }
            }
            if !moved && !self.has_lost_client(core) {
                return Next::Wait;
            }
        }
    }

    /// Returns whether the client was found to have vanished. While nothing of it is read that is found by asking: a daemon
    /// that takes no more of a body, or is silent, would keep the connection for ever. On a Unix socket a client that has
    /// closed differs from one that has ended its side. What it has asked for is asked all the same.
    fn has_lost_client(&mut self, core: &Core) -> bool {
        if !self.hung_up || self.listens_to(Side::Downstream) || self.conn.has_request_to_send() {
            return false;
        }
        self.hung_up = false;
        let is_lost = sys::has_failed(self.client.as_fd(), true);
        if is_lost {
            let cause = causes::of_vanished(self.client.as_fd());
            self.conn.feed_error(Side::Downstream, cause, core.now);
        }
        is_lost
    }

    /// The tunnel that it becomes, or what is left to do for a connection that is over.
    pub(super) fn succeed(self, core: &mut Core) -> Kind {
        let Self { conn, client, upstream, info, settings, target, fate, .. } = self;
        match (fate, upstream, target) {
            (Fate::Tunnel(kind, summary), Way::Open(upstream), Some(target)) => {
                let parts = conn.into_tunnel();
                let early = Early { downstream: &parts.to_upstream, upstream: &parts.to_downstream };
                let (method, path) = summary
                    .request
                    .as_ref()
                    .map_or((&b""[..], &b""[..]), |head| (head.method(), head.target().as_bytes()));
                let origin = Origin::new(info, target, Some(kind), method, path, core);
                let idle = settings.limits().tunnel_idle;
                Kind::Tunnel(Box::new(TunnelSession::new(client, *upstream, &early, idle, origin, core)))
            }
            (_, _, _) => {
                let deadline = core.now + settings.limits().closing_time;
                Kind::Closing(Box::new(ClosingSession::new(client, deadline)))
            }
        }
    }

    pub(super) fn end(mut self, core: &mut Core) {
        if matches!(self.fate, Fate::Serving) {
            self.conn.abandon(ExchangeEnd::Stopped, core.now);
            self.take_events(core);
        }
        self.drop_upstream(core);
        if matches!(self.fate, Fate::Closed { reset: true }) {
            // On a Unix socket there is nothing to arrange.
            let _ = sys::set_reset_on_close(self.client.as_fd());
        }
        drop(core.unlink(self.client));
    }

    fn fated(&mut self, core: &mut Core) -> Next {
        match self.fate {
            Fate::Tunnel(..) => Next::Become,
            // A TLS stream says that it ends, and may keep bytes that have not left yet.
            Fate::Closed { reset: false } if !self.client.stream.is_plain() => {
                self.drop_upstream(core);
                Next::Become
            }
            Fate::Closed { .. } | Fate::Serving => Next::End,
        }
    }

    fn take_events(&mut self, core: &mut Core) {
        let mut last = None;
        while let Some(event) = self.conn.poll_event() {
            match event {
                ConnEvent::NeedUpstream { may_reuse, again } => self.find_upstream(may_reuse, again, core),
                ConnEvent::ReleaseUpstream(reuse) => self.release_upstream(reuse, core),
                ConnEvent::ExchangeEnded(summary) => {
                    self.record(&summary, core);
                    if summary.tunnel.is_none() {
                        // The next request may be refused before it has one.
                        self.target = None;
                        self.reused = false;
                    }
                    last = Some(summary);
                }
                ConnEvent::Tunnel(kind) => {
                    if let Some(summary) = last.take() {
                        self.fate = Fate::Tunnel(kind, summary);
                    }
                }
                ConnEvent::Closed { reset } => self.fate = Fate::Closed { reset },
            }
        }
    }

    fn record(&mut self, summary: &ExchangeSummary, core: &Core) {
        let counters = &core.handle.shared.counters;
        count(&counters.requests, summary.request.is_some().into());
        count(&counters.own_replies, summary.own_reply.into());
        core.observer.exchange(&Exchange {
            client: &self.info,
            method: summary.request.as_ref().map_or(b"", |head| head.method()),
            target: summary.request.as_ref().map_or(b"", |head| head.target().as_bytes()),
            status: summary.status,
            upstream: self.target.as_deref(),
            reused: self.reused,
            tunnel: summary.tunnel,
            end: summary.end,
            bytes_up: summary.bytes_up,
            bytes_down: summary.bytes_down,
            duration: summary.duration,
            time_to_head: summary.time_to_head,
        });
    }

    fn find_upstream(&mut self, may_reuse: bool, again: bool, core: &mut Core) {
        if !again {
            let Some(request) = self.conn.request() else { return };
            match self.router.route(&self.info, request) {
                Route::Upstream(upstream) => self.target = Some(upstream),
                Route::Reply(reply) => return self.conn.reply(&reply, core.now),
            }
        }
        let Some(target) = self.target.clone() else { return };
        if may_reuse && let Some(end) = core.pool.take(&target) {
            core.handle.shared.counters.pooled(core.pool.len());
            count(&core.handle.shared.counters.reuses, 1);
            return self.open(end, true, core);
        }
        let mut connect = Connect::new(target, self.token, self.settings.limits(), self.client.hops, core);
        let progress = connect.advance(core);
        self.upstream = Way::Connecting(Box::new(connect));
        self.connected(progress, core);
    }

    fn connected(&mut self, progress: Progress, core: &mut Core) {
        match progress {
            Progress::Pending => {}
            Progress::Done(end) => self.open(end, false, core),
            Progress::Failed(cause) => {
                self.upstream = Way::None;
                self.conn.upstream_failed(cause, core.now);
            }
        }
    }

    fn open(&mut self, end: End, reused: bool, core: &mut Core) {
        core.give(&end, Owner::session(self.token, Side::Upstream));
        self.upstream = Way::Open(Box::new(end));
        self.reused = reused;
        let host = self.target.as_ref().and_then(|target| target.host.clone());
        self.conn.upstream_ready(host.as_deref(), reused, core.now);
    }

    fn release_upstream(&mut self, reuse: Reuse, core: &mut Core) {
        self.pipes.forget();
        let Way::Open(mut end) = std::mem::replace(&mut self.upstream, Way::None) else { return };
        let limits = self.settings.limits();
        // What can be read is an end, or nobody's answer; and of what is there already no event will tell.
        let idle = !end.ready.hup
            && end.stream.is_flushed()
            && (!end.ready.read || matches!(end.read(&mut [0]), Ok(None)));
        // Of an upstream that was made for this request alone nobody can ask for a connection again.
        let is_known = |target| Arc::strong_count(target) > 1;
        let may_keep = reuse == Reuse::Keep && idle && core.draining.is_none() && limits.pool_size > 0;
        match &self.target {
            Some(target) if may_keep && is_known(target) => {
                core.give(&end, Owner::POOL);
                let surplus = core.pool.keep(target, *end, limits.pool_size, core.now, limits.pool_time);
                if let Some(end) = surplus {
                    drop(core.unlink(end));
                }
                core.handle.shared.counters.pooled(core.pool.len());
            }
            _ => drop(core.unlink(*end)),
        }
    }

    fn drop_upstream(&mut self, core: &mut Core) {
        self.pipes.forget();
        match std::mem::replace(&mut self.upstream, Way::None) {
            Way::None => {}
            Way::Connecting(connect) => connect.cancel(core),
            Way::Open(end) => drop(core.unlink(*end)),
        }
    }

    /// Sends what there is for a side; says whether anything moved.
    fn write(&mut self, side: Side, core: &mut Core) -> bool {
        let Some(end) = end_of(&mut self.client, &mut self.upstream, side) else { return false };
        if !end.ready.write {
            return false;
        }
        let result = match end.flush(core) {
            Ok(true) if self.pipes.holds(side) => self.pipes.deliver(side, end, core).map(|n| {
                self.conn.passed(side.other(), n as u64, core.now);
                n > 0
            }),
            Ok(true) => {
                let wants = self.conn.wants(side);
                if wants.write {
                    end.write(self.conn.output(side), core).map(|n| {
                        self.conn.output_sent(side, n, core.now);
                        n > 0
                    })
                } else if wants.shut_write {
                    end.shut_write(core).inspect(|done| {
                        if *done {
                            self.conn.shut_done(side, core.now);
                        }
                    })
                } else {
                    Ok(false)
                }
            }
            Ok(false) => Ok(false),
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| {
            self.write_failed(side, &error, core);
            true
        })
    }

    fn write_failed(&mut self, side: Side, error: &io::Error, core: &mut Core) {
        self.pipes.forget_to(side);
        if side == Side::Upstream && !sys::is_hang_up(error) {
            // It would wait for the rest of its request.
            return self.read_failed(side, error, core);
        }
        if side == Side::Downstream {
            core.report(&Event::Reset { side, error });
        }
        // What is on its way to the other side, be it an answer that came early, goes on.
        self.conn.output_refused(side, causes::of_connection(error), core.now);
    }

    fn listens_to(&mut self, from: Side) -> bool {
        !self.pipes.holds(from.other()) && self.conn.wants(from).read
    }

    fn may_read(&mut self, from: Side) -> bool {
        self.listens_to(from)
            && end_of(&mut self.client, &mut self.upstream, from).is_some_and(|end| end.ready.read)
    }

    /// Reads once; says how many bytes.
    fn read(&mut self, from: Side, core: &mut Core) -> usize {
        let past = self.conn.passthrough(from);
        let target_is_plain = end_of(&mut self.client, &mut self.upstream, from.other())
            .is_some_and(|end| end.stream.is_plain());
        let Some(end) = end_of(&mut self.client, &mut self.upstream, from) else { return 0 };
        if self.pipes.is_long(from, past) && target_is_plain && end.stream.is_plain() {
            match self.pipes.fill(from, past, end, core) {
                Some(Ok(0)) => self.ended(from, core),
                // Not passed before they are delivered: until then the body is not over.
                Some(Ok(n)) => {
                    self.conn.offered(from, n as u64, core.now);
                    return n;
                }
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Some(Err(error)) => self.read_failed(from, &error, core),
                // There is no pipe to be had.
                None => return self.copy(from, core),
            }
            return 0;
        }
        self.copy(from, core)
    }

    /// Reads once into the machine; says how many bytes.
    fn copy(&mut self, from: Side, core: &mut Core) -> usize {
        let Some(end) = end_of(&mut self.client, &mut self.upstream, from) else { return 0 };
        let scratch = core.worker.scratch();
        match end.read(scratch) {
            Ok(None) => self.pipes.dry(from),
            Ok(Some(0)) => self.ended(from, core),
            Ok(Some(n)) => {
                self.pipes.read(from, n == scratch.len());
                self.conn.feed(from, &scratch[..n], core.now);
                return n;
            }
            Err(error) => self.read_failed(from, &error, core),
        }
        0
    }

    fn ended(&mut self, from: Side, core: &Core) {
        let Some(end) = end_of(&mut self.client, &mut self.upstream, from) else { return };
        // A request tells by itself where it ends, so a client may leave its close_notify out, as many do: dockerd answers
        // them, too. An answer may last until its connection ends, and without a close_notify it was cut.
        // It stays readable: no event would tell a tunnel of this end again.
        if from == Side::Downstream || end.stream.end_was_clean() {
            self.conn.feed_eof(from, core.now);
        } else {
            self.conn.feed_error(from, Cause::TlsTruncated, core.now);
        }
    }

    fn read_failed(&mut self, from: Side, error: &io::Error, core: &Core) {
        core.report(&Event::Reset { side: from, error });
        self.conn.feed_error(from, causes::of_connection(error), core.now);
    }
}

fn end_of<'a>(client: &'a mut End, upstream: &'a mut Way, side: Side) -> Option<&'a mut End> {
    match (side, upstream) {
        (Side::Downstream, _) => Some(client),
        (Side::Upstream, Way::Open(end)) => Some(end),
        (Side::Upstream, Way::None | Way::Connecting(_)) => None,
    }
}
