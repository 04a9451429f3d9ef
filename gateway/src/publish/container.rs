#![forbid(unsafe_code)]
//! [`Container`]: the address of a container, now and after each restart.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use dockline_docker_client::{Docker, DockerError, EventFilter, Events, Received, is_name};
use serde::Deserialize;

use crate::problem::Problem;
use crate::suggest;

/// Interval of attempts to reach a daemon that has gone.
const PAUSE: Duration = Duration::from_secs(1);
/// Interval at which the container is inspected without an event: a busy daemon drops some.
const RECHECK: Duration = Duration::from_secs(30);
/// The events that can change the address of a container.
const EVENTS: EventFilter<'_> = EventFilter {
    types: &["container", "network"],
    actions: &["start", "die", "destroy", "rename", "connect", "disconnect"],
};

/// The address that ports lead to, and the route of packets back from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ip: IpAddr,
    /// The target's network, if this host is its gateway.
    pub(crate) network: Option<Subnet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) ip: IpAddr,
    pub(crate) bits: u8,
}

/// A published container, by the name or ID that the user gave.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) docker: Docker,
    pub(crate) name: Untrusted<String>,
    pub(crate) network: Option<Untrusted<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    id: Untrusted<String>,
    name: Untrusted<String>,
    state: State,
    host_config: HostConfig,
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: Untrusted<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<Untrusted<String>, Option<Network>>>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "IPAddress", default)]
    ip: Option<Untrusted<String>>,
    #[serde(rename = "IPPrefixLen", default)]
    bits: u8,
    #[serde(rename = "Gateway", default)]
    gateway: Option<Untrusted<String>>,
    #[serde(rename = "GlobalIPv6Address", default)]
    ip6: Option<Untrusted<String>>,
    #[serde(rename = "GlobalIPv6PrefixLen", default)]
    bits6: u8,
    #[serde(rename = "IPv6Gateway", default)]
    gateway6: Option<Untrusted<String>>,
}

/// The state of a container.
#[derive(Debug)]
enum Found {
    Running(Target),
    /// It cannot be reached now, for this reason.
    Down(Problem),
}

