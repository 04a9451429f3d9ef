#![forbid(unsafe_code)]
//! [`Plan`]: the configuration as the engine takes it. It reads the certificates, and opens no
//! socket.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use dockline::engine::tls::{
    ClientTls, ClientTlsConfig, Credentials, Pem, ServerTls, ServerTlsConfig, TlsError, check_key_file,
};
use dockline::engine::{Address, ListenerSettings, Router, Service, Upstream};
use dockline::h1::HostPolicy;
use dockline::proxy::hijack::Api;
use dockline::proxy::{ConnConfig, Forwarding, Reply};
use dockline::untrusted::Untrusted;
use dockline_discovery::join::Terms;

use super::certificates::WatchedTls;
use super::front_door::PlannedFrontDoor;
use super::guard::Guard;
use super::identity;
use crate::address::ListenAddress;
use crate::config::join::FrontDoorConfig;
use crate::config::{Config, ListenerConfig, ListenerDestination, ListenerTls, UpstreamConfig, UpstreamTls};
use crate::problem::Problem;
use crate::router::{RouterSettings, Routing};
use crate::unix_socket;

/// Upstreams and listeners, ready for the engine.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As in [`Config::upstreams`].
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// As in [`Config::listeners`].
    pub(crate) listeners: Vec<ListenerSettings>,
    /// The directories of certificates to look after.
    pub(crate) certificates: Vec<WatchedTls>,
    /// As [`Config::router`].
    pub(crate) router: Option<RouterSettings>,
    /// Where other machines join.
    pub(crate) front_door: Option<PlannedFrontDoor>,
}

impl Plan {
    /// Reads and checks all that the configuration names. An upstream of `before` that has not
    /// changed is kept, with its idle connections.
    pub(crate) fn new(
        config: &Config,
        before: &[Arc<Upstream>],
        routing: &Arc<Routing>,
    ) -> Result<Self, Problem> {
        let router = config
            .router
            .as_ref()
            .map(|router| RouterSettings::new(router, tcp_listeners(config), own_gateway(config)))
            .transpose()?;
        let failure_replies = router.as_ref().map(RouterSettings::failure_replies).unwrap_or_default();
        let upstreams = config
            .upstreams
            .iter()
            .map(|wanted| {
                let made = upstream(wanted)?;
                let kept = before.iter().find(|old| is_same(old, &made)).map(Arc::clone);
                Ok(kept.unwrap_or_else(|| Arc::new(made)))
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        let mut certificates = Vec::new();
        let listeners = config
            .listeners
            .iter()
            .map(|wanted| {
                let forwarding = Forwarding {
                    trusted: wanted.trusted.clone(),
                    x_forwarded: config.x_forwarded.unwrap_or(wanted.is_router()),
                    ..config.forwarding.clone()
                };
                let conn = ConnConfig {
                    forwarding,
                    keep_alive_hint: true,
                    ..conn_config(config, wanted, &failure_replies)
                };
                let tls = wanted.tls.as_ref();
                let tls = tls.map(|files| server_tls(files, true, &mut certificates)).transpose();
                let router: Arc<dyn Router> = match wanted.destination {
                    ListenerDestination::Router => Arc::<Routing>::clone(routing),
                    ListenerDestination::Upstream(index) => {
                        let upstream = Arc::clone(&upstreams[index]);
                        match wanted.needs_no_certificate() {
                            true => Guard::new(upstream, wanted.allowed.clone()),
                            false => Arc::new(upstream),
                        }
                    }
                };
                let mut settings = ListenerSettings::new(wanted.name.as_str(), Service::Http(router));
                settings.tls = tls.map_err(|problem| describe(problem, &wanted.tls).at(&wanted.origin))?;
                settings.conn = Arc::new(conn);
                settings.proxy_protocol.clone_from(&wanted.proxy_protocol);
                Ok(settings)
            })
            .collect::<Result<_, Problem>>()?;
        let front_door = config.router.as_ref().and_then(|router| router.front_door.as_ref());
        let front_door = front_door.map(|wanted| front_door_of(wanted, &mut certificates)).transpose()?;
        Ok(Self { upstreams, listeners, certificates, router, front_door })
    }

    /// Returns warnings about certificates that cannot be used, beside those that can.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.certificates.iter().flat_map(|watched| &watched.problems).map(ToString::to_string).collect()
    }
}

/// Returns warnings about configurations that let others in.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let tcp = |listener: &&ListenerConfig| matches!(listener.address, ListenAddress::Tcp { .. });
    let to_daemons = config.listeners.iter().filter(|listener| !listener.is_router());
    let open = to_daemons.filter(tcp).filter(|listener| listener.needs_no_certificate());
    let mut all: Vec<String> = open
        .map(|listener| open_to_all(&listener.address, listener.address.is_public(), &listener.tls))
        .collect();
    let unix = config.listeners.iter().filter_map(|listener| match &listener.address {
        ListenAddress::Unix { path, .. } => Some(path),
        _ => None,
    });
    all.extend(unix.filter_map(|path| unix_socket::shared_dir(path)).map(|dir| {
        format!(
            "{} IS WRITABLE BY OTHER USERS: they can replace the socket and receive what clients send. Use a \
             directory that only root can write to, such as /run/dockline",
            Untrusted::path(&dir)
        )
    }));
    all
}

