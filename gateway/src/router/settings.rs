#![forbid(unsafe_code)]
//! [`RouterSettings`]: the configuration with all that its files say.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use dockline::engine::tls::{ClientTls, ClientTlsConfig, TlsError};
use dockline::proxy::Reply;
use dockline::routes::RouteKey;
use dockline_discovery::{Node, NodeName, Source};

use super::join::Join;
use super::pages::Pages;
#[cfg(feature = "redis")]
use super::redis::{self, RegistryPlan};
use super::sources::node_of;
use super::target::Reach;
use crate::config::UpstreamTls;
use crate::config::router::{Balance, DaemonConfig, RouterConfig};
use crate::problem::Problem;
use crate::serve::plan::client_tls_config;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct RouterSettings {
    pub(super) config: RouterConfig,
    /// Where this process listens: no container may be there.
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) pages: Pages,
    pub(super) reach: Reach,
    /// The front door that the routes of this machine are pushed to.
    pub(super) join: Option<Join>,
    /// Where the routes of other machines are read.
    #[cfg(feature = "redis")]
    pub(super) registry: Option<RegistryPlan>,
    /// The daemons, with their TLS.
    pub(super) daemons: Vec<(DaemonConfig, Option<ClientTlsConfig>)>,
    /// How the targets of some routes of the file are balanced.
    balances: HashMap<RouteKey, Balance>,
}

impl RouterSettings {
    /// Reads and checks all that the configuration names. `listeners` are all TCP listeners of the
    /// process, `own_gateway` is the one that routers of other machines can use.
    pub(crate) fn new(
        config: &RouterConfig,
        listeners: Vec<SocketAddr>,
        own_gateway: Option<SocketAddr>,
    ) -> Result<Self, Problem> {
        let pages = match &config.error_pages {
            Some(dir) => Pages::read(dir).map_err(|problem| problem.at("router.error_pages"))?,
            None => Pages::default(),
        };
        if let Some(dir) = &config.acme_dir
            && !dir.is_dir()
        {
            return Err(Problem::new(format_args!("{dir} is no directory"))
                .at("router.acme_dir")
                .hint("create it; an ACME client writes its challenges into it (its webroot)"));
        }
        let read = |key: &str, tls: &Option<UpstreamTls>| {
            let read = tls.as_ref().map(client_tls_config).transpose();
            read.and_then(|config| {
                // So that a broken one is reported now.
                config.as_ref().map(ClientTls::new).transpose()?;
                Ok(config)
            })
            .map_err(|error: TlsError| Problem::new(error).at(key))
        };
        let target_tls = read("router.target_tls", &config.target_tls)?;
        let target_tls = target_tls.as_ref().map(ClientTls::new).transpose().map_err(Problem::new)?;
        let daemons = config.daemons.iter().map(|daemon| {
            let tls = read("router.docker", &daemon.tls)?;
            Ok((daemon.clone(), tls))
        });
        let daemons = daemons.collect::<Result<Vec<_>, Problem>>()?;
        let node = node_name(config)?;
        let join = match &config.join {
            None => None,
            Some(join) => {
                let tls = read("router.join", &Some(join.tls.clone()))?;
                let is_own = |daemon| node_of(daemon, &node).is_ok_and(|name| name == node);
                if !daemons.iter().any(|(daemon, _)| is_own(daemon)) {
                    return Err(Problem::new(format_args!("there is no daemon of this machine ({node})"))
                        .at("router.join")
                        .hint("add its socket to docker in [router], or name the node with node = \"…\""));
                }
                let node = Node { name: node.clone(), gateway: config.gateway.or(own_gateway) };
                tls.map(|tls| Join { front: join.front.clone(), tls, node })
            }
        };
        #[cfg(feature = "redis")]
        let registry = {
            let own = daemons.iter().filter_map(|(daemon, _)| node_of(daemon, &node).ok()).collect();
            config.redis.as_ref().map(|redis| RegistryPlan::new(redis, own)).transpose()?
        };
        let balances = config.fixed.iter().filter_map(|route| Some((route.key.clone(), route.balance?)));
        Ok(Self {
            pages,
            reach: Reach {
                node,
                direct: config.direct.clone(),
                target_tls: target_tls.map(Arc::new),
                gateway_tls: read("router.gateway_tls", &config.gateway_tls)?,
            },
            daemons,
            #[cfg(feature = "redis")]
            registry,
            join,
            balances: balances.collect(),
            config: config.clone(),
            listeners,
        })
    }

    /// Returns settings by which nothing is routed.
    pub(super) fn empty() -> Result<Self, Problem> {
        Self::new(&RouterConfig { daemons: Vec::new(), ..RouterConfig::default() }, Vec::new(), None)
    }

    /// Returns the replies to what fails on the way to a target.
    pub(crate) fn failure_replies(&self) -> Vec<Reply> {
        self.pages.failures()
    }

    /// Returns the names of the daemons as sources.
    pub(super) fn daemons(&self) -> impl Iterator<Item = Source> {
        self.daemons.iter().flat_map(|(daemon, _)| [Some(source_of(daemon)), swarm_of(daemon)]).flatten()
    }

    /// Returns the names of all that is asked for routes.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        #[cfg(feature = "redis")]
        let registry = self.registry.as_ref().map(|_| redis::source());
        #[cfg(not(feature = "redis"))]
        let registry: Option<Source> = None;
        self.daemons().chain(registry)
    }

    /// Returns how the targets of a route are balanced.
    pub(super) fn balance(&self, key: &RouteKey) -> Balance {
        self.balances.get(key).copied().unwrap_or(self.config.balance)
    }
}

/// Returns the name of a daemon as a source.
pub(super) fn source_of(daemon: &DaemonConfig) -> Source {
    format!("docker:{}", daemon.address).into()
}

/// Returns the name of the swarm that a daemon is a manager of, as a source.
pub(super) fn swarm_of(daemon: &DaemonConfig) -> Option<Source> {
    daemon.swarm.as_ref().map(|_| format!("swarm:{}", daemon.address).into())
}

/// Returns the name of this machine among nodes.
fn node_name(config: &RouterConfig) -> Result<NodeName, Problem> {
    if let Some(name) = &config.node {
        return Ok(name.clone());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.parse().map_err(|error: &str| {
        Problem::new("the host name of this machine cannot name a node")
            .because(error)
            .hint("give it a name with node = \"…\" in [router]")
    })
}
