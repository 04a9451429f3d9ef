#![forbid(unsafe_code)]
//! The tables `[router]` and `[[route]]`: which containers are routed to, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use dockline::proxy::Network;
use dockline::routes::{HostPattern, LookupOptions, PathPrefix, PatternError, RouteKey};
use dockline::untrusted::Untrusted;
use dockline_discovery::directory::TrustedNodes;
use dockline_discovery::{NodeName, Origin, Target};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use super::file::UpstreamTls as UpstreamTlsTable;
use super::join::{FrontDoorConfig, FrontDoorTable, JoinConfig, JoinTable};
#[cfg(feature = "redis")]
use super::redis::{RedisConfig, RedisEntry};
use super::settle_upstream_tls;
use super::source::Source;
use super::swarm::SwarmName;
use super::tls::{UpstreamTls, UpstreamTlsFiles};
use super::values::{FromText, Text, Time};
use crate::absolute_path::AbsolutePath;
use crate::address::{self, UpstreamAddress};
use crate::cli::Settings;
use crate::problem::Problem;
use crate::suggest;

/// The node of the routes of the file, which is no machine.
pub(crate) const FILE_NODE: &str = "configuration";

const DEFAULT_DAEMON: &str = "unix:///var/run/docker.sock";
const DEFAULT_HOLD: Duration = Duration::from_secs(2);
const DEFAULT_HOLD_REQUESTS: usize = 1000;
const DEFAULT_START_TIME: Duration = Duration::from_secs(30);
/// Targets of one route of the file at most.
const TARGETS_MAX: usize = 256;
/// The same as for the label `dockline.weight`.
const WEIGHT_MAX: u16 = 1000;

/// The settled `[router]` and `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouterConfig {
    /// Base domains, and whether the first label of any host is a name.
    pub(crate) lookup: LookupOptions,
    /// The daemons whose containers are routed to.
    pub(crate) daemons: Vec<DaemonConfig>,
    /// The name of this machine among nodes; `None`: its host name.
    pub(crate) node: Option<NodeName>,
    /// Where the router of this machine can be reached by those of others.
    pub(crate) gateway: Option<SocketAddr>,
    /// Which labels and variables are read.
    pub(crate) labels: LabelConfig,
    /// How long a request waits for a target.
    pub(crate) hold: Duration,
    /// How many requests may wait.
    pub(crate) hold_requests: usize,
    /// How long a request waits for a container that it has started.
    pub(crate) start_time: Duration,
    /// How long tunnels may outlive their route, if the container does not say so; `None`: as long
    /// as they want.
    pub(crate) drain: Option<Duration>,
    /// Which of several targets gets a request.
    pub(crate) balance: Balance,
    /// The directory of the operator's own error pages.
    pub(crate) error_pages: Option<AbsolutePath>,
    /// The directory that `/.well-known/acme-challenge/` is answered from.
    pub(crate) acme_dir: Option<AbsolutePath>,
    /// The addresses of other nodes' containers that can be reached from here.
    pub(crate) direct: Vec<Network>,
    /// The nodes whose containers may share a route with those of others.
    pub(crate) trusted_nodes: TrustedNodes,
    /// The TLS with targets whose scheme is https.
    pub(crate) target_tls: Option<UpstreamTls>,
    /// The TLS with the routers of other nodes.
    pub(crate) gateway_tls: Option<UpstreamTls>,
    /// Where the routes of other machines are read.
    #[cfg(feature = "redis")]
    pub(crate) redis: Option<RedisConfig>,
    /// Where other machines push their routes to this one.
    pub(crate) front_door: Option<FrontDoorConfig>,
    /// Where this machine pushes its routes.
    pub(crate) join: Option<JoinConfig>,
    /// The routes of the file.
    pub(crate) fixed: Vec<FixedRoute>,
}

/// A daemon whose containers are routed to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DaemonConfig {
    pub(crate) address: UpstreamAddress,
    pub(crate) tls: Option<UpstreamTls>,
    /// The name of its machine; `None`: what the daemon says, or this machine if it is here.
    pub(crate) node: Option<NodeName>,
    /// Where the router of that machine listens.
    pub(crate) gateway: Option<SocketAddr>,
    /// The name of the swarm that it is a manager of, if the services of that are asked for.
    pub(crate) swarm: Option<NodeName>,
}

