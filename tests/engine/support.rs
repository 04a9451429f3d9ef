//! An engine between clients and a daemon that the test plays, and what its observer sees of them.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dockline::engine::{
    Address, EngineOptions, Event, Exchange, Listener, ListenerSettings, Observer, Router, Service, Stats,
    Tunnel, Upstream, Workers,
};
use dockline::limits::Limits;
use dockline::proxy::{ConnConfig, Forwarding, TrustedPeers};
use socket2::{Domain, SockRef, Socket, Type};

/// How long a test waits for what happens at once unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const GET: &str = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
pub(crate) const ATTACH: &str =
    "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// What an engine serves, and how.
pub(crate) struct Setup {
    pub(crate) service: Service,
    pub(crate) limits: Limits,
    pub(crate) options: EngineOptions,
    /// Engines with the same listener, one thread each.
    pub(crate) threads: usize,
    /// Where it listens; a port of loopback by default.
    pub(crate) listener: TcpListener,
    /// The proxies in front of it.
    pub(crate) proxy_protocol: Option<TrustedPeers>,
    /// Whether requests have `X-Forwarded-For`.
    pub(crate) x_forwarded: bool,
}

impl Setup {
    /// HTTP for a daemon at the first of these addresses that accepts.
    pub(crate) fn http(addresses: Vec<Address>) -> Self {
        Self::routed(Arc::new(Arc::new(Upstream::new("daemon", addresses))))
    }

    pub(crate) fn routed(router: Arc<dyn Router>) -> Self {
        Self::serving(Service::Http(router))
    }

    /// Connections, each joined with one to the first of these addresses that accepts.
    pub(crate) fn forward(addresses: Vec<Address>) -> Self {
        Self::serving(Service::Forward(Arc::new(Upstream::new("daemon", addresses))))
    }

    pub(crate) fn serving(service: Service) -> Self {
        let (limits, options) = (Limits::default(), EngineOptions::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (threads, proxy_protocol, x_forwarded) = (1, None, false);
        Self { service, limits, options, threads, listener, proxy_protocol, x_forwarded }
    }

    pub(crate) fn start(self) -> TestEngine {
        let (sender, seen) = sync_channel(100_000);
        let observer: Arc<dyn Observer> = Arc::new(Recorder(Mutex::new(sender)));
        let threads = NonZeroUsize::new(self.threads).unwrap();
        let workers = Workers::start(threads, &self.options, &observer).unwrap();
        let at = self.listener.local_addr().unwrap();
        let mut settings = ListenerSettings::new("test", self.service);
        let forwarding = Forwarding { x_forwarded: self.x_forwarded, ..Forwarding::default() };
        settings.conn = Arc::new(ConnConfig { limits: self.limits, forwarding, ..ConnConfig::default() });
        settings.proxy_protocol = self.proxy_protocol;
        workers.listen(Listener::new(self.listener.into(), settings));
        TestEngine { workers, at, seen }
    }
}

/// An engine, and what its observer has seen.
pub(crate) struct TestEngine {
    pub(crate) workers: Workers,
    pub(crate) at: SocketAddr,
    seen: Receiver<String>,
}

/// Sends what it sees as lines: `exchange END STATUS UPSTREAM`, `tunnel REASON UP DOWN`, both with
/// `by ROUTE TARGET` behind it if there is a route, or an event as it is.
struct Recorder(Mutex<SyncSender<String>>);

impl Recorder {
    fn record(&self, line: String) {
        let _ = self.0.lock().unwrap().try_send(line);
    }
}

fn way(route: Option<&str>, target: &[u8]) -> String {
    route.map_or_else(String::new, |route| format!(" by {route} {}", String::from_utf8_lossy(target)))
}

impl Observer for Recorder {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let upstream = exchange.upstream.map_or("-", |upstream| &upstream.name);
        let way = way(exchange.route, exchange.target);
        self.record(format!("exchange {} {:?} {upstream}{way}", exchange.end.name(), exchange.status));
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let (stats, reason) = (&tunnel.stats, tunnel.stats.close_reason.map(|reason| reason.name()));
        let (up, down, way) = (stats.up.delivered, stats.down.delivered, way(tunnel.route, tunnel.target));
        self.record(format!("tunnel {} {up} {down}{way}", reason.unwrap()));
    }

