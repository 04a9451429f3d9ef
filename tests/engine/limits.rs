//! What happens at the bounds: descriptors, connections, backlogs, addresses that do not answer, the end.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::support::{
    ATTACH, Ending, GET, Gate, OK, PATIENCE, SWITCHED, accept, limits, listen, nobody, patient, read_head,
    read_rest, read_until, send, tcp, until,
};
use dockline::drive::PREFILL_LIMIT;
use dockline::engine::{Address, EngineOptions, Upstream};
use dockline::limits::Limits;
use socket2::{Domain, SockAddr, Socket, Type};

/// Answers every request on every connection, for as long as the test runs.
fn answering() -> std::net::SocketAddr {
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

// what is held for a tunnel

/// Around what a relay takes beforehand from a host of its own, and far above it.
#[test]
fn whatever_is_held_arrives() {
    for held in [0, 1, PREFILL_LIMIT - 1, PREFILL_LIMIT, PREFILL_LIMIT + 1, 3 * PREFILL_LIMIT] {
        let (listener, at) = listen();
        let gate = Gate::with(vec![tcp(at)], limits(|limits| limits.held = held), EngineOptions::default());
        let mut client = gate.connect();
        send(&mut client, ATTACH);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        let mut bytes = vec![b'x'; held];
        bytes.resize(held + 4 * PREFILL_LIMIT, b'y');
        // When nothing more goes, as much as is held has been read, and the rest waits in the kernel.
        client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut early = 0;
        while early < bytes.len()
            && let Ok(n) = client.write(&bytes[early..])
        {
            early += n;
        }
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let sent = thread::spawn(move || {
            client.write_all(&bytes[early..]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        send(&mut daemon, SWITCHED);
        let mut got = Vec::new();
        daemon.read_to_end(&mut got).unwrap();
        sent.join().unwrap();
        assert_eq!(got.len(), held + 4 * PREFILL_LIMIT, "held {held}");
        assert!(got[..held].iter().all(|&byte| byte == b'x'), "held {held}");
    }
}

// the next address

#[test]
fn the_next_address_is_tried() {
    let live = answering();
    // As a name, too; on most machines it has a second address, where nobody listens.
    for last in [tcp(live), Address::Tcp { host: "localhost".into(), port: live.port() }] {
        let missing = Address::Unix("/nonexistent/docker.sock".into());
        let addresses = vec![tcp(nobody()), missing, last];
        let gate = Gate::with(addresses, Limits::default(), EngineOptions::default());
        let mut client = gate.connect();
        send(&mut client, GET);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        gate.sees("ConnectFailed");
        gate.sees("ConnectFailed");
        drop(client);
        gate.close();
    }
}

#[test]
fn a_name_that_does_not_exist_is_no_end() {
    let name = Address::Tcp { host: "daemon.invalid".into(), port: 1 };
    let gate = Gate::with(vec![name, tcp(answering())], Limits::default(), EngineOptions::default());
    let mut client = gate.connect();
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop(client);
    gate.close();
}

// a Unix socket whose backlog is full

/// A Unix listener that has room for one connection, and that connection.
struct Crowded {
    path: PathBuf,
    listener: UnixListener,
    first: Socket,
}

impl Crowded {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("dockline-{name}-{}.sock", std::process::id()));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let at = SockAddr::unix(&path).unwrap();
        socket.bind(&at).unwrap();
        socket.listen(0).unwrap();
        let first = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        first.connect(&at).unwrap();
        Self { path, listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)), first }
    }

    fn gate(&self, limits: Limits) -> Gate {
        Gate::with(vec![Address::Unix(self.path.clone())], limits, EngineOptions::default())
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_full_backlog_is_waited_for() {
    let crowded = Crowded::new("waits");
    let gate = crowded.gate(Limits::default());
    let mut client = gate.connect();
    send(&mut client, GET);
    gate.until("the client is there", |stats| stats.accepted == 1);
    assert_eq!(gate.workers.stats().connects, 0);
    drop(crowded.listener.accept().unwrap());
    let (stream, _) = crowded.listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = String::new();
    BufReader::new(&stream).read_line(&mut head).unwrap();
    assert_eq!(head, "GET /_ping HTTP/1.1\r\n");
    drop((stream, client));
    gate.close();
}

#[test]
fn a_full_backlog_is_not_waited_for_for_ever() {
    let crowded = Crowded::new("gives-up");
    let gate = crowded.gate(limits(|limits| limits.connect_time = Duration::from_millis(100)));
    let mut client = gate.connect();
    send(&mut client, GET);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 504 "));
    gate.sees("ConnectFailed");
    gate.sees("exchange upstream-timeout Some(504)");
    drop((client, crowded.first.try_clone().unwrap()));
    gate.close();
}

/// Nothing is left of its attempt to connect.
#[test]
fn a_client_that_leaves_while_a_connection_is_made() {
    let crowded = Crowded::new("leaves");
    let gate = crowded.gate(Limits::default());
    let mut client = gate.connect();
    send(&mut client, GET);
    gate.until("it is there", |stats| stats.accepted == 1);
    Ending::Reset.inflict(client);
    gate.sees("exchange client-aborted None");
    gate.until("it is gone", |stats| stats.clients_now == 0);
    gate.close();
}

// connections

#[test]
fn at_its_bound_the_engine_takes_no_more_connections() {
    let options = EngineOptions { connections: Some(2), ..EngineOptions::default() };
    let gate = Gate::with(vec![tcp(answering())], Limits::default(), options);
    let ask = |client: &mut TcpStream| {
        send(client, GET);
        assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
    };
    let (mut first, mut second) = (gate.connect(), gate.connect());
    ask(&mut first);
    ask(&mut second);
    let mut third = gate.connect();
    send(&mut third, GET);
    gate.sees("Full { connections: 2 }");
    // It waits in the backlog, and those that are in go on.
    ask(&mut first);
    assert_eq!(gate.workers.stats().accepted, 2);
    drop(second);
    assert_eq!(read_until(&mut third, "\r\n\r\nOK"), OK);
    assert_eq!(gate.workers.stats().accepted, 3);
    drop((first, third));
    gate.close();
}

/// The engine with the listener is full, and goes on to accept for the one that is not.
#[test]
fn room_with_any_engine_is_room() {
    let options = EngineOptions { connections: Some(1), ..EngineOptions::default() };
    let router = Arc::new(Arc::new(Upstream::new("daemon", vec![tcp(answering())])));
    let gate = Gate::on_threads(2, listen().0, router, Limits::default(), options);
    let ask = |client: &mut TcpStream| {
        send(client, GET);
        assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
    };
    let (mut first, mut second) = (gate.connect(), gate.connect());
    ask(&mut first);
    ask(&mut second);
    for _ in 0..3 {
        let mut third = gate.connect();
        send(&mut third, GET);
        gate.sees("Full { connections: 1 }");
        drop(second);
        assert_eq!(read_until(&mut third, "\r\n\r\nOK"), OK);
        second = third;
    }
    drop((first, second));
    gate.close();
}

/// Another process has it, too. The kernel would tell of it without end.
#[test]
fn a_listener_that_was_shut_down_is_reported_and_rests() {
    let (socket, at) = listen();
    let shared = socket.try_clone().unwrap();
    let upstream = Arc::new(Upstream::new("daemon", vec![tcp(at)]));
    let gate = Gate::on(socket, Arc::new(upstream), Limits::default(), EngineOptions::default());
    // Only now it is certainly in the loop.
    let mut client = gate.connect();
    send(&mut client, "rubbish\r\n\r\n");
    read_rest(&mut client);
    TcpStream::from(std::os::fd::OwnedFd::from(shared)).shutdown(Shutdown::Both).unwrap();
    let said = gate.sees("AcceptFailed");
    assert!(said.contains("paused: true"), "{said}");
    gate.close();
}

// descriptors

/// Tells the process that is to have few descriptors what it is.
const CHILD: &str = "DOCKLINE_TEST_DAEMON";

/// Not a test of its own: an engine in a process with few descriptors. It says where it is, then what it sees.
#[test]
fn engine_with_few_descriptors() {
    let Ok(daemon) = env::var(CHILD) else { return };
    let options = EngineOptions { connections: Some(1000), ..EngineOptions::default() };
    let gate = Gate::with(vec![tcp(daemon.parse().unwrap())], Limits::default(), options);
    println!("at {}", gate.at);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The end of standard input is the end of the test.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
        loop {
            println!("{}", gate.sees(""));
        }
    });
}

