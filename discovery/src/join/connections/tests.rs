use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::Duration;

use super::*;

/// Sockets whose other ends tell whether they are open.
struct Sockets(TcpListener);

impl Sockets {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.0.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        (self.0.accept().unwrap().0, client)
    }
}

fn is_open(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn source(name: &str) -> Source {
    name.into()
}

#[test]
fn one_handshake_too_many_ends_the_oldest() {
    let (sockets, mut connections, mut clients) = (Sockets::new(), Connections::default(), Vec::new());
    for number in 1..=HANDSHAKES {
        let (socket, client) = sockets.pair();
        assert_eq!(connections.begin(socket), Some(number));
        clients.push(client);
    }
    // It is none any more.
    assert!(connections.verified(1));
    clients.push(add(&sockets, &mut connections));
    assert!(clients.iter_mut().all(is_open));
    clients.push(add(&sockets, &mut connections));
    let open: Vec<bool> = clients.iter_mut().map(is_open).collect();
    assert_eq!(open.iter().filter(|open| !**open).count(), 1);
    assert!(!open[1], "the second one was the oldest");
    assert!(!connections.verified(2));
}

fn add(sockets: &Sockets, connections: &mut Connections) -> TcpStream {
    let (socket, client) = sockets.pair();
    connections.begin(socket).unwrap();
    client
}

#[test]
fn the_number_of_workers_has_a_limit() {
    let (sockets, mut connections) = (Sockets::new(), Connections::default());
    let mut begin = || connections.begin(sockets.pair().0).map(|number| connections.verified(number));
    for _ in 0..WORKERS {
        assert_eq!(begin(), Some(true));
    }
    assert_eq!(begin(), Some(false));
    connections.end(7, None);
    let number = connections.begin(sockets.pair().0).unwrap();
    assert!(connections.verified(number));
}

#[test]
fn the_latest_connection_of_a_worker_counts_in_whatever_order_they_say_who_they_are() {
    for order in [[1, 2], [2, 1]] {
        let (sockets, mut connections) = (Sockets::new(), Connections::default());
        for number in 1..=2 {
            connections.begin(sockets.pair().0).unwrap();
            assert!(connections.verified(number));
        }
        order.iter().for_each(|number| connections.introduce(*number, &source("one")));
        assert!(connections.is_superseded(1) && !connections.is_superseded(2), "{order:?}");
        connections.end(1, Some(crate::now()));
        assert_eq!(connections.deadline(), None, "the other one is there");
        connections.end(2, Some(crate::now()));
        assert!(connections.deadline().is_some());
    }
}

#[test]
fn workers_are_forgotten_when_their_time_has_come_unless_they_are_back() {
    let (sockets, mut connections, now) = (Sockets::new(), Connections::default(), crate::now());
    let join = |connections: &mut Connections, name| {
        let number = connections.begin(sockets.pair().0).unwrap();
        connections.verified(number);
        connections.introduce(number, &source(name));
        number
    };
    for (name, after) in [("one", 1), ("two", 2), ("three", 3)] {
        let number = join(&mut connections, name);
        connections.end(number, Some(now + Duration::from_secs(after)));
    }
    join(&mut connections, "one");
    assert_eq!(connections.deadline(), Some(now + Duration::from_secs(2)));
    assert!(connections.take_forgotten(now + Duration::from_millis(1999)).is_empty());
    assert_eq!(connections.take_forgotten(now + Duration::from_secs(2)), [source("two")]);
    assert_eq!(connections.take_forgotten(now + Duration::from_secs(9)), [source("three")]);
    assert_eq!(connections.deadline(), None);
}

#[test]
fn after_the_stop_there_are_no_connections() {
    let (sockets, mut connections) = (Sockets::new(), Connections::default());
    let (socket, mut client) = sockets.pair();
    connections.begin(socket).unwrap();
    connections.stop();
    assert!(connections.is_stopped() && !is_open(&mut client));
    assert_eq!(connections.begin(sockets.pair().0), None);
}
