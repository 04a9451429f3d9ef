#![forbid(unsafe_code)]
//! The forwarder by itself. With the program around it, see `docker-proxy/tests/udp.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dockline_udp::Forwarder;

const PATIENCE: Duration = Duration::from_secs(20);

/// A container that returns each datagram.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buf = [0; 64];
        while let Ok((len, from)) = socket.recv_from(&mut buf) {
            let _ = socket.send_to(&buf[..len], from);
        }
    });
    address
}

fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn the_oldest_client_makes_room_at_the_limit() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let mut forwarder = Forwarder::new(socket.into(), Some(echo()), false, |text| panic!("{text}")).unwrap();
    forwarder.limit_clients(2);
    let handle = forwarder.handle().unwrap();
    let running = thread::spawn(move || forwarder.run());
    let open = || {
        let (sender, receiver) = mpsc::channel();
        handle.report(move |report| sender.send(report.open.len()).unwrap());
        receiver.recv_timeout(PATIENCE).unwrap()
    };
    // The first one has to make room for the third, and returns in the place of the second.
    let clients: Vec<UdpSocket> = (0..3).map(|_| client(at)).collect();
    for (number, wanted) in [(0, 1), (1, 2), (2, 2), (0, 2)] {
        clients[number].send(b"hello").unwrap();
        let mut buf = [0; 16];
        let len = clients[number].recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"hello");
        assert_eq!(open(), wanted);
    }
    handle.stop();
    running.join().unwrap().unwrap();
}
