use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dockline::engine::tls::{ClientTls, ClientTlsConfig, Credentials, Pem, ServerTls, ServerTlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::super::{FrontAddress, HANDSHAKES, JoinError, Line, VERSION, Worker, hello};
use super::*;
use crate::record::{Node, RecordId};
use crate::update::{Change, Unrouted};

const PATIENCE: Duration = Duration::from_secs(30);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Pem {
        Pem::new("ca.pem", self.0.pem())
    }

    fn issue(&self, name: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Credentials {
            chain: Pem::new("cert.pem", certificate.pem()),
            key: Pem::new("key.pem", key.serialize_pem()),
        }
    }

    fn client(&self, credentials: Option<Credentials>) -> Arc<ClientTls> {
        let mut config = ClientTlsConfig::new(self.pem());
        config.credentials = credentials;
        Arc::new(ClientTls::new(&config).unwrap())
    }
}

struct Front {
    address: SocketAddr,
    updates: Receiver<Update>,
    door: FrontDoor,
}

impl Front {
    fn new(authority: &Authority) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), authority, Duration::from_secs(3600))
    }

    fn on(listener: TcpListener, authority: &Authority, keep: Duration) -> Self {
        let address = listener.local_addr().unwrap();
        let mut config = ServerTlsConfig::new(authority.issue("127.0.0.1"));
        config.client_ca = Some(authority.pem());
        config.http_only = false;
        let (sender, updates) = channel();
        let sink = Arc::new(move |update| drop(sender.send(update)));
        let tls = Arc::new(ServerTls::new(&config).unwrap());
        let door = FrontDoor::start(vec![listener], Terms { tls, keep: Some(keep) }, sink).unwrap();
        Self { address, updates, door }
    }

    fn joined(&self) -> FrontAddress {
        FrontAddress { host: "127.0.0.1".into(), port: self.address.port() }
    }

    fn next(&self) -> Change {
        self.updates.recv_timeout(PATIENCE).unwrap().change
    }

    fn close(self) -> Change {
        self.door.close();
        self.updates.recv_timeout(PATIENCE).unwrap().change
    }

    fn connect(&self, tls: &ClientTls) -> Stream {
        Stream::connect(tls, "127.0.0.1", TcpStream::connect(self.address).unwrap()).unwrap()
    }
}

fn node(name: &str) -> Node {
    Node { name: name.parse().unwrap(), gateway: None }
}

fn unrouted(owner: &str) -> Unrouted {
    let owner = RecordId { node: "one".parse().unwrap(), owner: owner.into(), index: 0 };
    Unrouted { owner, title: "web".into(), reason: "no port".into() }
}

fn sync(unrouted: Vec<Unrouted>) -> Change {
    Change::Sync { nodes: vec![node("one")], records: vec![], unrouted }
}

fn change(owner: &str) -> Change {
    let one = unrouted(owner);
    Change::Owner { owner: one.owner.clone(), records: vec![], unrouted: Some(one) }
}

fn local(change: Change) -> Update {
    Update { source: "docker".into(), change }
}

fn answer(stream: &mut Stream) -> Option<Answer> {
    let (mut text, mut buf) = (Vec::new(), [0; 1024]);
    while !text.ends_with(b"\n") {
        match stream.receive(&mut buf, PATIENCE) {
            Ok(0) | Err(_) => return None,
            Ok(n) => text.extend_from_slice(&buf[..n]),
        }
    }
    Some(serde_json::from_slice(&text).unwrap())
}

#[test]
fn a_worker_pushes_everything_and_then_each_change() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let tls = authority.client(Some(authority.issue("one")));
    let worker = Worker::start(front.joined(), tls, node("one")).unwrap();
    // It joins when it knows what it has, and not before.
    worker.apply(local(Change::Stale("not there yet".into())));
    worker.apply(local(sync(vec![unrouted("a")])));
    assert_eq!(front.next(), sync(vec![unrouted("a")]));
    worker.apply(local(change("b")));
    assert_eq!(front.next(), change("b"));
    worker.apply(local(Change::Stale("the daemon is gone".into())));
    assert_eq!(front.next(), Change::Stale("the daemon is gone".into()));
    worker.apply(local(sync(vec![unrouted("b")])));
    assert_eq!(front.next(), sync(vec![unrouted("b")]));
}

#[test]
fn a_front_door_that_is_back_gets_everything_at_once() {
    let authority = Authority::new();
    // Stands in for a front door that dies: the connection ends before an answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let joined = FrontAddress { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let tls = authority.client(Some(authority.issue("one")));
    let worker = Worker::start(joined, tls, node("one")).unwrap();
    worker.apply(local(sync(vec![unrouted("a")])));
    drop(listener.accept().unwrap());
    let front = Front::on(listener, &authority, Duration::MAX);
    assert_eq!(front.next(), sync(vec![unrouted("a")]));
}

#[test]
fn a_worker_whose_certificate_names_another_node_is_refused() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let mut stream = front.connect(&authority.client(Some(authority.issue("two"))));
    stream.send(&line(&hello(node("one")))).unwrap();
    let reason = JoinError::NotItsName("one".parse().unwrap()).to_string();
    assert_eq!(answer(&mut stream), Some(Answer::Refused(reason.as_str().into())));
    assert_eq!(answer(&mut stream), None, "the connection ends");
}

