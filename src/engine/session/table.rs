#![forbid(unsafe_code)]
//! [`Sessions`]: all sessions of an engine, and whose turn it is.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Kind, Next};
use crate::engine::decider::Decided;
use crate::engine::handle::Kill;
use crate::engine::observe::{Event, OpenTunnel};
use crate::engine::resolve::Resolved;
use crate::engine::shared::Shared;
use crate::engine::slab::{Slab, Token};
use crate::error::Side;
use crate::relay::Readiness;

/// Most tunnels in one list.
const LISTED: usize = 1000;

/// A time since the engine was made, in units of some 67 ms, so that the table of sessions is
/// small. Two deadlines in the same unit share a timer, and may be late by as much.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Coarse(NonZeroU32);

impl Coarse {
    fn new(since: Duration) -> Self {
        Self(NonZeroU32::MIN.saturating_add(u32::try_from(since.as_nanos() >> 26).unwrap_or(u32::MAX)))
    }
}

/// A session, and what the loop has to know of it.
struct Session {
    kind: Kind,
    /// Its timer, which may be too early by now.
    timer: Option<Coarse>,
    /// Whether it is in a queue.
    queued: bool,
}

impl Session {
    /// Sets the timer, unless the present one is early enough.
    fn schedule(&mut self, token: Token, shared: &mut Shared) {
        let Some(deadline) = self.kind.deadline() else { return };
        let coarse = Coarse::new(deadline.saturating_duration_since(shared.origin));
        if self.timer.is_none_or(|timer| coarse < timer) {
            self.timer = Some(coarse);
            shared.timers.schedule(token.index(), deadline);
        }
    }
}

/// Sessions that wait for a turn.
#[derive(Default)]
struct Queues {
    ordinary: VecDeque<Token>,
    /// Sessions in a TLS handshake, which is expensive.
    handshake: VecDeque<Token>,
}

impl Queues {
    /// Puts a session into the queue that it belongs to, once.
    fn push(&mut self, session: &mut Session, token: Token) {
        if !session.queued {
            session.queued = true;
            let queue = if session.kind.is_handshaking() { &mut self.handshake } else { &mut self.ordinary };
            queue.push_back(token.with_side(Side::Downstream));
        }
    }
}

/// All sessions of an engine.
pub(in crate::engine) struct Sessions {
    slab: Slab<Session>,
    queues: Queues,
}

