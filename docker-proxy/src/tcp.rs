#![forbid(unsafe_code)]
//! Connections to the container, relayed by the engine.

use std::error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

use dockline::engine::{
    Address, Engine, EngineOptions, Event, Listener, ListenerSettings, Observer, Service, Upstream,
};
use dockline::proxy::ProxyProtocol;

/// Joins each connection to a published port with one to the container.
pub(crate) struct Forwarder(Engine);

impl Forwarder {
    /// Takes a listening TCP socket.
    pub(crate) fn new(listener: OwnedFd, target: Target) -> io::Result<Self> {
        let engine = Engine::new(EngineOptions::default(), Arc::new(Log))?;
        engine.handle().listen(forward(listener, target));
        Ok(Self(engine))
    }

    /// Serves until the poller fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.0.run()
    }
}

/// Where connections go. Its text form is the request to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) container: SocketAddr,
    /// The PROXY protocol that the container wants, if any.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Whether connections come from the addresses of the clients.
    pub(crate) transparent: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.proxy_protocol {
            None => "",
            Some(ProxyProtocol::V1) => " v1",
            Some(ProxyProtocol::V2) => " v2",
        };
        let transparent = if self.transparent { " transparent" } else { "" };
        write!(f, "{}{version}{transparent}", self.container)
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let mut words = text.split(' ');
        let container = words.next().unwrap_or_default().parse().map_err(|_| InvalidTarget)?;
        let mut target = Self { container, proxy_protocol: None, transparent: false };
        for word in words {
            match word {
                "v1" => target.proxy_protocol = Some(ProxyProtocol::V1),
                "v2" => target.proxy_protocol = Some(ProxyProtocol::V2),
                "transparent" => target.transparent = true,
                _ => return Err(InvalidTarget),
            }
        }
        Ok(target)
    }
}

/// A text that is not a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidTarget;

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address with known options")
    }
}

impl error::Error for InvalidTarget {}

/// Makes a listener whose connections go to the container.
pub(crate) fn forward(listener: OwnedFd, target: Target) -> Listener {
    let Target { container, proxy_protocol, transparent } = target;
    let address = Address::Tcp { host: container.ip().to_string(), port: container.port() };
    let mut upstream = Upstream::new(format!("tcp/{container}"), vec![address]);
    upstream.proxy_protocol = proxy_protocol;
    upstream.transparent = transparent;
    Listener::new(listener, ListenerSettings::new("port", Service::Forward(Arc::new(upstream))))
}

/// Logs what matters to an operator who runs the program by hand.
pub(crate) struct Log;

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectFailed { upstream, error, .. } => {
                crate::log(format_args!("cannot forward traffic to backend {}: {error}", upstream.name));
            }
            Event::AcceptFailed { error, .. } => {
                crate::log(format_args!("cannot accept a connection: {error}"))
            }
            Event::Full { connections } => {
                crate::log(format_args!(
                    "{connections} connections are open, the most possible: new ones wait"
                ));
            }
            _ => {}
        }
    }
}
