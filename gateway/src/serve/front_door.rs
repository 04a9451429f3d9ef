#![forbid(unsafe_code)]
//! [`FrontDoorSockets`]: where other machines join, across reloads and upgrades.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use dockline_discovery::join::{FrontDoor, Terms};
use log::{error, info};

use super::bind::{self, BoundSocket};
use crate::address::ListenAddress;
use crate::problem::Problem;
use crate::process::inherited::Inherited;
use crate::process::upgrade::Sockets;
use crate::router::Sink;

/// A configured front door.
#[derive(Clone, Debug)]
pub(crate) struct PlannedFrontDoor {
    pub(crate) address: ListenAddress,
    pub(crate) terms: Terms,
    /// Where it was configured.
    pub(crate) origin: String,
}

/// A configured front door, whose sockets are open. Nothing else has changed yet.
pub(crate) struct PreparedFrontDoor {
    planned: PlannedFrontDoor,
    /// Empty if it is open already.
    sockets: Vec<BoundSocket>,
}

/// See the [module](self).
pub(crate) struct FrontDoorSockets {
    open: Option<Open>,
    sink: Sink,
}

struct Open {
    planned: PlannedFrontDoor,
    sockets: Vec<BoundSocket>,
    /// `None`: it could not be started.
    door: Option<FrontDoor>,
}

impl Open {
    /// Lets machines join.
    fn start(&mut self, sink: &Sink) {
        let listeners = self.sockets.iter().map(|bound| bound.socket.try_clone().map(TcpListener::from));
        let started = listeners
            .collect::<io::Result<Vec<_>>>()
            .and_then(|listeners| FrontDoor::start(listeners, self.planned.terms.clone(), Arc::clone(sink)));
        match started {
            Ok(door) => self.door = Some(door),
            Err(error) => error!("no machine can join: {error}"),
        }
    }
}

impl FrontDoorSockets {
    /// Makes it without a front door. What workers say goes to `sink`.
    pub(crate) fn new(sink: Sink) -> Self {
        Self { open: None, sink }
    }

    /// Opens the configured front door, if it is not open yet.
    pub(crate) fn open(
        &self,
        planned: Option<PlannedFrontDoor>,
        inherited: &mut Inherited,
    ) -> Result<Option<PreparedFrontDoor>, Problem> {
        let Some(planned) = planned else { return Ok(None) };
        let key = planned.address.key();
        let sockets = match &self.open {
            Some(open) if open.planned.address.key() == key => Vec::new(),
            _ => bind::bind(&planned.address, inherited).map_err(|problem| problem.at(&planned.origin))?,
        };
        Ok(Some(PreparedFrontDoor { planned, sockets }))
    }

    /// Serves the prepared front door. Any other is closed, and its workers forgotten; they are not
    /// disturbed by new certificates.
    pub(crate) fn serve(&mut self, prepared: Option<PreparedFrontDoor>) {
        let is_kept = prepared.as_ref().is_some_and(|prepared| prepared.sockets.is_empty());
        let closed = if is_kept { None } else { self.open.take() };
        if let Some(door) = closed.and_then(|closed| closed.door) {
            door.close();
        }
        let Some(PreparedFrontDoor { planned, sockets }) = prepared else { return };
        match &mut self.open {
            Some(open) => {
                if let Some(door) = &open.door {
                    door.set_terms(planned.terms.clone());
                }
                open.planned = planned;
            }
            None => {
                let mut open = Open { planned, sockets, door: None };
                open.start(&self.sink);
                self.open = Some(open);
            }
        }
    }

    /// Ends the connections and accepts no others, for another process that has the sockets too:
    /// workers join that at once. What they have told stays.
    pub(crate) fn pause(&self) {
        self.doors().for_each(FrontDoor::pause);
    }

    /// Goes on after [`pause`](Self::pause).
    pub(crate) fn resume(&self) {
        self.doors().for_each(FrontDoor::resume);
    }

    fn doors(&self) -> impl Iterator<Item = &FrontDoor> {
        self.open.iter().filter_map(|open| open.door.as_ref())
    }

    /// Leaves it to another process, or to nobody. What the workers have told stays.
    pub(crate) fn leave(&mut self) {
        self.open = None;
    }

    /// Duplicates each socket, and returns it with its key.
    pub(crate) fn duplicate(&self) -> io::Result<Sockets> {
        let open = self.open.iter();
        let all = open.flat_map(|open| open.sockets.iter().map(|bound| (open.planned.address.key(), bound)));
        all.map(|(key, bound)| Ok((key, bound.socket.try_clone()?))).collect()
    }

    /// Logs where machines join.
    pub(crate) fn describe(&self) {
        for bound in self.open.iter().flat_map(|open| &open.sockets) {
            info!("other machines join at {}", bound.address.replacen("tcp://", "tls://", 1));
        }
    }
}
