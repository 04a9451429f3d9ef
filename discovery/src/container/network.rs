#![forbid(unsafe_code)]
//! [`Host`]: by which address a container is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dockline::proxy::Network;

use super::inspect::{Endpoint, Inspect, Interface};
use super::wanted::Port;
use crate::record::excerpt;
use crate::suggest;

/// Characters of an id that people use.
const SHORT_ID: usize = 12;

/// Where the gateway is, as seen from the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the machine of the daemon: it reaches the networks in which the machine has an address.
    #[default]
    Host,
    /// In a container of the daemon: it reaches the networks of that, by name or id.
    Container(BTreeSet<String>),
    /// On another machine: it reaches published ports.
    Elsewhere,
}

/// What is known of the machine of a daemon, and of the gateway: what decides how a container is
/// reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Where the gateway is.
    pub place: Place,
    /// The addresses of the machine on which the gateway runs.
    pub own_addresses: Vec<IpAddr>,
    /// The address at which other machines, and the gateway, reach the machine of the daemon: for
    /// published ports, and for containers in its network.
    pub address: Option<IpAddr>,
    /// Networks that the gateway reaches besides: by routes of the operator's.
    pub routed: Vec<Network>,
    /// The drivers of the daemon's networks, by name, as far as known: for better reasons.
    pub drivers: BTreeMap<String, String>,
}

impl Host {
    /// Returns whether an address of the machine of the daemon is reached by the gateway there, if
    /// that has one.
    pub(super) fn is_behind_gateway(&self, address: IpAddr) -> bool {
        self.place == Place::Elsewhere && !self.routed.iter().any(|network| network.contains(address))
    }
}

/// What a route needs of an address.
pub(super) struct Ask<'a> {
    pub(super) inspect: &'a Inspect,
    pub(super) prefix: &'a str,
    pub(super) port: Port,
    pub(super) network: Option<&'a str>,
    /// Whether the machine of the container has a gateway, by which others reach its bridges.
    pub(super) has_gateway: bool,
}

