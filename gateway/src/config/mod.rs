#![forbid(unsafe_code)]
//! The configuration: command line over environment over file over defaults.

mod default_socket;
mod file;
pub(crate) mod join;
pub(crate) mod limits;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod router;
mod source;
mod swarm;
mod tls;
pub(crate) mod values;

use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline::engine::Address;
use dockline::limits::Limits;
use dockline::proxy::{Forwarding, ProxyProtocol, TrustedPeers};
use dockline::untrusted::Untrusted;
use log::LevelFilter;

use self::file::{File, ListenTable, UpstreamTable};
use self::join::FrontDoorConfig;
use self::router::RouterConfig;
use self::source::Source;
pub(crate) use self::tls::{ListenerTls, ListenerTlsFiles, UpstreamTls, UpstreamTlsFiles};
use self::values::{AccessTarget, Name, Text, Trusted};
use crate::absolute_path::AbsolutePath;
use crate::access_log::{AccessLogTarget, LogFormat};
use crate::address::{HostPort, ListenAddress, UpstreamAddress};
use crate::cli::Settings;
use crate::problem::Problem;
use crate::serve::guard::{Allowed, AllowedHost};
use crate::serve::loop_check;
use crate::suggest;

/// Read if it exists and no other is named.
const DEFAULT_FILE: &str = "/etc/dockline/dockline.toml";
const DEFAULT_UPSTREAM: &str = "unix:///var/run/docker.sock";
/// Where routers listen.
const DEFAULT_ROUTER: &str = "tcp://0.0.0.0:80";
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// All that is settled before a socket is opened.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Never empty.
    pub(crate) listeners: Vec<ListenerConfig>,
    /// Empty if all listeners are routers.
    pub(crate) upstreams: Vec<UpstreamConfig>,
    /// The router of the listeners that have no upstream.
    pub(crate) router: Option<RouterConfig>,
    /// The bounds for the connections to daemons.
    pub(crate) limits: Limits,
    /// The bounds for the connections to containers.
    pub(crate) router_limits: Limits,
    /// What is added to requests and responses; `x_forwarded` and `trusted` are set for each
    /// listener.
    pub(crate) forwarding: Forwarding,
    /// Whether `X-Forwarded-For` and its like are added; `None`: by routers only.
    pub(crate) x_forwarded: Option<bool>,
    /// Worker threads; `None`: one per processor.
    pub(crate) threads: Option<NonZeroUsize>,
    /// The limit of a drain; `None`: no limit.
    pub(crate) drain_timeout: Option<Duration>,
    /// The log.
    pub(crate) log: LogConfig,
    /// Where the access log goes, and its format.
    pub(crate) access_log: (Option<AccessLogTarget>, LogFormat),
    /// The admin listener.
    pub(crate) admin: AdminConfig,
}

/// Level and format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) level: LevelFilter,
    pub(crate) format: LogFormat,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminConfig {
    /// `None`: off.
    pub(crate) address: Option<ListenAddress>,
    /// Whether it was configured: then it is an error if it cannot be opened.
    pub(crate) wanted: bool,
    /// The hosts and origins that it accepts over TCP.
    pub(crate) allowed: Allowed,
    /// The file with the token of those who may change something over TCP.
    pub(crate) token_file: Option<AbsolutePath>,
}

/// A listener.
#[derive(Clone, Debug)]
pub(crate) struct ListenerConfig {
    pub(crate) name: String,
    pub(crate) address: ListenAddress,
    pub(crate) tls: Option<ListenerTls>,
    /// Where its requests go.
    pub(crate) destination: ListenerDestination,
    /// Those of its clients that are proxies, whose forwarding fields are trusted.
    pub(crate) trusted: TrustedPeers,
    /// The load balancers that name their clients by the PROXY protocol.
    pub(crate) proxy_protocol: Option<TrustedPeers>,
    /// The hosts and origins that it accepts over TCP without client certificates.
    pub(crate) allowed: Allowed,
    /// Whether it is the Docker socket that is there without configuration: then its directory is
    /// created, and the log says how to use it.
    pub(crate) is_default: bool,
    /// Where it was configured.
    pub(crate) origin: String,
}

