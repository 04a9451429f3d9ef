#![forbid(unsafe_code)]
//! [`Starter`]: starts containers that a request wants, and stops those that nobody does.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dockline_discovery::{RecordState, Source};
use dockline_docker_client::{Docker, DockerError, is_name};
use log::{info, warn};

use super::entry::Entry;
use crate::process::spawn;

/// Containers that may be starting or stopping at a time.
const AT_A_TIME_MAX: usize = 32;

/// Limit for the daemon to start or stop a container.
const TIME: Duration = Duration::from_secs(120);

/// See the [module](self).
#[derive(Clone, Default)]
pub(super) struct Starter(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// The clients of the daemons that are watched.
    daemons: HashMap<Source, Docker>,
    /// The containers that are starting or stopping.
    busy: HashSet<(Source, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Start,
    Stop,
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").field("busy", &self.lock().busy).finish_non_exhaustive()
    }
}

impl Starter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the client of a daemon; `None`: it is not watched any longer.
    pub(super) fn set_daemon(&self, source: &Source, docker: Option<Docker>) {
        let mut inner = self.lock();
        match docker {
            Some(docker) => inner.daemons.insert(Arc::clone(source), docker),
            None => inner.daemons.remove(source),
        };
    }

    /// Starts a container of a route that is to be started on demand. Returns whether one is
    /// starting. Never blocks.
    pub(super) fn start(&self, entry: &Entry) -> bool {
        entry.members.iter().any(|member| {
            let record = member.claim.record();
            let is_stopped = record.lifecycle.on_demand && matches!(record.state, RecordState::Down(_));
            is_stopped && self.begin(Work::Start, member.claim.source(), record.id.owner.raw())
        })
    }

    /// Stops a container.
    pub(super) fn stop(&self, source: &Source, id: &str) {
        self.begin(Work::Stop, source, id);
    }

    /// Begins, unless the container is busy already. Returns whether it is now.
    fn begin(&self, work: Work, source: &Source, id: &str) -> bool {
        let key = (Arc::clone(source), id.to_owned());
        let mut inner = self.lock();
        let Some(docker) = inner.daemons.get(source).cloned().filter(|_| is_name(id)) else { return false };
        if inner.busy.contains(&key) {
            return true;
        }
        if inner.busy.len() >= AT_A_TIME_MAX {
            return false;
        }
        inner.busy.insert(key.clone());
        drop(inner);
        let starter = self.clone();
        let id = id.to_owned();
        let run = {
            let key = key.clone();
            move || {
                let result = work.perform(&docker, &id);
                starter.lock().busy.remove(&key);
                match (result, work) {
                    (Ok(()), Work::Start) => info!("container {id}: started for a request"),
                    (Ok(()), Work::Stop) => info!("container {id}: stopped, nobody uses it"),
                    (Err(error), Work::Start) => {
                        warn!("container {id} cannot be started: POST /containers/{{id}}/start: {error}");
                    }
                    (Err(error), Work::Stop) => {
                        warn!("container {id} cannot be stopped: POST /containers/{{id}}/stop: {error}");
                    }
                }
            }
        };
        if let Err(problem) = spawn("on-demand", run) {
            warn!("{problem}");
            self.lock().busy.remove(&key);
            return false;
        }
        true
    }
}

impl Work {
    fn perform(self, docker: &Docker, id: &str) -> Result<(), DockerError> {
        let action = match self {
            Self::Start => "start",
            Self::Stop => "stop",
        };
        docker.post(&format!("/containers/{id}/{action}"), TIME)
    }
}
