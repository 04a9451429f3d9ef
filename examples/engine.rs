//! A proxy for a Docker daemon in thirty lines:
//!
//! ```sh
//! cargo run --example engine -- 127.0.0.1:2375 /var/run/docker.sock
//! docker -H tcp://127.0.0.1:2375 run -it busybox
//! ```

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;

use dockline::engine::{
    Address, EngineOptions, Exchange, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};

/// Writes a line for each request.
struct Log;

impl Observer for Log {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        println!("{} {} {:?}", text(exchange.method), text(exchange.target), exchange.status);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(listen), Some(daemon)) = (words.next(), words.next()) else {
        return Err(
            "usage: engine ADDRESS:PORT DAEMON, where DAEMON is ADDRESS:PORT or a socket's path".into()
        );
    };
    let address = match daemon.parse::<SocketAddr>() {
        Ok(at) => Address::Tcp { host: at.ip().to_string(), port: at.port() },
        Err(_) => Address::Unix(daemon.into()),
    };
    let mut upstream = Upstream::new("docker", vec![address]);
    upstream.host = Some("docker".into());

    let observer: Arc<dyn Observer> =
        if std::env::var_os("QUIET").is_some() { Arc::new(()) } else { Arc::new(Log) };
    let workers = Workers::start(NonZeroUsize::MIN, &EngineOptions::default(), &observer)?;
    let settings = ListenerSettings::new("docker", Service::to(upstream));
    workers.listen(Listener::new(TcpListener::bind(listen)?.into(), settings));
    workers.join()?;
    Ok(())
}
