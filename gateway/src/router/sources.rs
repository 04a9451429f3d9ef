#![forbid(unsafe_code)]
//! [`Sources`]: the watchers of the daemons that are configured.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dockline::engine::Address;
use dockline::engine::tls::{ClientTls, ClientTlsConfig};
use dockline::proxy::Network;
use dockline_discovery::container::LabelOptions;
use dockline_discovery::watch::Watcher;
use dockline_discovery::{Node, NodeName, Source, Update};
use dockline_docker_client::Docker;
use log::warn;

use super::Sink;
use super::gate::Gate;
use super::join::{self, Join, Joined};
use super::on_demand::Starter;
use super::place::{self, Surroundings};
use super::reader::Reader;
use super::settings::{RouterSettings, source_of, swarm_of};
use super::swarm::Swarm;
use crate::config::router::DaemonConfig;
use crate::problem::Problem;
use crate::process::spawn;

/// See the [module](self). Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(Arc<Mutex<Vec<Running>>>);

/// A daemon that is watched.
struct Running {
    plan: Plan,
    source: Source,
    /// Closed when another one takes its place.
    gate: Gate,
    joined: Option<Joined>,
    swarm: Option<Swarm>,
    _watcher: Watcher,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("source", &self.source).finish_non_exhaustive()
    }
}

/// How a daemon is watched. If anything of it changes, it is watched anew.
#[derive(Clone, Debug)]
struct Plan {
    daemon: DaemonConfig,
    tls: Option<ClientTlsConfig>,
    node: Node,
    labels: LabelOptions,
    direct: Vec<Network>,
    join: Option<Join>,
}

impl Plan {
    fn is_same(&self, other: &Self) -> bool {
        (&self.daemon, &self.node, &self.labels, &self.direct)
            == (&other.daemon, &other.node, &other.labels, &other.direct)
            && same_tls(&self.tls, &other.tls)
            && join::is_same(self.join.as_ref(), other.join.as_ref())
    }
}

fn same_tls(one: &Option<ClientTlsConfig>, other: &Option<ClientTlsConfig>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            (&one.ca, &one.credentials, &one.server_name)
                == (&other.ca, &other.credentials, &other.server_name)
        }
        _ => false,
    }
}

impl Sources {
    /// Watches the daemons of these settings, and no others. Those that are watched already, and in
    /// the same way, are not disturbed.
    pub(super) fn update(
        &self,
        settings: &RouterSettings,
        sink: &Sink,
        starter: &Starter,
    ) -> Result<(), Problem> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = plans(settings)?;
        running.retain(|running| {
            let is_wanted = plans.iter().any(|plan| source_of(&plan.daemon) == running.source);
            if !is_wanted {
                starter.set_daemon(&running.source, None);
                running.joined.iter().for_each(Joined::stop);
            }
            is_wanted
        });
        for plan in plans {
            let source = source_of(&plan.daemon);
            let before = running.iter().find(|running| running.source == source);
            if let Some(before) = before.filter(|before| before.plan.is_same(&plan)) {
                if let (Some(joined), Some(join)) = (&before.joined, &plan.join) {
                    joined.renew(&join.tls);
                }
                continue;
            }
            let new = self.watch(plan, before, sink, starter)?;
            replace(&mut running, new);
        }
        Ok(())
    }

    /// Watches a daemon anew, since this process is in other networks now.
    fn rewatch(&self, source: &Source, sink: &Sink, starter: &Starter) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = running.iter().find(|running| running.source == *source) else { return };
        match self.watch(before.plan.clone(), Some(before), sink, starter) {
            Ok(new) => replace(&mut running, new),
            Err(problem) => warn!("{source} is not watched anew: {problem}"),
        }
    }

    /// Leaves the front door to another process, which joins as this machine.
    pub(super) fn leave_front_door(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(|running| running.joined.as_ref()).for_each(Joined::stop);
    }

    fn watch(
        &self,
        plan: Plan,
        before: Option<&Running>,
        sink: &Sink,
        starter: &Starter,
    ) -> Result<Running, Problem> {
        let source = source_of(&plan.daemon);
        let failed = || format!("{source} cannot be watched");
        let client = || {
            let address = plan.daemon.address.address.clone();
            match &plan.tls {
                None => Docker::new(address).map_err(Problem::wrap(failed())),
                Some(config) => {
                    let tls = ClientTls::new(config).map_err(Problem::wrap(failed()))?;
                    Docker::with_tls(address, tls).map_err(Problem::wrap(failed()))
                }
            }
        };
        // A watcher closes its client when it ends.
        let docker = client()?;
        let own = client()?;
        starter.set_daemon(&source, Some(own.clone()));
        let moved = {
            let (sources, source, sink, starter) =
                (self.clone(), Arc::clone(&source), Arc::clone(sink), starter.clone());
            move || {
                let (sources, source, sink, starter) =
                    (sources.clone(), Arc::clone(&source), Arc::clone(&sink), starter.clone());
                // Not on this thread, which belongs to the watcher that ends.
                if let Err(problem) = spawn("rewatch", move || sources.rewatch(&source, &sink, &starter)) {
                    warn!("{problem}");
                }
            }
        };
        let surroundings = Surroundings {
            is_here: is_here(&plan.daemon),
            address: place::address_of(&plan.daemon.address.address),
            direct: plan.direct.clone(),
        };
        let reader = Arc::new(Reader::new(plan.node.clone(), plan.labels.clone(), surroundings, own, moved));
        let joined = before.and_then(|before| before.joined.as_ref());
        let joined = match &plan.join {
            None => None,
            Some(join) => Some(match joined.filter(|joined| joined.is_for(join)) {
                Some(joined) => joined.clone(),
                None => Joined::start(join.clone())?,
            }),
        };
        let gate = Gate::new();
        let deliver = {
            let (sink, gate, joined) = (Arc::clone(sink), gate.clone(), joined.clone());
            move |update: Update| {
                gate.pass(|| {
                    joined.iter().for_each(|joined| joined.apply(&update));
                    sink(update);
                })
            }
        };
        let swarm = match (&plan.daemon.swarm, swarm_of(&plan.daemon)) {
            (Some(name), Some(source)) => {
                let (docker, reader) = (client()?, Arc::clone(&reader));
                Some(
                    Swarm::watch(docker, source, name.clone(), reader, sink)
                        .map_err(Problem::wrap(failed()))?,
                )
            }
            _ => None,
        };
        let watcher = Watcher::start(docker, Arc::clone(&source), plan.node.clone(), reader, deliver)
            .map_err(Problem::wrap(failed()))?;
        Ok(Running { plan, source, gate, joined, swarm, _watcher: watcher })
    }
}

