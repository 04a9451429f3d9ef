#![forbid(unsafe_code)]
//! Accepting: from a [listener](listener) a connection is [placed](placement) with an engine, which
//! [begins](begin) a session for it.

mod begin;
mod listener;
mod placement;

pub(super) use begin::{adopt, begin};

use std::time::Instant;

use listener::{AcceptResult, ActiveListener};
use placement::Placement;

use super::observe::Event;
use super::service::{Listener, ListenerHandle};
use super::session::Sessions;
use super::shared::Shared;

/// The listeners of an engine.
pub(super) struct Acceptor {
    listeners: Vec<Option<ActiveListener>>,
    /// Listeners to be closed that the poller has refused to remove so far.
    closing: Vec<ActiveListener>,
    placement: Placement,
    /// The token of the first listener; others have those below it.
    first_token: usize,
}

impl Acceptor {
    /// Makes an acceptor whose listeners have the tokens from `first_token` down.
    pub(super) fn new(first_token: usize) -> Self {
        let (listeners, closing) = (Vec::new(), Vec::new());
        Self { listeners, closing, placement: Placement::default(), first_token }
    }

    /// Adds a listener. It is watched from the next call of [`accept`](Self::accept) on.
    pub(super) fn listen(&mut self, listener: Listener, shared: &Shared) {
        let place = self.listeners.iter().position(Option::is_none).unwrap_or(self.listeners.len());
        let name = listener.handle().settings().name.clone();
        match ActiveListener::new(listener, mio::Token(self.first_token - place), shared) {
            Ok(listener) if !shared.drain.is_draining() => {
                if place == self.listeners.len() {
                    self.listeners.push(None);
                }
                self.listeners[place] = Some(listener);
            }
            Ok(_) => {}
            Err(error) => {
                shared.report(&Event::AcceptFailed { listener: &name, error: &error, paused: false });
            }
        }
    }

    /// Notes an event of the poller. Returns whether it is one of a listener.
    pub(super) fn note(&mut self, token: usize) -> bool {
        let place = self.first_token.checked_sub(token).filter(|place| *place < self.listeners.len());
        if let Some(listener) = place.and_then(|place| self.listeners[place].as_mut()) {
            listener.note();
        }
        place.is_some()
    }

    /// Accepts connections and begins their sessions, or hands them over to other engines.
    pub(super) fn accept(&mut self, sessions: &mut Sessions, shared: &mut Shared) {
        if self.is_closing() {
            self.close_pending(shared);
        }
        for listener in self.listeners.iter_mut().flatten() {
            for _ in 0..listener.begin_turn(shared.options.accepts) {
                if self.placement.is_full(shared) {
                    break;
                }
                match listener.accept() {
                    AcceptResult::Client(accepted) => {
                        if let Some(accepted) = self.placement.place(accepted, shared) {
                            begin(accepted, sessions, shared);
                        }
                    }
                    AcceptResult::Lost => {}
                    AcceptResult::Nothing => break,
                    AcceptResult::Failed(error) => {
                        shared.counters().accept_pauses.add(1);
                        listener.pause(&error, shared);
                        break;
                    }
                }
            }
            listener.update_watch(self.placement.is_full(shared), shared);
        }
    }

    /// Returns whether connections were left in the backlog because all engines are full.
    pub(super) fn waits_for_room(&self) -> bool {
        self.placement.was_full()
    }

    pub(super) fn close(&mut self, handle: &ListenerHandle, shared: &Shared) {
        self.close_which(|listener| listener.has_handle(handle), shared);
    }

    pub(super) fn close_all(&mut self, shared: &Shared) {
        self.close_which(|_| true, shared);
    }

    fn close_which(&mut self, which: impl Fn(&ActiveListener) -> bool, shared: &Shared) {
        let closed = self.listeners.iter_mut().filter_map(|place| place.take_if(|listener| which(listener)));
        self.closing.extend(closed);
        self.close_pending(shared);
    }

    fn close_pending(&mut self, shared: &Shared) {
        let all = std::mem::take(&mut self.closing);
        self.closing =
            all.into_iter().filter_map(|listener| listener.close(&shared.registry).err()).collect();
    }

    /// Returns whether a listener is still to be closed.
    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Returns when the first of the paused listeners goes on.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.listeners.iter().flatten().filter_map(ActiveListener::paused_until).min()
    }
}
