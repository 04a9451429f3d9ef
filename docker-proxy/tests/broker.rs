#![forbid(unsafe_code)]
//! The broker: one process that serves many ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dockline_sys as sys;
use support::{Brokers, PATIENCE, PROXY, Proxy, Start, publish, signal, wait_for};

fn publish_with(brokers: &Brokers, container: SocketAddr) -> (Proxy, SocketAddr) {
    publish(Start { env: &brokers.env(), ..Start::default() }, "tcp", "127.0.0.1", container)
}

/// Starts a container that sends its name and closes.
fn container(says: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(says.as_bytes());
        }
    });
    address
}

fn ask(port: SocketAddr) -> String {
    let mut client = TcpStream::connect(port).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// Returns whether a process has a poller: only then does it accept connections.
fn has_poller(pid: u32) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    links
        .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
        .any(|to| to.ends_with("anon_inode:[eventpoll]"))
}

#[test]
fn one_broker_serves_many_ports_until_the_last_ends() {
    let brokers = Brokers::new("many");
    let (mut first, one) = publish_with(&brokers, container("one"));
    let (mut second, two) = publish_with(&brokers, container("two"));
    let broker = brokers.pid().unwrap();
    assert!(has_poller(broker) && !has_poller(first.pid()) && !has_poller(second.pid()), "the broker serves");
    for _ in 0..3 {
        assert_eq!((ask(one), ask(two)), ("one".to_owned(), "two".to_owned()));
    }

    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0));
    wait_for("the port is closed", || TcpStream::connect(one).is_err());
    assert_eq!(ask(two), "two");

    second.signal("INT");
    assert_eq!(second.wait().code(), Some(0));
    wait_for("the broker ends", || brokers.pid().is_none());
    wait_for("the port is closed", || TcpStream::connect(two).is_err());
}

#[test]
fn stubs_outlive_their_broker() {
    let brokers = Brokers::new("killed");
    let (first, one) = publish_with(&brokers, container("one"));
    let (second, two) = publish_with(&brokers, container("two"));
    assert_eq!(ask(one), "one");
    signal(brokers.pid().unwrap(), "KILL");
    // By either process: no connection is refused meanwhile.
    assert_eq!((ask(one), ask(two)), ("one".to_owned(), "two".to_owned()));
    wait_for("they serve themselves", || has_poller(first.pid()) && has_poller(second.pid()));
    assert_eq!((ask(one), ask(two)), ("one".to_owned(), "two".to_owned()));

    // A new port gets a new broker.
    let (_third, three) = publish_with(&brokers, container("three"));
    assert_eq!(ask(three), "three");
    assert!(brokers.pid().is_some());
}

#[test]
fn many_at_once_find_one_broker() {
    let brokers = Brokers::new("race");
    let ports: Vec<_> = thread::scope(|scope| {
        let starting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| publish_with(&brokers, container("here")))).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (stub, port) in &ports {
        assert_eq!(ask(*port), "here");
        assert!(!has_poller(stub.pid()), "it found the broker");
    }
}

#[test]
fn nonsense_is_refused() {
    let brokers = Brokers::new("nonsense");
    let (_stub, port) = publish_with(&brokers, container("still here"));
    for request in ["127.0.0.1:80\n", "127.0.0.1:80", "nonsense\n", "\n", &"9".repeat(500)] {
        let mut stream = UnixStream::connect(brokers.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset, if it was more than the broker reads.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"1\n"), "{request:?}: {answer:?}");
    }
    drop(UnixStream::connect(brokers.socket()).unwrap());
    assert_eq!(ask(port), "still here");
}

