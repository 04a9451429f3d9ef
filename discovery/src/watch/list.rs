#![forbid(unsafe_code)]
//! [`Listing`]: what is watched at a daemon, as far as it tells what to inspect.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::time::Duration;

use dockline::untrusted::Untrusted;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{Id, id};
use crate::record::Text;

/// The target of the list.
pub(super) const TARGET: &str = "/containers/json?all=1";

/// A list, and after what time to ask for the next one.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: Vec<Listed>,
    pub(super) again: Duration,
}

/// A container in the list, or a task of a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: Id,
    /// Its name, for people.
    pub(super) title: Text,
    /// Equal if nothing has changed that the list shows: names, state, health, labels, networks.
    pub(super) fingerprint: u64,
    /// Of one that does not run: when it was created, in seconds since 1970.
    pub(super) stopped: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    id: Untrusted<String>,
    #[serde(default)]
    names: Option<Vec<Untrusted<String>>>,
    /// Seconds since 1970, if the daemon is Docker's.
    #[serde(borrow, default)]
    created: Option<&'a RawValue>,
    #[serde(default)]
    state: Option<Untrusted<String>>,
    #[serde(default)]
    status: Option<Untrusted<String>>,
    #[serde(borrow, default)]
    labels: Option<&'a RawValue>,
    #[serde(borrow, default)]
    network_settings: Option<&'a RawValue>,
}

/// Reads the list. The keys are those of one watcher: its fingerprints are compared with each other
/// only, and containers choose what goes into them.
pub(super) fn read(list: &[u8], keys: &RandomState) -> Result<Vec<Listed>, serde_json::Error> {
    let entries: Vec<Entry<'_>> = serde_json::from_slice(list)?;
    Ok(entries.into_iter().filter_map(|entry| entry.listed(keys)).collect())
}

impl Entry<'_> {
    fn listed(self, keys: &RandomState) -> Option<Listed> {
        let id = id(self.id.raw())?;
        let mut names = self.names.unwrap_or_default();
        names.sort_unstable();
        let title = names.first().map_or(&*id, |name| name.raw().trim_start_matches('/')).into();
        let mut hasher = keys.build_hasher();
        names.hash(&mut hasher);
        self.state.hash(&mut hasher);
        self.status.as_ref().map(|status| condition(status.raw())).hash(&mut hasher);
        // The endpoints have other ids after each start.
        self.labels.map(RawValue::get).hash(&mut hasher);
        self.network_settings.map(RawValue::get).hash(&mut hasher);
        let state = self.state.as_ref().map(|state| state.raw().as_str());
        let is_stopped = matches!(state, Some("created" | "exited" | "dead" | "removing"));
        let created = self.created.and_then(|created| created.get().parse().ok()).unwrap_or_default();
        Some(Listed { id, title, fingerprint: hasher.finish(), stopped: is_stopped.then_some(created) })
    }
}

/// Returns what does not change by itself in a status such as `Up 3 minutes (healthy)`.
fn condition(status: &str) -> &str {
    let end = status.strip_suffix(')').and_then(|status| status.rsplit_once('('));
    end.map_or("", |(_, condition)| condition)
}
