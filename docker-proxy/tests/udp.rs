#![forbid(unsafe_code)]
//! Published UDP ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;

use dockline_sys as sys;
use dockline_udp::Batch;
use support::{PATIENCE, Start, publish};

/// The most that fits into an IPv4 packet.
const LONGEST: usize = 65_507;

/// Starts a container that returns each datagram.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buf = vec![0; LONGEST];
        while let Ok((len, from)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(&buf[..len], from);
        }
    });
    address
}

/// Starts a container whose datagrams the test reads.
fn sink() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn client(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; LONGEST];
    let len = socket.recv(&mut buf).unwrap();
    buf.truncate(len);
    buf
}

fn exchange(socket: &UdpSocket, bytes: &[u8]) {
    socket.send(bytes).unwrap();
    assert!(receive(socket) == bytes, "{} bytes", bytes.len());
}

#[test]
fn udp_many_clients() {
    let (_proxy, port) = publish(Start::default(), "udp", "127.0.0.1", echo());
    let clients: Vec<UdpSocket> = (0..200).map(|_| client("127.0.0.1", port)).collect();
    for round in 0..3_u8 {
        for (number, client) in clients.iter().enumerate() {
            for turn in 0..20_u8 {
                client.send(&[round, turn, u8::try_from(number).unwrap()]).unwrap();
            }
            for turn in 0..20_u8 {
                assert_eq!(receive(client), [round, turn, u8::try_from(number).unwrap()], "in order");
            }
        }
    }
}

#[test]
fn udp_zero_len_and_max_len() {
    let (_proxy, port) = publish(Start::default(), "udp", "127.0.0.1", echo());
    let client = client("127.0.0.1", port);
    let long: Vec<u8> = (0..LONGEST).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
    for len in [0, 1, 1472, 0, 8192, LONGEST - 1, LONGEST, 0, 1] {
        exchange(&client, &long[..len]);
    }
}

#[test]
fn udp_over_ipv6_to_ipv4_and_back() {
    for host in ["::1", "::"] {
        let (_proxy, port) = publish(Start::default(), "udp", host, echo());
        exchange(
            &client("::1", SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), port.port())),
            b"six to four",
        );
    }
}

#[test]
fn udp_backend_down_up() {
    let (container, address) = sink();
    let (_proxy, port) = publish(Start::default(), "udp", "127.0.0.1", address);
    let client = client("127.0.0.1", port);
    client.send(b"before").unwrap();
    let mut buf = [0; 16];
    let (len, session) = container.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..len], b"before");

    drop(container);
    for _ in 0..10 {
        client.send(b"lost").unwrap();
    }
    let container = UdpSocket::bind(address).unwrap();
    container.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"after").unwrap();
    loop {
        let (len, from) = container.recv_from(&mut buf).unwrap();
        assert_eq!(from, session, "the session goes on");
        if &buf[..len] == b"after" {
            break;
        }
    }
    container.send_to(b"answer", session).unwrap();
    assert_eq!(receive(&client), b"answer");
}

#[test]
fn udp_reply_source() {
    let (_proxy, port) = publish(Start::default(), "udp", "0.0.0.0", echo());
    // A connected socket accepts datagrams only from the address that it has sent to.
    let clients: Vec<UdpSocket> = ["127.0.0.1", "127.0.0.2", "127.1.2.3"]
        .iter()
        .map(|ip| client("127.0.0.1", SocketAddr::new(ip.parse().unwrap(), port.port())))
        .collect();
    for _ in 0..3 {
        for client in &clients {
            exchange(client, b"who are you?");
        }
    }
    // A client that sends to two addresses gets replies from both.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        client.send_to(b"?", (std::net::IpAddr::from(ip), port.port())).unwrap();
        assert_eq!(client.recv_from(&mut [0; 8]).unwrap().1.ip(), std::net::IpAddr::from(ip));
    }
}