/// Where the requests of a listener go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerDestination {
    /// To one of [`Config::upstreams`], by its index.
    Upstream(usize),
    /// To the containers of the router.
    Router,
}

impl ListenerConfig {
    /// Describes where its requests go.
    pub(crate) fn describe_destination(&self, config: &Config) -> String {
        match (self.destination, &config.router) {
            (ListenerDestination::Upstream(index), _) => {
                let upstream = &config.upstreams[index];
                let addresses: Vec<String> = upstream.addresses.iter().map(ToString::to_string).collect();
                format!("{} ({})", upstream.name, addresses.join(", "))
            }
            (ListenerDestination::Router, Some(router)) => {
                let daemons: Vec<String> =
                    router.daemons.iter().map(|daemon| daemon.address.to_string()).collect();
                format!("the containers of {}", daemons.join(", "))
            }
            (ListenerDestination::Router, None) => "containers".into(),
        }
    }

    /// Returns whether its requests go to containers, and not to a daemon.
    pub(crate) fn is_router(&self) -> bool {
        self.destination == ListenerDestination::Router
    }

    /// Returns whether TCP clients need no certificate. Inherited sockets count as TCP: what they
    /// are is not known before they are there.
    pub(crate) fn needs_no_certificate(&self) -> bool {
        let is_unix = matches!(self.address, ListenAddress::Unix { .. });
        !is_unix && self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
    }
}

/// An upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamConfig {
    pub(crate) name: String,
    pub(crate) addresses: Vec<UpstreamAddress>,
    pub(crate) tls: Option<UpstreamTls>,
    /// The `Host` of requests to it.
    pub(crate) host: String,
    /// The header that names the client to it.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Where it was configured.
    pub(crate) origin: String,
}

impl Config {
    /// Reads the file and merges it with the command line.
    pub(crate) fn load(settings: &Settings) -> Result<Self, Problem> {
        let (path, named) = match &settings.config {
            Some(path) => (&**path, true),
            None => (Path::new(DEFAULT_FILE), false),
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::merge(settings, Some(Source::new(path, text))),
            Err(error) if error.kind() == ErrorKind::NotFound && !named => Self::merge(settings, None),
            Err(error) => Err(Problem::new("cannot be read").at(Untrusted::path(path)).because(error)),
        }
    }

