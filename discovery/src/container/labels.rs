#![forbid(unsafe_code)]
//! The labels of ours, and the variable `DPROXY_FORWARD_NAME`: see docs/LABELS.md.

use std::collections::BTreeMap;

use dockline::routes::HostPattern;

use super::inspect::Inspect;
use super::wanted::{self, Request, VALUE_MAX, Wanted};
use crate::record::{Drain, Service, Text, excerpt};
use crate::suggest;

/// The variable that names a container.
const VARIABLE: &str = "DPROXY_FORWARD_NAME";

/// What a label of a route may be called behind the prefix.
const ROUTE_KEYS: [&str; 10] =
    ["name", "host", "port", "scheme", "path", "strip", "network", "weight", "proxy-protocol", "drain"];
/// Those that a route does not have from the container.
const OWN_KEYS: [&str; 4] = ["name", "host", "path", "strip"];

/// What else a label of a container may be called.
const CONTAINER_KEYS: [&str; 4] = ["enable", "service", "start", "stop-after"];

/// The labels of a container that have our prefix, without it.
struct Labels<'i> {
    prefix: &'i str,
    /// Those of the container.
    own: BTreeMap<&'i str, &'i str>,
    /// Those of `routes.<id>.`, by the id.
    routes: BTreeMap<&'i str, BTreeMap<&'i str, &'i str>>,
    problems: Vec<String>,
}

impl<'i> Labels<'i> {
    fn new(inspect: &'i Inspect, prefix: &'i str) -> Self {
        let mut labels = Self { prefix, own: BTreeMap::new(), routes: BTreeMap::new(), problems: Vec::new() };
        for (full, value) in &inspect.config.labels {
            let Some(key) = full.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let (route, name) = match key.strip_prefix("routes.").and_then(|rest| rest.split_once('.')) {
                Some((route, name)) => (Some(route), name),
                None => (None, key),
            };
            if ROUTE_KEYS.contains(&name) || (route.is_none() && CONTAINER_KEYS.contains(&name)) {
                let place = match route {
                    Some(route) => labels.routes.entry(route).or_default(),
                    None => &mut labels.own,
                };
                place.insert(name, value);
            } else {
                labels.problems.push(unknown(prefix, route, name, full));
            }
        }
        labels
    }

    /// Returns what a label says, read by `read`; `None` if there is none, or it is wrong. A route
    /// that has not its own has that of the container.
    fn get<T>(
        &mut self,
        route: Option<&str>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let of_route = route.and_then(|route| self.routes.get(route)?.get(key));
        let of_container = self.own.get(key).filter(|_| route.is_none() || !OWN_KEYS.contains(&key));
        let (within, value) = match (route, of_route, of_container) {
            (Some(route), Some(value), _) => (format!("routes.{}.", excerpt(route)), *value),
            (_, _, value) => (String::new(), *value?),
        };
        let value = value.trim();
        let read = if value.len() > VALUE_MAX { wanted::too_long() } else { read(value) };
        read.map_err(|error| {
            let (prefix, value) = (self.prefix, excerpt(value));
            self.problems.push(format!("`{prefix}.{within}{key}={value}`: {error}"));
        })
        .ok()
    }

    /// Returns the hosts that labels name; `None` if they name none.
    fn hosts(&mut self, route: Option<&str>) -> Option<Vec<HostPattern>> {
        let name = self.get(route, "name", wanted::name);
        let hosts = self.get(route, "host", wanted::hosts);
        let labels = match route {
            Some(route) => self.routes.get(route),
            None => Some(&self.own),
        };
        let is_named =
            labels.is_some_and(|labels| ["name", "host"].iter().any(|key| labels.contains_key(key)));
        is_named.then(|| name.into_iter().chain(hosts.into_iter().flatten()).collect())
    }

    /// Returns a route; `None` if any label of it is wrong: there are more problems than before.
    fn route(&mut self, route: Option<&str>, hosts: Vec<HostPattern>, before: usize) -> Option<Wanted> {
        let drain = |text: &str| match text {
            "never" => Ok(Drain::Never),
            text => wanted::duration(text).map(Drain::After).map_err(|error| format!("{error}, or `never`")),
        };
        let wanted = Wanted {
            hosts,
            path: self.get(route, "path", wanted::path).unwrap_or_default(),
            strip: self.get(route, "strip", wanted::boolean).unwrap_or_default(),
            port: self.get(route, "port", wanted::port).unwrap_or_default(),
            tls: self.get(route, "scheme", wanted::scheme).unwrap_or_default(),
            network: self.get(route, "network", |text| Ok(text.to_owned())),
            weight: self.get(route, "weight", weight).unwrap_or(1),
            proxy_protocol: self.get(route, "proxy-protocol", version),
            drain: self.get(route, "drain", drain).unwrap_or_default(),
        };
        (self.problems.len() == before).then_some(wanted)
    }

