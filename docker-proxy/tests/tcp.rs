#![forbid(unsafe_code)]
//! Published TCP ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use support::{Brokers, PATIENCE, PROXY, Start, publish};

/// Returns bytes in which shifts, losses and repetitions are detected.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[5]
    };
    (0..len).map(|_| next()).collect()
}

fn connect(port: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(port).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Starts a container that serves each connection on a thread.
fn container(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends everything back once the client has half-closed.
fn echo_at_end(mut stream: TcpStream) {
    let bytes = read_to_end(&mut stream);
    stream.write_all(&bytes).unwrap();
}

/// Sends everything back immediately.
fn echo(stream: TcpStream) {
    let _ = io::copy(&mut &stream, &mut &stream);
}

fn ask(port: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = connect(port);
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    read_to_end(&mut client)
}

#[test]
fn relay_half_close_first_client() {
    let (_proxy, port) = publish(Start::default(), "tcp", "127.0.0.1", container(echo_at_end));
    for len in [0, 1, 65_535, 65_536, 65_537, 3_000_000] {
        let bytes = pattern(1, len);
        assert!(ask(port, &bytes) == bytes, "{len} bytes");
    }
}

#[test]
fn relay_half_close_first_server() {
    fn greet_then_listen(mut stream: TcpStream) {
        stream.write_all(b"nothing more from me").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let heard = read_to_end(&mut stream);
        assert_eq!(heard, pattern(2, 1_000_000));
        // The only way to know: this reset would reach the client, an ordinary close would not.
    }
    let (_proxy, port) = publish(Start::default(), "tcp", "127.0.0.1", container(greet_then_listen));
    let mut client = connect(port);
    assert_eq!(read_to_end(&mut client), b"nothing more from me");
    client.write_all(&pattern(2, 1_000_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn relay_100_connections_at_once() {
    let (proxy, port) = publish(Start::default(), "tcp", "127.0.0.1", container(echo));
    let before = proxy.descriptors();
    let clients: Vec<_> = (0..100)
        .map(|number| {
            let client = connect(port);
            thread::spawn(move || {
                let bytes = pattern(number, 1 + 7_919 * usize::try_from(number).unwrap());
                let mut reader = client.try_clone().unwrap();
                let reading = thread::spawn(move || read_to_end(&mut reader));
                for part in bytes.chunks(1 + 4_096 * (usize::try_from(number).unwrap() % 31)) {
                    (&client).write_all(part).unwrap();
                }
                client.shutdown(Shutdown::Write).unwrap();
                assert!(reading.join().unwrap() == bytes, "connection {number}");
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    // A new connection is served after the loop has handled the ends of all others.
    assert_eq!(ask(port, b"last"), b"last");
    let deadline = (0..1_000).any(|_| {
        proxy.descriptors() <= before + 34 || {
            thread::yield_now();
            false
        }
    });
    assert!(deadline, "{} descriptors, {before} before", proxy.descriptors());
}

#[test]
fn relay_addresses_of_both_families() {
    for host in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        let (_proxy, port) = publish(Start::default(), "tcp", host, container(echo));
        let ip = if host.contains(':') { "::1" } else { "127.0.0.1" };
        assert_eq!(ask(SocketAddr::new(ip.parse().unwrap(), port.port()), b"to IPv4"), b"to IPv4", "{host}");
    }
    let six = TcpListener::bind("[::1]:0").unwrap();
    let (_proxy, port) = publish(Start::default(), "tcp", "127.0.0.1", six.local_addr().unwrap());
    let mut client = connect(port);
    let mut server = six.accept().unwrap().0;
    client.write_all(b"to IPv6").unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server), b"to IPv6");
}

/// A client gets a reset if the container's port is closed, from this process or from a
/// broker. Docker's docker-proxy ends cleanly.
#[test]
fn relay_backend_refused_then_late() {
    let brokers = Brokers::new("refused");
    for env in [&[][..], &brokers.env()] {
        for host in ["127.0.0.1", "::1"] {
            let closed = SocketAddr::new(host.parse().unwrap(), support::free_port(host));
            let (_proxy, port) = publish(Start { env, ..Start::default() }, "tcp", host, closed);
            for _ in 0..20 {
                let error = connect(port).read(&mut [0]).expect_err("a refused connection is reset");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
            let listener = TcpListener::bind(closed).unwrap();
            thread::spawn(move || echo(listener.accept().unwrap().0));
            assert_eq!(ask(port, b"now"), b"now");
        }
    }
}

/// A port that leads to itself, and two ports of two processes that lead to each other.
#[test]
fn relay_a_loop_ends() {
    for host in ["127.0.0.1", "::1"] {
        let at = |port| SocketAddr::new(host.parse().unwrap(), port);
        let (one, other) = (support::free_port(host), support::free_port(host));
        for circle in [vec![(one, one)], vec![(one, other), (other, one)]] {
            let _proxies: Vec<_> = circle
                .iter()
                .map(|(from, to)| {
                    let flags = support::flags("tcp", at(*from), at(*to));
                    let mut proxy = Start::default().run(&support::words(&flags));
                    assert_eq!(proxy.status(), "0\n");
                    proxy
                })
                .collect();
            let error = connect(at(one)).read(&mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{circle:?}");
        }
    }
}

/// More connections than descriptors: the first are served, the others wait in the backlog (that of
/// std, 128) and are served later.
#[test]
fn relay_accept_emfile() {
    let start = Start { descriptors: Some(300), ..Start::default() };
    let (_proxy, port) = publish(start, "tcp", "127.0.0.1", container(echo));
    let mut clients: Vec<TcpStream> = (0..150).map(|_| connect(port)).collect();
    for client in &mut clients {
        client.write_all(b"?").unwrap();
    }
    for mut client in clients {
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"?");
    }
    assert_eq!(ask(port, b"after"), b"after");
}

/// The container gets the address of its client, from this process or from a broker.
#[test]
fn source_address_by_proxy_protocol() {
    let brokers = Brokers::new("introduction");
    for broker in [&[][..], &brokers.env()] {
        let env = [&[("DOCKLINE_PROXY_PROTOCOL", "v1")], broker].concat();
        for (host, family) in [("127.0.0.1", "TCP4"), ("::1", "TCP6")] {
            let (_proxy, port) =
                publish(Start { env: &env, ..Start::default() }, "tcp", host, container(echo_at_end));
            let mut client = connect(port);
            let own = client.local_addr().unwrap();
            client.write_all(b"and then the rest").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let header = format!("PROXY {family} {host} {host} {} {}\r\n", own.port(), port.port());
            assert_eq!(String::from_utf8(read_to_end(&mut client)).unwrap(), header + "and then the rest");
        }
    }
    // Also for a client that waits for the server to speak first.
    let env = [("DOCKLINE_PROXY_PROTOCOL", "v2")];
    let (_proxy, port) =
        publish(Start { env: &env, ..Start::default() }, "tcp", "127.0.0.1", container(echo));
    let mut header = [0; 28];
    connect(port).read_exact(&mut header).unwrap();
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
}

#[test]
fn a_wrong_environment_is_reported_on_the_pipe() {
    for (name, value, wanted) in [
        ("DOCKLINE_PROXY_PROTOCOL", "v3", "must be v1 or v2, or as in v2:80,443 for some ports only"),
        ("DOCKLINE_PROXY_TRANSPARENT", "yes", "must be 1 or 0"),
        ("DOCKLINE_PROXY_BROKER", "/run/x", "must be a name of at most 40 bytes without slashes"),
    ] {
        let env = [(name, value)];
        let start = Start { env: &env, ..Start::default() };
        let (status, code, _) = start.run(&["-container-port", "80"]).outcome();
        assert_eq!((status, code), (format!("1\n{name}={value}: {wanted}"), Some(1)));
    }
}

/// With routes, see tests/e2e/test_docker_proxy_source.py.
#[test]
fn source_address_needs_cap_net_raw() {
    let env = [("DOCKLINE_PROXY_TRANSPARENT", "1")];
    let start = Start { program: "setpriv", env: &env, ..Start::default() };
    let words = [
        "--inh-caps=-net_admin,-net_raw",
        "--bounding-set=-net_admin,-net_raw",
        PROXY,
        "-container-port",
        "80",
    ];
    let (status, code, _) = start.run(&words).outcome();
    let wanted = "1\nclient addresses cannot be preserved: operation not permitted: give dockerd CAP_NET_RAW";
    assert!(status.starts_with(wanted), "{status}");
    assert_eq!(code, Some(1));
}
