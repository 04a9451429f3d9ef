#![forbid(unsafe_code)]
//! [`Hint`]: what an event of the daemon says about which containers have changed.

use std::sync::Arc;

use dockline::untrusted::Untrusted;
use dockline_docker_client::{EventFilter, is_name};
use serde::Deserialize;

/// The id of a container.
pub(super) type Id = Arc<str>;

/// The longest id that is taken; those of Docker have 64 bytes.
const ID_MAX: usize = 128;

/// The events that can change what a container announces, or whether it can be reached.
pub(super) const EVENTS: EventFilter<'_> = EventFilter {
    types: &["container", "network", "daemon"],
    actions: &[
        "create",
        "start",
        "restart",
        "unpause",
        "pause",
        "die",
        "stop",
        "oom",
        "destroy",
        "rename",
        "update",
        "health_status",
        "connect",
        "disconnect",
        "reload",
    ],
};

/// The events that can change what the services of a swarm announce. Those of containers come for
/// the tasks on the machine of the manager only.
pub(super) const SWARM_EVENTS: EventFilter<'_> = EventFilter {
    types: &["service", "node", "container"],
    actions: &["create", "update", "remove", "start", "die", "health_status"],
};

/// What may have changed. That it has, and how, only inspecting it tells: events are lost on a busy
/// daemon, repeated, and late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// This container.
    Container(Id),
    /// This container, which has ended or is paused. Its address may be that of another one before
    /// an inspection tells.
    Ended(Id),
    /// This container, which runs again.
    Begun(Id),
    /// Any of them.
    Any,
}

/// An event.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(default)]
    r#type: Untrusted<String>,
    #[serde(default)]
    action: Untrusted<String>,
    #[serde(default)]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: Untrusted<String>,
    #[serde(rename = "Attributes", default)]
    attributes: Option<Attributes>,
}

/// All labels of the container are here as well.
#[derive(Deserialize)]
struct Attributes {
    container: Option<Untrusted<String>>,
    #[serde(rename = "com.docker.swarm.task.id")]
    task: Option<Untrusted<String>>,
}

impl Event {
    /// Returns its type and action. Those of health checks are `health_status: healthy` and the
    /// like.
    fn kind(&self) -> (&str, &str) {
        (self.r#type.raw(), self.action.raw().split(':').next().unwrap_or_default())
    }
}

/// Reads an event. Returns what may have changed, if anything of interest, and when it happened, in
/// nanoseconds since 1970.
pub(super) fn read(event: &[u8]) -> Option<(Option<Hint>, Option<u64>)> {
    let event: Event = serde_json::from_slice(event).ok()?;
    let container = |text: &Untrusted<String>| id(text.raw()).map(Hint::Container);
    let (r#type, action) = event.kind();
    let Event { actor, time, .. } = &event;
    let hint = match (r#type, action) {
        _ if !EVENTS.actions.contains(&action) => None,
        ("container", "die" | "pause") => id(actor.id.raw()).map(Hint::Ended),
        ("container", "start" | "unpause") => id(actor.id.raw()).map(Hint::Begun),
        ("container", _) => container(&actor.id),
        ("network", "connect" | "disconnect") => {
            actor.attributes.as_ref().and_then(|attributes| container(attributes.container.as_ref()?))
        }
        ("network", "destroy") | ("daemon", "reload") => Some(Hint::Any),
        _ => None,
    };
    Some((hint, *time))
}

/// Reads an event as a watcher of a swarm does. Any of them may have changed then: there are no
/// events of tasks.
pub(super) fn read_of_swarm(event: &[u8]) -> Option<(Option<Hint>, Option<u64>)> {
    let event: Event = serde_json::from_slice(event).ok()?;
    let is_of_interest = match event.kind() {
        (_, action) if !SWARM_EVENTS.actions.contains(&action) => false,
        ("service" | "node", _) => true,
        ("container", _) => event.actor.attributes.is_some_and(|attributes| attributes.task.is_some()),
        _ => false,
    };
    Some((is_of_interest.then_some(Hint::Any), event.time))
}

/// Returns a text as an id, if it can be one.
pub(super) fn id(text: &str) -> Option<Id> {
    (is_name(text) && text.len() <= ID_MAX).then(|| text.into())
}
