#![forbid(unsafe_code)]
//! [`ContainerReader`]: from what a daemon says of a container to records and reasons. Pure.

mod inspect;
mod labels;
mod network;
mod rule;
mod swarm;
mod traefik;
mod virtual_host;
mod wanted;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use dockline::routes::RouteKey;

use self::inspect::Inspect;
use self::network::Ask;
pub use self::network::{Host, Place};
pub use self::swarm::ServiceReader;
use self::wanted::{Request, Wanted};
use crate::address::check_reach;
use crate::record::{Lifecycle, Node, Origin, Record, RecordId, RecordState, Service, Target, Text, excerpt};
use crate::update::Unrouted;
use crate::watch::Read;

/// Records of a container at most: hosts times paths.
const RECORDS_MAX: u16 = 256;

/// The label that Docker gives to the containers of a swarm.
const TASK: &str = "com.docker.swarm.task.id";

/// How containers ask for routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelOptions {
    /// What labels begin with: `dockline`.
    pub prefix: String,
    /// Whether each container has a route that does not say `dockline.enable=false`.
    pub exposed_by_default: bool,
    /// Whether the variables of nginx-proxy are read.
    pub virtual_host: bool,
    /// Whether simple labels of Traefik are read.
    pub traefik: bool,
    /// Whether the containers of a swarm have no route: their services are asked for.
    pub without_tasks: bool,
}

impl Default for LabelOptions {
    fn default() -> Self {
        Self {
            prefix: "dockline".into(),
            exposed_by_default: false,
            virtual_host: false,
            traefik: false,
            without_tasks: false,
        }
    }
}

