//! An engine between a scripted daemon and a scripted client, and what it tells of them.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
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
use dockline::proxy::ConnConfig;
use socket2::{Domain, SockRef, Socket, Type};

/// For anything that happens at once unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const GET: &str = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
pub(crate) const ATTACH: &str =
    "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Engines, one unless more are asked for.
pub(crate) struct Gate {
    pub(crate) workers: Workers,
    pub(crate) at: SocketAddr,
    seen: Receiver<String>,
}

/// Hands on what it sees as lines: `exchange END STATUS UPSTREAM`, `tunnel REASON UP DOWN`, or an event as it is.
struct Telling(Mutex<SyncSender<String>>);

impl Telling {
    fn tell(&self, line: String) {
        let _ = self.0.lock().unwrap().try_send(line);
    }
}

impl Observer for Telling {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let upstream = exchange.upstream.map_or("-", |upstream| &upstream.name);
        self.tell(format!("exchange {} {:?} {upstream}", exchange.end.name(), exchange.status));
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let (stats, reason) = (&tunnel.stats, tunnel.stats.close_reason.map(|reason| reason.name()));
        self.tell(format!("tunnel {} {} {}", reason.unwrap(), stats.up.delivered, stats.down.delivered));
    }

    fn event(&self, event: &Event<'_>) {
        self.tell(format!("{event:?}"));
    }
}

impl Gate {
    /// In front of what listens there.
    pub(crate) fn to(daemon: SocketAddr) -> Self {
        Self::with(vec![tcp(daemon)], Limits::default(), EngineOptions::default())
    }

    pub(crate) fn with(addresses: Vec<Address>, limits: Limits, options: EngineOptions) -> Self {
        Self::routed(Arc::new(Arc::new(Upstream::new("daemon", addresses))), limits, options)
    }

    /// Joins connections with ones to the first address that takes them.
    pub(crate) fn forward(addresses: Vec<Address>, limits: Limits, options: EngineOptions) -> Self {
        let upstream = Arc::new(Upstream::new("daemon", addresses));
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::serving(Service::Forward(upstream), 1, socket, limits, options)
    }

    pub(crate) fn routed(router: Arc<dyn Router>, limits: Limits, options: EngineOptions) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::on(socket, router, limits, options)
    }

    pub(crate) fn on(
        socket: TcpListener,
        router: Arc<dyn Router>,
        limits: Limits,
        options: EngineOptions,
    ) -> Self {
        Self::on_threads(1, socket, router, limits, options)
    }

    pub(crate) fn on_threads(
        threads: usize,
        socket: TcpListener,
        router: Arc<dyn Router>,
        limits: Limits,
        options: EngineOptions,
    ) -> Self {
        Self::serving(Service::Http(router), threads, socket, limits, options)
    }

    fn serving(
        service: Service,
        threads: usize,
        socket: TcpListener,
        limits: Limits,
        options: EngineOptions,
    ) -> Self {
        let (sender, seen) = sync_channel(100_000);
        let observer: Arc<dyn Observer> = Arc::new(Telling(Mutex::new(sender)));
        let workers = Workers::start(NonZeroUsize::new(threads).unwrap(), &options, &observer).unwrap();
        let at = socket.local_addr().unwrap();
        let mut settings = ListenerSettings::new("test", service);
        settings.conn = Arc::new(ConnConfig { limits, ..ConnConfig::default() });
        workers.listen(Listener::new(socket.into(), settings));
        Self { workers, at, seen }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.at).unwrap())
    }

    /// Waits for the line that begins like this; what came before it is forgotten.
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

    /// Waits until the counters are like this.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Stats) -> bool) {
        until(what, || condition(&self.workers.stats()));
    }

    /// Ends it, and demands that nothing was left behind.
    pub(crate) fn close(self) {
        self.workers.drain(Some(PATIENCE));
        let handles = self.workers.handles().to_vec();
        self.workers.join().unwrap();
        for stats in handles.iter().map(|handle| handle.stats()) {
            assert_eq!((stats.clients_now, stats.tunnels_now, stats.pooled_now), (0, 0, 0), "{stats:?}");
        }
    }
}

/// Waits for what tells nobody when it happens.
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

/// Limits that differ from the default ones.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A test that waits in vain fails.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SockRef::from(&socket).set_read_timeout(Some(PATIENCE)).unwrap(); // holds for accept as well
    let at = socket.local_addr().unwrap();
    (socket, at)
}

/// A listener whose connections have buffers of this size: what is accepted inherits it.
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

/// A port that refuses.
pub(crate) fn nobody() -> SocketAddr {
    listen().1
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

pub(crate) fn send(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads up to and including a mark, byte by byte: what is behind it stays.
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

/// Reads to the end; says how that was.
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

    /// Closes a connection like this.
    pub(crate) fn inflict(self, stream: TcpStream) {
        if self == Self::Reset {
            reset_on_close(&stream);
        }
        drop(stream);
    }
}

fn reset_on_close(stream: &(impl AsFd + Debug)) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Bytes that show it when some are lost, doubled or swapped.
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
