//! Handshakes that fail, between a gate that connects by TLS and one that listens: what each of
//! them is told.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dockline::engine::tls::{ClientTls, ClientTlsConfig, ServerTls, ServerTlsConfig};
use dockline::engine::{
    Address, EngineOptions, Event, Exchange, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};
use dockline::error::Failure;
use dockline::limits::Limits;
use dockline::proxy::ConnConfig;

use super::pki::{Ca, Leaf, Usage};

const PATIENCE: Duration = Duration::from_secs(20);

struct Reasons(Mutex<SyncSender<String>>);

impl Reasons {
    fn tell(&self, what: &str, failure: &Failure) {
        let Failure { side, phase, cause } = failure;
        let line = format!("{what} {} {} {}", side.name(), phase.name(), cause.name());
        let alert = cause.alert().map_or(String::new(), |alert| format!(" alert={alert}"));
        let _ = self.0.lock().unwrap().try_send(line + &alert);
    }
}

impl Observer for Reasons {
    fn exchange(&self, exchange: &Exchange<'_>) {
        if let Some(failure) = exchange.end.failure() {
            self.tell("exchange", &failure);
        }
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::HandshakeFailed { failure, .. } => self.tell("handshake", failure),
            Event::ConnectFailed { failure, .. } => self.tell("connect", failure),
            _ => {}
        }
    }
}

struct Gate {
    workers: Workers,
    at: SocketAddr,
    reasons: Receiver<String>,
}

impl Gate {
    fn new(upstream: Upstream, tls: Option<&ServerTlsConfig>) -> Self {
        let (sender, reasons) = sync_channel(1000);
        let observer: Arc<dyn Observer> = Arc::new(Reasons(Mutex::new(sender)));
        let workers = Workers::start(NonZeroUsize::MIN, &EngineOptions::default(), &observer).unwrap();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let mut settings = ListenerSettings::new("test", Service::to(Arc::new(upstream)));
        settings.tls = tls.map(|config| Arc::new(ServerTls::new(config).unwrap()));
        let mut limits = Limits::default();
        limits.handshake_time = Duration::from_millis(500);
        settings.conn = Arc::new(ConnConfig { limits, ..ConnConfig::default() });
        workers.listen(Listener::new(socket.into(), settings));
        Self { workers, at, reasons }
    }

    fn listening(tls: &ServerTlsConfig) -> Self {
        Self::new(Upstream::new("nowhere", Vec::new()), Some(tls))
    }

    fn connecting(at: SocketAddr, tls: &ClientTlsConfig) -> Self {
        let address = Address::Tcp { host: at.ip().to_string(), port: at.port() };
        let mut upstream = Upstream::new("daemon", vec![address]);
        upstream.tls = Some(Arc::new(ClientTls::new(tls).unwrap()));
        Self::new(upstream, None)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).unwrap()
    }

    /// Has it send a request that is not repeated.
    fn ask(&self) {
        let mut client = self.connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read(&mut client, &mut [0; 99]).unwrap();
    }

    fn tells(&self, expected: &str) {
        assert_eq!(self.reasons.recv_timeout(PATIENCE).unwrap(), expected);
    }

    fn close(self) {
        self.workers.stop();
        self.workers.join().unwrap();
    }
}

/// What both are told when a client with this certificate connects to a server.
fn met(server: &ServerTlsConfig, client: &ClientTlsConfig, expected: [&str; 2]) {
    let server = Gate::listening(server);
    let client = Gate::connecting(server.at, client);
    client.ask();
    server.tells(expected[0]);
    client.tells(expected[1]);
    client.close();
    server.close();
}

fn named(config: ClientTlsConfig, name: &str) -> ClientTlsConfig {
    ClientTlsConfig { server_name: Some(name.into()), ..config }
}

#[test]
fn a_server_that_is_not_trusted() {
    // Both have one name, so it is the signature that is wrong (alert 51, decrypt_error).
    let (ca, other) = (Ca::new(), Ca::new());
    let server = ServerTlsConfig::new(ca.server(&["daemon.test"]).credentials);
    met(
        &server,
        &named(ClientTlsConfig::new(other.pem()), "daemon.test"),
        [
            "handshake client handshake tls-alert alert=51",
            "connect daemon connect tls-unknown-issuer alert=51",
        ],
    );
    met(
        &server,
        &named(ClientTlsConfig::new(ca.pem()), "other.test"),
        ["handshake client handshake tls-alert alert=42", "connect daemon connect tls-wrong-name alert=42"],
    );
    let expired = ServerTlsConfig::new(ca.leaf(Usage::Server, -9..-1).credentials);
    met(
        &expired,
        &named(ClientTlsConfig::new(ca.pem()), "someone.test"),
        ["handshake client handshake tls-alert alert=45", "connect daemon connect tls-expired alert=45"],
    );
}

/// With TLS 1.3 a client learns that it is refused after its handshake.
#[test]
fn a_client_that_is_not_trusted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut server = ServerTlsConfig::new(ca.server(&["daemon.test"]).credentials);
    server.client_ca = Some(ca.pem());
    let with = |leaf: Option<Leaf>| {
        let mut config = named(ClientTlsConfig::new(ca.pem()), "daemon.test");
        config.credentials = leaf.map(|leaf| leaf.credentials);
        config
    };
    for (leaf, told, alert) in [
        (None, "tls-no-certificate", 116),
        (Some(other.leaf(Usage::Client, -1..9)), "tls-unknown-issuer alert=51", 51),
        (Some(ca.leaf(Usage::Client, -9..-1)), "tls-expired alert=45", 45),
    ] {
        let told = format!("handshake client handshake {told}");
        let refused = format!("exchange daemon response-head tls-stream alert={alert}");
        met(&server, &with(leaf), [&told, &refused]);
    }
}

#[test]
fn a_peer_that_speaks_no_tls() {
    let ca = Ca::new();
    let server = Gate::listening(&ServerTlsConfig::new(ca.server(&["daemon.test"]).credentials));
    let mut client = server.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    server.tells("handshake client handshake tls-malformed alert=50");
    drop(server.connect());
    server.tells("handshake client handshake closed-early");
    let _silent = server.connect();
    server.tells("handshake client handshake handshake-timeout");
    server.close();

    let daemon = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = named(ClientTlsConfig::new(ca.pem()), "daemon.test");
    let client = Gate::connecting(daemon.local_addr().unwrap(), &config);
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = daemon.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        stream
    });
    client.ask();
    client.tells("connect daemon connect tls-malformed alert=50");
    client.tells("exchange daemon connect tls-malformed alert=50");
    client.close();
    answering.join().unwrap();
}
