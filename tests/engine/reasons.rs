//! Whose fault a failure is, where and why: what the engine finds out on real sockets.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::{
    ATTACH, Ending, GET, PATIENCE, SWITCHED, accept, limits, listen, patient, read_head, read_rest,
    read_until, refusing_address, send, tcp, until,
};
use dockline::engine::{
    Address, EngineOptions, Event, Exchange, Listener, ListenerSettings, Observer, Route, RouteRequest,
    Router, Service, Tunnel, Upstream, Workers,
};
use dockline::error::Failure;
use dockline::limits::Limits;
use dockline::proxy::ConnConfig;

/// Sends what failed: `exchange`, `connect`, `forward` or `tunnel`, then side, phase, cause and
/// error number.
struct Reasons {
    lines: Mutex<SyncSender<String>>,
    /// Whether it panics when a tunnel tells something.
    panics: bool,
}

impl Reasons {
    fn tell(&self, what: &str, failure: Option<Failure>) {
        let Some(Failure { side, phase, cause }) = failure else { return };
        let line = format!("{what} {} {} {}", side.name(), phase.name(), cause.name());
        let errno = cause.errno().map_or(String::new(), |errno| format!(" errno={errno}"));
        let _ = self.lines.lock().unwrap().try_send(line + &errno);
    }
}

impl Observer for Reasons {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.tell("exchange", exchange.end.failure());
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        self.tell("tunnel", tunnel.failure);
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectFailed { failure, .. } => self.tell("connect", Some(*failure)),
            Event::ForwardFailed { failure, .. } => self.tell("forward", Some(*failure)),
            Event::Relay(_) if self.panics => panic!("on purpose"),
            _ => {}
        }
    }
}

/// An engine in front of these addresses.
struct Gate {
    workers: Workers,
    at: SocketAddr,
    reasons: Receiver<String>,
}

impl Gate {
    fn new(addresses: Vec<Address>, limits: Limits, forwards: bool) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::on(socket, addresses, limits, forwards)
    }

    fn on(socket: TcpListener, addresses: Vec<Address>, limits: Limits, forwards: bool) -> Self {
        let upstream = Arc::new(Upstream::new("daemon", addresses));
        let service = if forwards { Service::Forward(upstream) } else { Service::to(upstream) };
        Self::serving(service, socket, limits, false)
    }

    fn serving(service: Service, socket: TcpListener, limits: Limits, panics: bool) -> Self {
        let (sender, reasons) = sync_channel(1000);
        let observer: Arc<dyn Observer> = Arc::new(Reasons { lines: Mutex::new(sender), panics });
        let workers = Workers::start(NonZeroUsize::MIN, &EngineOptions::default(), &observer).unwrap();
        let at = socket.local_addr().unwrap();
        let mut settings = ListenerSettings::new("test", service);
        settings.conn = Arc::new(ConnConfig { limits, ..ConnConfig::default() });
        workers.listen(Listener::new(socket.into(), settings));
        Self { workers, at, reasons }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.at).unwrap())
    }

    fn tells(&self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(&self.reasons.recv_timeout(PATIENCE).unwrap(), expected);
        }
    }

    fn close(self) {
        self.workers.stop();
        self.workers.join().unwrap();
        assert_eq!(self.reasons.try_iter().collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn an_upstream_that_cannot_be_reached() {
    let brief = limits(|limits| limits.connect_time = Duration::from_millis(100));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = socket.local_addr().unwrap();
    let named = Address::Tcp { host: "daemon.invalid".into(), port: 1 };
    let missing = Address::Unix("/nonexistent/docker.sock".into());
    for (addresses, reasons) in [
        (vec![tcp(refusing_address())], "daemon connect connect-failed errno=111"),
        (vec![missing], "daemon connect connect-failed errno=2"),
        (vec![named], "daemon connect resolve-failed"),
        (vec![tcp(own)], "proxy connect own-listener"),
    ] {
        let limits = if reasons.ends_with("resolve-failed") { Limits::default() } else { brief };
        let gate = Gate::on(socket.try_clone().unwrap(), addresses, limits, false);
        let mut client = gate.connect();
        send(&mut client, GET);
        assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "), "{reasons}");
        gate.tells(&[&format!("connect {reasons}"), &format!("exchange {reasons}")]);
        gate.close();
    }
    let gate = Gate::new(Vec::new(), brief, false);
    let mut client = gate.connect();
    send(&mut client, GET);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
    gate.tells(&["exchange daemon connect no-address"]);
    gate.close();
}

/// Panics at each request.
struct Panics;

impl Router for Panics {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        panic!("on purpose");
    }
}

#[test]
fn an_exchange_that_a_panic_ends() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gate = Gate::serving(Service::Http(Arc::new(Panics)), socket, Limits::default(), false);
    let mut client = gate.connect();
    send(&mut client, GET);
    assert_eq!(read_rest(&mut client).0, "");
    gate.tells(&["exchange proxy connect panicked"]);
    gate.close();
}

