#![forbid(unsafe_code)]
//! [`Joined`]: this machine at the front door of another one.

use std::fmt;
use std::sync::Arc;

use dockline::engine::tls::{ClientTls, ClientTlsConfig};
use dockline_discovery::join::{FrontAddress, Worker};
use dockline_discovery::{Node, Update};
use log::error;

use crate::problem::Problem;

/// The front door that the routes of this machine are pushed to.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) front: FrontAddress,
    pub(super) tls: ClientTlsConfig,
    /// This machine.
    pub(super) node: Node,
}

impl Join {
    /// Returns whether the same front door is joined as the same machine; certificates may differ.
    fn is_same(&self, other: &Self) -> bool {
        (&self.front, &self.node) == (&other.front, &other.node)
    }
}

/// Returns whether the same front door is joined, or none.
pub(super) fn is_same(one: Option<&Join>, other: Option<&Join>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        _ => false,
    }
}

/// A worker, with what it needs for its connections. Clones are the same one.
#[derive(Clone)]
pub(super) struct Joined {
    join: Join,
    tls: Arc<ClientTls>,
    worker: Worker,
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("front", &self.join.front).finish_non_exhaustive()
    }
}

impl Joined {
    /// Starts to push updates to a front door.
    pub(super) fn start(join: Join) -> Result<Self, Problem> {
        let tls = Arc::new(ClientTls::new(&join.tls).map_err(Problem::new)?);
        let failed = Problem::wrap("no front door can be joined");
        let worker =
            Worker::start(join.front.clone(), Arc::clone(&tls), join.node.clone()).map_err(failed)?;
        Ok(Self { join, tls, worker })
    }

    /// Returns whether this is how a front door is to be joined.
    pub(super) fn is_for(&self, join: &Join) -> bool {
        self.join.is_same(join)
    }

    /// Returns whether it is the same worker.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tls, &other.tls)
    }

    /// Takes over certificates, for the next connection.
    pub(super) fn renew(&self, config: &ClientTlsConfig) {
        if let Err(problem) = self.tls.reload(config) {
            error!("{}: the old certificate stays in use: {problem}", self.join.front);
        }
    }

    /// Takes an update of a daemon of this machine.
    pub(super) fn apply(&self, update: &Update) {
        self.worker.apply(update.clone());
    }

    /// Leaves the front door.
    pub(super) fn stop(&self) {
        self.worker.stop();
    }
}