/// Which labels and variables of containers are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelConfig {
    /// The prefix of the labels, without its dot.
    pub(crate) prefix: LabelPrefix,
    /// Whether containers that say nothing are routed to by their names.
    pub(crate) exposed_by_default: bool,
    /// Whether `VIRTUAL_HOST` and its like are read.
    pub(crate) virtual_host: bool,
    /// Whether Traefik's labels are read.
    pub(crate) traefik: bool,
}

/// Which of several targets gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// That with the fewest requests and tunnels for its weight.
    LeastConnections,
}

/// A route of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FixedRoute {
    pub(crate) key: RouteKey,
    pub(crate) strip: bool,
    /// `None`: that of the router.
    pub(crate) balance: Option<Balance>,
    /// Never empty; with their weights.
    pub(crate) targets: Vec<(Target, u16)>,
}

impl Default for RouterConfig {
    /// Returns the router for the local daemon, by the first label of any host.
    fn default() -> Self {
        let lookup = LookupOptions::new([], true).unwrap_or_default();
        Self::new(lookup, default_daemon(), RouterTable::default(), None, None, Vec::new())
    }
}

impl RouterConfig {
    /// Takes what the command line says: base domains, the daemons to watch, and who is joined.
    pub(super) fn apply(&mut self, settings: &Settings) -> Result<(), Problem> {
        if !settings.domain.is_empty() {
            let names = settings.domain.iter().map(|domain| domain.0.as_str());
            self.lookup =
                LookupOptions::new(names, false).map_err(|error| Problem::new(error).at("--domain"))?;
        }
        if !settings.upstream.is_empty() {
            let files = settings.upstream_tls();
            let files = (files != UpstreamTlsFiles::default()).then_some(files);
            let tls =
                settle_upstream_tls(&settings.upstream, files).map_err(|problem| problem.at("--upstream"))?;
            let daemon = |address: &UpstreamAddress| DaemonConfig {
                address: address.clone(),
                tls: tls.clone(),
                node: None,
                gateway: None,
                swarm: None,
            };
            self.daemons = settings.upstream.iter().map(daemon).collect();
        }
        if let Some(address) = &settings.front_door {
            self.front_door = Some(FrontDoorConfig::of_options(address, settings.front_door_tls.as_ref())?);
        }
        if let Some(address) = &settings.join {
            self.join = Some(JoinConfig::of_options(address, settings.join_tls.as_ref())?);
        }
        Ok(())
    }

    fn new(
        lookup: LookupOptions,
        daemons: Vec<DaemonConfig>,
        table: RouterTable,
        target_tls: Option<UpstreamTls>,
        gateway_tls: Option<UpstreamTls>,
        fixed: Vec<FixedRoute>,
    ) -> Self {
        let time = |given: Option<Text<Time>>, default: Duration| given.map_or(default, |Text(time)| time.0);
        Self {
            lookup,
            daemons,
            node: table.node.map(|Text(NodeText(name))| name),
            gateway: table.gateway,
            labels: LabelConfig {
                prefix: table.label_prefix.map_or_else(LabelPrefix::default, |Text(prefix)| prefix),
                exposed_by_default: table.exposed_by_default,
                virtual_host: table.virtual_host,
                traefik: table.traefik,
            },
            hold: time(table.hold, DEFAULT_HOLD),
            hold_requests: table.hold_requests.unwrap_or(DEFAULT_HOLD_REQUESTS),
            start_time: time(table.start_time, DEFAULT_START_TIME),
            drain: table.drain.map(|Text(time)| time.0),
            balance: table.balance.map_or(Balance::default(), |Text(balance)| balance),
            error_pages: table.error_pages,
            acme_dir: table.acme_dir,
            direct: table.direct.into_iter().map(|Text(DirectNetwork(network))| network).collect(),
            trusted_nodes: trusted_nodes(table.trusted_nodes),
            target_tls,
            gateway_tls,
            #[cfg(feature = "redis")]
            redis: None,
            front_door: None,
            join: None,
            fixed,
        }
    }