/// Another user may access the directory: the socket is passed to nobody, and the port is served
/// all the same.
#[test]
fn a_directory_that_is_not_private_is_not_used() {
    let brokers = Brokers::new("directory");
    fs::create_dir_all(brokers.dir()).unwrap();
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));
    let spoil: [Spoil<'_>; 4] = [
        ("others can access it", &|dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap()),
        ("others can replace it", &|dir| {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
            fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        }),
        ("it belongs to another user", &|dir| {
            fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(dir, Some(12345), None).unwrap();
        }),
        ("it is a link", &|dir| {
            fs::remove_dir(dir).unwrap();
            fs::DirBuilder::new().mode(0o700).create(dir.with_file_name("other")).unwrap();
            std::os::unix::fs::symlink(dir.with_file_name("other"), dir).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        if what == "it belongs to another user" && fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("skipped: only root can create a directory of another user");
            continue;
        }
        spoil(&brokers.dir());
        // A broker does not use it either.
        let mut broker = Command::new(PROXY);
        broker.args(["--broker", brokers.name]).envs(brokers.env()).stdout(Stdio::null());
        let output = broker.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");

        // A connection would go here.
        let thief = UnixListener::bind(brokers.socket()).unwrap();
        thief.set_nonblocking(true).unwrap();
        let (stub, port) = publish_with(&brokers, container("mine"));
        assert!(has_poller(stub.pid()), "{what}: it serves by itself");
        assert_eq!(ask(port), "mine");
        assert_eq!(thief.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{what}");
        fs::remove_file(brokers.socket()).unwrap();
    }
}

/// Abstract names are not used: root of a container on the host's network could take one.
#[test]
fn abstract_names_are_not_used() {
    let brokers = Brokers::new("abstract");
    let name = UnixAddr::from_abstract_name(brokers.name).unwrap();
    let thief = UnixListener::bind_addr(&name).unwrap();
    thief.set_nonblocking(true).unwrap();
    let (stub, port) = publish_with(&brokers, container("mine"));
    assert!(brokers.pid().is_some() && !has_poller(stub.pid()));
    assert_eq!(ask(port), "mine");
    assert_eq!(thief.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// In a private directory only root could place one; the peer's credentials are checked as well.
#[test]
fn a_broker_of_another_user_gets_nothing() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: only root can be two users");
        return;
    }
    let brokers = Brokers::new("foreign");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(brokers.dir()).unwrap();
    let script = "import socket, sys, os; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(65534); \
                  s.listen(); print('ready', flush=True); c, _ = s.accept(); c.settimeout(20); print(repr(c.recv(64)))";
    let mut thief = Command::new("python3")
        .args(["-c", script, brokers.socket().to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = thief.stdout.take().unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    let (stub, port) = publish_with(&brokers, container("mine"));
    assert!(has_poller(stub.pid()), "it serves by itself");
    assert_eq!(ask(port), "mine");
    let mut got = String::new();
    output.read_to_string(&mut got).unwrap();
    assert_eq!(got.trim(), "b''");
    thief.wait().unwrap();
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    for name in ["", "../x", "/x", &"x".repeat(41)] {
        let output = Command::new(PROXY).args(["--broker", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("of at most 40 bytes"));
    }
}

/// Deaths of either side at each step of passing a port on.
mod handover {
    use super::*;

    /// Binds a port.
    fn port() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// The stub dies: its port must be free, and other ports must be served.
    #[test]
    fn a_stub_that_dies_at_any_step_leaves_nothing() {
        let brokers = Brokers::new("stub-dies");
        let (_keeper, kept) = publish_with(&brokers, container("kept"));
        let broker = brokers.pid().unwrap();
        let request = |stub: &UnixStream, text: &str, socket: &TcpListener| {
            sys::send_descriptor(stub.as_fd(), format!("{text}\n").as_bytes(), socket.as_fd()).unwrap();
        };
        let target = container("dead").to_string();
        type Step<'a> = &'a dyn Fn(&mut UnixStream, &TcpListener);
        // A stopped broker finds the stub dead.
        let steps: [(&str, bool, Step<'_>); 7] = [
            ("connected", false, &|_, _| {}),
            ("connected, and unseen", true, &|_, _| {}),
            ("half of the request", false, &|stub, _| stub.write_all(b"127.0.0.1:8").unwrap()),
            ("a request that is refused", true, &|stub, socket| request(stub, "nonsense", socket)),
            ("handed over, and unseen", true, &|stub, socket| request(stub, &target, socket)),
            ("handed over", false, &|stub, socket| request(stub, &target, socket)),
            ("answered", false, &|stub, socket| {
                request(stub, &target, socket);
                stub.read_exact(&mut [0; 2]).unwrap();
            }),
        ];
        for (what, stopped, step) in steps {
            let (socket, address) = port();
            if stopped {
                signal(broker, "STOP");
            }
            let mut stub = UnixStream::connect(brokers.socket()).unwrap();
            stub.set_read_timeout(Some(PATIENCE)).unwrap();
            step(&mut stub, &socket);
            drop((stub, socket));
            if stopped {
                signal(broker, "CONT");
            }
            assert_eq!(ask(kept), "kept", "{what}");
            wait_for(what, || TcpListener::bind(address).is_ok());
            assert_eq!(brokers.pid(), Some(broker), "{what}");
        }
    }

    /// The same with a real stub, killed while it waits for the reply.
    #[test]
    fn a_killed_stub_leaves_nothing() {
        let brokers = Brokers::new("killed-stub");
        let (_keeper, kept) = publish_with(&brokers, container("kept"));
        let broker = brokers.pid().unwrap();
        signal(broker, "STOP");
        let (socket, address) = port();
        let mut words = support::flags("tcp", address, container("dead"));
        words.push("-use-listen-fd".to_owned());
        let start = Start { listener: Some(socket.into()), env: &brokers.env(), ..Start::default() };
        let mut stub = start.run(&support::words(&words));
        wait_for("the stub is connected", || stub.sockets() == 2);
        stub.signal("KILL");
        stub.wait();
        signal(broker, "CONT");
        assert_eq!(ask(kept), "kept");
        wait_for("the port is free", || TcpListener::bind(address).is_ok());
    }

    /// The broker dies: the stub finds another one, or serves the port itself, and nothing is lost.
    #[test]
    fn a_broker_that_dies_at_any_step_takes_no_port_with_it() {
        type Step<'a> = &'a dyn Fn(UnixListener);
        fn read(listener: &UnixListener) -> (UnixStream, Option<std::os::fd::OwnedFd>) {
            let (stub, _) = listener.accept().unwrap();
            let (len, socket) = sys::recv_descriptor(stub.as_fd(), &mut [0; 128]).unwrap();
            assert!(len > 0 && socket.is_some());
            (stub, socket)
        }
        let steps: [(&str, Step<'_>); 7] = [
            ("not there", &drop),
            ("connected", &|listener| wait_for_client(&listener)),
            ("accepted", &|listener| drop(listener.accept().unwrap())),
            ("handed over", &|listener| drop(read(&listener))),
            ("half a reply", &|listener| read(&listener).0.write_all(b"0").unwrap()),
            ("refused", &|listener| read(&listener).0.write_all(b"1\nno").unwrap()),
            ("answered", &|listener| read(&listener).0.write_all(b"0\n").unwrap()),
        ];
        for (what, step) in steps {
            let brokers = Brokers::new("broker-dies");
            fs::DirBuilder::new().recursive(true).mode(0o700).create(brokers.dir()).unwrap();
            let listener = UnixListener::bind(brokers.socket()).unwrap();
            thread::scope(|scope| {
                let publishing = scope.spawn(|| publish_with(&brokers, container("mine")));
                step(listener);
                let (_stub, port) = publishing.join().unwrap();
                for _ in 0..3 {
                    assert_eq!(ask(port), "mine", "{what}");
                }
            });
        }
    }

    fn wait_for_client(listener: &UnixListener) {
        listener.set_nonblocking(true).unwrap();
        // A waiting connection makes the listener readable.
        wait_for("a client", || {
            let mut poll = mio::Poll::new().unwrap();
            let fd = listener.as_raw_fd();
            let mut source = mio::unix::SourceFd(&fd);
            poll.registry().register(&mut source, mio::Token(0), mio::Interest::READABLE).unwrap();
            let mut events = mio::Events::with_capacity(1);
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            !events.is_empty()
        });
    }

    /// The broker is stopped, with or without room in its backlog: the stub serves the port itself.
    #[test]
    fn a_stopped_broker_is_not_waited_for() {
        let brokers = Brokers::new("stopped");
        let (_keeper, kept) = publish_with(&brokers, container("kept"));
        let broker = brokers.pid().unwrap();
        signal(broker, "STOP");
        let (stub, port) = publish_with(&brokers, container("mine"));
        assert!(has_poller(stub.pid()));
        assert_eq!(ask(port), "mine");
        let waiting: Vec<_> =
            std::iter::from_fn(|| mio::net::UnixStream::connect(brokers.socket()).ok()).collect();
        assert!(!waiting.is_empty());
        let (stub, port) = publish_with(&brokers, container("mine"));
        assert!(has_poller(stub.pid()));
        assert_eq!(ask(port), "mine");
        drop(waiting);
        signal(broker, "CONT");
        assert_eq!((ask(kept), ask(port)), ("kept".to_owned(), "mine".to_owned()));
    }

    /// A broker whose stub has died before it started.
    #[test]
    fn an_unused_broker_ends() {
        let brokers = Brokers::new("unused");
        let mut broker = Command::new(PROXY);
        broker.args(["--broker", brokers.name]).envs(brokers.env()).stdout(Stdio::piped());
        let mut broker = broker.spawn().unwrap();
        broker.stdout.take().unwrap().read_exact(&mut [0; 2]).unwrap();
        assert!(brokers.socket().exists());
        assert!(broker.wait().unwrap().success());
        assert!(!brokers.socket().exists());
    }
}
