//! Listeners that join each connection with one to an upstream.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use dockline::engine::Address;
use socket2::{Domain, Socket, Type};

use super::support::{Bed, Ending, Setup, limits, read_rest, refusing_address, tcp};

/// Returns an address that neither accepts nor refuses connections, and what keeps it so.
fn silent_address() -> (Socket, Vec<Socket>, SocketAddr) {
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

/// A clean end would mean that the upstream was there and sent nothing.
#[test]
fn an_upstream_that_cannot_be_reached_is_a_reset() {
    let quick = limits(|limits| limits.connect_time = Duration::from_millis(100));
    let refused6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (_listener, _waiting, silent) = silent_address();
    let named = Address::Tcp { host: "daemon.invalid".into(), port: 1 };
    for (what, addresses) in [
        ("refused", vec![tcp(refusing_address())]),
        ("refused by IPv6", vec![tcp(refused6)]),
        ("one after the other", vec![tcp(refusing_address()), tcp(refused6)]),
        ("silent", vec![tcp(silent)]),
        ("an unknown name", vec![named]),
        ("no socket", vec![Address::Unix("/nonexistent/docker.sock".into())]),
        ("nowhere", Vec::new()),
    ] {
        let engine = Setup { limits: quick, ..Setup::forward(addresses) }.start();
        // Whether the client waits, has sent something, or has sent everything.
        for sends in [None, Some(false), Some(true)] {
            let mut client = engine.connect();
            let sent = match sends {
                None => Ok(()),
                Some(false) => client.write_all(b"hello"),
                Some(true) => client.write_all(b"hello").and_then(|()| client.shutdown(Shutdown::Write)),
            };
            // One call only reports a reset, and it need not be the read.
            if sent.is_err() {
                continue;
            }
            assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset), "{what}, {sends:?}");
        }
        engine.close();
    }
}

#[test]
fn a_client_sees_the_end_that_the_upstream_made() {
    let bed = Bed::forward();
    for ending in Ending::BOTH {
        let mut client = bed.connect();
        let mut daemon = bed.accept();
        daemon.write_all(b"bye").unwrap();
        // A reset that arrives before the bytes are forwarded may discard them.
        client.read_exact(&mut [0; 3]).unwrap();
        ending.close(daemon);
        assert_eq!(read_rest(&mut client), (String::new(), ending));
    }
    bed.close();
}