    /// Reads the tables of the file; `None`: there is no router.
    pub(super) fn read(
        source: &Source,
        table: Option<Spanned<RouterTable>>,
        routes: Vec<RouteTableEntry>,
    ) -> Result<Option<Self>, Problem> {
        let Some(table) = table else {
            return match routes.first() {
                Some(route) => Err(source.problem(
                    route.targets.span(),
                    "route",
                    "there is no router that could serve it; add a table [router]",
                )),
                None => Ok(None),
            };
        };
        let span = table.span();
        let mut table = table.into_inner();
        let domains: Vec<String> = table.domains.drain(..).map(|Text(BaseDomain(name))| name).collect();
        let first_label = table.first_label.unwrap_or(domains.is_empty());
        let lookup = LookupOptions::new(domains.iter().map(String::as_str), first_label)
            .map_err(|error| source.problem(span.clone(), "router.domains", error))?;
        let daemons = match table.docker.take() {
            None => default_daemon(),
            Some(daemons) => daemons
                .into_iter()
                .map(|daemon| DaemonConfig::read(source, daemon))
                .collect::<Result<_, _>>()?,
        };
        #[cfg(feature = "redis")]
        let redis = table.redis.take().map(|entry| RedisConfig::read(source, entry)).transpose()?;
        let front_door = table.front_door.take().map(|table| FrontDoorConfig::read(source, table));
        let join = table.join.take().map(|table| JoinConfig::read(source, table));
        let (front_door, join) = (front_door.transpose()?, join.transpose()?);
        let target_tls = read_tls(source, "router.target_tls", table.target_tls.take())?;
        let gateway_tls = read_tls(source, "router.gateway_tls", table.gateway_tls.take())?;
        if let Some(Text(NodeText(name))) = &table.node
            && name.as_str() == FILE_NODE
        {
            let message = format!("`{FILE_NODE}` stands for the routes of this file; choose another name");
            return Err(source.problem(span, "router.node", message));
        }
        let mut fixed: Vec<FixedRoute> = Vec::new();
        for route in routes {
            let place = route.targets.span();
            let route = FixedRoute::read(source, route)?;
            if fixed.iter().any(|other| other.key == route.key) {
                let message =
                    format!("there are two routes for {}; put all targets into one of them", route.key);
                return Err(source.problem(place, "route", message));
            }
            if target_tls.is_none() && route.targets.iter().any(|(target, _)| target.tls) {
                let message = "https:// needs the authority of the certificate; add target_tls = { ca = \"FILE\" } to \
                               [router]";
                return Err(source.problem(place, "route.targets", message));
            }
            fixed.push(route);
        }
        let config = Self::new(lookup, daemons, table, target_tls, gateway_tls, fixed);
        Ok(Some(Self {
            #[cfg(feature = "redis")]
            redis,
            front_door,
            join,
            ..config
        }))
    }
}

fn default_daemon() -> Vec<DaemonConfig> {
    let daemon = |address| DaemonConfig { address, tls: None, node: None, gateway: None, swarm: None };
    DEFAULT_DAEMON.parse().map(daemon).into_iter().collect()
}

fn read_tls(
    source: &Source,
    key: &str,
    table: Option<Spanned<UpstreamTlsTable>>,
) -> Result<Option<UpstreamTls>, Problem> {
    let Some(table) = table else { return Ok(None) };
    let span = table.span();
    let settled = UpstreamTlsFiles::from(table.into_inner()).settle();
    settled.map(Some).map_err(|problem| source.problem(span, key, problem))
}

impl DaemonConfig {
    fn read(source: &Source, daemon: Spanned<DaemonEntry>) -> Result<Self, Problem> {
        let span = daemon.span();
        let (address, tls, node, gateway, swarm) = match daemon.into_inner() {
            DaemonEntry::Address(address) => (address, None, None, None, None),
            DaemonEntry::Table(DaemonTable { address: Text(address), tls, node, gateway, swarm }) => {
                (address, tls, node, gateway, swarm)
            }
        };
        let tls = settle_upstream_tls(std::slice::from_ref(&address), tls.map(UpstreamTlsFiles::from))
            .map_err(|problem| source.problem(span, "router.docker", problem))?;
        let node = node.map(|Text(NodeText(name))| name);
        Ok(Self { address, tls, node, gateway, swarm: swarm.and_then(|SwarmName(name)| name) })
    }
}

