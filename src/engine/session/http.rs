#![forbid(unsafe_code)]
//! [`HttpSession`]: performs what a [`ProxyConn`] wants on two connections.

mod transfer;

use std::mem;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transfer::Lanes;

use super::closing::ClosingSession;
use super::tunnel::{Early, Origin, TunnelSession, next_tunnel_id};
use super::{Kind, Next, proxy_header};
use crate::drive::Transport;
use crate::engine::causes;
use crate::engine::connect::{Connect, Progress};
use crate::engine::decider::{Decided, Decision, Deferral};
use crate::engine::endpoint::Endpoint;
use crate::engine::handle::Kill;
use crate::engine::in_flight::Flight;
use crate::engine::observe::{ClientInfo, Exchange, PeerAddr};
use crate::engine::pool::ShelfKey;
use crate::engine::resolve::Resolved;
use crate::engine::route::{Asking, Destination, Route, RouteRequest, Router};
use crate::engine::service::{ListenerSettings, Upstream};
use crate::engine::shared::{Owner, Shared};
use crate::engine::slab::Token;
use crate::error::{Cause, Failure, Side};
use crate::proxy::conn::{Client, ConnEvent, ExchangeSummary, Reuse};
use crate::proxy::hijack::HijackKind;
use crate::proxy::{ExchangeEnd, ProxyConn, Reply};
use crate::relay::Readiness;
use crate::sys;

/// Bytes read in one turn, so that a fast peer lets others have theirs.
const BUDGET: usize = 1024 * 1024;
/// How long a request waits for a decision at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// What a read costs of the budget at least.
const READ_CHARGE: usize = 32 * 1024;

/// A client that speaks HTTP, with the upstream connection of its present exchange.
pub(in crate::engine) struct HttpSession {
    conn: ProxyConn,
    client: Endpoint,
    upstream: UpstreamLink,
    info: Box<ClientInfo>,
    router: Arc<dyn Router>,
    settings: Arc<ListenerSettings>,
    token: Token,
    /// Where the present request goes.
    target: Option<Target>,
    /// What could not be reached, of a request that gets a reply instead.
    unreached: Option<Box<Unreached>>,
    /// Whether that may be on an idle connection.
    may_reuse: bool,
    /// Whether it is.
    reused: bool,
    /// Whether the client has half-closed or failed since the last turn.
    hung_up: bool,
    lanes: Lanes,
}

/// The upstream connection of an HTTP session.
enum UpstreamLink {
    None,
    /// Where it leads is decided later.
    Undecided(Box<Undecided>),
    Connecting(Box<Connect>),
    Open(Box<Endpoint>),
    /// A connection that named the client when it was made, and is kept for its next request.
    Idle(Box<Endpoint>, Arc<Upstream>, Instant),
}

/// A request that waits for a decision.
struct Undecided {
    /// `None`: nobody has asked for a decider.
    deferral: Option<Deferral>,
    asked: Asked,
    until: Instant,
    otherwise: Reply,
    decision: Option<Decision>,
}

/// How the router was asked about a request.
struct Asked {
    /// When it was first asked.
    since: Instant,
    /// How often it was asked again because nothing could be reached.
    again: u8,
    /// What could not be reached the last time.
    unreached: Option<Box<Unreached>>,
}

/// An upstream that could not be reached, and why.
struct Unreached {
    upstream: Arc<Upstream>,
    route: Option<Arc<str>>,
    cause: Cause,
}

/// Where a request goes.
struct Target {
    flight: Flight,
    /// The upstreams that are left to be tried, the last one first.
    others: Vec<Arc<Upstream>>,
    route: Option<Arc<str>>,
    /// Whether the router is asked again if none of them can be reached.
    ask_again: Option<Asked>,
}

impl Target {
    fn new(upstream: Arc<Upstream>) -> Self {
        Self { flight: Flight::request(upstream), others: Vec::new(), route: None, ask_again: None }
    }

    fn upstream(&self) -> &Arc<Upstream> {
        self.flight.upstream()
    }