/// Returns the warning for a TCP listener whose clients need no certificate. `is_public`: other
/// machines can reach it.
pub(crate) fn open_to_all(address: &impl fmt::Display, is_public: bool, tls: &Option<ListenerTls>) -> String {
    let whom = if is_public { "OTHER MACHINES" } else { "EVERY USER OF THIS MACHINE" };
    let lack = if tls.is_some() { "A CLIENT CERTIFICATE" } else { "TLS" };
    let instead = if is_public { "" } else { ", or a Unix socket" };
    format!(
        "{address} IS OPEN TO {whom} WITHOUT {lack}: whoever can connect is root on the Docker host. \
         Use tls:// with a client authority{instead}"
    )
}

/// Returns the addresses of all TCP listeners, as far as they are known before they are opened.
fn tcp_listeners(config: &Config) -> Vec<SocketAddr> {
    let clients = config.listeners.iter().map(|listener| &listener.address);
    let front_door = config.router.iter().filter_map(|router| router.front_door.as_ref());
    let all = clients.chain(&config.admin.address).chain(front_door.map(|door| &door.address));
    all.filter_map(|address| match address {
        ListenAddress::Tcp { host, port, .. } => Some(SocketAddr::new(host.parse().ok()?, *port)),
        ListenAddress::Unix { .. } | ListenAddress::Inherited(_) => None,
    })
    .collect()
}

/// Returns where routers of other machines reach this one: by its first listener for them. An
/// unspecified address stands for the one that they see.
fn own_gateway(config: &Config) -> Option<SocketAddr> {
    let routers = config.listeners.iter().filter(|listener| listener.is_router());
    let mut addresses = routers.filter_map(|listener| match &listener.address {
        ListenAddress::Tcp { host, port, .. } => Some(SocketAddr::new(host.parse().ok()?, *port)),
        ListenAddress::Unix { .. } | ListenAddress::Inherited(_) => None,
    });
    addresses.find(|address| !address.ip().is_loopback() && address.port() != 0)
}

fn front_door_of(
    wanted: &FrontDoorConfig,
    watched: &mut Vec<WatchedTls>,
) -> Result<PlannedFrontDoor, Problem> {
    let tls = server_tls(&wanted.tls, false, watched).map_err(|problem| problem.at(&wanted.origin))?;
    Ok(PlannedFrontDoor {
        address: wanted.address.clone(),
        terms: Terms { tls, keep: wanted.keep },
        origin: wanted.origin.clone(),
    })
}

