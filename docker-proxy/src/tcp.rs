#![forbid(unsafe_code)]
//! Connections to the container, relayed by the engine.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dockline::engine::{
    Address, Engine, EngineOptions, Event, Listener, ListenerSettings, Observer, Service, Upstream,
};

/// Joins each connection to a published port with one to the container.
pub(crate) struct Forwarder(Engine);

impl Forwarder {
    /// Takes a listening TCP socket.
    pub(crate) fn new(listener: OwnedFd, container: SocketAddr) -> io::Result<Self> {
        let engine = Engine::new(EngineOptions::default(), Arc::new(Log))?;
        engine.handle().listen(forward(listener, container));
        Ok(Self(engine))
    }

    /// Serves until the poller fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.0.run()
    }
}

/// A listener whose connections go to the container.
pub(crate) fn forward(listener: OwnedFd, container: SocketAddr) -> Listener {
    let address = Address::Tcp { host: container.ip().to_string(), port: container.port() };
    let upstream = Upstream::new(format!("tcp/{container}"), vec![address]);
    Listener::new(listener, ListenerSettings::new("port", Service::Forward(Arc::new(upstream))))
}

/// Tells what an operator would want to know who runs the program by hand.
pub(crate) struct Log;

impl Observer for Log {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectFailed { upstream, error, .. } => {
                crate::log(format_args!("cannot forward traffic to backend {}: {error}", upstream.name));
            }
            Event::AcceptFailed { error, .. } => crate::log(format_args!("cannot accept: {error}")),
            Event::Full { connections } => {
                crate::log(format_args!("{connections} connections are as many as may be: new ones wait"));
            }
            _ => {}
        }
    }
}
