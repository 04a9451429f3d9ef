#![forbid(unsafe_code)]
//! [`Target`]: an upstream of a route, and how records become one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dockline::engine::tls::{ClientTls, ClientTlsConfig};
use dockline::engine::{Address, Upstream};
use dockline::proxy::{Network, ProxyProtocol};
use dockline_discovery::directory::Claim;
use dockline_discovery::{NodeName, Origin, RecordId, Target as RecordTarget};

/// One start of a container, as the upstream that it is. A container that is started again is
/// another one, even at the same address: no request for it may use a connection of the old one.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) upstream: Arc<Upstream>,
    /// Requests that were sent to it first.
    requests: AtomicU64,
    /// The second of its latest request, as the keeper counts them.
    used_at: AtomicU64,
    origin: TargetOrigin,
}

/// What makes a target another one.
#[derive(Clone, Debug, PartialEq)]
struct TargetOrigin {
    id: RecordId,
    started: u64,
    target: Option<RecordTarget>,
    way: Way,
}

/// How a target is reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// By its own address.
    Direct,
    /// By the router of its node, which has the same route.
    Gateway(SocketAddr),
}

impl Target {
    /// Counts a request, at a second.
    pub(super) fn count(&self, now: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.used_at.store(now, Ordering::Relaxed);
    }

    /// Returns how many requests it got first.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the second since which it has had no request and no tunnel.
    pub(super) fn idle_since(&self, now: u64) -> u64 {
        let in_flight = self.upstream.in_flight();
        if in_flight.requests + in_flight.tunnels > 0 {
            self.used_at.store(now, Ordering::Relaxed);
        }
        self.used_at.load(Ordering::Relaxed)
    }

    /// Returns requests and tunnels in flight.
    pub(super) fn load(&self) -> u64 {
        let in_flight = self.upstream.in_flight();
        u64::from(in_flight.requests) + u64::from(in_flight.tunnels)
    }

    /// Returns how it is reached.
    pub(super) fn way(&self) -> &Way {
        &self.origin.way
    }
}

/// How records become targets.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// This machine.
    pub(super) node: NodeName,
    /// The addresses of other nodes' containers that can be reached from here.
    pub(super) direct: Vec<Network>,
    /// The TLS with targets whose scheme is https.
    pub(super) target_tls: Option<Arc<ClientTls>>,
    /// The TLS with the routers of other nodes, whose certificates name the nodes.
    pub(super) gateway_tls: Option<ClientTlsConfig>,
}

impl Reach {
    /// Returns how the target of a claim is reached; `None`: it has no address yet.
    pub(super) fn way(&self, claim: &Claim) -> Option<Way> {
        let record = claim.record();
        let target = record.target.as_ref();
        let is_here = claim.is_fixed() || record.id.node == self.node;
        let is_direct = match target.map(|target| &target.address) {
            Some(Origin::Ip(address)) => self.direct.iter().any(|network| network.contains(address.ip())),
            Some(Origin::Host(..)) | None => false,
        };
        match claim.gateway() {
            Some(gateway) if !is_here && !is_direct => Some(Way::Gateway(gateway)),
            _ => target.map(|_| Way::Direct),
        }
    }

    /// Returns the target of a claim: one of `before`, if it is the same. `None`: it has no address
    /// yet, or needs TLS that is not configured.
    pub(super) fn target<'t>(
        &self,
        claim: &Claim,
        mut before: impl Iterator<Item = &'t Arc<Target>>,
        now: u64,
    ) -> Option<Arc<Target>> {
        let record = claim.record();
        let origin = TargetOrigin {
            id: record.id.clone(),
            started: record.started,
            target: record.target.clone(),
            way: self.way(claim)?,
        };
        if let Some(same) = before.find(|target| target.origin == origin) {
            return Some(Arc::clone(same));
        }
        let upstream = Arc::new(self.upstream(claim, &origin)?);
        Some(Arc::new(Target { upstream, requests: AtomicU64::new(0), used_at: AtomicU64::new(now), origin }))
    }

    fn upstream(&self, claim: &Claim, origin: &TargetOrigin) -> Option<Upstream> {
        let record = claim.record();
        let name = record.title.to_string();
        match (&origin.way, &origin.target) {
            (Way::Gateway(gateway), _) => {
                let mut upstream = Upstream::new(name, vec![tcp(gateway)]);
                if let Some(config) = &self.gateway_tls {
                    let server_name = config.server_name.clone();
                    let server_name = server_name.unwrap_or_else(|| record.id.node.to_string());
                    let config = ClientTlsConfig { server_name: Some(server_name), ..config.clone() };
                    upstream.tls = Some(Arc::new(ClientTls::new(&config).ok()?));
                }
                Some(upstream)
            }
            (Way::Direct, Some(target)) => {
                let address = match &target.address {
                    Origin::Ip(address) => tcp(address),
                    Origin::Host(host, port) => Address::Tcp { host: host.to_string(), port: *port },
                };
                let mut upstream = Upstream::new(name, vec![address]);
                if target.tls {
                    upstream.tls = Some(Arc::clone(self.target_tls.as_ref()?));
                }
                upstream.proxy_protocol = match target.proxy_protocol {
                    Some(1) => Some(ProxyProtocol::V1),
                    Some(_) => Some(ProxyProtocol::V2),
                    None => None,
                };
                Some(upstream)
            }
            (Way::Direct, None) => None,
        }
    }
}

fn tcp(address: &SocketAddr) -> Address {
    Address::Tcp { host: address.ip().to_string(), port: address.port() }
}