    /// Goes on to the next upstream. Returns whether there was one.
    fn advance(&mut self) -> bool {
        let Some(next) = self.others.pop() else { return false };
        self.flight = Flight::request(next);
        true
    }
}

/// What became of the session when [`ProxyConn`] is done with it.
enum Outcome {
    Switched(Box<Switch>),
    Closed { reset: bool },
}

/// What becomes of the session after a turn.
enum Turn {
    Wait,
    Again,
    Done(Outcome),
}

/// The upstream's side of a tunnel to be.
struct Switch {
    kind: HijackKind,
    id: u64,
    upstream: Endpoint,
    target: Target,
    summary: Box<ExchangeSummary>,
}

impl HttpSession {
    pub(super) fn new(
        client: Endpoint,
        info: Box<ClientInfo>,
        settings: Arc<ListenerSettings>,
        router: Arc<dyn Router>,
        token: Token,
        shared: &Shared,
    ) -> Self {
        let address = match info.peer {
            PeerAddr::Ip(address) => Some(address.ip()),
            PeerAddr::Unix { .. } | PeerAddr::Unknown => None,
        };
        let facts = Client { address, tls: info.tls };
        let conn = ProxyConn::new(Arc::clone(&settings.conn), facts, shared.now);
        let mut session = Self {
            conn,
            client,
            upstream: UpstreamLink::None,
            info,
            router,
            settings,
            token,
            target: None,
            unreached: None,
            may_reuse: false,
            reused: false,
            hung_up: false,
            lanes: Lanes::new(),
        };
        session.drain(shared);
        session
    }

    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        match (side, &mut self.upstream) {
            (Side::Downstream, _) => {
                self.hung_up |= ready.hup;
                self.client.note(ready);
            }
            (Side::Upstream, UpstreamLink::Connecting(connect)) => connect.note(ready),
            (Side::Upstream, UpstreamLink::Open(endpoint) | UpstreamLink::Idle(endpoint, ..)) => {
                endpoint.note(ready);
            }
            (Side::Upstream, UpstreamLink::None | UpstreamLink::Undecided(_)) => {}
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let upstream = match &self.upstream {
            UpstreamLink::Undecided(undecided) => Some(undecided.until),
            UpstreamLink::Connecting(connect) => Some(connect.deadline()),
            UpstreamLink::Idle(.., until) => Some(*until),
            UpstreamLink::None | UpstreamLink::Open(_) => None,
        };
        [self.conn.poll_timeout(), upstream].into_iter().flatten().min()
    }

    pub(super) fn drain(&mut self, shared: &Shared) {
        if shared.drain.is_draining() {
            self.conn.drain(shared.now);
        }
    }

    pub(super) fn resolved(&mut self, resolved: Resolved) {
        if let UpstreamLink::Connecting(connect) = &mut self.upstream {
            connect.resolved(resolved);
        }
    }

    /// Ends the request in flight, if it is one of those. Returns whether it is.
    pub(super) fn kill(&mut self, kill: &Kill, shared: &mut Shared) -> bool {
        let target = self.target.as_ref();
        let (upstream, route) = (target.map(Target::upstream), target.and_then(|to| to.route.as_deref()));
        let is_meant = self.conn.request().is_some() && kill.means(&self.info, upstream, route);
        if is_meant {
            self.conn.kill(shared.now);
            if !matches!(self.upstream, UpstreamLink::Open(_)) {
                self.drop_upstream(shared);
            }
        }
        is_meant
    }

    pub(super) fn decided(&mut self, decided: Decided) {
        if let UpstreamLink::Undecided(undecided) = &mut self.upstream
            && undecided.deferral.as_ref().is_some_and(|deferral| deferral.is_of(&decided))
        {
            undecided.decision.get_or_insert(decided.decision);
        }
    }