/// The lines of a child, as they come.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

fn wait_for(lines: &Receiver<String>, words: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said: {words}"));
        if let Some((_, rest)) = line.split_once(words) {
            return rest.to_owned();
        }
    }
}

/// An answer, which may say that the proxy has no descriptor for a connection to the daemon.
fn read_answer(stream: &mut impl Read) -> String {
    let head = read_head(stream);
    let mark = if head.starts_with("HTTP/1.1 503 ") { "}\n" } else { "OK" };
    assert!(mark == "}\n" || head.starts_with("HTTP/1.1 200 "), "{head}");
    read_until(stream, mark)
}

#[test]
fn without_descriptors_clients_wait_and_are_served_later() {
    const CLIENTS: usize = 60;
    let mut child = Command::new("sh")
        .args(["-c", r#"ulimit -n 40; exec "$0" "$@""#])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "limits::engine_with_few_descriptors", "--nocapture"])
        .env(CHILD, answering().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stdout.take().unwrap());
    let at = wait_for(&said, "at ");
    // Each keeps its connection: the first ones take all descriptors.
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| patient(TcpStream::connect(&at).unwrap())).collect();
    for client in &mut clients {
        send(client, GET);
    }
    wait_for(&said, "AcceptFailed");
    // A new connection to the daemon is not to be had either, and its client is told so.
    read_answer(&mut clients[0]);
    until("a client is refused", || {
        send(&mut &clients[0], "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        read_answer(&mut &clients[0]).contains("out of connections")
    });
    wait_for(&said, "OutOfResources { errno: Some(24) }");
    send(&mut clients[0], GET);
    // As those that were served leave, the others are let in: none is forgotten.
    for mut client in clients {
        read_answer(&mut client);
    }
    let mut client = patient(TcpStream::connect(&at).unwrap());
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop(child.stdin.take());
    child.wait().unwrap();
}

// the end

#[test]
fn draining_lets_requests_finish_and_cuts_tunnels_at_the_limit() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut idle = gate.connect();
    send(&mut idle, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_answer(&mut idle);
    let mut tunnel = gate.connect();
    send(&mut tunnel, ATTACH);
    let mut tunnel_end = accept(&listener);
    read_head(&mut tunnel_end);
    send(&mut tunnel_end, SWITCHED);
    read_head(&mut tunnel);
    let mut asking = gate.connect();
    send(&mut asking, GET);
    read_head(&mut daemon);

    gate.workers.drain(None);
    assert_eq!(read_rest(&mut idle), (String::new(), Ending::Clean));
    assert!(TcpStream::connect(gate.at).is_err(), "it still listens");
    send(&mut daemon, OK);
    let answer = read_rest(&mut asking);
    assert!(answer.0.contains("Connection: close\r\n") && answer.0.ends_with("OK"), "{answer:?}");
    send(&mut tunnel, "still here");
    read_until(&mut tunnel_end, "still here");
    assert!(!gate.workers.are_done());

    gate.workers.drain(Some(Duration::from_millis(100)));
    // What was cut must not look like a clean end.
    assert_eq!(read_rest(&mut tunnel), (String::new(), Ending::Reset));
    assert_eq!(gate.sees("tunnel"), "tunnel drain 10 0");
    drop(asking);
    gate.close();
}
