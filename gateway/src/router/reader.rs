#![forbid(unsafe_code)]
//! [`Reader`]: reads what a container announces, by what is known of this process now.

use std::sync::{Mutex, PoisonError};

use dockline_discovery::container::{ContainerReader, Host, LabelOptions, Place};
use dockline_discovery::watch::{self, Read};
use dockline_discovery::{Node, Text};
use dockline_docker_client::Docker;

use super::place::{self, Surroundings};

/// Bytes that are read of what the daemon says of the container of this process.
const INSPECT_MAX: usize = 1024 * 1024;

/// See the [module](self).
pub(crate) struct Reader {
    node: Node,
    pub(super) labels: LabelOptions,
    surroundings: Surroundings,
    docker: Docker,
    /// The container of this process.
    own: Option<String>,
    /// Where this process is; `None`: not known yet.
    place: Mutex<Option<Place>>,
    /// Called when that has changed: then all containers are to be read again.
    moved: Box<dyn Fn() + Send + Sync>,
}

impl Reader {
    pub(crate) fn new(
        node: Node,
        labels: LabelOptions,
        surroundings: Surroundings,
        docker: Docker,
        moved: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let own = place::own_container();
        Self { node, labels, surroundings, docker, own, place: Mutex::default(), moved: Box::new(moved) }
    }

    /// Returns where this process is, as seen from the daemon. A daemon that has its container is
    /// that of its own machine, also behind a socket proxy in another container.
    fn place(&self) -> Place {
        let outside = if self.surroundings.is_here { Place::Host } else { Place::Elsewhere };
        let Some(own) = &self.own else { return outside };
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &*place {
            return place.clone();
        }
        // It may be a container of another daemon.
        let inspect = self.docker.get_bytes(&format!("/containers/{own}/json"), INSPECT_MAX);
        let read = inspect.ok().and_then(|inspect| place::read(&inspect));
        place.insert(read.map_or(outside, |(_, place)| place)).clone()
    }

    /// Returns what decides how containers are reached.
    pub(super) fn host(&self) -> Host {
        let place = self.place();
        // Else that of the socket proxy, which no container is to lead to.
        let is_of_machine = self.surroundings.is_here || place == Place::Elsewhere;
        Host {
            place,
            own_addresses: place::own_addresses(),
            address: self.surroundings.address.filter(|_| is_of_machine),
            routed: self.surroundings.direct.clone(),
            ..Host::default()
        }
    }

    /// Notes where this process is, if this is its container.
    fn note(&self, inspect: &[u8]) {
        let Some(own) = &self.own else { return };
        let Some((_, now)) = place::read(inspect).filter(|(id, _)| id == own) else { return };
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.replace(now.clone()).is_some_and(|before| before != now) {
            (self.moved)();
        }
    }
}

impl watch::Reader for Reader {
    fn read(&self, inspect: &[u8]) -> Result<Read, Text> {
        self.note(inspect);
        let (node, options) = (self.node.clone(), self.labels.clone());
        let reader = ContainerReader { node, options, host: self.host() };
        reader.read(inspect).map_err(|error| error.to_string().into())
    }
}