    pub(super) fn advance(mut self: Box<Self>, shared: &mut Shared) -> Next {
        match catch_unwind(AssertUnwindSafe(|| self.perform(shared))) {
            Ok(Turn::Wait) => Next::Wait(Kind::Http(self)),
            Ok(Turn::Again) => Next::Again(Kind::Http(self)),
            Ok(Turn::Done(Outcome::Switched(switch))) => self.switch(*switch, shared).advance(shared),
            Ok(Turn::Done(Outcome::Closed { reset: false })) if !self.client.stream.is_plain() => {
                self.close_tls(shared).advance(shared)
            }
            Ok(Turn::Done(Outcome::Closed { reset })) => {
                self.close(reset, shared);
                Next::End
            }
            Err(_) => {
                let failure = Failure::new(Side::Downstream, self.conn.phase(), Cause::Panicked);
                self.abandon(ExchangeEnd::Failed(failure), shared);
                Next::Panicked
            }
        }
    }

    /// Performs what the machine wants, until it has to wait or the budget is spent.
    fn perform(&mut self, shared: &mut Shared) -> Turn {
        self.conn.handle_timeout(shared.now);
        match &mut self.upstream {
            UpstreamLink::Connecting(connect) => {
                let progress = connect.advance(shared);
                self.connected(progress, shared);
            }
            UpstreamLink::Undecided(undecided) => {
                if !self.conn.needs_upstream() {
                    self.upstream = UpstreamLink::None;
                } else if undecided.decision.is_some() || undecided.until <= shared.now {
                    self.decide(shared);
                }
            }
            UpstreamLink::None | UpstreamLink::Open(_) | UpstreamLink::Idle(..) => {}
        }
        self.check_idle(shared);
        let mut budget = BUDGET;
        loop {
            if let Some(outcome) = self.take_events(shared) {
                return Turn::Done(outcome);
            }
            let mut moved = self.write(Side::Downstream, shared);
            moved |= self.write(Side::Upstream, shared);
            for from in [Side::Upstream, Side::Downstream] {
                if self.may_read(from) {
                    if budget == 0 {
                        return Turn::Again;
                    }
                    budget = budget.saturating_sub(self.read(from, shared).max(READ_CHARGE));
                    moved = true;
                }
            }
            if !moved && !self.has_lost_client(shared) {
                return Turn::Wait;
            }
        }
    }

    /// Returns whether the client was found to have vanished. While its bytes are not read, that is
    /// found only by asking: a daemon that takes no more of a body, or is silent, would keep the
    /// connection for ever. On a Unix socket a client that has closed differs from one that has
    /// half-closed. What it has requested is sent all the same.
    fn has_lost_client(&mut self, shared: &Shared) -> bool {
        if !self.hung_up || self.listens_to(Side::Downstream) || self.conn.has_request_to_send() {
            return false;
        }
        self.hung_up = false;
        let is_lost = sys::has_failed(self.client.as_fd(), true);
        if is_lost {
            let cause = causes::of_vanished(self.client.as_fd());
            self.conn.feed_error(Side::Downstream, cause, shared.now);
        }
        is_lost
    }

    /// Returns the tunnel that the session becomes.
    fn switch(self, switch: Switch, shared: &mut Shared) -> Box<TunnelSession> {
        let Self { conn, client, info, settings, .. } = self;
        let Switch { kind, id, upstream, target, summary } = switch;
        let parts = conn.into_tunnel();
        let early = Early { downstream: &parts.to_upstream, upstream: &parts.to_downstream };
        let Target { flight, route, .. } = target;
        let origin = Origin::new(id, info, flight.into_tunnel());
        let origin = origin.opened_by(kind, route, summary.request.as_ref(), shared);
        let idle = settings.limits().tunnel_idle;
        Box::new(TunnelSession::new(client, upstream, &early, idle, origin, shared))
    }

    /// Returns what is left of the session once a TLS stream is to end: it has its own end to send,
    /// and may have kept bytes.
    fn close_tls(mut self, shared: &mut Shared) -> Box<ClosingSession> {
        self.drop_upstream(shared);
        let deadline = shared.now + self.settings.limits().closing_time;
        Box::new(ClosingSession::new(self.client, deadline))
    }

    fn close(mut self, reset: bool, shared: &mut Shared) {
        self.drop_upstream(shared);
        if reset {
            // On a Unix socket there is nothing to arrange.
            let _ = sys::set_reset_on_close(self.client.as_fd());
        }
        shared.close(self.client);
    }