    fn event(&self, event: &Event<'_>) {
        self.record(format!("{event:?}"));
    }
}

impl TestEngine {
    /// Opens a client connection.
    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.at).unwrap())
    }

    /// Waits for a line of the observer that begins like this, and returns it. The lines before it
    /// are dropped.
    pub(crate) fn sees(&self, beginning: &str) -> String {
        let mut before = Vec::new();
        loop {
            let Ok(line) = self.seen.recv_timeout(PATIENCE) else {
                panic!("never seen: {beginning}; but {before:?}; {:?}", self.workers.stats());
            };
            if line.starts_with(beginning) {
                return line;
            }
            before.push(line);
        }
    }

    /// Waits until the counters fulfil a condition.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Stats) -> bool) {
        until(what, || condition(&self.workers.stats()));
    }

    /// Ends the engine, and checks that no session and no connection is left.
    pub(crate) fn close(self) {
        self.workers.drain(Some(PATIENCE));
        let handles = self.workers.handles().to_vec();
        self.workers.join().unwrap();
        for stats in handles.iter().map(|handle| handle.stats()) {
            assert_eq!((stats.clients_now, stats.tunnels_now, stats.pooled_now), (0, 0, 0), "{stats:?}");
        }
    }
}

/// A [`TestEngine`] and the daemon behind it. The test plays the clients and the daemon.
pub(crate) struct Bed {
    engine: TestEngine,
    listener: TcpListener,
}

impl Deref for Bed {
    type Target = TestEngine;

    fn deref(&self) -> &TestEngine {
        &self.engine
    }
}

impl Bed {
    /// HTTP, with limits and options as they are by default.
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let (listener, at) = listen();
        Self { engine: Setup { limits, ..Setup::http(vec![tcp(at)]) }.start(), listener }
    }

    /// Starts what a setup makes of the daemon's address.
    pub(crate) fn start(setup: impl FnOnce(SocketAddr) -> Setup) -> Self {
        let (listener, at) = listen();
        Self { engine: setup(at).start(), listener }
    }

    /// Joins each client with a connection to the daemon.
    pub(crate) fn forward() -> Self {
        let (listener, at) = listen();
        Self { engine: Setup::forward(vec![tcp(at)]).start(), listener }
    }

    /// Uses what a router makes of the daemon's address.
    pub(crate) fn routed<R: Router + 'static>(router: impl FnOnce(SocketAddr) -> R) -> Self {
        let (listener, at) = listen();
        Self { engine: Setup::routed(Arc::new(router(at))).start(), listener }
    }

    /// A daemon and clients whose connections have buffers of about this size.
    pub(crate) fn with_buffers(bytes: usize, limits: Limits) -> Self {
        let (listener, at) = listen_with_buffers(bytes);
        let setup = Setup { limits, listener: listen_with_buffers(bytes).0, ..Setup::http(vec![tcp(at)]) };
        Self { engine: setup.start(), listener }
    }

    /// Accepts a connection of the engine, as the daemon does.
    pub(crate) fn accept(&self) -> TcpStream {
        accept(&self.listener)
    }

    /// Asserts that the engine has made no connection that was not accepted.
    pub(crate) fn has_no_connection(&self, context: &str) {
        self.listener.set_nonblocking(true).unwrap();
        let error = self.listener.accept().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{context}");
        self.listener.set_nonblocking(false).unwrap();
    }

    /// Sends a request on a new client connection, and accepts the connection that it reaches the
    /// daemon on. Returns both; the daemon has read the head.
    pub(crate) fn request(&self, request: &str) -> (TcpStream, TcpStream) {
        let mut client = self.connect();
        let daemon = self.request_on(&mut client, request);
        (client, daemon)
    }

    /// The same, on a client connection that is there.
    pub(crate) fn request_on(&self, client: &mut TcpStream, request: &str) -> TcpStream {
        send(client, request);
        let mut daemon = self.accept();
        read_head(&mut daemon);
        daemon
    }

    /// Makes a complete exchange on new connections, which both are kept.
    pub(crate) fn exchange(&self) -> (TcpStream, TcpStream) {
        let (mut client, mut daemon) = self.request(GET);
        send(&mut daemon, OK);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        self.until("the connection is kept", |stats| stats.pooled_now == 1);
        (client, daemon)
    }

    /// Makes an exchange on a client connection that is there, and on a new one to the daemon,
    /// which is returned.
    pub(crate) fn exchange_on(&self, client: &mut TcpStream) -> TcpStream {
        let mut daemon = self.request_on(client, GET);
        send(&mut daemon, OK);
        assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
        daemon
    }

    /// Opens a tunnel.
    pub(crate) fn tunnel(&self) -> (TcpStream, TcpStream) {
        let (mut client, mut daemon) = self.request(ATTACH);
        send(&mut daemon, SWITCHED);
        read_head(&mut client);
        (client, daemon)
    }

    pub(crate) fn close(self) {
        self.engine.close();
    }
}

