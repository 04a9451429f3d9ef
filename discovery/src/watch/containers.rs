#![forbid(unsafe_code)]
//! [`Containers`]: the containers of a daemon, each of which is inspected.

use std::hash::RandomState;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dockline_docker_client::{Docker, DockerError, EventFilter, RESPONSE_MAX};

use super::event::{self, Hint, Id};
use super::list::{self, Listing};
use super::tracker::{Answer, RESYNC};
use super::{Inventory, Reader, reason};
use crate::record::Text;

/// Limit for what the daemon says of one container, most of which that has chosen.
const INSPECT_MAX: usize = 1024 * 1024;

/// See the [module](self).
pub(super) struct Containers {
    docker: Docker,
    reader: Arc<dyn Reader>,
    keys: RandomState,
}

impl Containers {
    pub(super) fn new(docker: Docker, reader: Arc<dyn Reader>) -> Self {
        Self { docker, reader, keys: RandomState::new() }
    }
}

impl Inventory for Containers {
    fn events(&self) -> EventFilter<'static> {
        event::EVENTS
    }

    fn hint(&self, event: &[u8]) -> Option<(Option<Hint>, Option<u64>)> {
        event::read(event)
    }

    fn list(&self) -> Result<Listing, Text> {
        let read = |bytes: Vec<u8>| {
            list::read(&bytes, &self.keys).map_err(|error| DockerError::Invalid {
                address: self.docker.address().clone(),
                source: Box::new(error),
            })
        };
        let listed = self.docker.get_bytes(list::TARGET, RESPONSE_MAX).and_then(read);
        let entries = listed.map_err(|error| reason("GET /containers/json", &error))?;
        Ok(Listing { entries, again: RESYNC })
    }

    fn inspect(&self, id: &Id) -> Answer {
        match self.docker.get_bytes(&format!("/containers/{id}/json"), INSPECT_MAX) {
            // Containers choose what is read here, and a bug must not keep others from being read.
            Ok(bytes) => match catch_unwind(AssertUnwindSafe(|| self.reader.read(&bytes))) {
                Ok(Ok(read)) => Answer::Read(read),
                Ok(Err(why)) => Answer::Failed(why),
                Err(_) => {
                    Answer::Failed("what the daemon says of it cannot be read: a bug of dockline".into())
                }
            },
            Err(DockerError::Refused { status: 404, .. }) => Answer::Gone,
            Err(error) => Answer::Failed(reason("GET /containers/{id}/json", &error)),
        }
    }
}
