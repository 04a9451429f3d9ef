#![forbid(unsafe_code)]
//! The published ports: bound here, and forwarded by the engine (TCP) or a thread for each (UDP).

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dockline::engine::{
    self, Address, EngineOptions, Event, Listener, ListenerHandle, ListenerSettings, Observer, OpenTunnel,
    PeerAddr, Service, Tunnel, Upstream, Workers,
};
use dockline::proxy::ProxyProtocol;
use dockline_sys as sys;
use dockline_udp as udp;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::port_owner;
use super::ports::{Mapping, Proto};
use super::status::Client;
use crate::problem::Problem;
use crate::process::raise_descriptor_limit;

/// Limit for a report of a thread.
const REPORT_TIME: Duration = Duration::from_secs(2);

/// TCP connections and UDP clients at a time, of all ports together. More means a mistake, such as
/// two publications that lead to each other in a way that is not detected.
const CONNECTIONS: usize = 16_384;
/// UDP clients of each port at least, however many ports there are.
const CLIENTS_OF_PORT: usize = 64;

/// Limit for connections that wait at a port.
const WAITING_MAX: usize = 8192;

/// Ports that are bound and not served yet.
pub(crate) struct BoundPorts(Vec<(Mapping, OwnedFd)>);

impl BoundPorts {
    /// Binds all, or none.
    pub(crate) fn new(mappings: &[Mapping]) -> Result<Self, Problem> {
        let mut bound: Vec<(Mapping, OwnedFd)> = Vec::new();
        for mapping in mappings {
            let mut mapping = *mapping;
            if mapping.listen.port() == 0
                && mapping.optional
                && let Some((other, _)) = bound.last()
            {
                // The same number as at the other loopback address.
                mapping.listen.set_port(other.listen.port());
            }
            let socket = match mapping.proto {
                Proto::Tcp => sys::listen_stream(mapping.listen),
                Proto::Udp => sys::bind_datagram(mapping.listen),
            };
            match socket {
                Ok(socket) => {
                    let name = rustix::net::getsockname(&socket)
                        .ok()
                        .and_then(|name| SocketAddr::try_from(name).ok());
                    mapping.listen = name.unwrap_or(mapping.listen);
                    bound.push((mapping, socket));
                }
                Err(error) if mapping.optional && is_absent(&error) => {}
                Err(error) => return Err(describe(error, &mapping)),
            }
        }
        Ok(Self(bound))
    }

    pub(crate) fn mappings(&self) -> Vec<Mapping> {
        self.0.iter().map(|(mapping, _)| *mapping).collect()
    }