#[test]
fn a_connection_that_was_not_forwarded() {
    let gate = Gate::new(vec![tcp(refusing_address())], Limits::default(), true);
    let mut client = gate.connect();
    // The call that reports the reset need not be the read.
    if client.write_all(b"hello").is_ok() {
        assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset));
    }
    let reasons = "daemon connect connect-failed errno=111";
    gate.tells(&[&format!("connect {reasons}"), &format!("forward {reasons}")]);
    gate.close();
}

#[test]
fn a_connection_that_is_reset_in_an_exchange() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    for (says, resets, reasons) in [
        ("", "daemon", "exchange daemon response-head reset errno=104"),
        (half, "daemon", "exchange daemon response-body reset errno=104"),
        ("", "client", "exchange client response-head reset errno=104"),
        (half, "client", "exchange client response-body reset errno=104"),
    ] {
        let (listener, at) = listen();
        let gate = Gate::new(vec![tcp(at)], Limits::default(), false);
        let mut client = gate.connect();
        send(&mut client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        send(&mut daemon, says);
        if !says.is_empty() {
            read_until(&mut client, "half");
        }
        let kept = if resets == "daemon" { (daemon, client) } else { (client, daemon) };
        Ending::Reset.close(kept.0);
        gate.tells(&[reasons]);
        drop(kept.1);
        gate.close();
    }
}

fn tunnel(limits: Limits) -> (Gate, TcpStream, TcpStream) {
    let (listener, at) = listen();
    tunnel_of(Gate::new(vec![tcp(at)], limits, false), &listener)
}

fn tunnel_of(gate: Gate, listener: &TcpListener) -> (Gate, TcpStream, TcpStream) {
    let mut client = gate.connect();
    send(&mut client, ATTACH);
    let mut daemon = accept(listener);
    read_head(&mut daemon);
    send(&mut daemon, SWITCHED);
    read_head(&mut client);
    // Bytes went through it: it is a tunnel by now.
    send(&mut client, "hello");
    read_until(&mut daemon, "hello");
    (gate, client, daemon)
}

#[test]
fn a_tunnel_that_is_reset() {
    for side in ["client", "daemon"] {
        let (gate, client, daemon) = tunnel(Limits::default());
        let kept = if side == "client" { (client, daemon) } else { (daemon, client) };
        Ending::Reset.close(kept.0);
        gate.tells(&[&format!("tunnel {side} tunnel reset errno=104")]);
        drop(kept.1);
        gate.close();
    }
}

#[test]
fn a_tunnel_that_a_panic_ends() {
    let (listener, at) = listen();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let upstream = Arc::new(Upstream::new("daemon", vec![tcp(at)]));
    let gate = Gate::serving(Service::to(upstream), socket, Limits::default(), true);
    let (gate, mut client, daemon) = tunnel_of(gate, &listener);
    // What a peer does not take any more is worth a word, and this observer panics at that.
    Ending::Reset.close(daemon);
    gate.tells(&["tunnel proxy tunnel panicked"]);
    read_rest(&mut client);
    until("it is counted", || gate.workers.stats().panics == 1);
    assert_eq!(gate.workers.stats().tunnels_now, 0);
    gate.close();
}

#[test]
fn a_tunnel_that_the_proxy_ends() {
    let idle = limits(|limits| limits.tunnel_idle = Some(Duration::from_millis(100)));
    let (gate, _client, _daemon) = tunnel(idle);
    gate.tells(&["tunnel proxy tunnel tunnel-idle-timeout"]);
    gate.close();

    let (gate, _client, _daemon) = tunnel(Limits::default());
    gate.workers.drain(Some(Duration::from_millis(50)));
    gate.tells(&["tunnel proxy tunnel drained"]);
    gate.close();

    let (gate, _client, _daemon) = tunnel(Limits::default());
    gate.workers.stop();
    gate.tells(&["tunnel proxy tunnel killed"]);
    gate.close();
}

#[test]
fn a_tunnel_that_ends_by_itself_has_no_reason() {
    let (gate, client, daemon) = tunnel(Limits::default());
    client.shutdown(Shutdown::Write).unwrap();
    drop((daemon, client));
    gate.workers.drain(Some(PATIENCE));
    while gate.workers.stats().tunnels_now > 0 {
        std::thread::yield_now();
    }
    gate.close();
}