#[test]
fn a_worker_without_a_certificate_of_the_authority_is_refused() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    for credentials in [None, Some(Authority::new().issue("one"))] {
        let tls = authority.client(credentials);
        let socket = TcpStream::connect(front.address).unwrap();
        // With TLS 1.3 the client learns of it after its own handshake.
        let said = Stream::connect(&tls, "127.0.0.1", socket).ok().and_then(|mut stream| {
            let _ = stream.send(&line(&hello(node("one"))));
            answer(&mut stream)
        });
        assert_eq!(said, None);
    }
}

#[test]
fn the_end_of_an_older_connection_changes_nothing() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let tls = authority.client(Some(authority.issue("one")));
    let join = || {
        let mut stream = front.connect(&tls);
        let all = [hello(node("one")), Line::Begin, Line::End];
        stream.send(&all.iter().flat_map(line).collect::<Vec<u8>>()).unwrap();
        assert_eq!(answer(&mut stream), Some(Answer::Joined));
        assert_eq!(front.next(), sync(vec![]));
        stream
    };
    let mut older = join();
    let latest = join();
    let _ = older.send(&line(&Line::Stale("old".into())));
    let reason = Verdict::Superseded.to_string();
    assert_eq!(answer(&mut older), Some(Answer::Refused(reason.as_str().into())));
    assert_eq!(answer(&mut older), None, "it has nothing more to say");
    drop(latest);
    let Change::Stale(why) = front.next() else { panic!("its end is reported") };
    assert!(why.raw().contains("gone"), "{why}");
}

#[test]
fn another_version_is_told_so() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let mut stream = front.connect(&authority.client(Some(authority.issue("one"))));
    stream.send(&line(&Line::Hello { version: VERSION + 1, node: node("one") })).unwrap();
    let reason = JoinError::Version(VERSION + 1).to_string();
    assert_eq!(answer(&mut stream), Some(Answer::Refused(reason.as_str().into())));
}

#[test]
fn a_worker_that_does_not_come_back_is_forgotten() {
    let authority = Authority::new();
    let keep = Duration::from_millis(200);
    let front = Front::on(TcpListener::bind("127.0.0.1:0").unwrap(), &authority, keep);
    let tls = authority.client(Some(authority.issue("one")));
    let join = || {
        let worker = Worker::start(front.joined(), Arc::clone(&tls), node("one")).unwrap();
        worker.apply(local(sync(vec![])));
        assert_eq!(front.next(), sync(vec![]));
        worker
    };
    join().stop();
    assert!(matches!(front.next(), Change::Stale(_)));
    let ended = crate::now();
    // One that is back in time is not forgotten: nothing comes before its end is told.
    let back = join();
    while ended.elapsed() < keep * 2 {
        assert!(front.updates.recv_timeout(keep).is_err());
    }
    back.stop();
    assert!(matches!(front.next(), Change::Stale(_)));
    assert_eq!(front.next(), Change::Gone);
}

#[test]
fn a_front_door_that_is_dropped_ends_its_connections_and_says_nothing_more() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let mut stream = front.connect(&authority.client(Some(authority.issue("one"))));
    let all = [hello(node("one")), Line::Begin, Line::End];
    stream.send(&all.iter().flat_map(line).collect::<Vec<u8>>()).unwrap();
    assert_eq!(answer(&mut stream), Some(Answer::Joined));
    assert_eq!(front.next(), sync(vec![]));
    drop(front.door);
    assert_eq!(answer(&mut stream), None);
    // The sink goes with the last thread.
    assert!(front.updates.recv_timeout(PATIENCE).is_err());
    assert!(TcpStream::connect(front.address).is_err());
}

#[test]
fn a_front_door_that_pauses_leaves_its_workers_to_another_one() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = Front::on(listener.try_clone().unwrap(), &authority, Duration::from_secs(3600));
    let tls = authority.client(Some(authority.issue("one")));
    let worker = Worker::start(front.joined(), tls, node("one")).unwrap();
    worker.apply(local(sync(vec![])));
    assert_eq!(front.next(), sync(vec![]));
    front.door.pause();
    assert!(matches!(front.next(), Change::Stale(_)));
    let other = Front::on(listener, &authority, Duration::from_secs(3600));
    assert_eq!(other.next(), sync(vec![]));
    assert_eq!(other.close(), Change::Gone);
    front.door.resume();
    assert_eq!(front.next(), sync(vec![]));
    assert_eq!(front.close(), Change::Gone);
}

#[test]
fn handshakes_that_take_long_give_way_to_workers() {
    let authority = Authority::new();
    let front = Front::new(&authority);
    let waiting: Vec<TcpStream> =
        (0..=HANDSHAKES).map(|_| TcpStream::connect(front.address).unwrap()).collect();
    let tls = authority.client(Some(authority.issue("one")));
    let worker = Worker::start(front.joined(), tls, node("one")).unwrap();
    worker.apply(local(sync(vec![])));
    assert_eq!(front.next(), sync(vec![]));
    // The oldest two have ended: one by the last of the others, one by the worker.
    for mut ended in waiting.iter().take(2) {
        ended.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(Read::read(&mut ended, &mut [0; 1]), Ok(0) | Err(_)));
    }
    let mut open = &waiting[2];
    open.set_nonblocking(true).unwrap();
    let error = Read::read(&mut open, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}