    fn merge(settings: &Settings, source: Option<Source>) -> Result<Self, Problem> {
        let mut file = match &source {
            Some(source) => toml::from_str(source.text()).map_err(|error| source.invalid(error))?,
            None => File::default(),
        };
        let source = source.as_ref();

        if !settings.router && !settings.domain.is_empty() {
            return Err(Problem::new("this option needs `--router`")
                .at("--domain")
                .hint("a router of the configuration file has its own `domains`"));
        }
        for (option, needed, is_lost) in [
            ("--join", "--router", settings.join.is_some() && !settings.router),
            ("--front-door", "--router", settings.front_door.is_some() && !settings.router),
            ("--join-tls", "--join", settings.join_tls.is_some() && settings.join.is_none()),
            (
                "--front-door-tls",
                "--front-door",
                settings.front_door_tls.is_some() && settings.front_door.is_none(),
            ),
        ] {
            if is_lost {
                return Err(Problem::new(format_args!("this option needs `{needed}`"))
                    .at(option)
                    .hint("a router of the configuration file has its own `join` and `front_door`"));
            }
        }
        if settings.upstream.is_empty() && settings.upstream_tls() != UpstreamTlsFiles::default() {
            return Err(Problem::new("these options need `--upstream tls://…`")
                .at("--upstream-tls-ca, -cert, -key, -name")
                .hint("an upstream of the configuration file has its own `tls` table"));
        }
        let mut router = match source {
            Some(source) => RouterConfig::read(source, file.router.take(), std::mem::take(&mut file.route))?,
            None => None,
        };
        if settings.router {
            router.get_or_insert_with(RouterConfig::default).apply(settings)?;
        }
        let are_of_file = settings.listen.is_empty() && !settings.router && !file.listen.is_empty();
        let needs_upstream = match are_of_file {
            true => !file.listen.iter().all(|table| table.is_router),
            false => !settings.router,
        };
        let upstreams = if !needs_upstream {
            Vec::new()
        } else if settings.upstream.is_empty() && !file.upstream.is_empty() {
            read_upstreams(source, std::mem::take(&mut file.upstream))?
        } else {
            vec![upstream_of(settings)?]
        };
        let mut listeners = if are_of_file {
            read_listeners(source, std::mem::take(&mut file.listen), &upstreams, router.is_some())?
        } else {
            listeners_of(settings)?
        };
        for listener in &mut listeners {
            let own = match &listener.address {
                ListenAddress::Tcp { host, .. } => Some(AllowedHost::of_listener(host)),
                ListenAddress::Unix { .. } | ListenAddress::Inherited(_) => None,
            };
            listener.allowed.hosts.extend(settings.allow_host.iter().cloned().chain(own));
            listener.allowed.origins.extend(settings.allow_origin.iter().cloned());
        }
        refuse_duplicates_and_loops(&listeners, &upstreams)?;
        if let Some(front_door) = router.as_ref().and_then(|router| router.front_door.as_ref()) {
            refuse_same_address(front_door, &listeners)?;
        }

        let (mut bounds, mut router_bounds) = (limits::defaults(), Limits::default());
        file.limits.clone().apply(&mut bounds);
        file.limits.apply(&mut router_bounds);
        let via = settings.via.clone().or(file.forwarding.via.map(|Text(via)| via));
        let forwarding = Forwarding {
            via: via.map(|via| via.0.into()),
            x_forwarded: false,
            forwarded: settings.forwarded.or(file.forwarding.forwarded).unwrap_or(false),
            trusted: TrustedPeers::default(),
        };
        let drain = settings.drain_timeout.or(file.drain_timeout.map(|Text(time)| time));
        let level = settings.log_level.or(file.log.level.map(|Text(level)| level));
        let format = settings.log_format.or(file.log.format.map(|Text(format)| format));
        let access = settings.access_log.clone().or(file.log.access.map(|Text(target)| target));
        let access_format = settings.access_log_format.or(file.log.access_format.map(|Text(format)| format));
        let admin = settings.admin.clone().or(file.admin.address.map(|Text(address)| address));

        Ok(Self {
            file: source.map(|source| source.path().to_owned()),
            listeners,
            upstreams,
            router,
            limits: bounds,
            router_limits: router_bounds,
            forwarding,
            x_forwarded: settings.x_forwarded.or(file.forwarding.x_forwarded),
            threads: settings.threads.or(file.threads),
            drain_timeout: drain.map_or(Some(DEFAULT_DRAIN), values::Time::or_off),
            log: LogConfig {
                level: level.map_or(LevelFilter::Info, |level| level.0),
                format: format.map_or(LogFormat::Text, |format| format.0),
            },
            access_log: (
                access.and_then(|AccessTarget(target)| target),
                access_format.map_or(LogFormat::Text, |format| format.0),
            ),
            admin: AdminConfig {
                wanted: admin.is_some(),
                address: match admin {
                    Some(admin) => admin.0,
                    None => default_socket::address("admin.sock").ok(),
                },
                token_file: file.admin.token_file,
                allowed: Allowed {
                    hosts: texts(file.admin.allow_hosts).chain(settings.allow_host.iter().cloned()).collect(),
                    origins: texts(file.admin.allow_origins)
                        .chain(settings.allow_origin.iter().cloned())
                        .collect(),
                },
            },
        })
    }
}

fn texts<T>(written: Vec<Text<T>>) -> impl Iterator<Item = T> {
    written.into_iter().map(|Text(value)| value)
}

