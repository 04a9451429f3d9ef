#![forbid(unsafe_code)]
//! [`ServiceReader`]: from what a manager of a swarm says of services to records and reasons. Pure.
//!
//! A task is read as the container that it is on some node: with the labels of its service, its
//! addresses in overlay networks, and the ports that are published at its node. All of them are on
//! one [`Node`], which stands for the swarm: its daemon is trusted to say which tasks are replicas,
//! whatever machine they are on.

mod api;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::inspect::{Endpoint, HostConfig, Inspect, NetworkSettings, Published};
use super::network::{Host, Place};
use super::{Condition, ContainerReader, LabelOptions, ReadError, TASK};
use crate::record::{Node, RecordId};
use crate::update::Unrouted;
use crate::watch::{Read, SwarmAnswers, SwarmRead};

/// Reads what the services of a swarm announce, by what a manager of it says.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceReader {
    /// Stands for the swarm.
    pub node: Node,
    /// How services ask for routes: as containers do.
    pub options: LabelOptions,
    /// What decides how their tasks are reached; the address is that of the node of each.
    pub host: Host,
}

/// What is known of a node.
#[derive(Default)]
struct Machine {
    name: String,
    address: Option<IpAddr>,
    is_down: bool,
}

impl Machine {
    fn new(node: &api::Node) -> Self {
        // A manager may know of itself only where it listens for the others.
        let manager = || node.manager_status.addr.parse::<SocketAddr>().ok().map(|address| address.ip());
        let address = node.status.addr.parse::<IpAddr>().ok();
        Self {
            name: node.description.hostname.clone(),
            address: address.filter(|address| !address.is_unspecified()).or_else(manager),
            is_down: node.status.state == "down",
        }
    }
}

impl ServiceReader {
    /// Returns what a manager says.
    ///
    /// # Errors
    /// If an answer is no list. What was known stays true.
    pub fn read(&self, answers: &SwarmAnswers<'_>) -> Result<SwarmRead, ReadError> {
        let (services, unread) = api::list::<api::Service>(answers.services).map_err(ReadError)?;
        let (tasks, _) = api::list::<api::Task>(answers.tasks).map_err(ReadError)?;
        let (nodes, _) = api::list::<api::Node>(answers.nodes).map_err(ReadError)?;
        let machines: HashMap<&str, Machine> =
            nodes.iter().map(|node| (node.id.as_str(), Machine::new(node))).collect();
        let mut by_service: HashMap<&str, Vec<&api::Task>> = HashMap::new();
        for task in &tasks {
            by_service.entry(&task.service).or_default().push(task);
        }
        let mut read = SwarmRead::default();
        for id in unread {
            self.refuse(&mut read, &id, &id, "the manager says of it what is not understood");
        }
        for service in &services {
            let tasks = by_service.remove(service.id.as_str()).unwrap_or_default();
            // Services choose what is read here, and a bug must not keep others from being read.
            match catch_unwind(AssertUnwindSafe(|| self.service(service, &tasks, &machines))) {
                Ok((owners, is_busy)) => {
                    read.owners.extend(owners);
                    read.is_busy |= is_busy;
                }
                Err(_) => {
                    let reason = "what the manager says of it cannot be read: a bug of dockline";
                    self.refuse(&mut read, &service.id, &service.spec.name, reason);
                }
            }
        }
        Ok(read)
    }

    fn refuse(&self, read: &mut SwarmRead, id: &str, title: &str, reason: &str) {
        let owner = RecordId { node: self.node.name.clone(), owner: id.into(), index: 0 };
        let unrouted = Some(Unrouted { owner, title: title.into(), reason: reason.into() });
        let refused = Read { node: self.node.clone(), records: Vec::new(), unrouted, probe: false };
        read.owners.insert(id.to_owned(), refused);
    }

    /// Returns what a service and its tasks announce, and whether it is about to change.
    fn service(
        &self,
        service: &api::Service,
        tasks: &[&api::Task],
        machines: &HashMap<&str, Machine>,
    ) -> (BTreeMap<String, Read>, bool) {
        let mut owners = BTreeMap::new();
        let mut reasons = HashSet::new();
        let mut add = |id: &str, mut read: Read| {
            // Each task would say the same again.
            read.unrouted = read.unrouted.filter(|unrouted| reasons.insert(unrouted.reason.raw().to_owned()));
            if !read.records.is_empty() || read.unrouted.is_some() {
                owners.insert(id.to_owned(), read);
            }
        };
        let unknown = Machine::default();
        let running = |task: &&&api::Task| {
            let machine = machines.get(task.node.as_str()).unwrap_or(&unknown);
            (task.status.state == "running" && !machine.is_down).then_some(machine)
        };
        let mut count = 0;
        for task in tasks {
            if let Some(machine) = running(&task) {
                count += 1;
                add(&task.id, self.task(service, task, machine));
            }
        }
        let template = self.announced(
            inspect_of(service, None),
            Condition::Absent("no task of it is running"),
            &self.host,
        );
        let is_busy = !template.records.is_empty()
            && (count != tasks.len()
                || ["updating", "rollback_started"].contains(&service.update_status.state.as_str()));
        // So that its names stay known, and requests wait.
        if count == 0 {
            add(&service.id, template);
        }
        (owners, is_busy)
    }

