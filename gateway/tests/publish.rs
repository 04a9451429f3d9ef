#![forbid(unsafe_code)]
//! `publish`, `ports` and `unpublish` on loopback, without Docker. What needs a network is in
//! tests/e2e.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{PATIENCE, TempDir, dockline, finish, stderr, until};

/// Starts a server that sends everything back.
fn echo() -> SocketAddr {
    // A port that is free for TCP may be in use for UDP.
    let (listener, datagrams) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(datagrams) = UdpSocket::bind(listener.local_addr().unwrap()) {
            break (listener, datagrams);
        }
    };
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    thread::spawn(move || {
        let mut buf = [0; 1000];
        while let Ok((length, peer)) = datagrams.recv_from(&mut buf) {
            let _ = datagrams.send_to(&buf[..length], peer);
        }
    });
    address
}

/// Returns the program with a state directory of the test, and without Docker.
fn command(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = dockline(arguments);
    command.env("DOCKLINE_STATE_DIR", dir.path("state")).env("DOCKER_HOST", dir.unix("no-docker"));
    command
}

/// A publication in the foreground, and its addresses.
struct Publication {
    child: Child,
    at: Vec<SocketAddr>,
}

impl Publication {
    fn start(dir: &TempDir, arguments: &[&str], ports: usize) -> Self {
        let mut child =
            command(dir, &[&["publish"], arguments].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).take(ports);
        let at = lines.map(|line| line.split('/').next().unwrap().parse().expect(&line)).collect();
        Self { child, at }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listed(dir: &TempDir) -> Vec<Value> {
    let output = finish(command(dir, &["ports", "--format", "json"]).stdout(Stdio::piped()));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("ports published by Docker are not listed"));
    output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

#[test]
fn bytes_and_clients_are_listed_and_unpublish_ends_it() {
    let dir = TempDir::new();
    let to = echo().to_string();
    let free = format!("127.0.0.1:0:{}", to.rsplit_once(':').unwrap().1);
    let mut publication = Publication::start(&dir, &["--to", &to, "--for", "1h", &free], 1);
    let mut client = TcpStream::connect(publication.at[0]).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let ports = listed(&dir);
    let [port] = &ports[..] else { panic!("{ports:?}") };
    assert_eq!(port["listen"], publication.at[0].to_string());
    assert_eq!(port["target"], to);
    assert_eq!((&port["bytes_up"], &port["bytes_down"]), (&5.into(), &5.into()));
    assert_eq!(port["clients"][0]["peer"], client.local_addr().unwrap().to_string());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    until("the connection is in the sums", || listed(&dir)[0]["clients"].as_array().unwrap().is_empty());
    assert_eq!((&listed(&dir)[0]["connections"], &listed(&dir)[0]["bytes_down"]), (&1.into(), &5.into()));

    let number = publication.at[0].port().to_string();
    assert!(finish(&mut command(&dir, &["unpublish", &number])).status.success());
    assert!(publication.child.wait().unwrap().success());
    assert!(TcpStream::connect(publication.at[0]).is_err());
    assert_eq!(dir.path("state").read_dir().unwrap().count(), 0);
    let again = finish(&mut command(&dir, &["unpublish", &number]));
    assert!(stderr(&again).contains("there is no publication"), "{}", stderr(&again));
}

#[test]
fn udp_on_both_loopbacks() {
    let dir = TempDir::new();
    let to = echo().to_string();
    // Another program may take the port first.
    let publication = loop {
        let number = UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port().to_string();
        let publication = Publication::start(&dir, &["--to", &to, "--proto", "udp", &number], 1);
        if !publication.at.is_empty() {
            break publication;
        }
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"hello", publication.at[0]).unwrap();
    let mut buf = [0; 10];
    assert_eq!(client.recv_from(&mut buf).unwrap(), (5, publication.at[0]));
    let port = &listed(&dir)[0];
    assert_eq!(
        (&port["connections"], &port["bytes_up"], &port["bytes_down"]),
        (&1.into(), &5.into(), &5.into())
    );
    publication.signal(Signal::TERM);
    let mut publication = publication;
    assert!(publication.child.wait().unwrap().success());
}

#[test]
fn in_the_background() {
    let dir = TempDir::new();
    let to = echo().to_string();
    let output =
        finish(command(&dir, &["publish", "-d", "--to", &to, "127.0.0.1:0:9"]).stdout(Stdio::piped()));
    assert!(output.status.success(), "{}", stderr(&output));
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(listed(&dir)[0]["id"], id);
    // The port is reserved, and named in the error.
    let at = listed(&dir)[0]["listen"].as_str().unwrap().to_owned();
    let taken = finish(&mut command(&dir, &["publish", "--detach", "--to", &to, &at]));
    let wanted = format!("`dockline` (pid {}) uses it", listed(&dir)[0]["pid"]);
    assert!(taken.status.code() == Some(1) && stderr(&taken).contains(&wanted), "{}", stderr(&taken));
    assert!(finish(&mut command(&dir, &["unpublish", "--all"])).status.success());
    assert_eq!(listed(&dir).len(), 0);
}

/// Either process dies at any moment on the way into the background: then the publication is
/// listed, and can be ended, or its port is free.
#[test]
fn either_process_dies_on_the_way_into_the_background() {
    let dir = TempDir::new();
    let port = free_port();
    let arguments = ["publish", "--detach", "--to", "127.0.0.1:9", &format!("127.0.0.1:{port}")];
    let is_free = || TcpListener::bind(("127.0.0.1", port)).is_ok();
    let child_of = |parent: u32| {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().unwrap()))
    };
    for (what, kills_new) in [("the new process", true), ("the old process", false)] {
        let mut command = command(&dir, &arguments);
        let mut parent = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut child = None;
        until("the new process", || {
            child = child_of(parent.id());
            child.is_some() || parent.try_wait().unwrap().is_some()
        });
        if let Some(child) = child {
            let _ = kill_process(child, Signal::STOP);
            let _ = kill_process(if kills_new { child } else { Pid::from_child(&parent) }, Signal::KILL);
            let _ = kill_process(child, Signal::CONT);
        }
        let output = parent.wait_with_output().unwrap();
        let said = (output.status.success(), !output.stdout.is_empty());
        assert!(said != (true, false), "{what}: it served, and has not said so");
        if kills_new && !output.status.success() {
            assert!(stderr(&output).contains("has ended (signal: 9"), "{}", stderr(&output));
        }
        until(what, || is_free() || !listed(&dir).is_empty());
        finish(&mut self::command(&dir, &["unpublish", "--all"]));
        until(what, is_free);
    }
}