/// Sends one datagram from each of many sockets, and now and then one from a client that stays.
/// Returns the sources of the latter as the container saw them.
fn flood(port: SocketAddr, container: &UdpSocket, clients: usize, every: usize) -> HashSet<SocketAddr> {
    let stays = client("127.0.0.1", port);
    let mut buf = [0; 16];
    let mut sources = HashSet::new();
    for number in 0..clients {
        let socket = if number % every == 0 { &stays } else { &client("127.0.0.1", port) };
        let text: &[u8] = if number % every == 0 { b"stays" } else { b"goes" };
        socket.send(text).unwrap();
        let (len, from) = container.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..len], text);
        if text == b"stays" {
            sources.insert(from);
        }
    }
    sources
}

#[test]
fn udp_table_full() {
    let (container, address) = sink();
    let (proxy, port) = publish(Start::default(), "udp", "127.0.0.1", address);
    assert_eq!(flood(port, &container, 9_000, 1_000).len(), 1, "a live flow survives");
    let open = proxy.descriptors();
    assert!((4_096..4_110).contains(&open), "{open} descriptors open");
}

#[test]
fn udp_table_is_bounded_by_descriptors_too() {
    let (container, address) = sink();
    let start = Start { descriptors: Some(40), ..Start::default() };
    let (proxy, port) = publish(start, "udp", "127.0.0.1", address);
    assert_eq!(flood(port, &container, 500, 10).len(), 1, "a live flow survives");
    let open = proxy.descriptors();
    assert!(open < 50, "{open} descriptors open");
}

/// A datagram in a loop lives until its hops are used up, not for ever: between two processes, and
/// to the port itself.
#[test]
fn udp_a_loop_ends() {
    for ip in ["127.0.0.1", "::1"] {
        let (one, other) = (support::free_port(ip), support::free_port(ip));
        let at = |port| SocketAddr::new(ip.parse().unwrap(), port);
        for ports in [vec![(one, one)], vec![(one, other), (other, one)]] {
            let proxies: Vec<_> = ports
                .iter()
                .map(|(from, to)| {
                    let flags = support::flags("udp", at(*from), at(*to));
                    let mut proxy = Start::default().run(&support::words(&flags));
                    assert_eq!(proxy.status(), "0\n");
                    proxy
                })
                .collect();
            let idle: usize = proxies.iter().map(support::Proxy::sockets).sum();
            // Whatever the default of the host.
            let client = client(ip, at(one));
            sys::set_hops(client.as_fd(), 64).unwrap();
            client.send(b"again and again").unwrap();
            let said = proxies.into_iter().map(|mut proxy| {
                let errors = proxy.child.stderr.take().unwrap();
                (proxy, errors)
            });
            let mut said: Vec<_> = said.collect();
            support::wait_for("the end of the loop", || {
                let open: usize = said.iter().map(|(proxy, _)| proxy.sockets()).sum();
                open == idle + 63
            });
            let mut all = String::new();
            for (proxy, errors) in &mut said {
                proxy.signal("TERM");
                std::io::Read::read_to_string(errors, &mut all).unwrap();
            }
            assert!(all.contains("are forwarded in a loop") && all.lines().count() == 1, "{all}");
        }
    }
}

/// A datagram with few hops left is still forwarded, with one less.
#[test]
fn udp_hops_are_counted() {
    let (container, address) = sink();
    sys::enable_destination(container.as_fd()).unwrap();
    let (_proxy, port) = publish(Start::default(), "udp", "127.0.0.1", address);
    let mut batch = Batch::new();
    for (sent, wanted) in [(2, 1), (64, 63), (65, 64), (255, 64)] {
        let client = client("127.0.0.1", port);
        sys::set_hops(client.as_fd(), sent).unwrap();
        client.send(b"?").unwrap();
        // The socket blocks until a datagram arrives.
        container.peek(&mut [0]).unwrap();
        batch.receive(&container).unwrap();
        assert_eq!(batch.hops(0), Some(wanted));
    }
}