    fn task(&self, service: &api::Service, task: &api::Task, machine: &Machine) -> Read {
        let own = match &self.host.place {
            // By their ids: a network of one machine may have the name of one of the swarm.
            Place::Container(own) => {
                let ids = task.networks_attachments.iter().map(|attachment| &attachment.network.id);
                Place::Container(ids.filter(|id| own.contains(*id)).cloned().collect())
            }
            place => place.clone(),
        };
        let drivers = task.networks_attachments.iter().map(|attachment| {
            let network = &attachment.network;
            (network.spec.name.clone(), driver(network).to_owned())
        });
        let host =
            Host { place: own, address: machine.address, drivers: drivers.collect(), ..self.host.clone() };
        self.announced(inspect_of(service, Some((task, machine))), Condition::Running, &host)
    }

    fn announced(&self, inspect: Inspect, condition: Condition, host: &Host) -> Read {
        let Self { node, options, host: own } = self;
        let reader = ContainerReader { node: node.clone(), options: options.clone(), host: own.clone() };
        let mut request = reader.request(&inspect);
        if std::mem::take(&mut request.lifecycle).on_demand {
            let prefix = &options.prefix;
            request.problems.push(format!("`{prefix}.start` is for containers: the swarm starts its tasks"));
        }
        reader.announced(&inspect, condition, request, node.clone(), host)
    }
}

fn driver(network: &api::Network) -> &str {
    match network.driver_state.name.as_str() {
        "" => &network.spec.driver_configuration.name,
        name => name,
    }
}

/// Returns a task as the container that it is, or a service as one without a network.
fn inspect_of(service: &api::Service, task: Option<(&api::Task, &Machine)>) -> Inspect {
    let spec = &task.map_or(&service.spec.task_template, |(task, _)| &task.spec).container_spec;
    let (id, name) = (&service.id, &service.spec.name);
    let mut labels = spec.labels.clone();
    labels.extend(service.spec.labels.clone());
    labels.insert("com.docker.swarm.service.id".into(), id.clone());
    labels.insert("com.docker.swarm.service.name".into(), name.clone());
    let mut inspect = Inspect { id: id.clone(), name: name.clone(), ..Inspect::default() };
    inspect.created.clone_from(&service.created_at);
    inspect.config.env.clone_from(&spec.env);
    inspect.network_settings.ports = ports(service, task.map(|(task, _)| task));
    if let Some((task, machine)) = task {
        let slot = if task.slot > 0 { format!(".{}", task.slot) } else { String::new() };
        inspect.id.clone_from(&task.id);
        inspect.name = format!("{name}{slot}@{}", machine.name);
        labels.insert(TASK.into(), task.id.clone());
        inspect.state.started_at.clone_from(&task.created_at);
        let HostConfig { network_mode } = &mut inspect.host_config;
        let NetworkSettings { networks, .. } = &mut inspect.network_settings;
        for attachment in &task.networks_attachments {
            let network = &attachment.network;
            match driver(network) {
                "host" => "host".clone_into(network_mode),
                // Those of one machine have addresses that others have too.
                "overlay" if !network.spec.ingress => {
                    let addresses = attachment.addresses.iter().filter_map(|text| {
                        let (ip, bits) = text.split_once('/')?;
                        Some((ip.parse().ok()?, bits.parse().ok()?))
                    });
                    let endpoint = Endpoint::new(network.id.clone(), addresses);
                    networks.insert(network.spec.name.clone(), Some(endpoint));
                }
                _ => {}
            }
        }
    }
    inspect.config.labels = labels;
    inspect
}

/// Returns the ports of a service, and those at which a task of it is published.
fn ports(service: &api::Service, task: Option<&api::Task>) -> BTreeMap<String, Option<Vec<Published>>> {
    let mut ports: BTreeMap<String, Option<Vec<Published>>> = BTreeMap::new();
    let mut add = |port: &api::Port, mode: &str| {
        let published = ports.entry(format!("{}/tcp", port.target_port)).or_default();
        if port.publish_mode == mode && port.published_port > 0 {
            let host_port = port.published_port.to_string();
            published.get_or_insert_default().push(Published { host_port, ..Published::default() });
        }
    };
    let is_tcp = |port: &&api::Port| port.protocol == "tcp";
    // Of ports in host mode the service knows what was asked for, and the task what it is.
    service.endpoint.ports.iter().filter(is_tcp).for_each(|port| add(port, "ingress"));
    let of_task = task.into_iter().flat_map(|task| &task.status.port_status.ports);
    of_task.filter(is_tcp).for_each(|port| add(port, "host"));
    ports
}