/// Lets a watcher take the place of another one of the same daemon, whose records stay until the
/// new one knows better.
fn replace(running: &mut Vec<Running>, new: Running) {
    if let Some(at) = running.iter().position(|old| old.source == new.source) {
        let old = running.remove(at);
        old.gate.close();
        if new.swarm.is_some() {
            old.swarm.iter().for_each(Swarm::retire);
        }
        if let Some(left) = &old.joined
            && !new.joined.as_ref().is_some_and(|joined| joined.is_same(left))
        {
            left.stop();
        }
    }
    running.push(new);
}

fn plans(settings: &RouterSettings) -> Result<Vec<Plan>, Problem> {
    let config = &settings.config;
    let labels = LabelOptions {
        prefix: config.labels.prefix.0.clone(),
        exposed_by_default: config.labels.exposed_by_default,
        virtual_host: config.labels.virtual_host,
        traefik: config.labels.traefik,
        without_tasks: false,
    };
    let mut names = BTreeSet::new();
    let plans = settings.daemons.iter();
    let plans = plans
        .map(|(daemon, tls)| {
            let name = node_of(daemon, &settings.reach.node)?;
            if !names.insert(name.clone()) {
                return Err(Problem::new(format_args!("there are two daemons of the node {name}"))
                    .at("router.docker")
                    .hint("give each of them a name, as in { address = \"…\", node = \"worker-1\" }"));
            }
            let join = settings.join.clone().filter(|join| join.node.name == name);
            let gateway = daemon.gateway.or(config.gateway.filter(|_| is_here(daemon)));
            Ok(Plan {
                daemon: daemon.clone(),
                tls: tls.clone(),
                node: Node { name, gateway },
                labels: LabelOptions { without_tasks: daemon.swarm.is_some(), ..labels.clone() },
                direct: config.direct.clone(),
                join,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = plans.iter().find_map(|plan| names.get(plan.daemon.swarm.as_ref()?)) {
        return Err(Problem::new(format_args!("{name} is the name of a swarm and of a node"))
            .at("router.docker")
            .hint("give the swarm another name, as in { address = \"…\", swarm = \"blue\" }"));
    }
    Ok(plans)
}

/// Returns whether a daemon is on this machine.
fn is_here(daemon: &DaemonConfig) -> bool {
    match &daemon.address.address {
        Address::Unix(_) => true,
        Address::Tcp { .. } => place::address_of(&daemon.address.address)
            .is_some_and(|address| place::own_addresses().contains(&address)),
    }
}

/// Returns the name of the machine of a daemon: that of the configuration, of this machine, or the
/// host of its address.
pub(super) fn node_of(daemon: &DaemonConfig, own: &NodeName) -> Result<NodeName, Problem> {
    match (&daemon.node, &daemon.address.address) {
        (Some(name), _) => Ok(name.clone()),
        (None, _) if is_here(daemon) => Ok(own.clone()),
        (None, Address::Unix(_)) => Ok(own.clone()),
        (None, Address::Tcp { host, .. }) => host.parse().map_err(|error: &str| {
            Problem::new(format_args!("{}: {error}", daemon.address))
                .at("router.docker")
                .hint("give its machine a name, as in { address = \"…\", node = \"worker-1\" }")
        }),
    }
}