    /// Ends the session early.
    pub(super) fn end(self, shared: &mut Shared) {
        self.abandon(ExchangeEnd::Stopped, shared);
    }

    fn abandon(mut self, end: ExchangeEnd, shared: &mut Shared) {
        self.conn.abandon(end, shared.now);
        let reset = match self.take_events(shared) {
            // As a tunnel that is ended from outside.
            Some(Outcome::Switched(switch)) => {
                shared.close(switch.upstream);
                true
            }
            Some(Outcome::Closed { reset }) => reset,
            None => false,
        };
        self.close(reset, shared);
    }

    /// Acts on the events of the machine. Returns what becomes of the session if one of them is its
    /// last.
    fn take_events(&mut self, shared: &mut Shared) -> Option<Outcome> {
        let mut outcome = None;
        let mut last = None;
        while let Some(event) = self.conn.poll_event() {
            match event {
                ConnEvent::NeedUpstream { may_reuse, again } => self.find_upstream(may_reuse, again, shared),
                ConnEvent::ReleaseUpstream(reuse) => self.release_upstream(reuse, shared),
                ConnEvent::ExchangeEnded(summary) => {
                    let tunnel = summary.tunnel.map(|_| next_tunnel_id());
                    self.record(&summary, tunnel, shared);
                    if tunnel.is_none() {
                        // One that was released is gone or idle; one that is still connected to is
                        // of no use to another request.
                        if !matches!(self.upstream, UpstreamLink::Idle(..)) {
                            self.drop_upstream(shared);
                        }
                        // The next request may be refused before it has a target.
                        self.target = None;
                        self.unreached = None;
                        self.reused = false;
                        self.info.forwarded_for = None;
                    }
                    last = tunnel.zip(Some(summary));
                }
                ConnEvent::Tunnel(kind) => outcome = Some(self.switched(kind, last.take())),
                ConnEvent::Closed { reset } => outcome = Some(Outcome::Closed { reset }),
            }
        }
        outcome
    }

    fn switched(&mut self, kind: HijackKind, exchange: Option<(u64, Box<ExchangeSummary>)>) -> Outcome {
        match (mem::replace(&mut self.upstream, UpstreamLink::None), self.target.take(), exchange) {
            (UpstreamLink::Open(upstream), Some(target), Some((id, summary))) => {
                Outcome::Switched(Box::new(Switch { kind, id, upstream: *upstream, target, summary }))
            }
            // A daemon that has switched has a connection. Without one the client must not see a
            // clean end.
            (link, _, _) => {
                self.upstream = link;
                Outcome::Closed { reset: true }
            }
        }
    }

    fn record(&mut self, summary: &ExchangeSummary, tunnel_id: Option<u64>, shared: &Shared) {
        let counters = shared.counters();
        counters.requests.add(summary.request.is_some().into());
        counters.own_replies.add(summary.own_reply.into());
        let (upstream, route) = match (&self.target, &self.unreached) {
            (Some(target), _) => (Some(target.upstream()), Some(&target.route)),
            (None, Some(unreached)) => (Some(&unreached.upstream), Some(&unreached.route)),
            (None, None) => (None, None),
        };
        shared.observer.exchange(&Exchange {
            client: &self.info,
            method: summary.request.as_ref().map_or(b"", |head| head.method()),
            target: summary.request.as_ref().map_or(b"", |head| head.target().as_bytes()),
            status: summary.status,
            upstream: upstream.map(|upstream| &**upstream),
            reused: self.reused,
            route: route.and_then(|route| route.as_deref()),
            tunnel: summary.tunnel,
            tunnel_id,
            end: summary.end,
            bytes_up: summary.bytes_up,
            bytes_down: summary.bytes_down,
            duration: summary.duration,
            time_to_head: summary.time_to_head,
        });
    }

    fn find_upstream(&mut self, may_reuse: bool, again: bool, shared: &mut Shared) {
        self.may_reuse = may_reuse;
        if again {
            self.connect(shared);
        } else {
            self.route(Asked { since: shared.now, again: 0, unreached: None }, None, shared);
        }
    }

