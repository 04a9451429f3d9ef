#![forbid(unsafe_code)]
//! [`Decider`]: decides about a request after its router has returned.

use std::fmt;
use std::sync::{Arc, Weak};

use super::handle::{Command, Handle};
use super::route::Route;
use super::slab::Token;
use crate::proxy::Reply;

/// What a waiting session keeps, and drops when it waits no longer. Its deciders are known by it.
#[derive(Debug, Default)]
pub(super) struct Deferral(Arc<()>);

/// Decides about a request that waits ([`Route::Later`]), from any thread.
///
/// A decision for a request that does not wait any more, because its client has gone or its time
/// is up, has no effect. A decider that is dropped without a decision makes the engine reply 503 at
/// once.
pub struct Decider(Option<Asked>);

/// The session that waits.
pub(super) struct Asked {
    handle: Handle,
    session: Token,
    deferral: Weak<()>,
}

/// A decision on its way to its session.
pub(super) struct Decided {
    pub(super) session: Token,
    pub(super) decision: Decision,
    deferral: Weak<()>,
}

/// What a [`Decider`] says.
#[derive(Debug)]
pub(super) enum Decision {
    Route(Route),
    /// The router is asked again.
    Again,
}

impl Asked {
    pub(super) fn new(handle: Handle, session: Token, deferral: &Deferral) -> Self {
        Self { handle, session, deferral: Arc::downgrade(&deferral.0) }
    }

    fn tell(self, decision: Decision) {
        // What nobody waits for would only fill the inbox.
        if self.deferral.strong_count() > 0 {
            let Self { handle, session, deferral } = self;
            handle.send(Command::Decided(Box::new(Decided { session, decision, deferral })));
        }
    }
}

impl Deferral {
    /// Returns whether a decision is that of a decider of this request.
    pub(super) fn is_of(&self, decided: &Decided) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), decided.deferral.as_ptr())
    }
}

impl Decider {
    pub(super) fn new(asked: Option<Asked>) -> Self {
        Self(asked)
    }

    /// Decides. A [`Route::Later`] is a pause: no other decider takes part in it.
    pub fn decide(mut self, route: Route) {
        self.tell(Decision::Route(route));
    }

    /// Makes the engine ask the router again, on the thread of the loop.
    pub fn again(mut self) {
        self.tell(Decision::Again);
    }

    /// Returns whether the request still waits. If not, its client has gone, its time is up,
    /// another decider was first, or the router has decided otherwise.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.deferral.strong_count() > 0)
    }

    fn tell(&mut self, decision: Decision) {
        if let Some(asked) = self.0.take() {
            asked.tell(decision);
        }
    }
}

impl Drop for Decider {
    fn drop(&mut self) {
        self.tell(Decision::Route(Route::Reply(undecided())));
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("waiting", &self.is_waiting()).finish()
    }
}

/// Returns the reply to a request about which nobody will decide.
fn undecided() -> Reply {
    Reply::error(503, "the proxy gave up looking for a destination; try again")
}
