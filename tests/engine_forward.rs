#![forbid(unsafe_code)]
//! Listeners that join each connection with one to an upstream, and have none to join it with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::io::Write;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dockline::engine::{Address, EngineOptions};
use socket2::{Domain, Socket, Type};
use support::{Ending, Gate, limits, listen, nobody, patient, read_rest, tcp};

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
        let mut server = support::accept(&listener);
        server.write_all(b"bye").unwrap();
        // A reset that came before the bytes were passed on might take them with it.
        std::io::Read::read_exact(&mut client, &mut [0; 3]).unwrap();
        ending.inflict(server);
        assert_eq!(read_rest(&mut client), (String::new(), ending));
    }
    gate.close();
}