impl FixedRoute {
    fn read(source: &Source, route: RouteTableEntry) -> Result<Self, Problem> {
        type Read = fn(&str) -> Result<HostPattern, PatternError>;
        let place = route.targets.span();
        let (key, text, pattern): (_, _, Read) = match (&route.host, &route.name) {
            (Some(host), None) => ("route.host", host, HostPattern::host as Read),
            (None, Some(name)) => ("route.name", name, HostPattern::name),
            (None, None) => {
                let message = "it has no host; add host = \"www.example.com\", or name = \"…\" for a name below the \
                               base domains";
                return Err(source.problem(place, "route", message));
            }
            (Some(host), Some(_)) => {
                let message = "it has both a host and a name; write two routes";
                return Err(source.problem(host.span(), "route.host", message));
            }
        };
        let host = pattern(text.get_ref()).map_err(|error| source.problem(text.span(), key, error))?;
        let path = match &route.path {
            None => PathPrefix::root(),
            Some(path) => {
                path.get_ref().parse().map_err(|error| source.problem(path.span(), "route.path", error))?
            }
        };
        if route.strip && path.is_root() {
            let message = "there is no path to strip; add path = \"/…\"";
            return Err(source.problem(place, "route.strip", message));
        }
        let targets: Vec<(Target, u16)> =
            route.targets.into_inner().into_iter().map(TargetEntry::settle).collect();
        let message = match targets.len() {
            0 => "it has no targets; add targets = [\"192.0.2.7:8080\"]".to_owned(),
            1..=TARGETS_MAX => {
                return Ok(Self {
                    key: RouteKey { host, path },
                    strip: route.strip,
                    balance: route.balance.map(|Text(balance)| balance),
                    targets,
                });
            }
            number => format!("it has {number} targets, more than {TARGETS_MAX}"),
        };
        Err(source.problem(place, "route.targets", message))
    }
}

/// The table `[router]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouterTable {
    domains: Vec<Text<BaseDomain>>,
    first_label: Option<bool>,
    docker: Option<Vec<Spanned<DaemonEntry>>>,
    node: Option<Text<NodeText>>,
    gateway: Option<SocketAddr>,
    label_prefix: Option<Text<LabelPrefix>>,
    exposed_by_default: bool,
    virtual_host: bool,
    traefik: bool,
    hold: Option<Text<Time>>,
    hold_requests: Option<usize>,
    start_time: Option<Text<Time>>,
    drain: Option<Text<Time>>,
    balance: Option<Text<Balance>>,
    error_pages: Option<AbsolutePath>,
    acme_dir: Option<AbsolutePath>,
    direct: Vec<Text<DirectNetwork>>,
    trusted_nodes: Vec<Text<TrustedNode>>,
    target_tls: Option<Spanned<UpstreamTlsTable>>,
    gateway_tls: Option<Spanned<UpstreamTlsTable>>,
    #[cfg(feature = "redis")]
    redis: Option<Spanned<RedisEntry>>,
    front_door: Option<Spanned<FrontDoorTable>>,
    join: Option<Spanned<JoinTable>>,
}

/// A table `[[route]]`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTableEntry {
    host: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    #[serde(default)]
    strip: bool,
    balance: Option<Text<Balance>>,
    targets: Spanned<Vec<TargetEntry>>,
}

/// An address, or a table that has one.
#[derive(Debug)]
pub(super) enum Entry<A, T> {
    Address(A),
    Table(T),
}

impl<'de, A: FromText, T: Deserialize<'de>> Deserialize<'de> for Entry<A, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<A, T>(PhantomData<(A, T)>);

        impl<'de, A: FromText, T: Deserialize<'de>> Visitor<'de> for Reader<A, T> {
            type Value = Entry<A, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a table with an address", A::WHAT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Entry::Address).map_err(E::custom)
            }

            fn visit_map<M: MapAccess<'de>>(self, table: M) -> Result<Self::Value, M::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(Entry::Table)
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

type DaemonEntry = Entry<UpstreamAddress, DaemonTable>;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonTable {
    address: Text<UpstreamAddress>,
    tls: Option<UpstreamTlsTable>,
    node: Option<Text<NodeText>>,
    gateway: Option<SocketAddr>,
    swarm: Option<SwarmName>,
}

type TargetEntry = Entry<TargetAddress, TargetTable>;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    address: Text<TargetAddress>,
    weight: Weight,
}

#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "u16")]
struct Weight(u16);

impl TryFrom<u16> for Weight {
    type Error = String;

    fn try_from(weight: u16) -> Result<Self, String> {
        match weight {
            1..=WEIGHT_MAX => Ok(Self(weight)),
            _ => Err(format!("a weight is 1 to {WEIGHT_MAX}")),
        }
    }
}