/// Returns the listeners of the command line, or the default one.
fn listeners_of(settings: &Settings) -> Result<Vec<ListenerConfig>, Problem> {
    let default;
    let is_default = settings.listen.is_empty();
    let (addresses, origin) = if is_default {
        default = match settings.router {
            true => DEFAULT_ROUTER.parse().into_iter().collect(),
            false => vec![default_socket::address("docker.sock")?],
        };
        (&default, "the default listener")
    } else {
        (&settings.listen, "--listen")
    };
    let tls = settings.listener_tls();
    if tls != ListenerTlsFiles::default()
        && !addresses.iter().any(|it| matches!(it, ListenAddress::Tcp { tls: true, .. }))
    {
        return Err(Problem::new("these options need `--listen tls://host:port`")
            .at("--tls-dir, --tls-cert, -key, -client-ca, -crl")
            .hint("a listener of the configuration file has its own `tls` table"));
    }
    let listener =
        |address: &ListenAddress| {
            Ok(ListenerConfig {
                name: address.to_string(),
                address: address.clone(),
                tls: match address {
                    ListenAddress::Tcp { tls: true, .. } => {
                        let files = tls.clone().settle();
                        Some(files.map_err(|lack| {
                            lack.for_options("--tls-").at(format_args!("{origin} {address}"))
                        })?)
                    }
                    _ => None,
                },
                destination: match settings.router {
                    true => ListenerDestination::Router,
                    false => ListenerDestination::Upstream(0),
                },
                trusted: TrustedPeers::default(),
                proxy_protocol: None,
                allowed: Allowed::default(),
                is_default: is_default && !settings.router,
                origin: format!("{origin} {address}"),
            })
        };
    addresses.iter().map(listener).collect()
}

/// Returns the upstream of the command line, or the default one.
fn upstream_of(settings: &Settings) -> Result<UpstreamConfig, Problem> {
    let addresses = if settings.upstream.is_empty() {
        DEFAULT_UPSTREAM.parse().into_iter().collect()
    } else {
        settings.upstream.clone()
    };
    let tls = settings.upstream_tls();
    let given = tls != UpstreamTlsFiles::default();
    let tls =
        settle_upstream_tls(&addresses, given.then_some(tls)).map_err(|problem| problem.at("--upstream"))?;
    let host = host_for(&addresses);
    let (name, origin) = ("docker".into(), "--upstream".into());
    Ok(UpstreamConfig { name, addresses, tls, host, proxy_protocol: None, origin })
}

fn read_listeners(
    source: Option<&Source>,
    tables: Vec<ListenTable>,
    upstreams: &[UpstreamConfig],
    has_router: bool,
) -> Result<Vec<ListenerConfig>, Problem> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let read = |table: ListenTable| {
        let span = table.address.span();
        let Text(address) = table.address.into_inner();
        let tls = match (table.tls, &address) {
            (Some(tls), _) => {
                let place = tls.span();
                let files = ListenerTlsFiles::from(tls.into_inner()).settle();
                Some(files.map_err(|lack| source.problem(place, "listen.tls", lack.for_keys()))?)
            }
            (None, ListenAddress::Tcp { tls: true, .. }) => {
                let message = "tls:// needs certificates; add tls = { cert = \"…\", key = \"…\" }";
                return Err(source.problem(span, "listen.address", message));
            }
            (None, _) => None,
        };
        if table.is_router {
            if let Some(upstream) = &table.upstream {
                let message = "a router has no upstream; remove this, or router = true";
                return Err(source.problem(upstream.span(), "listen.upstream", message));
            }
            if !has_router {
                let message = "there is no table [router]; add one with domains = [\"…\"]";
                return Err(source.problem(span, "listen.router", message));
            }
            if !table.allow_hosts.is_empty() || !table.allow_origins.is_empty() {
                let message = "allow_hosts and allow_origins are for listeners in front of a Docker daemon; the hosts \
                               of a router are those of its routes";
                return Err(source.problem(span, "listen", message));
            }
        }
        let destination = match &table.upstream {
            _ if table.is_router => ListenerDestination::Router,
            Some(name) => {
                let found = upstreams.iter().position(|upstream| upstream.name == *name.get_ref());
                ListenerDestination::Upstream(found.ok_or_else(|| {
                    let word = name.get_ref();
                    let hint = suggest::hint(word, upstreams.iter().map(|upstream| upstream.name.as_str()));
                    let message = format!("there is no upstream `{}`{hint}", Untrusted::new(word));
                    source.problem(name.span(), "listen.upstream", message)
                })?)
            }
            None if upstreams.len() > 1 => {
                let message = "there are several upstreams; name one of them, as in upstream = \"…\"";
                return Err(source.problem(span, "listen", message));
            }
            None => ListenerDestination::Upstream(0),
        };
        // `false` is the default, and an empty list would let nobody in.
        let proxies = table.proxy_protocol.map(|Trusted(peers)| peers);
        let proxy_protocol = proxies.filter(|peers| *peers != TrustedPeers::default());
        Ok(ListenerConfig {
            name: table.name.map_or_else(|| address.to_string(), |name| name.0),
            address,
            tls,
            destination,
            trusted: table.trusted.0,
            proxy_protocol,
            allowed: Allowed {
                hosts: texts(table.allow_hosts).collect(),
                origins: texts(table.allow_origins).collect(),
            },
            is_default: false,
            origin: source.place(span.start),
        })
    };
    tables.into_iter().map(read).collect()
}