/// The error for what is not the JSON of a container.
#[derive(Debug)]
pub struct ReadError(serde_json::Error);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the daemon says what is not understood")
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerReader {
    /// The machine of the daemon. The port of its gateway is that of the other machines too, if the
    /// daemon is a manager of classic Swarm.
    pub node: Node,
    /// How containers ask for routes.
    pub options: LabelOptions,
    /// What decides how they are reached.
    pub host: Host,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Stopped,
    /// It has no address now.
    Absent(&'static str),
    /// It has an address, and serves nobody.
    Down(&'static str),
    Healthy,
    /// It has no health check.
    Running,
}

impl Condition {
    fn of(inspect: &Inspect) -> Self {
        let state = &inspect.state;
        let health = state.health.as_ref().map(|health| health.status.as_str());
        match health {
            _ if state.restarting => Self::Absent("restarting"),
            _ if !state.running => Self::Stopped,
            _ if state.paused => Self::Down("paused"),
            Some("starting") => Self::Down("starting"),
            Some("unhealthy") => Self::Down("unhealthy"),
            Some("healthy") => Self::Healthy,
            _ => Self::Running,
        }
    }

    fn state(self) -> RecordState {
        match self {
            Self::Stopped => RecordState::Down("stopped".into()),
            Self::Absent(reason) | Self::Down(reason) => RecordState::Down(reason.into()),
            Self::Running => RecordState::Down("its port does not accept connections yet".into()),
            Self::Healthy => RecordState::Live,
        }
    }
}

impl ContainerReader {
    /// Returns what `GET /containers/{id}/json` says.
    ///
    /// # Errors
    /// If it is not the JSON of a container. What was known of it stays true.
    pub fn read(&self, json: &[u8]) -> Result<Read, ReadError> {
        let inspect: Inspect = serde_json::from_slice(json).map_err(ReadError)?;
        let (node, host) = self.place(&inspect);
        let condition = Condition::of(&inspect);
        let is_left = self.options.without_tasks && inspect.label(TASK).is_some();
        let request = if is_left { Request::default() } else { self.request(&inspect) };
        Ok(self.announced(&inspect, condition, request, node, &host))
    }

    /// Returns what a container announces that asks for this.
    fn announced(
        &self,
        inspect: &Inspect,
        condition: Condition,
        request: Request,
        node: Node,
        host: &Host,
    ) -> Read {
        let Request { routes, service, lifecycle, mut problems, .. } = request;
        let stays_stopped = condition == Condition::Stopped && !lifecycle.on_demand;
        let owner = Owner {
            id: RecordId { node: node.name.clone(), owner: inspect.id.as_str().into(), index: 0 },
            title: inspect.name.trim_start_matches('/').into(),
            started: inspect::nanoseconds(&inspect.state.started_at).unwrap_or_default(),
            // Who cannot tell when it was created is the last to own a route.
            created: inspect::nanoseconds(&inspect.created).unwrap_or(u64::MAX),
            service,
            state: if stays_stopped { RecordState::Stopped } else { condition.state() },
            lifecycle,
        };
        let mut records = Vec::new();
        for route in routes {
            match self.target(inspect, condition, &route, &node, host) {
                Ok(target) => owner.add(&mut records, route, &target, &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
        // The router there waits for the port. From here its address may be unreachable, or another
        // container's.
        let waits_there = |record: &&mut Record| match record.target.as_ref().map(|target| &target.address) {
            Some(Origin::Ip(address)) => node.gateway.is_some() && host.is_behind_gateway(address.ip()),
            _ => false,
        };
        if condition == Condition::Running {
            records.iter_mut().filter(waits_there).for_each(|record| record.state = RecordState::Live);
        }
        // Nobody waits to be told what is wrong with one that does not run.
        let unrouted = summary(&problems).filter(|_| !stays_stopped).map(|reason| Unrouted {
            owner: owner.id.clone(),
            title: owner.title.clone(),
            reason,
        });
        let probe = condition == Condition::Running && !records.is_empty();
        Read { node, records, unrouted, probe }
    }

    /// Returns where a container is. A manager of classic Swarm has those of other machines too.
    fn place(&self, inspect: &Inspect) -> (Node, Cow<'_, Host>) {
        let named =
            inspect.node.as_ref().and_then(|node| Some((node.name.parse().ok()?, node.ip.parse().ok()?)));
        let Some((name, address)) = named else { return (self.node.clone(), Cow::Borrowed(&self.host)) };
        let gateway = self.node.gateway.map(|gateway| SocketAddr::new(address, gateway.port()));
        let is_here = self.host.own_addresses.contains(&address);
        let place = if is_here { Place::Host } else { Place::Elsewhere };
        let host = Host { place, address: Some(address), ..self.host.clone() };
        (Node { name, gateway }, Cow::Owned(host))
    }

    /// Returns what a container asks for: by our labels, else by those of others, else by default.
    fn request(&self, inspect: &Inspect) -> Request {
        let LabelOptions { prefix, exposed_by_default, virtual_host, traefik, .. } = &self.options;
        let Some(own) = labels::read(inspect, prefix, false) else { return Request::default() };
        let mut request = own;
        for (is_on, read) in
            [(*virtual_host, virtual_host::read as fn(&Inspect) -> Request), (*traefik, traefik::read)]
        {
            if is_on && request.is_empty() {
                let Request { routes, problems, .. } = read(inspect);
                request = Request { routes, problems, ..request };
            }
        }
        if *exposed_by_default && request.is_empty() {
            return labels::read(inspect, prefix, true).unwrap_or_default();
        }
        if request.has_settings && request.is_empty() {
            let problem = format!("its labels name no route: set `{prefix}.name` or `{prefix}.host`");
            request.problems.push(problem);
        }
        request
    }

    fn target(
        &self,
        inspect: &Inspect,
        condition: Condition,
        route: &Wanted,
        node: &Node,
        host: &Host,
    ) -> Result<Option<Target>, String> {
        if matches!(condition, Condition::Stopped | Condition::Absent(_)) {
            return Ok(None);
        }
        let prefix = self.options.prefix.as_str();
        let ask = Ask {
            inspect,
            prefix,
            port: route.port,
            network: route.network.as_deref(),
            has_gateway: node.gateway.is_some(),
        };
        let address = ask.address(host)?;
        // The prober connects to it before anyone asks the directory.
        check_reach(address.ip()).map_err(|error| format!("its address {address} {error}"))?;
        let address = Origin::Ip(address);
        Ok(Some(Target { address, tls: route.tls, proxy_protocol: route.proxy_protocol }))
    }
}

/// What the records of a container have in common.
struct Owner {
    id: RecordId,
    title: Text,
    started: u64,
    created: u64,
    service: Option<Service>,
    state: RecordState,
    lifecycle: Lifecycle,
}

impl Owner {
    /// Adds the records of a route.
    fn add(
        &self,
        records: &mut Vec<Record>,
        route: Wanted,
        target: &Option<Target>,
        problems: &mut Vec<String>,
    ) {
        for host in route.hosts {
            let key = RouteKey { host, path: route.path.clone() };
            if records.iter().any(|other| other.key == key) {
                problems.push(format!("it asks for `{}` twice", excerpt(&key.to_string())));
                continue;
            }
            let Some(index) = u16::try_from(records.len()).ok().filter(|index| *index < RECORDS_MAX) else {
                problems.push(format!("it asks for more than {RECORDS_MAX} routes"));
                return;
            };
            records.push(Record {
                id: RecordId { index, ..self.id.clone() },
                title: self.title.clone(),
                started: self.started,
                created: self.created,
                key,
                strip: route.strip,
                service: self.service.clone(),
                target: target.clone(),
                state: self.state.clone(),
                weight: route.weight,
                drain: route.drain,
                lifecycle: self.lifecycle,
            });
        }
    }
}

/// Returns the first of the problems, and how many there are besides.
fn summary(problems: &[String]) -> Option<Text> {
    match problems {
        [] => None,
        [only] => Some(only.as_str().into()),
        [first, rest @ ..] => Some(format!("{first} (and {} more)", rest.len()).into()),
    }
}
