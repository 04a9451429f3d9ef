//! Listeners that join each connection with one to an upstream, and have none to join it with.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::support::{
    Ending, GET, Gate, accept, limits, listen, nobody, patient, read_head, read_rest, send, tcp,
};
use dockline::engine::{
    Address, EngineOptions, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};
use socket2::{Domain, Socket, Type};

/// A port that takes no more connections, and refuses none.
fn crowded() -> (Socket, Vec<Socket>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let waiting = (0..2).map(|_| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&at.into());
        client
    });
    let waiting = waiting.collect();
    (socket, waiting, at)
}

/// A clean end would say that the upstream was there, and had nothing to say.
#[test]
fn an_upstream_that_cannot_be_reached_is_a_reset() {
    let quick = limits(|limits| limits.connect_time = Duration::from_millis(100));
    let refused6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (_listener, _waiting, full) = crowded();
    let named = Address::Tcp { host: "daemon.invalid".into(), port: 1 };
    for (what, addresses) in [
        ("refused", vec![tcp(nobody())]),
        ("refused by IPv6", vec![tcp(refused6)]),
        ("one after the other", vec![tcp(nobody()), tcp(refused6)]),
        ("silent", vec![tcp(full)]),
        ("an unknown name", vec![named]),
        ("no socket", vec![Address::Unix("/nonexistent/docker.sock".into())]),
        ("nowhere", Vec::new()),
    ] {
        let gate = Gate::forward(addresses, quick, EngineOptions::default());
        // Whether the client waits, has spoken, or has said all.
        for speaks in [None, Some(false), Some(true)] {
            let mut client = gate.connect();
            let spoken = match speaks {
                None => Ok(()),
                Some(false) => client.write_all(b"hello"),
                Some(true) => client.write_all(b"hello").and_then(|()| client.shutdown(Shutdown::Write)),
            };
            // The one call that is told of a reset need not be the read.
            if spoken.is_err() {
                continue;
            }
            assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset), "{what}, {speaks:?}");
        }
        gate.close();
    }
}

/// It had something to say, and has said it.
#[test]
fn an_upstream_that_ends_cleanly_is_no_reset() {
    let (listener, at) = listen();
    let gate = Gate::forward(vec![tcp(at)], limits(|_| {}), EngineOptions::default());
    for ending in Ending::BOTH {
        let mut client = patient(TcpStream::connect(gate.at).unwrap());
        let mut server = accept(&listener);
        server.write_all(b"bye").unwrap();
        // A reset that came before the bytes were passed on might take them with it.
        client.read_exact(&mut [0; 3]).unwrap();
        ending.inflict(server);
        assert_eq!(read_rest(&mut client), (String::new(), ending));
    }
    gate.close();
}

/// Listeners of one process, each with where it leads.
struct Ring {
    workers: Workers,
    dir: PathBuf,
}

impl Ring {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dockline-ring-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let observer: Arc<dyn Observer> = Arc::new(());
        let two = NonZeroUsize::new(2).unwrap();
        Self { workers: Workers::start(two, &EngineOptions::default(), &observer).unwrap(), dir }
    }

    fn listen(&self, socket: impl Into<OwnedFd>, http: bool, to: Vec<Address>) {
        let upstream = Arc::new(Upstream::new("ring", to));
        let service = if http { Service::Http(Arc::new(upstream)) } else { Service::Forward(upstream) };
        self.workers.listen(Listener::new(socket.into(), ListenerSettings::new("ring", service)));
    }

    /// A client is sent away. Nothing is connected to but listeners that another worker has not heard of yet.
    fn refuses(self, what: &str, at: SocketAddr, http: bool, early: u64) {
        let mut client = patient(TcpStream::connect(at).unwrap());
        if http {
            send(&mut client, GET);
            assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "), "{what}");
        } else {
            assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset), "{what}");
        }
        let stats = self.workers.stats();
        assert!(stats.accepted <= 1 + early && stats.connects <= early, "{what}: {stats:?}");
        self.workers.stop();
        self.workers.join().unwrap();
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

fn host(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

#[test]
fn a_listener_does_not_lead_to_itself() {
    for http in [false, true] {
        for (listens, name) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("0.0.0.0", "127.0.0.1"),
            ("0.0.0.0", "127.1.2.3"),
            ("0.0.0.0", "0.0.0.0"),
            ("::1", "::1"),
            ("::1", "::"),
            ("::", "127.0.0.1"),
            ("::", "::ffff:127.0.0.1"),
        ] {
            let ring = Ring::new("self");
            let socket = TcpListener::bind((listens, 0)).unwrap();
            let at = socket.local_addr().unwrap();
            ring.listen(socket, http, vec![host(name, at.port())]);
            let loopback = if listens == "::1" { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() };
            ring.refuses(name, SocketAddr::new(loopback, at.port()), http, 0);
        }
    }
}

