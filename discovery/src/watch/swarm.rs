#![forbid(unsafe_code)]
//! [`Swarm`]: the services of a swarm and their tasks, by a manager. All are read at each list:
//! there are no events of tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dockline_docker_client::{Docker, EventFilter, RESPONSE_MAX};

use super::event::{self, Hint, Id};
use super::list::{Listed, Listing};
use super::tracker::Answer;
use super::{Inventory, Read, reason};
use crate::now;
use crate::record::Text;

/// The targets of what is asked for; the filter is `{"desired-state":["running"]}`.
const SERVICES: &str = "/services";
const TASKS: &str = "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D";
const NODES: &str = "/nodes";
/// Interval of lists while something is going on, and otherwise.
pub(super) const BUSY: Duration = Duration::from_secs(1);
pub(super) const CALM: Duration = Duration::from_secs(5);
/// How long after an event something is going on.
const STIR: Duration = Duration::from_secs(10);
/// A list takes at most this part of the time until the next one, however large the swarm is, and
/// however long a task waits for its place.
const SHARE: u32 = 20;
/// The longest interval for that reason.
const SLOW: Duration = Duration::from_secs(60);

/// What a manager of a swarm says.
#[derive(Clone, Copy, Debug)]
pub struct SwarmAnswers<'a> {
    /// `GET /services`.
    pub services: &'a [u8],
    /// `GET /tasks`, of those that are to be running.
    pub tasks: &'a [u8],
    /// `GET /nodes`.
    pub nodes: &'a [u8],
}

/// What the services of a swarm announce.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwarmRead {
    /// By the id of the task, or of a service that has none; of those that announce nothing none.
    pub owners: BTreeMap<String, Read>,
    /// Whether a task is about to start, or a service about to be updated.
    pub is_busy: bool,
}

/// Reads what the services of a swarm announce.
pub trait SwarmReader: Send + Sync {
    /// Reads the answers of a manager. A bug in it must not keep the other services from being
    /// read.
    ///
    /// # Errors
    /// If they are none, why not. The swarm counts as unreachable then.
    fn read(&self, answers: &SwarmAnswers<'_>) -> Result<SwarmRead, Text>;
}

impl<F: Fn(&SwarmAnswers<'_>) -> Result<SwarmRead, Text> + Send + Sync> SwarmReader for F {
    fn read(&self, answers: &SwarmAnswers<'_>) -> Result<SwarmRead, Text> {
        self(answers)
    }
}

/// See the [module](self).
pub(super) struct Swarm {
    docker: Docker,
    reader: Arc<dyn SwarmReader>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the last list has shown, and a number that is another one after each change.
    owners: BTreeMap<Id, (u64, Read)>,
    changes: u64,
    last_event: Option<Instant>,
}

impl Swarm {
    pub(super) fn new(docker: Docker, reader: Arc<dyn SwarmReader>) -> Self {
        Self { docker, reader, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, target: &str) -> Result<Vec<u8>, Text> {
        let path = target.split('?').next().unwrap_or_default();
        self.docker.get_bytes(target, RESPONSE_MAX).map_err(|error| reason(&format!("GET {path}"), &error))
    }
}

/// Returns the time until the next list, after one that took so long.
fn interval(is_busy: bool, cost: Duration) -> Duration {
    let wanted = if is_busy { BUSY } else { CALM };
    wanted.max(cost.saturating_mul(SHARE).min(SLOW))
}

impl State {
    /// Takes what was read. Returns it as a list.
    fn take(&mut self, owners: BTreeMap<String, Read>) -> Vec<Listed> {
        let mut before = std::mem::take(&mut self.owners);
        for (text, read) in owners {
            let Some(id) = event::id(&text) else { continue };
            let known = before.remove(&id).filter(|(_, known)| *known == read);
            let entry = known.unwrap_or_else(|| {
                self.changes += 1;
                (self.changes, read)
            });
            self.owners.insert(id, entry);
        }
        let listed = |(id, (change, _)): (&Id, &(u64, Read))| Listed {
            id: Id::clone(id),
            title: (&**id).into(),
            fingerprint: *change,
            // What has ended is listed no longer.
            stopped: None,
        };
        self.owners.iter().map(listed).collect()
    }
}

impl Inventory for Swarm {
    fn events(&self) -> EventFilter<'static> {
        event::SWARM_EVENTS
    }

    fn hint(&self, event: &[u8]) -> Option<(Option<Hint>, Option<u64>)> {
        let read = event::read_of_swarm(event);
        if matches!(read, Some((Some(_), _))) {
            self.lock().last_event = Some(now());
        }
        read
    }

    fn list(&self) -> Result<Listing, Text> {
        let begin = now();
        // Tasks after services, so that each has its service.
        let (services, tasks) = (self.get(SERVICES)?, self.get(TASKS)?);
        let nodes = self.get(NODES)?;
        let answers = SwarmAnswers { services: &services, tasks: &tasks, nodes: &nodes };
        let SwarmRead { owners, is_busy } = self.reader.read(&answers)?;
        let mut state = self.lock();
        let entries = state.take(owners);
        let is_busy =
            is_busy || state.last_event.is_some_and(|at| now().saturating_duration_since(at) < STIR);
        let again = interval(is_busy, now().saturating_duration_since(begin));
        Ok(Listing { entries, again })
    }

    fn inspect(&self, id: &Id) -> Answer {
        self.lock().owners.get(id).map_or(Answer::Gone, |(_, read)| Answer::Read(read.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_take_long_are_rare() {
        let after = |is_busy, cost| interval(is_busy, Duration::from_millis(cost));
        assert_eq!((after(true, 50), after(true, 51)), (BUSY, Duration::from_millis(1020)));
        assert_eq!((after(false, 250), after(false, 251)), (CALM, Duration::from_millis(5020)));
        assert_eq!((after(true, 3000), after(true, 60_000)), (SLOW, SLOW));
    }
}