    /// Closes the connections that were made before the firewall rules were in place. A new one
    /// meets the rules, which decide about it.
    pub(crate) fn close_waiting(&self) -> io::Result<()> {
        for (mapping, socket) in &self.0 {
            rustix::io::ioctl_fionbio(socket, true)?;
            for _ in 0..WAITING_MAX {
                let next = match mapping.proto {
                    Proto::Tcp => rustix::net::accept(socket).map(drop),
                    Proto::Udp => rustix::net::recv(socket, &mut [0; 1], RecvFlags::TRUNC).map(drop),
                };
                if next.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn describe(error: io::Error, mapping: &Mapping) -> Problem {
    let problem = Problem::new(format_args!("cannot publish {mapping}"));
    match error.kind() {
        ErrorKind::AddrInUse => problem
            .because(port_owner::describe(mapping.listen, mapping.proto))
            .hint("choose another port, or end that program"),
        ErrorKind::PermissionDenied if mapping.listen.port() < 1024 => {
            let other = 8000 + mapping.listen.port() % 1000;
            problem
                .because("ports below 1024 need CAP_NET_BIND_SERVICE")
                .hint(format_args!("run this as root, or choose a port such as {other}"))
        }
        _ if is_absent(&error) => {
            problem.because("this machine has no such address").hint("`ip address` lists those it has")
        }
        _ => problem.because(error),
    }
}

/// Serves bound ports.
pub(crate) struct Relay {
    handles: Vec<engine::Handle>,
    ports: Vec<ServedPort>,
    proxy_protocol: Option<ProxyProtocol>,
    ledger: Arc<Ledger>,
}

struct ServedPort {
    mapping: Mapping,
    server: Server,
}

enum Server {
    Tcp(ListenerHandle),
    Udp(udp::Handle),
}

/// The traffic of one port.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) clients: Vec<Client>,
}

impl Relay {
    /// Serves the ports. The caller must wait for the workers.
    pub(crate) fn start(
        bound: BoundPorts,
        target: Option<IpAddr>,
        proxy_protocol: Option<ProxyProtocol>,
    ) -> Result<(Self, Workers), Problem> {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let ledger = Arc::new(Ledger::default());
        let observer: Arc<dyn Observer> = ledger.clone();
        let descriptors = raise_descriptor_limit();
        let connections = Some(connections(descriptors, threads));
        let options = EngineOptions { connections, ..EngineOptions::default() };
        let workers = Workers::start(threads, &options, &observer)
            .map_err(Problem::wrap("cannot start the workers"))?;
        let mut relay =
            Self { handles: workers.handles().to_vec(), ports: Vec::new(), proxy_protocol, ledger };
        let clients = clients(bound.0.iter().filter(|(mapping, _)| mapping.proto == Proto::Udp).count());
        for (mapping, socket) in bound.0 {
            let server = match mapping.proto {
                Proto::Tcp => {
                    let listener = Listener::new(socket, relay.settings(&mapping, target));
                    let handle = listener.handle();
                    workers.listen(listener);
                    Server::Tcp(handle)
                }
                Proto::Udp => Server::Udp(
                    serve_udp(socket, &mapping, target, clients)
                        .map_err(Problem::wrap(format_args!("cannot serve {mapping}")))?,
                ),
            };
            relay.ports.push(ServedPort { mapping, server });
        }
        Ok((relay, workers))
    }

    /// Changes the target. With `None`, connections are reset.
    pub(crate) fn set_target(&self, target: Option<IpAddr>) {
        self.ledger.logged.store(false, Ordering::Relaxed);
        for ServedPort { mapping, server } in &self.ports {
            match server {
                Server::Tcp(listener) => listener.replace(self.settings(mapping, target)),
                Server::Udp(handle) => handle.set_target(target.map(|ip| SocketAddr::new(ip, mapping.port))),
            }
        }
    }

    /// Closes the ports. Open connections have this time to end.
    pub(crate) fn drain(&self, limit: Duration) {
        for handle in &self.handles {
            handle.drain(Some(limit));
        }
        for port in &self.ports {
            if let Server::Udp(handle) = &port.server {
                handle.stop();
            }
        }
    }

    /// Closes everything at once.
    pub(crate) fn stop(&self) {
        self.handles.iter().for_each(engine::Handle::stop);
    }

    pub(crate) fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.ports.iter().map(|port| &port.mapping)
    }

    /// Returns the traffic of each port.
    pub(crate) fn traffic(&self) -> Vec<(Mapping, Traffic)> {
        let tunnels = self.tunnels();
        let report = |port: &ServedPort| match &port.server {
            Server::Tcp(_) => self.tcp_traffic(&port.mapping, &tunnels),
            Server::Udp(handle) => udp_traffic(handle),
        };
        self.ports.iter().map(|port| (port.mapping, report(port))).collect()
    }

    fn tunnels(&self) -> Vec<OpenTunnel> {
        let (sender, receiver) = sync_channel(self.handles.len());
        for handle in &self.handles {
            let sender = sender.clone();
            handle.tunnels(move |tunnels| drop(sender.try_send(tunnels)));
        }
        drop(sender);
        let mut all = Vec::new();
        while let Ok(tunnels) = receiver.recv_timeout(REPORT_TIME) {
            all.extend(tunnels);
        }
        all
    }

    fn tcp_traffic(&self, mapping: &Mapping, tunnels: &[OpenTunnel]) -> Traffic {
        let name = mapping.to_string();
        let mut traffic = Traffic::default();
        let ended = self.ledger.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sums) = ended.get(name.as_str()) {
            (traffic.connections, traffic.bytes_up, traffic.bytes_down) = *sums;
        }
        for tunnel in tunnels.iter().filter(|tunnel| *tunnel.listener == *name) {
            let client = Client {
                peer: peer(&tunnel.peer).into(),
                bytes_up: tunnel.stats.up.delivered,
                bytes_down: tunnel.stats.down.delivered,
                seconds: tunnel.age.as_secs(),
            };
            traffic.add(client);
        }
        traffic.connections += traffic.clients.len() as u64;
        traffic
    }

    fn settings(&self, mapping: &Mapping, target: Option<IpAddr>) -> ListenerSettings {
        let addresses = target.map(|ip| Address::Tcp { host: ip.to_string(), port: mapping.port });
        let name = addresses.as_ref().map_or_else(|| "nowhere".to_owned(), ToString::to_string);
        let mut upstream = Upstream::new(name, addresses.into_iter().collect());
        upstream.proxy_protocol = self.proxy_protocol;
        ListenerSettings::new(mapping.to_string(), Service::Forward(Arc::new(upstream)))
    }
}

impl Traffic {
    fn add(&mut self, client: Client) {
        self.bytes_up += client.bytes_up;
        self.bytes_down += client.bytes_down;
        self.clients.push(client);
    }
}

fn peer(peer: &PeerAddr) -> String {
    match peer {
        // An IPv4 client of an IPv6 socket is shown with its IPv4 address.
        PeerAddr::Ip(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
        other => other.to_string(),
    }
}

/// Returns the limit of connections of each worker. A connection takes two descriptors, and there
/// are others.
fn connections(descriptors: u64, threads: NonZeroUsize) -> usize {
    let possible = usize::try_from(descriptors / 3).unwrap_or(usize::MAX).saturating_sub(64);
    (possible.min(CONNECTIONS) / threads).max(1)
}

/// Returns the limit of clients of each of so many UDP ports.
fn clients(ports: usize) -> usize {
    (CONNECTIONS / ports.max(1)).clamp(CLIENTS_OF_PORT, udp::SESSIONS)
}

fn serve_udp(
    socket: OwnedFd,
    mapping: &Mapping,
    target: Option<IpAddr>,
    clients: usize,
) -> io::Result<udp::Handle> {
    let target = target.map(|ip| SocketAddr::new(ip, mapping.port));
    let mut forwarder = udp::Forwarder::new(socket, target, false, |text| log::warn!("{text}"))?;
    forwarder.limit_clients(clients);
    let handle = forwarder.handle()?;
    thread::Builder::new().name(mapping.listen.port().to_string()).spawn(move || {
        if let Err(error) = forwarder.run() {
            log::error!("a UDP port has failed: {error}");
        }
    })?;
    Ok(handle)
}

fn udp_traffic(handle: &udp::Handle) -> Traffic {
    let (sender, receiver) = sync_channel(1);
    handle.report(move |report| drop(sender.try_send(report)));
    let Ok(report) = receiver.recv_timeout(REPORT_TIME) else { return Traffic::default() };
    let clients = report.open.iter().map(|client| Client {
        peer: client.peer.to_string().into(),
        bytes_up: client.bytes_up,
        bytes_down: client.bytes_down,
        seconds: client.age.as_secs(),
    });
    Traffic {
        connections: report.clients,
        bytes_up: report.bytes_up,
        bytes_down: report.bytes_down,
        clients: clients.collect(),
    }
}

/// Sums over the closed connections, by listener.
#[derive(Default)]
struct Ledger {
    ended: Mutex<HashMap<Arc<str>, (u64, u64, u64)>>,
    /// Whether a failed connect was logged. It is logged once for each target.
    logged: AtomicBool,
}

impl Observer for Ledger {
    fn wants_requests_of_tunnels(&self) -> bool {
        false
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        self.logged.store(false, Ordering::Relaxed);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = ended.entry(Arc::clone(&tunnel.client.listener)).or_default();
        sums.0 += 1;
        sums.1 += tunnel.stats.up.delivered;
        sums.2 += tunnel.stats.down.delivered;
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectFailed { address, error, .. } if !self.logged.swap(true, Ordering::Relaxed) => {
                log::warn!("cannot connect to {address}: {error}");
            }
            Event::Full { connections } => {
                log::warn!("{connections} connections are open, the most permitted: new ones wait");
            }
            Event::AcceptFailed { listener, error, .. } => {
                log::warn!("{listener}: cannot accept a connection: {error}")
            }
            Event::Panicked => log::error!("a connection was closed by a panic; please report this bug"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_publication_is_bounded() {
        let threads = |count| NonZeroUsize::new(count).unwrap();
        for (descriptors, count, wanted) in [
            (1 << 30, 1, CONNECTIONS),
            (1 << 30, 4, CONNECTIONS / 4),
            (3 * (16_384 + 64), 1, CONNECTIONS),
            (3 * (16_383 + 64), 1, CONNECTIONS - 1),
            (1024, 2, 138),
            (0, 8, 1),
        ] {
            assert_eq!(connections(descriptors, threads(count)), wanted, "{descriptors} {count}");
        }
        let all = [0, 1, 4, 5, 256, 1000].map(clients);
        assert_eq!(all, [4096, 4096, 4096, 3276, 64, 64]);
    }

    #[test]
    fn connections_before_the_rules_are_closed() {
        let mapping = |proto| Mapping {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            port: 9,
            proto,
            optional: false,
        };
        let bound = BoundPorts::new(&[mapping(Proto::Tcp), mapping(Proto::Udp)]).unwrap();
        let [tcp, udp] = bound.mappings()[..] else { panic!("two ports") };
        let mut early = TcpStream::connect(tcp.listen).unwrap();
        early.write_all(b"let me in").unwrap();
        early.set_read_timeout(Some(REPORT_TIME)).unwrap();
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        datagrams.send_to(b"let me in", udp.listen).unwrap();

        bound.close_waiting().unwrap();
        assert_eq!(early.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let waiting = rustix::net::recv(&bound.0[1].1, &mut [0; 1], RecvFlags::empty());
        assert_eq!(waiting.unwrap_err(), Errno::AGAIN);
    }
}