#[test]
fn listeners_do_not_lead_to_each_other() {
    let ring = Ring::new("two");
    let (one, other) = (listen(), listen());
    ring.listen(one.0, false, vec![tcp(other.1)]);
    ring.listen(other.0, false, vec![tcp(one.1)]);
    ring.refuses("one to the other", one.1, false, 1);
}

#[test]
fn no_name_of_a_unix_socket_leads_back() {
    for name in ["d.sock", "link", "hard", "moved/d.sock", "@"] {
        let ring = Ring::new("unix");
        let unique = format!("dockline-ring-{}", std::process::id());
        let (unix, to) = match name {
            "@" => {
                let unix = UnixAddr::from_abstract_name(&unique).unwrap();
                (UnixListener::bind_addr(&unix).unwrap(), format!("@{unique}").into())
            }
            _ => (UnixListener::bind(ring.dir.join("d.sock")).unwrap(), ring.dir.join(name)),
        };
        std::os::unix::fs::symlink(&ring.dir, ring.dir.join("moved")).unwrap();
        if name != "@" {
            std::os::unix::fs::symlink("d.sock", ring.dir.join("link")).unwrap();
            std::fs::hard_link(ring.dir.join("d.sock"), ring.dir.join("hard")).unwrap();
        }
        let own = unix.local_addr().unwrap();
        ring.listen(unix, false, vec![Address::Unix(to.clone())]);
        // On a Unix socket there are no resets. Once it has ended one connection, it is known to all workers.
        let mut early = UnixStream::connect_addr(&own).unwrap();
        early.set_read_timeout(Some(super::support::PATIENCE)).unwrap();
        assert_eq!(early.read(&mut [0]).unwrap(), 0, "{name}");
        let (socket, at) = listen();
        ring.listen(socket, false, vec![Address::Unix(to)]);
        ring.refuses(name, at, false, 1);
    }
}

/// Two hosts know nothing of each other's listeners: each hop has one hop less to go.
#[test]
fn a_circle_of_two_hosts_is_left() {
    for ip in ["127.0.0.1", "::1"] {
        for http in [false, true] {
            let rings = [Ring::new("here"), Ring::new("there")];
            let sockets = [0, 1].map(|_| TcpListener::bind((ip, 0)).unwrap());
            let at = [0, 1].map(|place: usize| sockets[place].local_addr().unwrap());
            for (ring, (socket, next)) in rings.iter().zip(sockets.into_iter().zip([at[1], at[0]])) {
                ring.listen(socket, http, vec![tcp(next)]);
            }
            let mut client = patient(TcpStream::connect(at[0]).unwrap());
            if http {
                send(&mut client, GET);
                assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "), "{ip}");
            } else {
                assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset), "{ip}");
            }
            let accepted: u64 = rings.iter().map(|ring| ring.workers.stats().accepted).sum();
            // A few more if it is not known of the first ones, which came before the workers had their listeners.
            assert!((64..=70).contains(&accepted), "{ip}, {http}: {accepted}");
            for ring in rings {
                ring.workers.stop();
                ring.workers.join().unwrap();
                std::fs::remove_dir_all(ring.dir).unwrap();
            }
        }
    }
}

/// The same number, or the same path, elsewhere is somebody else's; and a listener that is closed is nobody's.
#[test]
fn what_only_looks_like_the_own_listener_is_served() {
    let ring = Ring::new("others");
    let (others, at) = listen();
    let own = TcpListener::bind(("127.0.0.2", at.port())).unwrap();
    let own_at = own.local_addr().unwrap();
    ring.listen(own, false, vec![tcp(at)]);
    let closing = TcpListener::bind(("127.0.0.3", at.port())).unwrap();
    let closed_at = closing.local_addr().unwrap();
    let settings =
        ListenerSettings::new("closed", Service::Forward(Arc::new(Upstream::new("u", Vec::new()))));
    let closing = Listener::new(closing.into(), settings);
    let handle = closing.handle();
    ring.workers.listen(closing);
    let mut client = patient(TcpStream::connect(closed_at).unwrap());
    assert_eq!(read_rest(&mut client).1, Ending::Reset);
    ring.workers.close(&handle);
    let (entry, entry_at) = listen();
    ring.listen(entry, false, vec![tcp(closed_at)]);
    super::support::until("it is closed", || TcpListener::bind(closed_at).is_ok());
    let reopened = TcpListener::bind(closed_at).unwrap();
    for (entry, listener) in [(own_at, &others), (entry_at, &reopened)] {
        let mut client = patient(TcpStream::connect(entry).unwrap());
        let mut server = accept(listener);
        server.write_all(b"hello").unwrap();
        drop(server);
        assert_eq!(read_rest(&mut client), ("hello".into(), Ending::Clean));
    }
    ring.workers.stop();
    ring.workers.join().unwrap();
    std::fs::remove_dir_all(ring.dir).unwrap();
}