/// Waits for a condition that nothing reports.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a bound for a test that fails")]
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

pub(crate) fn tcp(at: SocketAddr) -> Address {
    Address::Tcp { host: at.ip().to_string(), port: at.port() }
}

/// Returns the default limits with a change.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Gives a stream timeouts, so that a test that waits in vain fails.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SockRef::from(&socket).set_read_timeout(Some(PATIENCE)).unwrap(); // applies to accept, too
    let at = socket.local_addr().unwrap();
    (socket, at)
}

/// Listens with buffers of this size, which accepted connections inherit.
pub(crate) fn listen_with_buffers(bytes: usize) -> (TcpListener, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    socket.set_send_buffer_size(bytes).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let socket = TcpListener::from(socket);
    let at = socket.local_addr().unwrap();
    (socket, at)
}

/// Returns an address that refuses connections.
pub(crate) fn refusing_address() -> SocketAddr {
    listen().1
}

/// Responds to every request on every connection, until the test ends. Returns the daemon's
/// address.
pub(crate) fn answering_daemon() -> SocketAddr {
    let (listener, at) = listen();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while matches!(reader.read_line(&mut line), Ok(1..)) {
                    if line == "\r\n" {
                        send(reader.get_mut(), OK);
                    }
                    line.clear();
                }
            });
        }
    });
    at
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

pub(crate) fn send(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads up to and including a mark, byte by byte, so that the bytes behind it are left.
pub(crate) fn read_until(stream: &mut impl Read, mark: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(mark.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            other => panic!("{other:?} before {mark:?}: {}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8(all).unwrap()
}

pub(crate) fn read_head(stream: &mut impl Read) -> String {
    read_until(stream, "\r\n\r\n")
}

/// Reads a 200 of the daemon, or a 503 of the proxy, which has no descriptor for a connection to
/// it.
pub(crate) fn read_reply_or_ok(stream: &mut impl Read) -> String {
    let head = read_head(stream);
    let mark = if head.starts_with("HTTP/1.1 503 ") { "}\n" } else { "OK" };
    assert!(mark == "}\n" || head.starts_with("HTTP/1.1 200 "), "{head}");
    read_until(stream, mark)
}

/// Reads to the end. Returns the bytes and how the connection ended.
pub(crate) fn read_rest(stream: &mut TcpStream) -> (String, Ending) {
    let mut all = Vec::new();
    let ending = match stream.read_to_end(&mut all) {
        Ok(_) => Ending::Clean,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ending::Reset,
        Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&all)),
    };
    (String::from_utf8(all).unwrap(), ending)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Clean,
    Reset,
}

impl Ending {
    pub(crate) const BOTH: [Self; 2] = [Self::Clean, Self::Reset];

    /// Closes a connection this way.
    pub(crate) fn close(self, stream: TcpStream) {
        if self == Self::Reset {
            reset_on_close(&stream);
        }
        drop(stream);
    }
}

fn reset_on_close(stream: &(impl AsFd + Debug)) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Returns bytes in which a loss, a repetition or a swap is noticed.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
