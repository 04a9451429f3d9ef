#![forbid(unsafe_code)]
//! [`Router`]: what becomes of each request.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decider::{Asked, Decider, Deferral};
use super::handle::Handle;
use super::observe::ClientInfo;
use super::service::Upstream;
use super::slab::Token;
use crate::h1::RequestHead;
use crate::proxy::{Reply, Rewrite};

/// Decides what becomes of each request.
///
/// A connection keeps the router that its listener had when it was accepted. A host whose routes
/// change swaps them inside of one router, and the next request of each connection is routed by
/// the new ones.
pub trait Router: Send + Sync + 'static {
    /// Decides about one request, before a byte of it is sent. Called on the thread of the loop,
    /// once per request, and again if [`Decider::again`] or [`Destination::ask_again`] says so.
    /// Must not block.
    fn route(&self, request: &RouteRequest<'_>) -> Route;
}

impl Router for Arc<Upstream> {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::Upstream(Self::clone(self))
    }
}

/// A request that a [`Router`] decides about.
#[derive(Debug)]
pub struct RouteRequest<'a> {
    client: &'a ClientInfo,
    head: &'a RequestHead,
    /// Who waits for a decision that comes later.
    asking: Option<Asking<'a>>,
    /// Made when it is asked for.
    deferral: OnceCell<Deferral>,
}

/// A session that asks its router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) handle: &'a Handle,
    pub(super) session: Token,
    /// When it first asked about this request.
    pub(super) since: Instant,
    pub(super) now: Instant,
    /// What could not be reached.
    pub(super) unreachable: Option<&'a Arc<Upstream>>,
}

impl<'a> RouteRequest<'a> {
    /// Makes a request that did not come through an engine, to ask a router about it. Nobody waits
    /// for its [`Decider`].
    #[must_use]
    pub fn new(client: &'a ClientInfo, head: &'a RequestHead) -> Self {
        Self { client, head, asking: None, deferral: OnceCell::new() }
    }

    pub(super) fn of_session(client: &'a ClientInfo, head: &'a RequestHead, asking: Asking<'a>) -> Self {
        Self { client, head, asking: Some(asking), deferral: OnceCell::new() }
    }

    /// Returns the client that sent it.
    #[must_use]
    pub fn client(&self) -> &'a ClientInfo {
        self.client
    }

    /// Returns its head.
    #[must_use]
    pub fn head(&self) -> &'a RequestHead {
        self.head
    }

    /// Returns how long ago the router was first asked about it: zero unless it is asked again.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.asking.map_or(Duration::ZERO, |asking| asking.now.saturating_duration_since(asking.since))
    }

    /// Returns the last upstream of a destination none of which can be reached, if the router is
    /// asked again for that ([`Destination::ask_again`]).
    #[must_use]
    pub fn unreachable(&self) -> Option<&'a Arc<Upstream>> {
        self.asking.and_then(|asking| asking.unreachable)
    }

    /// Returns what decides about it later, from any thread. It counts if the router returns
    /// [`Route::Later`]. Each call returns another one; the first that decides, or is dropped,
    /// decides.
    #[must_use]
    pub fn defer(&self) -> Decider {
        let asked = self.asking.map(|asking| {
            let deferral = self.deferral.get_or_init(Deferral::default);
            Asked::new(asking.handle.clone(), asking.session, deferral)
        });
        Decider::new(asked)
    }

    /// Returns what makes the deciders of this request count.
    pub(super) fn into_deferral(self) -> Option<Deferral> {
        self.deferral.into_inner()
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Route {
    /// It is sent to this upstream.
    Upstream(Arc<Upstream>),
    /// It is sent to one of several upstreams, or under a name, or changed.
    To(Destination),
    /// The engine replies itself.
    Reply(Reply),
    /// A [`Decider`] decides ([`RouteRequest::defer`]). A request that was received whole waits
    /// even if its client half-closes, as it does while its upstream is connected to; a client that
    /// resets its connection ends the wait.
    Later {
        /// How long it waits for the decision, an hour at most.
        time: Duration,
        /// What the engine replies after that time.
        otherwise: Reply,
    },
}

/// Where a request is sent, and how.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The upstream that is tried first.
    pub upstream: Arc<Upstream>,
    /// Upstreams that are tried in this order, each if a connection to the one before cannot be
    /// made and nothing of the request was sent; at most the first [`Destination::OTHERS`]. Each
    /// failure is an [`Event::ConnectFailed`](super::Event::ConnectFailed); the client and the
    /// record get that of the last.
    pub others: Vec<Arc<Upstream>>,
    /// The name of the route, for records, [`OpenTunnel`](super::OpenTunnel) and
    /// [`Kill::Route`](super::Kill::Route).
    pub route: Option<Arc<str>>,
    /// What is changed in the head that is sent.
    pub rewrite: Option<Arc<Rewrite>>,
    /// Whether the router is asked again if a connection cannot be made to any of the upstreams,
    /// and nothing of the request was sent ([`RouteRequest::unreachable`]); at most
    /// [`Destination::ASKED_AGAIN`] times for a request. Otherwise the client gets 502, or 504.
    pub ask_again: bool,
}

impl Destination {
    /// Other upstreams that are tried for a request.
    pub const OTHERS: usize = 7;

    /// Times that the router is asked again about a request whose destination cannot be reached.
    pub const ASKED_AGAIN: u8 = 8;

    /// Makes a destination without a name, other upstreams and changes.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, others: Vec::new(), route: None, rewrite: None, ask_again: false }
    }
}

impl From<Arc<Upstream>> for Destination {
    fn from(upstream: Arc<Upstream>) -> Self {
        Self::new(upstream)
    }
}