impl Container {
    /// Returns its current address. It must be running.
    pub(crate) fn locate(&self) -> Result<Target, Problem> {
        if !is_name(self.name.raw()) {
            return Err(Problem::new(format_args!("`{}` is not the name of a container", self.name)));
        }
        match self.inspect() {
            Ok((_, Found::Running(target))) => Ok(target),
            Ok((_, Found::Down(why))) => Err(why),
            Err(DockerError::Refused { status: 404, .. }) => {
                Err(Problem::new(format_args!("there is no container `{}`{}", self.name, self.hint())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Passes its address to `report` whenever that changes; `None` while it cannot be reached.
    /// Ends when `report` returns `false`.
    pub(crate) fn watch(self, mut present: Option<Target>, report: impl Fn(Option<Target>) -> bool) {
        let mut lost = false;
        loop {
            // The stream is opened first, so that no change is missed between the inspection and
            // the wait.
            let ended = match self.docker.events(&EVENTS, None) {
                Ok(events) => {
                    if std::mem::take(&mut lost) {
                        log::info!("the Docker daemon can be reached again");
                    }
                    match self.follow(events, &mut present, &report) {
                        Some(why) => why,
                        None => return,
                    }
                }
                Err(error) => error.into(),
            };
            if !std::mem::replace(&mut lost, true) {
                log::warn!(
                    "{ended}; until it can be reached again, the last address of the container is used"
                );
            }
            pause();
        }
    }

    /// Follows one stream, and returns why it ended; `None` if `report` has ended it.
    fn follow(
        &self,
        mut events: Events,
        present: &mut Option<Target>,
        report: &impl Fn(Option<Target>) -> bool,
    ) -> Option<Problem> {
        let mut id = Untrusted::default();
        let mut inspect = true;
        loop {
            if inspect {
                let found = match self.inspect() {
                    Ok((now, Found::Running(target))) => {
                        id = now;
                        Some(target)
                    }
                    Ok((now, Found::Down(_))) => {
                        id = now;
                        None
                    }
                    Err(DockerError::Refused { status: 404, .. }) => None,
                    Err(error) => return Some(error.into()),
                };
                if *present != found {
                    present.clone_from(&found);
                    if !report(found) {
                        return None;
                    }
                }
            }
            inspect = match events.next(RECHECK) {
                Ok(Received::Event(event)) => concerns(&event, self.name.raw(), id.raw()),
                Ok(Received::Oversized | Received::Nothing) => true,
                Err(error) => return Some(error.into()),
            };
        }
    }

    fn inspect(&self) -> Result<(Untrusted<String>, Found), DockerError> {
        let inspect: Inspect = self.docker.get(&format!("/containers/{}/json", self.name.raw()))?;
        let id = inspect.id.clone();
        Ok((id, self.choose(&inspect)))
    }

    fn choose(&self, inspect: &Inspect) -> Found {
        let name = Untrusted::new(inspect.name.raw().trim_start_matches('/'));
        let mode = inspect.host_config.network_mode.raw().as_str();
        if !inspect.state.running {
            return Found::Down(
                Problem::new(format_args!("the container `{name}` is not running"))
                    .hint(format_args!("`docker start {name}` starts it")),
            );
        }
        if mode == "host" {
            return Found::Down(Problem::new(format_args!(
                "the container `{name}` uses the host's network: its ports are ports of the host already"
            )));
        }
        if let Some(other) = mode.strip_prefix("container:").map(Untrusted::new) {
            return Found::Down(
                Problem::new(format_args!("the container `{name}` uses the network of {other}"))
                    .hint("publish that container instead"),
            );
        }
        let none = BTreeMap::new();
        let networks = inspect.network_settings.networks.as_ref().unwrap_or(&none);
        let reachable: Vec<(&Untrusted<String>, Target)> = networks
            .iter()
            .filter_map(|(network, settings)| Some((network, settings.as_ref()?.target()?)))
            .collect();
        let names =
            || reachable.iter().map(|(network, _)| network.to_string()).collect::<Vec<_>>().join(", ");
        match (&self.network, &reachable[..]) {
            (_, []) => Found::Down(
                Problem::new(format_args!("the container `{name}` has no address in any network"))
                    .hint(format_args!("`docker network connect bridge {name}` gives it one")),
            ),
            (None, [(_, target)]) => Found::Running(target.clone()),
            (None, _) => Found::Down(
                Problem::new(format_args!("the container `{name}` is in several networks"))
                    .hint(format_args!("choose one with --network: {}", names())),
            ),
            (Some(wanted), all) => match all.iter().find(|(network, _)| *network == wanted) {
                Some((_, target)) => Found::Running(target.clone()),
                None => Found::Down(
                    Problem::new(format_args!(
                        "the container `{name}` has no address in the network `{wanted}`{}",
                        suggest::hint(wanted.raw(), all.iter().map(|(network, _)| network.raw().as_str()))
                    ))
                    .hint(format_args!("it is in {}", names())),
                ),
            },
        }
    }

    /// Returns a suggestion for a mistyped name.
    fn hint(&self) -> String {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            names: Vec<Untrusted<String>>,
        }
        let Ok(all) = self.docker.get::<Vec<Listed>>("/containers/json") else { return String::new() };
        let names = all.iter().flat_map(|one| &one.names).map(|name| name.raw().trim_start_matches('/'));
        suggest::hint(self.name.raw(), names)
    }
}

impl Network {
    fn target(&self) -> Option<Target> {
        let parse = |text: &Option<Untrusted<String>>| text.as_ref()?.raw().parse::<IpAddr>().ok();
        let (ip, bits, gateway) = match parse(&self.ip) {
            Some(ip) => (ip, self.bits, parse(&self.gateway)),
            None => (parse(&self.ip6)?, self.bits6, parse(&self.gateway6)),
        };
        let through_here = gateway.is_some_and(is_own);
        Some(Target { ip, network: through_here.then_some(Subnet { ip, bits }) })
    }
}

/// Returns whether an address is one of this host's.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns whether an event is about a container of that name or ID. Events of networks have the ID
/// only.
fn concerns(event: &[u8], name: &str, id: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Event {
        actor: Actor,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "ID", default)]
        id: Untrusted<String>,
        #[serde(rename = "Attributes", default)]
        attributes: Attributes,
    }
    #[derive(Default, Deserialize)]
    struct Attributes {
        name: Option<Untrusted<String>>,
        container: Option<Untrusted<String>>,
    }
    let Ok(Event { actor }) = serde_json::from_slice(event) else { return false };
    let is = |text: Option<&Untrusted<String>>, wanted: &str| text.is_some_and(|text| text.raw() == wanted);
    let Attributes { name: its_name, container } = &actor.attributes;
    is(Some(&actor.id), id) || is(container.as_ref(), id) || is(its_name.as_ref(), name)
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use dockline::engine::Address;

    use super::*;

    fn choose(network: Option<&str>, mode: &str, running: bool, networks: &str) -> Result<String, String> {
        let text = format!(
            r#"{{"Id":"abc","Name":"/web","State":{{"Running":{running}}},"HostConfig":{{"NetworkMode":"{mode}"}},
                "NetworkSettings":{{"Networks":{networks}}}}}"#
        );
        let docker = Docker::new(Address::Unix("/nowhere".into())).unwrap();
        let container = Container {
            docker,
            name: "web".to_owned().into(),
            network: network.map(|name| name.to_owned().into()),
        };
        match container.choose(&serde_json::from_str(&text).unwrap()) {
            Found::Running(target) => Ok(target.ip.to_string()),
            Found::Down(why) => Err(why.to_string()),
        }
    }

