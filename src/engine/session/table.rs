#![forbid(unsafe_code)]
//! [`Sessions`]: all sessions of an engine, and whose turn it is.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Coarse, Kind, Next, Session};
use crate::engine::observe::{Event, OpenTunnel};
use crate::engine::resolve::Resolved;
use crate::engine::shared::Shared;
use crate::engine::slab::{Slab, Token};
use crate::error::Side;
use crate::relay::Readiness;

/// Most tunnels in one list.
const LISTED: usize = 1000;

/// All sessions of an engine.
pub(in crate::engine) struct Sessions {
    slab: Slab<Session>,
    /// Sessions that wait for a turn.
    queue: VecDeque<Token>,
    /// Sessions that wait for a turn in a TLS handshake, which is expensive.
    handshake_queue: VecDeque<Token>,
}

impl Sessions {
    pub(in crate::engine) fn new() -> Self {
        Self { slab: Slab::new(), queue: VecDeque::new(), handshake_queue: VecDeque::new() }
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns whether any session waits for a turn.
    pub(in crate::engine) fn has_turns(&self) -> bool {
        !self.queue.is_empty() || !self.handshake_queue.is_empty()
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
                self.slab.put(token, Session::new(kind));
                self.enqueue(token);
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
            session.note(token.side(), ready);
            self.enqueue(token);
        }
    }

    /// Passes the result of a name look-up on to the session that asked.
    pub(in crate::engine) fn resolved(&mut self, resolved: Resolved) {
        let token = resolved.session;
        if let Some(session) = self.slab.get_mut(token) {
            session.resolved(resolved);
            self.enqueue(token);
        }
    }

    /// Notes that the timer of a session has expired.
    pub(in crate::engine) fn timer_expired(&mut self, number: u32) {
        if let Some((token, session)) = self.slab.at(number) {
            session.timer = None;
            self.enqueue(token);
        }
    }

    /// Tells all sessions that the engine drains.
    pub(in crate::engine) fn drain(&mut self, shared: &Shared) {
        for (_, session) in self.slab.iter_mut() {
            session.drain(shared);
        }
        self.enqueue_all();
    }

    /// Gives all sessions a turn.
    pub(in crate::engine) fn enqueue_all(&mut self) {
        let all: Vec<Token> = self.tokens();
        for token in all {
            self.enqueue(token);
        }
    }

    /// Gives each session in the queue one turn; then some of those in a handshake, so that a flood of handshakes leaves
    /// the others theirs.
    pub(in crate::engine) fn take_turns(&mut self, shared: &mut Shared) {
        for _ in 0..self.queue.len() {
            let Some(token) = self.queue.pop_front() else { break };
            self.turn(token, shared);
        }
        for _ in 0..shared.options.handshakes.min(self.handshake_queue.len()) {
            let Some(token) = self.handshake_queue.pop_front() else { break };
            self.turn(token, shared);
        }
    }

    /// Ends all sessions at once.
    pub(in crate::engine) fn end_all(&mut self, shared: &mut Shared) {
        for token in self.tokens() {
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

    fn tokens(&mut self) -> Vec<Token> {
        self.slab.iter_mut().map(|(token, _)| token).collect()
    }

    /// Puts a session into the queue that it belongs to, once.
    fn enqueue(&mut self, token: Token) {
        let Some(session) = self.slab.get_mut(token) else { return };
        if !session.queued {
            session.queued = true;
            let queue = if session.is_handshaking() { &mut self.handshake_queue } else { &mut self.queue };
            queue.push_back(token.with_side(Side::Downstream));
        }
    }

    fn turn(&mut self, token: Token, shared: &mut Shared) {
        let Some(session) = self.slab.get_mut(token) else { return };
        session.queued = false;
        // A panic ends this session, and no other.
        let next = catch_unwind(AssertUnwindSafe(|| session.advance(shared)));
        match next {
            Ok(Next::Wait | Next::Become) => {
                if let Some(deadline) = session.deadline() {
                    let coarse = Coarse::new(deadline.saturating_duration_since(shared.origin));
                    if session.timer.is_none_or(|timer| coarse < timer) {
                        session.timer = Some(coarse);
                        shared.timers.schedule(token.index(), deadline);
                    }
                }
            }
            Ok(Next::Again) => self.enqueue(token),
            Ok(Next::End) => self.end(token, shared),
            Err(_) => {
                shared.counters().panics.add(1);
                shared.report(&Event::Panicked);
                self.end(token, shared);
            }
        }
    }

    fn end(&mut self, token: Token, shared: &mut Shared) {
        let Some(session) = self.slab.remove(token) else { return };
        if session.timer.is_some() {
            shared.timers.cancel(token.index());
        }
        // What a panic left behind may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| session.end(shared)));
        shared.client_ended();
    }
}
