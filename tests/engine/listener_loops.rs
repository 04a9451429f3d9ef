//! Listeners that lead back to themselves, directly or through others: the loop is noticed, and the
//! client sent away.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use dockline::engine::{
    Address, EngineOptions, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};

use super::support::{
    Ending, GET, PATIENCE, accept, listen, patient, read_head, read_rest, send, tcp, until,
};

/// The listeners of one host, in one process, and a directory for its sockets.
struct Host {
    workers: Workers,
    dir: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dockline-loop-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let observer: Arc<dyn Observer> = Arc::new(());
        let two = NonZeroUsize::new(2).unwrap();
        Self { workers: Workers::start(two, &EngineOptions::default(), &observer).unwrap(), dir }
    }

    fn listen(&self, socket: impl Into<OwnedFd>, http: bool, to: Vec<Address>) {
        let upstream = Arc::new(Upstream::new("loop", to));
        let service = if http { Service::to(upstream) } else { Service::Forward(upstream) };
        self.workers.listen(Listener::new(socket.into(), ListenerSettings::new("loop", service)));
    }

    /// Asserts that a client is sent away. At most `early` connections are made: to a listener that
    /// another worker does not know yet.
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

fn by_name(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

#[test]
fn a_listener_does_not_connect_to_itself_by_any_address() {
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
            let host = Host::new("self");
            let socket = TcpListener::bind((listens, 0)).unwrap();
            let at = socket.local_addr().unwrap();
            host.listen(socket, http, vec![by_name(name, at.port())]);
            let loopback = if listens == "::1" { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() };
            host.refuses(name, SocketAddr::new(loopback, at.port()), http, 0);
        }
    }
}

#[test]
fn two_listeners_do_not_connect_to_each_other() {
    let host = Host::new("two");
    let (one, other) = (listen(), listen());
    host.listen(one.0, false, vec![tcp(other.1)]);
    host.listen(other.0, false, vec![tcp(one.1)]);
    host.refuses("one to the other", one.1, false, 1);
}

#[test]
fn a_unix_listener_does_not_connect_to_itself_by_any_name() {
    for name in ["d.sock", "link", "hard", "moved/d.sock", "@"] {
        let host = Host::new("unix");
        let unique = format!("dockline-loop-{}", std::process::id());
        let (unix, to) = match name {
            "@" => {
                let unix = UnixAddr::from_abstract_name(&unique).unwrap();
                (UnixListener::bind_addr(&unix).unwrap(), format!("@{unique}").into())
            }
            _ => (UnixListener::bind(host.dir.join("d.sock")).unwrap(), host.dir.join(name)),
        };
        std::os::unix::fs::symlink(&host.dir, host.dir.join("moved")).unwrap();
        if name != "@" {
            std::os::unix::fs::symlink("d.sock", host.dir.join("link")).unwrap();
            std::fs::hard_link(host.dir.join("d.sock"), host.dir.join("hard")).unwrap();
        }
        let own = unix.local_addr().unwrap();
        host.listen(unix, false, vec![Address::Unix(to.clone())]);
        // A Unix socket has no resets. Once one connection has ended, all workers know the
        // listener.
        let mut early = UnixStream::connect_addr(&own).unwrap();
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(early.read(&mut [0]).unwrap(), 0, "{name}");
        let (socket, at) = listen();
        host.listen(socket, false, vec![Address::Unix(to)]);
        host.refuses(name, at, false, 1);
    }
}

/// Two hosts do not know the listeners of each other: the hop limit of the connections ends the
/// loop.
#[test]
fn a_loop_through_two_hosts_ends_at_the_hop_limit() {
    for ip in ["127.0.0.1", "::1"] {
        for http in [false, true] {
            let hosts = [Host::new("here"), Host::new("there")];
            let sockets = [0, 1].map(|_| TcpListener::bind((ip, 0)).unwrap());
            let at = [0, 1].map(|place: usize| sockets[place].local_addr().unwrap());
            for (host, (socket, next)) in hosts.iter().zip(sockets.into_iter().zip([at[1], at[0]])) {
                host.listen(socket, http, vec![tcp(next)]);
            }
            let mut client = patient(TcpStream::connect(at[0]).unwrap());
            if http {
                send(&mut client, GET);
                assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "), "{ip}");
            } else {
                assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset), "{ip}");
            }
            let accepted: u64 = hosts.iter().map(|host| host.workers.stats().accepted).sum();
            // A few more, because the hop limit of connections that came before the workers knew
            // the listener is lost.
            assert!((64..=70).contains(&accepted), "{ip}, {http}: {accepted}");
            for host in hosts {
                host.workers.stop();
                host.workers.join().unwrap();
                std::fs::remove_dir_all(host.dir).unwrap();
            }
        }
    }
}

/// The same port of another address, and the address of a listener that is closed.
#[test]
fn an_address_that_only_resembles_a_listener_of_the_engine_is_connected_to() {
    let host = Host::new("others");
    let (others, at) = listen();
    let own = TcpListener::bind(("127.0.0.2", at.port())).unwrap();
    let own_at = own.local_addr().unwrap();
    host.listen(own, false, vec![tcp(at)]);
    let closing = TcpListener::bind(("127.0.0.3", at.port())).unwrap();
    let closed_at = closing.local_addr().unwrap();
    let settings =
        ListenerSettings::new("closed", Service::Forward(Arc::new(Upstream::new("u", Vec::new()))));
    let closing = Listener::new(closing.into(), settings);
    let handle = closing.handle();
    host.workers.listen(closing);
    let mut client = patient(TcpStream::connect(closed_at).unwrap());
    assert_eq!(read_rest(&mut client).1, Ending::Reset);
    host.workers.close(&handle);
    let (entry, entry_at) = listen();
    host.listen(entry, false, vec![tcp(closed_at)]);
    until("it is closed", || TcpListener::bind(closed_at).is_ok());
    let reopened = TcpListener::bind(closed_at).unwrap();
    for (entry, listener) in [(own_at, &others), (entry_at, &reopened)] {
        let mut client = patient(TcpStream::connect(entry).unwrap());
        let mut server = accept(listener);
        server.write_all(b"hello").unwrap();
        drop(server);
        assert_eq!(read_rest(&mut client), ("hello".into(), Ending::Clean));
    }
    host.workers.stop();
    host.workers.join().unwrap();
    std::fs::remove_dir_all(host.dir).unwrap();
}
