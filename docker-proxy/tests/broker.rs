#![forbid(unsafe_code)]
//! Many ports, one process that serves them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use support::{PATIENCE, Proxy, Start, publish, signal};

fn name(test: &str) -> String {
    format!("dockline-test-{}-{test}", std::process::id())
}

fn address(name: &str) -> UnixAddr {
    UnixAddr::from_abstract_name(name).unwrap()
}

fn publish_with(broker: &str, container: SocketAddr) -> (Proxy, SocketAddr) {
    let env = [("DOCKLINE_PROXY_BROKER", broker)];
    publish(Start { env: &env, ..Start::default() }, "tcp", "127.0.0.1", container)
}

/// A container that says its name and ends.
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

/// Waits for what other processes do.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within 20 s");
}

/// The broker of that name, if there is one.
fn find_broker(name: &str) -> Option<u32> {
    let wanted = format!("--broker\0{name}\0");
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.ends_with(&wanted).then_some(pid)
    })
}

/// Descriptors of a process that are TCP sockets, the one way to see who accepts from outside.
fn has_poller(pid: u32) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    links
        .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
        .any(|to| to.ends_with("anon_inode:[eventpoll]"))
}

#[test]
fn one_broker_serves_many_ports_until_the_last_ends() {
    let name = name("many");
    let (mut first, one) = publish_with(&name, container("one"));
    let (mut second, two) = publish_with(&name, container("two"));
    let broker = find_broker(&name).unwrap();
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
    wait_for("the broker ends", || find_broker(&name).is_none());
    wait_for("the port is closed", || TcpStream::connect(two).is_err());
}

#[test]
fn stubs_outlive_their_broker() {
    let name = name("killed");
    let (first, one) = publish_with(&name, container("one"));
    let (second, two) = publish_with(&name, container("two"));
    assert_eq!(ask(one), "one");
    signal(find_broker(&name).unwrap(), "KILL");
    // Served by whoever: not one connection is refused in between.
    assert_eq!((ask(one), ask(two)), ("one".to_owned(), "two".to_owned()));
    wait_for("they serve themselves", || has_poller(first.pid()) && has_poller(second.pid()));
    assert_eq!((ask(one), ask(two)), ("one".to_owned(), "two".to_owned()));

    // A new port gets a new broker.
    let (_third, three) = publish_with(&name, container("three"));
    assert_eq!(ask(three), "three");
    assert!(find_broker(&name).is_some());
}

#[test]
fn many_at_once_find_one_broker() {
    let name = name("race");
    let ports: Vec<_> = thread::scope(|scope| {
        let starting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| publish_with(&name, container("here")))).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (stub, port) in &ports {
        assert_eq!(ask(*port), "here");
        assert!(!has_poller(stub.pid()), "it found the broker");
    }
}

#[test]
fn nonsense_is_refused() {
    let name = name("nonsense");
    let (_stub, port) = publish_with(&name, container("still here"));
    for request in ["127.0.0.1:80\n", "127.0.0.1:80", "nonsense\n", "\n", &"9".repeat(500)] {
        let mut stream = UnixStream::connect_addr(&address(&name)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset, if it was more than the broker cared to read.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"1\n"), "{request:?}: {answer:?}");
    }
    drop(UnixStream::connect_addr(&address(&name)).unwrap());
    assert_eq!(ask(port), "still here");
}

/// Somebody else has taken the name: the socket is not given to him, and the port is served all the same.
#[test]
fn a_broker_of_another_user_gets_nothing() {
    let own = fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        eprintln!("skipped: only root can be two users");
        return;
    }
    let name = name("foreign");
    let script = "import socket, sys, os; s = socket.socket(socket.AF_UNIX); os.setuid(65534); s.bind('\\0' + sys.argv[1]); \
                  s.listen(); print('ready', flush=True); c, _ = s.accept(); c.settimeout(20); print(repr(c.recv(64)))";
    let mut thief = std::process::Command::new("python3")
        .args(["-c", script, &name])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = thief.stdout.take().unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    let (stub, port) = publish_with(&name, container("mine"));
    assert!(has_poller(stub.pid()), "it serves by itself");
    assert_eq!(ask(port), "mine");
    let mut got = String::new();
    output.read_to_string(&mut got).unwrap();
    assert_eq!(got.trim(), "b''");
    thief.wait().unwrap();
    drop(UnixListener::bind_addr(&address(&name)).unwrap());
}
