//! The engine on real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dockline::engine::{
    Address, Engine, EngineOptions, Listener, ListenerSettings, Observer, Pair, PeerAddr, Service, Stats,
    Upstream, Workers,
};

/// Workers in front of an upstream on loopback.
fn gateway(
    upstream: &TcpListener,
    service: impl Fn(Arc<Upstream>) -> Service,
) -> (Workers, std::net::SocketAddr) {
    let address = upstream.local_addr().unwrap();
    let upstream =
        Upstream::new("daemon", vec![Address::Tcp { host: address.ip().to_string(), port: address.port() }]);
    let observer: Arc<dyn Observer> = Arc::new(());
    let workers =
        Workers::start(NonZeroUsize::new(2).unwrap(), &EngineOptions::default(), &observer).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    workers.listen(Listener::new(socket.into(), ListenerSettings::new("test", service(Arc::new(upstream)))));
    (workers, at)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_request_and_its_kept_connections() {
    let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
    let (workers, at) = gateway(&daemon, |upstream| Service::Http(Arc::new(upstream)));
    let server = thread::spawn(move || {
        let (mut stream, _) = daemon.accept().unwrap();
        for _ in 0..3 {
            assert!(read_head(&mut stream).starts_with("GET /_ping HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").unwrap();
        }
    });
    let mut client = TcpStream::connect(at).unwrap();
    for _ in 0..3 {
        client.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(read_head(&mut client), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        let mut body = [0; 2];
        client.read_exact(&mut body).unwrap();
    }
    server.join().unwrap();
    let handles = workers.handles().to_vec();
    workers.drain(Some(Duration::from_secs(5)));
    workers.join().unwrap();
    let sum = |counter: fn(&Stats) -> u64| handles.iter().map(|handle| counter(&handle.stats())).sum::<u64>();
    assert_eq!((sum(|s| s.requests), sum(|s| s.connects), sum(|s| s.reuses)), (3, 1, 2));
}

#[test]
fn a_tunnel_half_closes_both_ways() {
    let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
    let (workers, at) = gateway(&daemon, |upstream| Service::Http(Arc::new(upstream)));
    let server = thread::spawn(move || {
        let (mut stream, _) = daemon.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").unwrap();
        let mut input = Vec::new();
        stream.read_to_end(&mut input).unwrap();
        input.reverse();
        stream.write_all(&input).unwrap();
    });
    let mut client = TcpStream::connect(at).unwrap();
    client
        .write_all(b"POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&data).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut output = Vec::new();
    client.read_to_end(&mut output).unwrap();
    output.reverse();
    assert_eq!(output, data);
    server.join().unwrap();
    workers.drain(None);
    workers.join().unwrap();
}

/// The end of the client's stream may come before the answer: it must not be lost when the tunnel opens.
#[test]
fn a_half_close_before_the_tunnel_opens() {
    let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
    let (workers, at) = gateway(&daemon, |upstream| Service::Http(Arc::new(upstream)));
    let mut client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
        .write_all(
            b"POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nstdin",
        )
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = daemon.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").unwrap();
        let mut input = String::new();
        stream.read_to_string(&mut input).unwrap();
        stream.write_all(input.as_bytes()).unwrap();
    });
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut output = String::new();
    client.read_to_string(&mut output).unwrap();
    assert_eq!(output, "stdin");
    server.join().unwrap();
    workers.drain(None);
    workers.join().unwrap();
}

#[test]
fn what_is_given_to_an_engine_that_is_gone_is_closed() {
    let engine = Engine::new(EngineOptions::default(), Arc::new(())).unwrap();
    let handle = engine.handle();
    drop(engine);
    let (mut client, downstream) = UnixStream::pair().unwrap();
    let (_daemon, upstream) = UnixStream::pair().unwrap();
    handle.adopt(Pair {
        downstream: downstream.into(),
        upstream: upstream.into(),
        downstream_early: Vec::new(),
        upstream_early: Vec::new(),
        name: "daemon".into(),
    });
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn open_tunnels_are_listed() {
    let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
    let (workers, at) = gateway(&daemon, Service::Forward);
    let mut client = TcpStream::connect(at).unwrap();
    let (mut server, _) = daemon.accept().unwrap();
    client.write_all(b"four").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    server.write_all(b"seven77").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();

    let (sender, listed) = std::sync::mpsc::channel();
    for handle in workers.handles() {
        let sender = sender.clone();
        handle.tunnels(move |tunnels| sender.send(tunnels).unwrap());
    }
    drop(sender);
    let all: Vec<_> = listed.iter().flatten().collect();
    assert_eq!(all.len(), 1);
    assert_eq!((&*all[0].listener, &*all[0].upstream.name), ("test", "daemon"));
    assert_eq!(all[0].peer, PeerAddr::Ip(client.local_addr().unwrap()));
    assert_eq!((all[0].stats.up.delivered, all[0].stats.down.delivered), (4, 7));

    // An engine that is done answers nothing, and drops the question.
    let handles = workers.handles().to_vec();
    workers.stop();
    workers.join().unwrap();
    let (sender, listed) = std::sync::mpsc::channel();
    handles[0].tunnels(move |tunnels| sender.send(tunnels).unwrap());
    assert!(listed.recv().is_err());
}