    /// Returns all routes that the labels and the variable ask for.
    fn all_routes(&mut self, inspect: &Inspect, is_asked: bool) -> Vec<Wanted> {
        let before = self.problems.len();
        let named = self.hosts(None).or_else(|| {
            let name = inspect.env(VARIABLE)?;
            let read = wanted::name(name);
            let problem = |error| format!("`{VARIABLE}={}`: {error}", excerpt(name));
            Some(read.map_err(|error| self.problems.push(problem(error))).into_iter().collect())
        });
        let is_named = named.is_some();
        let ids: Vec<_> = self.routes.keys().copied().collect();
        let hosts = named.unwrap_or_else(|| {
            let default = is_asked.then(|| self.default_name(inspect));
            default.flatten().into_iter().collect()
        });
        let mut routes = Vec::new();
        if is_named || ids.is_empty() {
            routes.extend(self.route(None, hosts.clone(), before));
        }
        for id in ids {
            let before = self.problems.len();
            let own = self.hosts(Some(id)).unwrap_or_else(|| hosts.clone());
            if own.is_empty() && self.problems.len() == before {
                let (prefix, id) = (self.prefix, excerpt(id));
                self.problems
                    .push(format!("`{prefix}.routes.{id}` has no host: set `{prefix}.routes.{id}.host`"));
            }
            routes.extend(self.route(Some(id), own, before));
        }
        routes
    }

    /// Returns the name of the service of a container that names no host, or of the container.
    fn default_name(&mut self, inspect: &Inspect) -> Option<HostPattern> {
        let labels = ["com.docker.swarm.service.name", "com.docker.compose.service"];
        let service = labels.iter().find_map(|key| inspect.label(key));
        let name = service.unwrap_or(inspect.name.trim_start_matches('/'));
        wanted::name(name)
            .map_err(|error| {
                let (prefix, name) = (self.prefix, excerpt(name));
                self.problems
                    .push(format!("its name `{name}` cannot be one of a host: {error}; set `{prefix}.name`"));
            })
            .ok()
    }
}

/// Returns what the labels and the variable ask for; `None` if a label says that the container has
/// no route.
pub(super) fn read(inspect: &Inspect, prefix: &str, exposed_by_default: bool) -> Option<Request> {
    let mut labels = Labels::new(inspect, prefix);
    let enable = labels.get(None, "enable", wanted::boolean);
    if enable == Some(false) {
        return None;
    }
    let is_asked = enable == Some(true) || exposed_by_default;
    let is_named = ["name", "host"].iter().any(|key| labels.own.contains_key(key));
    let mut request = Request::default();
    if is_asked || is_named || !labels.routes.is_empty() || inspect.env(VARIABLE).is_some() {
        request.routes = labels.all_routes(inspect, is_asked);
    } else {
        request.has_settings = !labels.own.is_empty();
    }
    request.service = labels.get(None, "service", service).or_else(|| replica_of(inspect));
    request.lifecycle.on_demand = labels.get(None, "start", start).is_some();
    request.lifecycle.stop_after = labels.get(None, "stop-after", wanted::duration);
    if request.lifecycle.stop_after.is_some() && !request.lifecycle.on_demand {
        request.lifecycle.stop_after = None;
        labels
            .problems
            .push(format!("`{prefix}.stop-after` does nothing without `{prefix}.start=on-demand`"));
    }
    labels.problems.dedup();
    request.problems = labels.problems;
    Some(request)
}

/// Returns the service of a container by the labels of compose and of swarm.
pub(super) fn replica_of(inspect: &Inspect) -> Option<Service> {
    let label = |key: &str| inspect.label(key).filter(|value| value.len() <= Text::MAX);
    if let Some(service) = label("com.docker.swarm.service.id") {
        return Some(Service::Swarm(service.into()));
    }
    let project = label("com.docker.compose.project")?.into();
    Some(Service::Compose { project, service: label("com.docker.compose.service")?.into() })
}

fn service(text: &str) -> Result<Service, String> {
    match text.len() {
        1..=Text::MAX => Ok(Service::Named(text.into())),
        _ => Err(format!("a service has a name of 1 to {} bytes", Text::MAX)),
    }
}

fn start(text: &str) -> Result<(), String> {
    if text == "on-demand" { Ok(()) } else { Err("the only value is `on-demand`".into()) }
}

fn weight(text: &str) -> Result<u16, String> {
    let weight = text.parse().ok().filter(|weight| (1..=1000).contains(weight));
    weight.ok_or_else(|| "a weight is a number from 1 to 1000".into())
}

fn version(text: &str) -> Result<u8, String> {
    match text {
        "v1" => Ok(1),
        "v2" => Ok(2),
        _ => Err("the version of the PROXY protocol is `v1` or `v2`".into()),
    }
}

fn unknown(prefix: &str, route: Option<&str>, name: &str, full: &str) -> String {
    let all = ROUTE_KEYS.iter().chain(if route.is_none() { &CONTAINER_KEYS[..] } else { &[] });
    let nearest = suggest::nearest(name, all.copied());
    let within = route.map(|route| format!("routes.{}.", excerpt(route))).unwrap_or_default();
    let suggestion = nearest.map(|found| format!("; did you mean `{prefix}.{within}{found}`?"));
    format!("there is no label `{}`{}", excerpt(full), suggestion.unwrap_or_default())
}