    /// Asks the router, which may have been asked before.
    fn route(&mut self, asked: Asked, unreachable: Option<&Arc<Upstream>>, shared: &mut Shared) {
        self.info.forwarded_for = self.conn.forwarded_for();
        let Some(head) = self.conn.request() else { return };
        let (handle, session) = (&shared.handle, self.token);
        let asking = Asking { handle, session, since: asked.since, now: shared.now, unreachable };
        let request = RouteRequest::of_session(&self.info, head, asking);
        match self.router.route(&request) {
            // Most requests go this way, and pay for no other.
            Route::Upstream(upstream) => {
                self.target = Some(Target::new(upstream));
                self.connect(shared);
            }
            route => {
                let deferral = request.into_deferral();
                self.follow(route, deferral, asked, shared);
            }
        }
    }

    /// Does what was decided about a request.
    fn follow(&mut self, route: Route, deferral: Option<Deferral>, asked: Asked, shared: &mut Shared) {
        match route {
            Route::Upstream(upstream) => self.target = Some(Target::new(upstream)),
            Route::To(Destination { upstream, mut others, route, rewrite, ask_again }) => {
                if let Some(rewrite) = rewrite {
                    self.conn.rewrite(rewrite);
                }
                others.truncate(Destination::OTHERS);
                others.reverse();
                let ask_again =
                    Some(asked).filter(|asked| ask_again && asked.again < Destination::ASKED_AGAIN);
                self.target = Some(Target { others, route, ask_again, ..Target::new(upstream) });
            }
            Route::Reply(reply) => return self.reply(&reply, asked, shared),
            Route::Later { time, otherwise } => {
                let until = shared.now + time.min(LONGEST_WAIT);
                self.drop_upstream(shared);
                let undecided = Undecided { deferral, asked, until, otherwise, decision: None };
                self.upstream = UpstreamLink::Undecided(Box::new(undecided));
                return;
            }
        }
        self.connect(shared);
    }

    /// Ends the wait for a decision, which has come or comes too late.
    fn decide(&mut self, shared: &mut Shared) {
        let UpstreamLink::Undecided(undecided) = mem::replace(&mut self.upstream, UpstreamLink::None) else {
            return;
        };
        let Undecided { asked, otherwise, decision, .. } = *undecided;
        match decision {
            Some(Decision::Route(route)) => self.follow(route, None, asked, shared),
            Some(Decision::Again) => self.route(asked, None, shared),
            None => self.reply(&otherwise, asked, shared),
        }
    }

    /// Responds in place of an upstream. If one could not be reached before, that is the reason.
    fn reply(&mut self, reply: &Reply, asked: Asked, shared: &Shared) {
        match asked.unreached {
            Some(unreached) => {
                self.conn.reply_to_failure(reply, unreached.cause, shared.now);
                self.unreached = Some(unreached);
            }
            None => self.conn.reply(reply, shared.now),
        }
    }

    /// Gets a connection to the present target: an idle one, or a new one.
    fn connect(&mut self, shared: &mut Shared) {
        let Some(upstream) = self.target.as_ref().map(Target::upstream) else { return };
        match mem::replace(&mut self.upstream, UpstreamLink::None) {
            UpstreamLink::Idle(endpoint, idle, _) if self.may_reuse && Arc::ptr_eq(&idle, upstream) => {
                shared.counters().reuses.add(1);
                return self.open(*endpoint, true, shared);
            }
            UpstreamLink::Idle(endpoint, ..) => shared.close(*endpoint),
            other => self.upstream = other,
        }
        if self.may_reuse
            && let Some(endpoint) = shared.pool.take(upstream)
        {
            shared.count_idle();
            shared.counters().reuses.add(1);
            return self.open(endpoint, true, shared);
        }
        let (upstream, limits) = (Arc::clone(upstream), self.settings.limits());
        let header = proxy_header(&upstream, &self.info, &self.client);
        let connect = Connect::new(upstream, self.token, limits, self.client.hops, shared);
        let mut connect = connect.with_header(header);
        let progress = connect.advance(shared);
        self.upstream = UpstreamLink::Connecting(Box::new(connect));
        self.connected(progress, shared);
    }

