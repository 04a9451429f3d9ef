//! Ports that accept, at last.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::super::ready::{Prober, Probes, UNDECIDED_MAX};
use super::daemon::Daemon;
use super::*;

const LONG: Duration = Duration::from_secs(10);

type Accepted = (Id, u64, SocketAddr);

fn prober() -> (Prober, Receiver<Accepted>) {
    let (sender, accepted) = channel();
    let prober = Prober::start(move |id, ticket, address| drop(sender.send((id, ticket, address)))).unwrap();
    (prober, accepted)
}

/// A port that is taken, and refuses connections until it listens.
struct Port {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Port {
    fn new() -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
        Self { socket, address }
    }

    fn listen(self) -> TcpListener {
        rustix::net::listen(&self.socket, 8).unwrap();
        self.socket.into()
    }
}

#[test]
fn a_port_is_reported_once_soon_after_it_accepts() {
    let (prober, accepted) = prober();
    let port = Port::new();
    let address = port.address;
    prober.probe("a".into(), 7, vec![address]);
    assert!(accepted.recv_timeout(Duration::from_millis(150)).is_err());
    let listener = port.listen();
    let began = now();
    assert_eq!(accepted.recv_timeout(LONG).unwrap(), ("a".into(), 7, address));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    drop(prober);
    assert!(accepted.recv().is_err());
    // It made one connection, and has closed it.
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
}

#[test]
fn a_probe_replaces_those_before_of_the_same_container() {
    let ports = [Port::new(), Port::new(), Port::new()];
    let [first, second, other] = [0, 1, 2].map(|place: usize| ports[place].address);
    let mut probes = Probes::default();
    let began = now();
    probes.replace(&"a".into(), 1, vec![first, second], began);
    probes.replace(&"b".into(), 2, vec![other], began);
    assert_eq!(probes.next(began), None);
    probes.replace(&"a".into(), 3, vec![second], began);
    let _listeners = ports.map(Port::listen);
    let later = began + Duration::from_secs(1);
    let mut all: Vec<Accepted> = std::iter::from_fn(|| probes.next(later)).collect();
    all.sort();
    assert_eq!(all, [("a".into(), 3, second), ("b".into(), 2, other)]);
    assert_eq!(probes.deadline(), None);
}

#[test]
fn attempts_are_frequent_at_first_and_never_end() {
    let port = Port::new();
    let mut probes = Probes::default();
    let began = now();
    // What was replaced has no effect.
    probes.replace(&"a".into(), 0, vec![port.address], began);
    assert_eq!(probes.next(began), None);
    probes.replace(&"a".into(), 1, vec![port.address], began);
    let mut at = began;
    let mut pauses = Vec::new();
    while at < began + Duration::from_secs(7) {
        assert_eq!(probes.next(at), None);
        let next = probes.deadline().unwrap();
        if next > at {
            pauses.push((next - at).as_millis());
        }
        at = next;
    }
    assert_eq!(pauses[..5], [5, 10, 20, 40, 40]);
    assert_eq!(pauses[pauses.len() - 3..], [40, 1000, 1000]);
    probes.replace(&"a".into(), 2, vec![], at);
    assert_eq!((probes.next(at), probes.deadline()), (None, None));
}

/// A port whose queue is full: the kernel does not decide about further connections.
fn undecided() -> (TcpListener, Vec<OwnedFd>) {
    let port = Port::new();
    let address = port.address;
    rustix::net::listen(&port.socket, 0).unwrap();
    let connect = || dockline_sys::connect_stream(address, None, None).unwrap();
    let mut clients = vec![connect()];
    while dockline_sys::poll_write(clients[clients.len() - 1].as_fd()).0 {
        clients.push(connect());
    }
    (port.socket.into(), clients)
}

#[test]
fn an_attempt_that_is_not_decided_is_given_up_after_a_second() {
    let (listener, _clients) = undecided();
    let mut probes = Probes::default();
    let began = now();
    probes.replace(&"a".into(), 1, vec![listener.local_addr().unwrap()], began);
    let mut at = began;
    let mut looks = Vec::new();
    while probes.next(at).is_none() && (probes.undecided == 1 || at == began) {
        let next = probes.deadline().unwrap();
        looks.push((next - at).as_millis());
        at = next;
    }
    assert_eq!(looks[..6], [1, 2, 4, 8, 16, 20]);
    assert!(at >= began + Duration::from_secs(1) && at < began + Duration::from_millis(1020));
}

#[test]
fn only_so_many_attempts_are_made_at_a_time() {
    let (listener, _clients) = undecided();
    let address = listener.local_addr().unwrap();
    let mut probes = Probes::default();
    let began = now();
    for number in 0..=UNDECIDED_MAX {
        probes.replace(&format!("c{number}").into(), 1, vec![address], began);
    }
    assert_eq!((probes.next(began), probes.undecided), (None, UNDECIDED_MAX));
    // One that goes makes room for another.
    probes.replace(&"c0".into(), 2, vec![], began);
    assert_eq!(probes.undecided, UNDECIDED_MAX - 1);
    probes.next(began + Duration::from_millis(20));
    assert_eq!(probes.undecided, UNDECIDED_MAX);
}

#[test]
fn a_container_is_live_when_its_port_accepts() {
    let daemon = Daemon::start(&[]);
    let port = Port::new();
    daemon.put("a", "a", true);
    daemon.lock().containers.get_mut("a").unwrap().address = Some(port.address);
    let (sender, updates) = channel();
    let sink = move |update: Update| sender.send(update).is_ok();
    let _watcher = Watcher::start(daemon.client(), "x".into(), node(), Arc::new(reader), sink).unwrap();
    let Change::Sync { records, .. } = updates.recv_timeout(LONG).unwrap().change else { panic!() };
    assert_eq!(records[0].state, RecordState::Down("waiting for the port".into()));
    let _listener = port.listen();
    let Change::Owner { records, .. } = updates.recv_timeout(LONG).unwrap().change else { panic!() };
    assert_eq!(records[0].state, RecordState::Live);
}
