#![forbid(unsafe_code)]
//! What is served where: listeners, the service behind each, and upstreams.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::in_flight::{InFlight, Tally};
use super::route::Router;
#[cfg(feature = "tls")]
use super::tls::{ClientTls, ServerTls};
use crate::limits::Limits;
use crate::proxy::{ConnConfig, ProxyProtocol, TrustedPeers};
use crate::untrusted::Untrusted;

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address, and a port. A name may have several addresses: they are tried
    /// in order.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a Unix socket; one that begins with `@` is in the abstract namespace.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => {
                write!(f, "tcp://[{}]:{port}", Untrusted::new(host))
            }
            Self::Tcp { host, port } => write!(f, "tcp://{}:{port}", Untrusted::new(host)),
            Self::Unix(path) => write!(f, "unix://{}", Untrusted::path(path)),
        }
    }
}

/// A server that gets requests or connections. Idle connections are kept per [`Arc`] of it: a new
/// `Upstream` never uses a connection of an old one.
#[derive(Debug)]
pub struct Upstream {
    /// The name for logs.
    pub name: Arc<str>,
    /// Where it listens. If a connection to one address cannot be made, the next one is tried. A
    /// listener of the same engine or [`Workers`](super::Workers), by whatever name, is refused:
    /// connections would loop.
    pub addresses: Vec<Address>,
    /// The TLS configuration for it; `None`: no TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<ClientTls>>,
    /// Replaces the client's `Host`; `None` sends the client's. A Docker daemon ignores the name,
    /// but refuses some that its own clients send, so a gateway for it sets one.
    pub host: Option<Arc<str>>,
    /// Begins each connection, before TLS, with a header of the PROXY protocol that names the
    /// client. Such a connection serves requests of that client's connection only.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connects from the client's IP address (`IP_TRANSPARENT`), except if that is of another
    /// family, or of the loopback or an IPv6 link while the upstream is elsewhere; only for
    /// [`Service::Forward`] and TCP. Requires CAP_NET_RAW, and routes that bring packets of the
    /// upstream for that address back to this process.
    pub transparent: bool,
    pub(super) tally: Tally,
}

impl Upstream {
    /// Makes an upstream without TLS that gets the client's `Host`.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, addresses: Vec<Address>) -> Self {
        Self {
            name: name.into(),
            addresses,
            #[cfg(feature = "tls")]
            tls: None,
            host: None,
            proxy_protocol: None,
            transparent: false,
            tally: Tally::default(),
        }
    }

    /// Returns how many requests and tunnels are in flight to it now, over all engines.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.tally.get()
    }
}

/// What a listener serves.
#[derive(Clone)]
pub enum Service {
    /// HTTP/1.1, request by request.
    Http(Arc<dyn Router>),
    /// Bytes: each connection is joined with one to the upstream, or is reset if that cannot be
    /// reached.
    Forward(Arc<Upstream>),
}

impl Service {
    /// Serves HTTP/1.1 and sends every request on to one upstream.
    #[must_use]
    pub fn to(upstream: impl Into<Arc<Upstream>>) -> Self {
        Self::Http(Arc::new(upstream.into()))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(_) => f.write_str("Http(..)"),
            Self::Forward(upstream) => f.debug_tuple("Forward").field(upstream).finish(),
        }
    }
}

/// Everything about a listener but its socket.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The name for logs.
    pub name: Arc<str>,
    /// What it serves.
    pub service: Service,
    /// The proxies in front of it. Each connection has to be one of theirs, and begin with a header
    /// of the PROXY protocol, before TLS and within [`Limits::head_time`]; the client that it names
    /// is [`ClientInfo::peer`](super::ClientInfo::peer). Default `None`: no header is read.
    pub proxy_protocol: Option<TrustedPeers>,
    /// The TLS configuration for its clients; `None`: no TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<ServerTls>>,
    /// How HTTP of its clients is handled.
    pub conn: Arc<ConnConfig>,
}

impl ListenerSettings {
    /// Makes settings for a listener without TLS, with default limits.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, service: Service) -> Self {
        Self {
            name: name.into(),
            service,
            proxy_protocol: None,
            #[cfg(feature = "tls")]
            tls: None,
            conn: Arc::new(ConnConfig::default()),
        }
    }

    /// Returns whether a connection begins with bytes of the client: those of HTTP and TLS, and the
    /// header of a proxy. A server behind a forwarding listener may speak first.
    pub(super) fn client_speaks_first(&self) -> bool {
        matches!(self.service, Service::Http(_)) || self.proxy_protocol.is_some()
    }

    /// Returns the limits of its connections.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.conn.limits
    }
}

/// A listening stream socket and what is served on it.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: OwnedFd,
    pub(super) handle: ListenerHandle,
}

impl Listener {
    /// Makes a listener of a socket that listens already. The engine makes it non-blocking.
    #[must_use]
    pub fn new(socket: OwnedFd, settings: ListenerSettings) -> Self {
        Self { socket, handle: ListenerHandle { settings: Arc::new(RwLock::new(Arc::new(settings))) } }
    }

    /// Returns the handle for replacing its settings, and for closing it.
    #[must_use]
    pub fn handle(&self) -> ListenerHandle {
        self.handle.clone()
    }
}

/// Refers to a [`Listener`] that an engine has taken.
#[derive(Clone, Debug)]
pub struct ListenerHandle {
    settings: Arc<RwLock<Arc<ListenerSettings>>>,
}

impl ListenerHandle {
    /// Replaces the settings. Connections accepted from now on have the new ones, others keep
    /// theirs.
    pub fn replace(&self, settings: ListenerSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Returns the present settings.
    #[must_use]
    pub fn settings(&self) -> Arc<ListenerSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.settings, &other.settings)
    }
}