fn read_upstreams(
    source: Option<&Source>,
    tables: Vec<UpstreamTable>,
) -> Result<Vec<UpstreamConfig>, Problem> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let mut all: Vec<UpstreamConfig> = Vec::new();
    for table in tables {
        let span = table.name.span();
        let Name(name) = table.name.into_inner();
        if all.iter().any(|other| other.name == name) {
            let message = format!("there are two upstreams `{name}`; rename one of them");
            return Err(source.problem(span, "upstream.name", message));
        }
        let addresses: Vec<UpstreamAddress> =
            table.address.into_iter().chain(table.addresses).map(|address| address.into_inner().0).collect();
        if addresses.is_empty() {
            let message = "it has no address; add address = \"unix:///var/run/docker.sock\"";
            return Err(source.problem(span, "upstream", message));
        }
        let tls_span = table.tls.as_ref().map_or(span.clone(), toml::Spanned::span);
        let tls = table.tls.map(|tls| UpstreamTlsFiles::from(tls.into_inner()));
        let tls = settle_upstream_tls(&addresses, tls)
            .map_err(|problem| source.problem(tls_span, "upstream", problem))?;
        let host = table.host.unwrap_or_else(|| host_for(&addresses));
        let proxy_protocol = table.proxy_protocol.map(|Text(version)| version.0);
        let origin = source.place(span.start);
        all.push(UpstreamConfig { name, addresses, tls, host, proxy_protocol, origin });
    }
    Ok(all)
}

/// Settles the TLS of an upstream. Either all of its addresses have the scheme tls:// or none.
fn settle_upstream_tls(
    addresses: &[UpstreamAddress],
    given: Option<UpstreamTlsFiles>,
) -> Result<Option<UpstreamTls>, Problem> {
    let secured = addresses.iter().filter(|address| address.tls).count();
    match given {
        given if secured == addresses.len() => given.unwrap_or_default().settle().map(Some),
        _ if secured > 0 => Err(Problem::new("an upstream cannot have tls:// and other addresses mixed")),
        Some(_) => Err(Problem::new("TLS is configured, but no address is tls://host:port")),
        None => Ok(None),
    }
}

/// Returns the `Host` for a daemon at these addresses. For a Unix socket any word will do.
fn host_for(addresses: &[UpstreamAddress]) -> String {
    match addresses.first().map(|first| &first.address) {
        Some(Address::Tcp { host, port }) => HostPort(host, *port).to_string(),
        _ => "docker".into(),
    }
}

fn refuse_same_address(front_door: &FrontDoorConfig, listeners: &[ListenerConfig]) -> Result<(), Problem> {
    let key = front_door.address.key();
    match listeners.iter().find(|listener| listener.address.key() == key) {
        Some(listener) => {
            Err(Problem::new(format_args!("{} is the address of a listener, too", listener.address))
                .at(&front_door.origin)
                .hint("give the front door a port of its own"))
        }
        None => Ok(()),
    }
}

fn refuse_duplicates_and_loops(
    listeners: &[ListenerConfig],
    upstreams: &[UpstreamConfig],
) -> Result<(), Problem> {
    for (number, listener) in listeners.iter().enumerate() {
        let key = listener.address.key();
        if listeners[..number].iter().any(|other| other.address.key() == key) {
            return Err(Problem::new(format_args!("duplicate listen address {}", listener.address))
                .at(&listener.origin)
                .hint("remove one of the two"));
        }
        for upstream in upstreams {
            let back = upstream.addresses.iter().find(|it| listener.address.is_reached_by(&it.address));
            if let Some(address) = back {
                return Err(loop_check::refusal(address).at(&listener.origin));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::of_file as for_tests;