    const ONE: &str = r#"{"bridge":{"IPAddress":"172.17.0.2","IPPrefixLen":16,"Gateway":"172.17.0.1"}}"#;
    const TWO: &str =
        r#"{"front":{"IPAddress":"10.1.0.2"},"back":{"IPAddress":"","GlobalIPv6Address":"fd00::2"}}"#;

    #[test]
    fn the_only_network_or_the_one_that_is_named() {
        assert_eq!(choose(None, "default", true, ONE), Ok("172.17.0.2".into()));
        assert_eq!(choose(Some("bridge"), "default", true, ONE), Ok("172.17.0.2".into()));
        assert_eq!(choose(Some("back"), "front", true, TWO), Ok("fd00::2".into()));
        assert_eq!(
            choose(None, "front", true, r#"{"front":{"IPAddress":"10.1.0.2"},"none":null}"#),
            Ok("10.1.0.2".into())
        );
    }

    #[test]
    fn why_a_container_cannot_be_reached() {
        for (network, mode, running, networks, words) in [
            (None, "default", false, ONE, "docker start web"),
            (None, "host", true, r#"{"host":{"IPAddress":""}}"#, "ports of the host already"),
            (None, "none", true, r#"{"none":{"IPAddress":""}}"#, "docker network connect bridge web"),
            (None, "default", true, "null", "docker network connect"),
            (None, "container:abc", true, "{}", "network of abc"),
            (None, "front", true, TWO, "--network: back, front"),
            (Some("frnt"), "front", true, TWO, "did you mean `front`?"),
        ] {
            let why = choose(network, mode, running, networks).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn events_of_the_container_only() {
        let event = |text: &str| concerns(text.as_bytes(), "web", "abc");
        assert!(event(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"old"}}}"#
        ));
        assert!(event(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"new","Attributes":{"name":"web"}}}"#
        ));
        assert!(event(
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{"container":"abc"}}}"#
        ));
        assert!(!event(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"x","Attributes":{"name":"db"}}}"#
        ));
        assert!(!event("nonsense"));
    }
}
