#![forbid(unsafe_code)]
//! What a host gets from an engine: records of exchanges and tunnels, and events.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::service::Upstream;
use crate::error::{Failure, Side};
use crate::proxy::ExchangeEnd;
use crate::proxy::hijack::HijackKind;
use crate::relay::RelayStats;
use crate::untrusted::Untrusted;

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket: the process that connected (`SO_PEERCRED`, read once at accept). The
    /// process id is for logs only: it may belong to another process by now.
    Unix {
        /// Process.
        pid: i32,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Neither, or not known.
    Unknown,
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { pid, uid, .. } => write!(f, "unix:uid={uid},pid={pid}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Its address. The PROXY protocol may have named it ([`proxied`](Self::proxied)).
    pub peer: PeerAddr,
    /// The name of the listener.
    pub listener: Arc<str>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The name in its certificate, as the listener's [`ServerTls`](super::tls::ServerTls) took it;
    /// `None` without a certificate. Mark it as [`Untrusted`] before it is shown.
    pub identity: Option<Arc<str>>,
    /// If the peer is a trusted proxy, the address of its client, as the present request states it
    /// ([`ProxyConn::forwarded_for`](crate::proxy::ProxyConn::forwarded_for)).
    pub forwarded_for: Option<IpAddr>,
    /// The proxy that has named the client by the PROXY protocol.
    pub proxied: Option<Box<Proxied>>,
}

/// The connection of a proxy that has named its client by the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The address of the proxy.
    pub by: PeerAddr,
    /// What the client has connected to.
    pub destination: SocketAddr,
}

impl ClientInfo {
    /// Makes what is known of a client without TLS as soon as it has connected.
    #[must_use]
    pub fn new(peer: PeerAddr, listener: impl Into<Arc<str>>) -> Self {
        let listener = listener.into();
        Self { peer, listener, tls: false, identity: None, forwarded_for: None, proxied: None }
    }
}

/// The record of an exchange that is over, or became a tunnel.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The client.
    pub client: &'a ClientInfo,
    /// The method; empty when the request could not be read.
    pub method: &'a [u8],
    /// The target, as sent; empty when the request could not be read.
    pub target: &'a [u8],
    /// The status of the response; `None` if none was sent.
    pub status: Option<u16>,
    /// Where the request went.
    pub upstream: Option<&'a Upstream>,
    /// The name of the route that it took there.
    pub route: Option<&'a str>,
    /// Whether it used an idle connection of the pool.
    pub reused: bool,
    /// How it became a tunnel.
    pub tunnel: Option<HijackKind>,
    /// The [`id`](OpenTunnel::id) of that tunnel.
    pub tunnel_id: Option<u64>,
    /// How it ended.
    pub end: ExchangeEnd,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// From the first byte of the request to the end of the response (of its head for a tunnel).
    pub duration: Duration,
    /// From the first byte of the request to the head of the response.
    pub time_to_head: Option<Duration>,
}

/// The record of a tunnel that ended.
#[derive(Debug)]
pub struct Tunnel<'a> {
    /// Its [`id`](OpenTunnel::id).
    pub id: u64,
    /// The client that opened it.
    pub client: &'a ClientInfo,
    /// The method of the request that opened it; empty for
    /// [`Service::Forward`](super::Service::Forward).
    pub method: &'a [u8],
    /// Its target, at most the first 255 bytes.
    pub target: &'a [u8],
    /// Where it led.
    pub upstream: &'a Upstream,
    /// The name of the route that it took there.
    pub route: Option<&'a str>,
    /// How it was opened; `None` for [`Service::Forward`](super::Service::Forward).
    pub kind: Option<HijackKind>,
    /// Bytes, first closer, reason.
    pub stats: RelayStats,
    /// Why it ended, if not by the ends of both directions.
    pub failure: Option<Failure>,
    /// How long it was open.
    pub duration: Duration,
}

/// A tunnel that is open ([`Handle::tunnels`](super::Handle::tunnels)).
#[derive(Clone, Debug)]
pub struct OpenTunnel {
    /// Its number, which no other tunnel of this process has or had.
    pub id: u64,
    /// The address of the client that opened it.
    pub peer: PeerAddr,
    /// The [identity](ClientInfo::identity) of the client. Mark it as [`Untrusted`] before it is
    /// shown.
    pub identity: Option<Arc<str>>,
    /// The name of the listener; empty for an adopted pair.
    pub listener: Arc<str>,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// The name of the route that it took there.
    pub route: Option<Arc<str>>,
    /// Bytes and times so far.
    pub stats: RelayStats,
    /// How long it has been open.
    pub age: Duration,
}

/// An event for the operator.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener cannot accept. If `paused`, it tries again after a pause; otherwise its socket is
    /// not a listening one, and it is closed.
    AcceptFailed {
        /// The listener.
        listener: &'a str,
        /// Why.
        error: &'a io::Error,
        /// Whether it tries again after a pause.
        paused: bool,
    },
    /// The engine has as many client connections as it may; listeners wait until there are fewer.
    Full {
        /// How many connections that are.
        connections: usize,
    },
    /// A connection to a listener with the PROXY protocol did not begin with a header, or may not.
    ProxyHeaderFailed {
        /// The client: the proxy, or who takes itself for one.
        client: &'a ClientInfo,
        /// Why it failed.
        failure: Failure,
    },
    /// A client's TLS handshake failed.
    HandshakeFailed {
        /// The client.
        client: &'a ClientInfo,
        /// Why it failed.
        failure: Failure,
        /// The message of the TLS library, which may quote the client's certificate.
        reason: Untrusted<&'a str>,
    },
    /// An upstream, or one address of it, could not be reached.
    ConnectFailed {
        /// The upstream.
        upstream: &'a Upstream,
        /// The address that was tried.
        address: &'a str,
        /// Why.
        failure: Failure,
        /// Why, as the operating system, the resolver or the TLS library says it.
        error: &'a io::Error,
    },
    /// A connection of a [`Service::Forward`](super::Service::Forward) listener ended before it was
    /// a tunnel.
    ForwardFailed {
        /// The client.
        client: &'a ClientInfo,
        /// The upstream.
        upstream: &'a Upstream,
        /// Why it failed.
        failure: Failure,
    },
    /// An event of a tunnel's relay.
    Relay(&'a crate::drive::Event<'a>),
    /// A connection failed outside a tunnel.
    Reset {
        /// The side whose connection failed.
        side: Side,
        /// Why.
        error: &'a io::Error,
    },
    /// The code for one connection panicked. That connection is closed; please report it.
    Panicked,
}

/// Receives records and events. Called on the thread of the loop: if it blocks, all connections
/// wait.
pub trait Observer: Send + Sync + 'static {
    /// Receives the record of an exchange that is over, or became a tunnel.
    fn exchange(&self, exchange: &Exchange<'_>) {
        let _ = exchange;
    }

    /// Returns whether the record of a tunnel is to contain the request that opened it. If not, its
    /// method and target are empty, and a tunnel needs some hundred bytes less. Called once per
    /// tunnel.
    fn wants_requests_of_tunnels(&self) -> bool {
        true
    }

    /// Receives the record of a tunnel that ended.
    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let _ = tunnel;
    }

    /// Receives an event.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Ignores everything.
impl Observer for () {
    fn wants_requests_of_tunnels(&self) -> bool {
        false
    }
}