    fn connected(&mut self, progress: Progress, shared: &mut Shared) {
        match progress {
            Progress::Pending => {}
            Progress::Done(endpoint) => self.open(endpoint, false, shared),
            Progress::Failed(cause) => {
                self.upstream = UpstreamLink::None;
                if self.conn.needs_upstream() && self.target.as_mut().is_some_and(Target::advance) {
                    self.connect(shared);
                } else if !self.ask_again(cause, shared) {
                    self.conn.upstream_failed(cause, shared.now);
                }
            }
        }
    }

    /// Asks the router again, whose destination cannot be reached, if it wants that. Returns
    /// whether it does.
    fn ask_again(&mut self, cause: Cause, shared: &mut Shared) -> bool {
        let Some(target) = self.target.as_mut().filter(|_| self.conn.needs_upstream()) else { return false };
        let Some(asked) = target.ask_again.take() else { return false };
        let (upstream, route) = (Arc::clone(target.upstream()), target.route.take());
        self.target = None;
        let unreached = Some(Box::new(Unreached { upstream: Arc::clone(&upstream), route, cause }));
        self.route(Asked { again: asked.again + 1, unreached, ..asked }, Some(&upstream), shared);
        true
    }

    fn open(&mut self, endpoint: Endpoint, reused: bool, shared: &mut Shared) {
        shared.give(&endpoint, Owner::session(self.token, Side::Upstream));
        self.upstream = UpstreamLink::Open(Box::new(endpoint));
        self.reused = reused;
        let host = self.target.as_ref().and_then(|target| target.upstream().host.clone());
        self.conn.upstream_ready(host.as_deref(), reused, shared.now);
    }

    fn release_upstream(&mut self, reuse: Reuse, shared: &mut Shared) {
        self.lanes = Lanes::new();
        let UpstreamLink::Open(mut endpoint) = mem::replace(&mut self.upstream, UpstreamLink::None) else {
            return;
        };
        let limits = self.settings.limits();
        // What can be read is an end, or a response without a request; no event would report it
        // again.
        let idle = endpoint.stream.is_flushed() && endpoint.is_silent();
        // No other request can go to an upstream that was made for this one.
        let is_known = |target| Arc::strong_count(target) > 1;
        let may_keep = reuse == Reuse::Keep && idle && !shared.drain.is_draining() && limits.pool_size > 0;
        match self.target.as_ref().map(Target::upstream) {
            // It names this client.
            Some(target) if may_keep && target.proxy_protocol.is_some() => {
                let until = shared.now + limits.pool_time;
                self.upstream = UpstreamLink::Idle(endpoint, Arc::clone(target), until);
            }
            Some(target) if may_keep && is_known(target) => {
                shared.give(&endpoint, Owner::Pool(ShelfKey::of(target)));
                let surplus =
                    shared.pool.keep(target, *endpoint, limits.pool_size, shared.now, limits.pool_time);
                if let Some(endpoint) = surplus {
                    shared.close(endpoint);
                }
                shared.count_idle();
            }
            _ => shared.close(*endpoint),
        }
    }

    /// Closes the idle connection if it is of no further use: it has ended, or was kept long
    /// enough.
    fn check_idle(&mut self, shared: &mut Shared) {
        if let UpstreamLink::Idle(endpoint, _, until) = &mut self.upstream
            && (*until <= shared.now || !endpoint.is_silent())
        {
            self.drop_upstream(shared);
        }
    }

    fn drop_upstream(&mut self, shared: &mut Shared) {
        self.lanes = Lanes::new();
        match mem::replace(&mut self.upstream, UpstreamLink::None) {
            UpstreamLink::None | UpstreamLink::Undecided(_) => {}
            UpstreamLink::Connecting(connect) => connect.cancel(shared),
            UpstreamLink::Open(endpoint) | UpstreamLink::Idle(endpoint, ..) => shared.close(*endpoint),
        }
    }
}
