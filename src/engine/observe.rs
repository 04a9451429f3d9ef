#![forbid(unsafe_code)]
//! What a host is told: each request, each tunnel, what went wrong, and counters.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::service::Upstream;
use crate::error::{Failure, Side};
use crate::proxy::ExchangeEnd;
use crate::proxy::hijack::HijackKind;
use crate::relay::RelayStats;
use crate::untrusted::Untrusted;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket: who connected (`SO_PEERCRED`, asked once at accept). The process id is for logs only;
    /// it may be another's by now.
    Unix {
        /// Process.
        pid: i32,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Neither, or the kernel would not say.
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

/// Who is at the other end of a client connection.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Its address.
    pub peer: PeerAddr,
    /// The name of the listener.
    pub listener: Arc<str>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Whom its certificate names, as the listener's [`ServerTls`](super::tls::ServerTls) understood it; `None`
    /// without one. To be shown, it has to be marked as [`Untrusted`].
    pub identity: Option<Arc<str>>,
}

/// A request that has been dealt with, or a request that became a tunnel.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// Who asked.
    pub client: &'a ClientInfo,
    /// The method; empty when the request could not be read.
    pub method: &'a [u8],
    /// The target, as sent; empty when the request could not be read.
    pub target: &'a [u8],
    /// The status of the answer; `None` if none was sent.
    pub status: Option<u16>,
    /// Where it went.
    pub upstream: Option<&'a Upstream>,
    /// Whether it used a kept connection.
    pub reused: bool,
    /// How it became a tunnel.
    pub tunnel: Option<HijackKind>,
    /// How it ended.
    pub end: ExchangeEnd,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// From the first byte of the request to the end of the answer (of its head for a tunnel).
    pub duration: Duration,
    /// From the first byte of the request to the head of the answer.
    pub time_to_head: Option<Duration>,
}

/// A tunnel that ended.
#[derive(Debug)]
pub struct Tunnel<'a> {
    /// Who opened it.
    pub client: &'a ClientInfo,
    /// The method of the request that opened it; empty for [`Service::Forward`](super::Service::Forward).
    pub method: &'a [u8],
    /// Its target, at most the first 255 bytes.
    pub target: &'a [u8],
    /// Where it led.
    pub upstream: &'a Upstream,
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
    /// Who opened it.
    pub peer: PeerAddr,
    /// The name of the listener; empty for an adopted pair.
    pub listener: Arc<str>,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// Bytes and times so far.
    pub stats: RelayStats,
    /// How long it has been open.
    pub age: Duration,
}

/// Something that an operator may want to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener cannot accept. If `paused`, it tries again in a moment; otherwise it is no listener, and given up.
    AcceptFailed {
        /// The listener.
        listener: &'a str,
        /// Why.
        error: &'a io::Error,
        /// Whether it waits a moment before it goes on.
        paused: bool,
    },
    /// The engine has as many connections as it may; listeners wait until there are fewer.
    Full {
        /// How many that is.
        connections: usize,
    },
    /// A client's TLS handshake failed.
    HandshakeFailed {
        /// Who it was.
        client: &'a ClientInfo,
        /// Why.
        failure: Failure,
        /// Why, in the words of the TLS library, which may quote the client's certificate.
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
    /// A connection of a [`Service::Forward`](super::Service::Forward) listener ended before it was a tunnel.
    ForwardFailed {
        /// Who it was.
        client: &'a ClientInfo,
        /// The upstream.
        upstream: &'a Upstream,
        /// Why.
        failure: Failure,
    },
    /// The relay of a tunnel has something to say.
    Relay(&'a crate::drive::Event<'a>),
    /// A connection failed outside a tunnel.
    Reset {
        /// Whose.
        side: Side,
        /// Why.
        error: &'a io::Error,
    },
    /// The code for one connection panicked. That connection is closed; please report it.
    Panicked,
}

/// Takes what the engine has to tell. Called on the thread of the loop; must not block, or everybody waits.
pub trait Observer: Send + Sync + 'static {
    /// A request has been dealt with, or became a tunnel.
    fn exchange(&self, exchange: &Exchange<'_>) {
        let _ = exchange;
    }

    /// Whether the record of a tunnel is to name the request that opened it. If not, its method and target are
    /// empty, and a tunnel owns some hundred bytes less. Asked once per tunnel.
    fn wants_requests_of_tunnels(&self) -> bool {
        true
    }

    /// A tunnel ended.
    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let _ = tunnel;
    }

    /// Something out of the ordinary.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Nobody.
impl Observer for () {
    fn wants_requests_of_tunnels(&self) -> bool {
        false
    }
}