#[test]
fn what_a_killed_publication_leaves_is_removed() {
    let dir = TempDir::new();
    let mut publication = Publication::start(&dir, &["--to", "127.0.0.1:9", "127.0.0.1:0:9"], 1);
    publication.signal(Signal::KILL);
    publication.child.wait().unwrap();
    assert_eq!(dir.path("state").read_dir().unwrap().count(), 1);
    assert_eq!(listed(&dir).len(), 0);
    assert_eq!(dir.path("state").read_dir().unwrap().count(), 0);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_loop_is_refused() {
    let dir = TempDir::new();
    let (one, other) = (free_port().to_string(), free_port().to_string());
    let crossing = [format!("{one}:{other}"), format!("{other}:{one}")];
    for arguments in [
        vec!["--to", "127.0.0.1", &one],
        vec!["--to", "127.0.0.1", "--proto", "udp", &one],
        vec!["--to", "127.0.0.1", &crossing[0], &crossing[1]],
    ] {
        let output = finish(&mut command(&dir, &[&["publish"], &arguments[..]].concat()));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("of the same publication"), "{arguments:?}: {}", stderr(&output));
        let detached = [&["publish", "--detach"], &arguments[..]].concat();
        let output = finish(&mut command(&dir, &detached));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("of the same publication"), "{arguments:?}: {}", stderr(&output));
    }
    assert!(!dir.path("state").exists());

    // Two of them.
    let mut first = Publication::start(&dir, &["--to", "127.0.0.1", &format!("127.0.0.1:{one}:{other}")], 1);
    let output = finish(&mut command(&dir, &["publish", "--to", "127.0.0.1", &crossing[1]]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("leads back here by way of"), "{}", stderr(&output));
    assert_eq!(listed(&dir).len(), 1);
    first.signal(Signal::TERM);
    assert!(first.child.wait().unwrap().success());
}

/// Publications of different users do not see each other: then the loop is bounded.
#[test]
fn an_undetected_loop_ends() {
    let (one, other) = (TempDir::new(), TempDir::new());
    let (first, second) = (free_port(), free_port());
    let ports = |from: u16, to: u16| [format!("127.0.0.1:{from}:{to}"), format!("127.0.0.1:{from}:{to}/udp")];
    let (forth, back) = (ports(first, second), ports(second, first));
    let mut publications = [
        Publication::start(&one, &["--to", "127.0.0.1", &forth[0], &forth[1]], 2),
        Publication::start(&other, &["--to", "127.0.0.1", &back[0], &back[1]], 2),
    ];
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"round and round", publications[0].at[1]).unwrap();
    let clients = || -> u64 {
        let udp =
            |dir| listed(dir).iter().find(|port| port["proto"] == "udp").unwrap()["connections"].as_u64();
        udp(&one).unwrap() + udp(&other).unwrap()
    };
    // One more if the client's datagram came with more than 64.
    until("the datagram has used up its hops", || clients() >= 63);
    assert!(clients() <= 64);
    for publication in &mut publications {
        publication.signal(Signal::TERM);
        assert!(publication.child.wait().unwrap().success());
    }
}

#[test]
fn a_closed_port_is_a_reset() {
    let dir = TempDir::new();
    for ip in ["127.0.0.1", "::1"] {
        let closed = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().to_string();
        let publication = Publication::start(&dir, &["--to", &closed, "127.0.0.1:0:9"], 1);
        let mut client = TcpStream::connect(publication.at[0]).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = client.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{ip}");
    }
}

#[test]
fn mistakes_are_explained() {
    let dir = TempDir::new();
    for (arguments, words) in [
        (&["web"][..], "as in `dockline publish web 8080:80`"),
        (&["web", "80"], "start the daemon"),
        (&["--to", "127.0.0.1:9", "--proxy-protocol", "80/udp"], "--proxy-protocol is for TCP"),
        (&["--to", "127.0.0.1:9", "--dnat", "8080"], "give an address, as in 0.0.0.0:8080:80"),
        (&["--to", "127.0.0.1:9", "--dry-run", "8080"], "add --dnat"),
        (&["--to", "127.0.0.1:9", "8080", "127.0.0.1:8080"], "duplicate port 127.0.0.1:8080/tcp"),
        (&["--to", "127.0.0.1:9", "192.0.2.77:8080"], "no such address"),
    ] {
        let output = finish(&mut command(&dir, &[&["publish"], arguments].concat()));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}