impl Ask<'_> {
    /// Returns the address to connect to.
    ///
    /// # Errors
    /// Why there is none, and what to do next.
    pub(super) fn address(&self, host: &Host) -> Result<SocketAddr, String> {
        let mode = self.inspect.host_config.network_mode.as_str();
        if mode == "host" {
            return self.host_address(host);
        }
        let port = self.port()?;
        if let Some(other) = mode.strip_prefix("container:") {
            let other: String = other.chars().take(SHORT_ID).collect();
            return Err(format!("it uses the network of the container {other}: set the labels on that one"));
        }
        // The network of swarm's published ports: no gateway is in it.
        let networks = &self.inspect.network_settings.networks;
        let endpoints: Vec<_> = networks
            .iter()
            .filter(|(name, _)| *name != "ingress" && *name != "none")
            .filter_map(|(name, endpoint)| Some((name.as_str(), endpoint.as_ref()?)))
            .collect();
        if let Some(wanted) = self.network {
            return self.within(wanted, &endpoints).map(|ip| SocketAddr::new(ip, port));
        }
        let mut reached: Vec<_> = endpoints
            .iter()
            .filter_map(|(name, endpoint)| Some((*name, *endpoint, endpoint.interface()?)))
            .filter(|(name, endpoint, interface)| self.reaches(host, name, endpoint, interface))
            .collect();
        reached.sort_by_key(|(name, endpoint, _)| (-endpoint.priority, *name));
        match reached.first() {
            Some((.., interface)) => Ok(SocketAddr::new(interface.ip, port)),
            None => self.published(host, port).unwrap_or_else(|| Err(self.unreached(host, &endpoints))),
        }
    }

    fn title(&self) -> &str {
        excerpt(self.inspect.name.trim_start_matches('/'))
    }

    fn port(&self) -> Result<u16, String> {
        let exposed = self.inspect.exposed();
        match (self.port, &exposed[..]) {
            (Port::Named(port), _)
            | (Port::Exposed | Port::ExposedOr(_), &[port])
            | (Port::ExposedOr(port), _) => Ok(port),
            (Port::Exposed, []) => Err(format!(
                "it exposes no TCP port: set `{}.port` to the port that it listens on",
                self.prefix
            )),
            (Port::Exposed, ports) => {
                let shown: Vec<_> = ports.iter().take(8).map(u16::to_string).collect();
                let more = if ports.len() > 8 { ", ..." } else { "" };
                let ports = shown.join(", ");
                Err(format!("it exposes several ports: set `{}.port` to one of {ports}{more}", self.prefix))
            }
        }
    }

    /// Returns the address of a container in the network of its machine. What the image exposes
    /// says nothing of what it listens on there.
    fn host_address(&self, host: &Host) -> Result<SocketAddr, String> {
        let Port::Named(port) = self.port else {
            return Err(format!(
                "it uses the network of its host: set `{}.port` to the port that it listens on",
                self.prefix
            ));
        };
        let ip = host.address.filter(|ip| !ip.to_canonical().is_loopback()).ok_or_else(|| {
            "it uses the network of its host, which has no known address: set the address of the node"
                .to_owned()
        })?;
        Ok(SocketAddr::new(ip, port))
    }

    /// Returns the address in a network that a label names.
    fn within(&self, wanted: &str, endpoints: &[(&str, &Endpoint)]) -> Result<IpAddr, String> {
        let labels = ["com.docker.compose.project", "com.docker.stack.namespace"];
        let project = labels.iter().find_map(|key| self.inspect.label(key)).unwrap_or_default();
        // Compose and `docker stack` put the project before the name that their file has.
        let is_wanted = |name: &str| {
            let within = name.strip_prefix(project).and_then(|rest| rest.strip_prefix('_'));
            name == wanted || (!project.is_empty() && within == Some(wanted))
        };
        let exact = endpoints.iter().find(|(name, _)| *name == wanted);
        match exact.or_else(|| endpoints.iter().find(|(name, _)| is_wanted(name))) {
            Some((_, endpoint)) => match endpoint.interface() {
                Some(interface) => Ok(interface.ip),
                None => Err(format!("it has no address in the network `{}` yet", excerpt(wanted))),
            },
            None => {
                let nearest = suggest::nearest(wanted, endpoints.iter().map(|(name, _)| *name));
                let suggestion = nearest.map(|name| format!("; did you mean `{}`?", excerpt(name)));
                let (prefix, wanted) = (self.prefix, excerpt(wanted));
                Err(format!(
                    "it is not in the network `{wanted}` of `{prefix}.network`{}",
                    suggestion.unwrap_or_else(|| format!(": it is in {}", names(endpoints)))
                ))
            }
        }
    }

    /// Returns the address at which its port is published; `None` if it is not.
    fn published(&self, host: &Host, port: u16) -> Option<Result<SocketAddr, String>> {
        let published = self.inspect.network_settings.ports.get(&format!("{port}/tcp"))?.as_ref()?;
        let published: Vec<_> = published
            .iter()
            .filter_map(|one| {
                let ip: IpAddr = if one.host_ip.is_empty() {
                    IpAddr::from([0, 0, 0, 0])
                } else {
                    one.host_ip.parse::<IpAddr>().ok()?.to_canonical()
                };
                Some((ip, one.host_port.parse::<u16>().ok().filter(|port| *port > 0)?))
            })
            .collect();
        let title = self.title();
        let is_of_host = |ip: &IpAddr| {
            ip.is_unspecified() && host.address.is_some_and(|host| host.is_ipv4() == ip.is_ipv4())
        };
        let everywhere = published.iter().find(|(ip, _)| is_of_host(ip));
        let somewhere = published.iter().find(|(ip, _)| !ip.is_loopback() && !ip.is_unspecified());
        match (everywhere, somewhere, host.address) {
            (Some((_, port)), _, Some(ip)) => Some(Ok(SocketAddr::new(ip, *port))),
            (_, Some((ip, port)), _) => Some(Ok(SocketAddr::new(*ip, *port))),
            _ if published.is_empty() => None,
            _ if published.iter().all(|(ip, _)| ip.is_loopback()) => Some(Err(format!(
                "no network of `{title}` is shared with the gateway, and its port is published on loopback only: \
                 publish it on an address of the host"
            ))),
            _ => Some(Err(format!(
                "no network of `{title}` is shared with the gateway, and its host has no known address for the \
                 published port: set the address of the node"
            ))),
        }
    }

    /// Returns whether an address of the container is reached.
    fn reaches(&self, host: &Host, name: &str, endpoint: &Endpoint, interface: &Interface) -> bool {
        if host.routed.iter().any(|network| network.contains(interface.ip)) {
            return true;
        }
        let is_bridge = host.drivers.get(name).is_none_or(|driver| driver == "bridge");
        match &host.place {
            Place::Container(networks) => networks.contains(name) || networks.contains(&endpoint.network),
            Place::Elsewhere => self.has_gateway && is_bridge,
            Place::Host => {
                let is_own = |ip: IpAddr| host.own_addresses.iter().any(|own| own.to_canonical() == ip);
                // A bridge without a way out has no gateway, and an address of the host all the
                // same.
                let is_within = || {
                    let network = Network::new(interface.ip, interface.bits);
                    network.is_some_and(|network| host.own_addresses.iter().any(|own| network.contains(*own)))
                };
                is_bridge && interface.gateway.map_or_else(is_within, is_own)
            }
        }
    }

    /// Returns why it is in no network that is reached.
    fn unreached(&self, host: &Host, endpoints: &[(&str, &Endpoint)]) -> String {
        let title = self.title();
        if endpoints.is_empty() {
            return "it is in no network: start it in one that the gateway is in".into();
        }
        if endpoints.iter().all(|(_, endpoint)| endpoint.interface().is_none()) {
            return format!("it has no address yet in {}", names(endpoints));
        }
        let driver = |name: &str| host.drivers.get(name).map(String::as_str);
        let special = endpoints.iter().find_map(|(name, _)| {
            let driver = driver(name).filter(|driver| ["macvlan", "ipvlan", "overlay"].contains(driver))?;
            Some((excerpt(name), driver))
        });
        match (&host.place, special) {
            (Place::Host, Some((name, driver @ "overlay"))) => format!(
                "`{name}` is an {driver} network, which only containers reach: run the gateway in a container of it, \
                 or publish the port"
            ),
            (Place::Host, Some((name, driver))) => format!(
                "`{name}` is a network of {driver}, whose containers their own host does not reach: \
                 `docker network connect bridge {title}`"
            ),
            (Place::Host, None) => format!(
                "this host has no address in {}: publish the port, or `docker network connect bridge {title}`",
                names(endpoints)
            ),
            (_, Some((name, "overlay"))) => format!(
                "its network `{name}` is not shared with this gateway: attach the gateway to it, or publish the port"
            ),
            (Place::Container(own), _) => {
                let own = own.iter().find(|name| *name != "bridge").map_or("NETWORK", |name| excerpt(name));
                format!(
                    "it is in {}, and the gateway is not: `docker network connect {own} {title}`",
                    names(endpoints)
                )
            }
            (Place::Elsewhere, _) => {
                "it is on another machine: publish the port, or run a gateway there".into()
            }
        }
    }
}

/// Returns the names of a few networks.
fn names(endpoints: &[(&str, &Endpoint)]) -> String {
    let names: Vec<_> = endpoints.iter().take(3).map(|(name, _)| format!("`{}`", excerpt(name))).collect();
    names.join(", ")
}