impl TargetEntry {
    fn settle(self) -> (Target, u16) {
        match self {
            Self::Address(TargetAddress(target)) => (target, 1),
            Self::Table(TargetTable { address: Text(TargetAddress(target)), weight: Weight(weight) }) => {
                (target, weight)
            }
        }
    }
}

/// Returns the nodes of a list; `*` stands for all.
fn trusted_nodes(list: Vec<Text<TrustedNode>>) -> TrustedNodes {
    let names: Option<BTreeSet<_>> = list.into_iter().map(|Text(TrustedNode(name))| name).collect();
    names.map_or(TrustedNodes::All, TrustedNodes::Only)
}

/// A node whose containers may share a route with those of others; `None`: any.
#[derive(Clone, Debug)]
struct TrustedNode(Option<NodeName>);

impl FromStr for TrustedNode {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "*" => Ok(Self(None)),
            name => name.parse().map(Some).map(Self).map_err(Problem::new),
        }
    }
}

impl FromText for TrustedNode {
    const WHAT: &'static str = "the name of a node such as \"worker-1\", or \"*\"";
}

/// The name of a node.
#[derive(Clone, Debug)]
struct NodeText(NodeName);

impl FromStr for NodeText {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self).map_err(Problem::new)
    }
}

impl FromText for NodeText {
    const WHAT: &'static str = "the name of a node such as \"worker-1\"";
}

/// A domain that names are below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseDomain(String);

impl FromStr for BaseDomain {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match LookupOptions::new([text], false) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                let problem =
                    Problem::new(format_args!("`{}` is not a domain: {error}", Untrusted::new(text)));
                Err(match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
                    Some(domain) => problem.hint(format_args!("write {} only", Untrusted::new(domain))),
                    None => problem,
                })
            }
        }
    }
}

impl FromText for BaseDomain {
    const WHAT: &'static str = "a domain such as \"apps.example.com\"";
}

/// The prefix of labels, without its dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelPrefix(pub(crate) String);

impl Default for LabelPrefix {
    fn default() -> Self {
        Self("dockline".into())
    }
}

impl FromStr for LabelPrefix {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > 100 || text.ends_with('.') || !text.bytes().all(is_allowed) {
            return Err(Problem::new(format_args!("`{}` is not a prefix of labels", Untrusted::new(text)))
                .hint(
                    "write letters, digits, dots and hyphens without the last dot, as in com.example.router",
                ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for LabelPrefix {
    const WHAT: &'static str = "a prefix of labels such as \"dockline\"";
}

impl FromStr for Balance {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            _ => {
                let hint = suggest::hint(text, ["round-robin", "least-connections"]);
                Err(Problem::new(format_args!("`{}` is no way to balance{hint}", Untrusted::new(text)))
                    .hint("the ways are round-robin and least-connections"))
            }
        }
    }
}

impl FromText for Balance {
    const WHAT: &'static str = "\"round-robin\" or \"least-connections\"";
}

/// A network that can be reached directly.
#[derive(Clone, Copy, Debug)]
struct DirectNetwork(Network);

impl FromStr for DirectNetwork {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        text.parse()
            .map(Self)
            .map_err(|error| Problem::new(format_args!("`{}`: {error}", Untrusted::new(text))))
    }
}

impl FromText for DirectNetwork {
    const WHAT: &'static str = "a network such as \"10.0.0.0/8\"";
}

/// The address of a fixed target: `192.0.2.7:8080`, `files.example`, `https://files.example`.
#[derive(Clone, Debug, PartialEq)]
struct TargetAddress(Target);

impl FromStr for TargetAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (tls, rest) = match text.split_once("://") {
            None | Some(("http" | "tcp", _)) => {
                (false, text.split_once("://").map_or(text, |(_, rest)| rest))
            }
            Some(("https" | "tls", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(Problem::new(format_args!("unknown scheme `{}://`", Untrusted::new(scheme)))
                    .hint("write host:port, or https://host:port"));
            }
        };
        let default_port = if tls { 443 } else { 80 };
        let (host, port) = address::server(rest, default_port)?;
        let address = match host.parse() {
            Ok(ip) => Origin::Ip(SocketAddr::new(ip, port)),
            Err(_) => Origin::Host(host.into(), port),
        };
        Ok(Self(Target { address, tls, proxy_protocol: None }))
    }
}

impl FromText for TargetAddress {
    const WHAT: &'static str = "an address such as \"192.0.2.7:8080\"";
}

#[cfg(test)]
mod tests;