impl Sessions {
    pub(in crate::engine) fn new() -> Self {
        Self { slab: Slab::new(), queues: Queues::default() }
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns whether any session waits for a turn.
    pub(in crate::engine) fn has_turns(&self) -> bool {
        !self.queues.ordinary.is_empty() || !self.queues.handshake.is_empty()
    }

    /// Begins a session for a client connection that is counted in `clients_now`. It gets a turn.
    pub(in crate::engine) fn begin(
        &mut self,
        shared: &mut Shared,
        open: impl FnOnce(Token, &mut Shared) -> io::Result<Kind>,
    ) {
        shared.counters().accepted.add(1);
        let token = self.slab.reserve();
        match open(token, shared) {
            Ok(kind) => {
                let mut session = Session { kind, timer: None, queued: false };
                self.queues.push(&mut session, token);
                self.slab.put(token, session);
            }
            Err(error) => {
                self.slab.release(token);
                shared.report(&Event::Reset { side: Side::Downstream, error: &error });
                shared.client_ended();
            }
        }
    }

    /// Notes an event of the poller for the session and side that the token names.
    pub(in crate::engine) fn note(&mut self, token: Token, ready: Readiness) {
        if let Some(session) = self.slab.get_mut(token) {
            session.kind.note(token.side(), ready);
            self.queues.push(session, token);
        }
    }

    /// Passes the result of a name look-up on to the session that asked.
    pub(in crate::engine) fn resolved(&mut self, resolved: Resolved) {
        let token = resolved.session;
        if let Some(session) = self.slab.get_mut(token) {
            session.kind.resolved(resolved);
            self.queues.push(session, token);
        }
    }

    /// Passes a decision on to the session that waits for it.
    pub(in crate::engine) fn decided(&mut self, decided: Decided) {
        let token = decided.session;
        if let Some(session) = self.slab.get_mut(token) {
            session.kind.decided(decided);
            self.queues.push(session, token);
        }
    }

    /// Notes that the timer of a session has expired.
    pub(in crate::engine) fn timer_expired(&mut self, number: u32) {
        if let Some((token, session)) = self.slab.at(number) {
            session.timer = None;
            self.queues.push(session, token);
        }
    }

    /// Begins to drain all sessions.
    pub(in crate::engine) fn drain(&mut self, shared: &Shared) {
        for (token, session) in self.slab.iter_mut() {
            session.kind.drain(shared);
            self.queues.push(session, token);
        }
    }

    /// Ends tunnels and requests. Returns how many.
    pub(in crate::engine) fn kill(&mut self, kill: &Kill, shared: &mut Shared) -> usize {
        let mut count = 0;
        for (token, session) in self.slab.iter_mut() {
            if session.kind.kill(kill, shared) {
                count += 1;
                self.queues.push(session, token);
            }
        }
        count
    }

    /// Gives all sessions a turn.
    pub(in crate::engine) fn enqueue_all(&mut self) {
        for (token, session) in self.slab.iter_mut() {
            self.queues.push(session, token);
        }
    }

    /// Gives each session in the queue one turn; then some of those in a handshake, so that a flood
    /// of handshakes leaves the others theirs.
    pub(in crate::engine) fn take_turns(&mut self, shared: &mut Shared) {
        for _ in 0..self.queues.ordinary.len() {
            let Some(token) = self.queues.ordinary.pop_front() else { break };
            self.turn(token, shared);
        }
        for _ in 0..shared.options.handshakes.min(self.queues.handshake.len()) {
            let Some(token) = self.queues.handshake.pop_front() else { break };
            self.turn(token, shared);
        }
    }

    /// Ends all sessions at once.
    pub(in crate::engine) fn end_all(&mut self, shared: &mut Shared) {
        let all: Vec<Token> = self.slab.iter_mut().map(|(token, _)| token).collect();
        for token in all {
            self.end(token, shared);
        }
    }

    /// Describes the open tunnels.
    pub(in crate::engine) fn open_tunnels(&mut self, shared: &Shared) -> Vec<OpenTunnel> {
        let tunnels = self.slab.iter_mut().filter_map(|(_, session)| match &session.kind {
            Kind::Tunnel(tunnel) => Some(tunnel.describe(shared.now)),
            _ => None,
        });
        tunnels.take(LISTED).collect()
    }

    fn turn(&mut self, token: Token, shared: &mut Shared) {
        let Some(Session { kind, timer, .. }) = self.slab.take(token) else { return };
        // A panic ends this session, and no other. Where one is likely the kinds catch it
        // themselves, and write their records.
        let next = catch_unwind(AssertUnwindSafe(|| kind.advance(shared))).unwrap_or_else(|_| Next::Panicked);
        match next {
            Next::Wait(kind) => {
                let mut session = Session { kind, timer, queued: false };
                session.schedule(token, shared);
                self.slab.put(token, session);
            }
            Next::Again(kind) => {
                let mut session = Session { kind, timer, queued: false };
                self.queues.push(&mut session, token);
                self.slab.put(token, session);
            }
            Next::End => self.ended(token, timer, shared),
            Next::Panicked => {
                shared.counters().panics.add(1);
                shared.report(&Event::Panicked);
                shared.unlink_session(token);
                self.ended(token, timer, shared);
            }
        }
    }

    /// Ends a session from outside.
    fn end(&mut self, token: Token, shared: &mut Shared) {
        let Some(Session { kind, timer, .. }) = self.slab.take(token) else { return };
        if catch_unwind(AssertUnwindSafe(|| kind.end(shared))).is_err() {
            shared.unlink_session(token);
        }
        self.ended(token, timer, shared);
    }

    /// Frees the place of a session that has ended.
    fn ended(&mut self, token: Token, timer: Option<Coarse>, shared: &mut Shared) {
        self.slab.release(token);
        if timer.is_some() {
            shared.timers.cancel(token.index());
        }
        shared.client_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::sync::Arc;

    use crate::engine::{
        Address, Engine, EngineOptions, Exchange, Handle, Listener, ListenerSettings, Observer, Pair,
        Service, Stats, Tunnel, Upstream,
    };

    /// Panics when it gets a record.
    struct Breaks;

    impl Observer for Breaks {
        fn exchange(&self, _: &Exchange<'_>) {
            panic!("on purpose");
        }

        fn tunnel(&self, _: &Tunnel<'_>) {
            panic!("on purpose");
        }
    }

    fn engine() -> (Engine, Handle) {
        let engine = Engine::new(EngineOptions::default(), Arc::new(Breaks)).unwrap();
        let handle = engine.handle();
        (engine, handle)
    }

    fn turn_until(engine: &mut Engine, is_so: impl Fn(&Stats) -> bool) {
        while !is_so(&engine.handle().stats()) {
            engine.poll(None).unwrap();
        }
    }

    #[test]
    fn a_tunnel_whose_end_panics_leaves_nothing_behind() {
        let (mut engine, handle) = engine();
        let (client, downstream) = UnixStream::pair().unwrap();
        let (daemon, upstream) = UnixStream::pair().unwrap();
        handle.adopt(Pair {
            downstream: downstream.into(),
            upstream: upstream.into(),
            downstream_early: Vec::new(),
            upstream_early: Vec::new(),
            name: "daemon".into(),
        });
        turn_until(&mut engine, |stats| stats.tunnels_now == 1);
        assert_eq!(engine.links(), 2);
        drop((client, daemon));
        turn_until(&mut engine, |stats| stats.clients_now == 0);
        let stats = Stats { accepted: 1, tunnels: 1, panics: 1, ..Stats::default() };
        assert_eq!((handle.stats(), engine.links()), (stats, 0));
    }

    #[test]
    fn an_http_session_that_panics_leaves_nothing_behind() {
        let (mut engine, handle) = engine();
        let name = |role: &str| format!("dockline-panic-{role}-{}", std::process::id());
        let listen = |role: &str| {
            let address = SocketAddr::from_abstract_name(name(role)).unwrap();
            (UnixListener::bind_addr(&address).unwrap(), address)
        };
        let ((listener, address), (_daemon, _)) = (listen("gateway"), listen("daemon"));
        let at = Address::Unix(format!("@{}", name("daemon")).into());
        let upstream = Arc::new(Upstream::new("daemon", vec![at]));
        let settings = ListenerSettings::new("main", Service::to(upstream));
        handle.listen(Listener::new(listener.into(), settings));

        // In its turn: the session is still there to be ended.
        let mut client = UnixStream::connect_addr(&address).unwrap();
        client.write_all(b"rubbish\r\n\r\n").unwrap();
        turn_until(&mut engine, |stats| (stats.accepted, stats.clients_now) == (1, 0));
        assert_eq!((handle.stats().panics, engine.links()), (1, 0));
        client.read_to_end(&mut Vec::new()).unwrap();

        // From outside, while it is being ended.
        let mut client = UnixStream::connect_addr(&address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        turn_until(&mut engine, |stats| stats.connects == 1);
        assert_eq!(engine.links(), 2);
        handle.stop();
        turn_until(&mut engine, |stats| stats.clients_now == 0);
        assert_eq!(engine.links(), 0);
    }
}