/// Returns what depends on whether a listener is for a daemon or for applications.
fn conn_config(config: &Config, listener: &ListenerConfig, failure_replies: &[Reply]) -> ConnConfig {
    match listener.is_router() {
        true => ConnConfig {
            limits: config.router_limits,
            hosts: HostPolicy::Strict,
            api: Api::Any,
            failure_replies: failure_replies.to_vec(),
            ..ConnConfig::default()
        },
        false => ConnConfig { limits: config.limits, ..ConnConfig::default() },
    }
}

fn is_same(old: &Upstream, new: &Upstream) -> bool {
    let Upstream { name, addresses, tls, host, proxy_protocol, transparent, .. } = old;
    (name, addresses, tls, host) == (&new.name, &new.addresses, &new.tls, &new.host)
        && (*proxy_protocol, *transparent) == (new.proxy_protocol, new.transparent)
}

fn upstream(wanted: &UpstreamConfig) -> Result<Upstream, Problem> {
    let addresses: Vec<Address> = wanted.addresses.iter().map(|one| one.address.clone()).collect();
    let mut upstream = Upstream::new(wanted.name.as_str(), addresses);
    upstream.host = Some(wanted.host.as_str().into());
    upstream.proxy_protocol = wanted.proxy_protocol;
    let tls = wanted.tls.as_ref().map(client_tls).transpose();
    upstream.tls = tls.map_err(|error| Problem::new(error).at(&wanted.origin))?;
    Ok(upstream)
}

/// Adds a hint if a directory has no authority: without one, everybody would be let in.
fn describe(problem: Problem, files: &Option<ListenerTls>) -> Problem {
    let authority = files.as_ref().and_then(|files| files.client_ca.as_ref());
    match authority.filter(|path| path.ends_with("ca.pem") && !path.exists()) {
        Some(_) => problem.hint(
            "put the authority of client certificates into ca.pem, or, to require none, name the certificate and the \
             key (cert, key) instead of the directory",
        ),
        None => problem,
    }
}

fn server_tls(
    files: &ListenerTls,
    http_only: bool,
    watched: &mut Vec<WatchedTls>,
) -> Result<Arc<ServerTls>, Problem> {
    let config = ServerTlsConfig { http_only, ..server_config(files).map_err(Problem::new)? };
    match &files.certificates {
        Some(dir) => {
            let made = WatchedTls::new(config, dir.clone())?;
            let tls = made.tls();
            watched.push(made);
            Ok(tls)
        }
        None => ServerTls::new(&config).map(Arc::new).map_err(Problem::new),
    }
}

/// Reads the files that are named one by one.
fn server_config(files: &ListenerTls) -> Result<ServerTlsConfig, TlsError> {
    let mut certificates = Vec::new();
    if let Some((cert, key)) = &files.own {
        check_key_file(key)?;
        certificates.push(Credentials::read(cert, key)?);
    }
    let mut config = ServerTlsConfig::with(certificates);
    config.client_ca = files.client_ca.as_ref().map(Pem::read).transpose()?;
    config.identify = Arc::new(identity::of_certificate);
    config.crls = files.crl.iter().map(Pem::read).collect::<Result<_, _>>()?;
    Ok(config)
}

fn client_tls(wanted: &UpstreamTls) -> Result<Arc<ClientTls>, TlsError> {
    ClientTls::new(&client_tls_config(wanted)?).map(Arc::new)
}

/// Reads the files of TLS with a server.
pub(crate) fn client_tls_config(wanted: &UpstreamTls) -> Result<ClientTlsConfig, TlsError> {
    let mut config = ClientTlsConfig::new(Pem::read(&wanted.ca)?);
    if let Some((cert, key)) = &wanted.credentials {
        check_key_file(key)?;
        config.credentials = Some(Credentials::read(cert, key)?);
    }
    config.server_name.clone_from(&wanted.name);
    Ok(config)
}
