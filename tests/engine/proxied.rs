//! Connections of proxies that name their client by the PROXY protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use dockline::engine::{EngineOptions, Listener, ListenerSettings, Service, Upstream, Workers};
use dockline::proxy::{ConnConfig, ProxyHeader, ProxyProtocol, TrustedPeers};

use super::support::{
    Bed, GET, OK, PATIENCE, Setup, TestEngine, accept, limits, listen, read_head, read_until, send, tcp,
};

const CLIENT: &str = "192.0.2.7:4711";
const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

fn listed(peer: &str) -> TrustedPeers {
    TrustedPeers::Listed(vec![peer.parse().unwrap()])
}

fn binary() -> Vec<u8> {
    ProxyProtocol::V2.header(CLIENT.parse().ok(), "198.51.100.1:443".parse().ok())
}

/// HTTP for clients of proxies at these addresses; requests have `X-Forwarded-For`.
fn http(trusted: TrustedPeers) -> Bed {
    Bed::start(|at| Setup { proxy_protocol: Some(trusted), x_forwarded: true, ..Setup::http(vec![tcp(at)]) })
}

/// Makes an exchange, and returns who the client was.
fn client_of(bed: &Bed, mut client: TcpStream) -> String {
    send(&mut client, GET);
    let mut daemon = bed.accept();
    let head = read_head(&mut daemon);
    send(&mut daemon, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let (_, rest) = head.split_once("X-Forwarded-For: ").unwrap();
    rest.split("\r\n").next().unwrap().to_owned()
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let bed = http(listed("127.0.0.0/8"));
    for header in [LINE.as_bytes(), &binary()] {
        let mut client = bed.connect();
        client.write_all(header).unwrap();
        assert_eq!(client_of(&bed, client), "192.0.2.7");
    }
    // The proxy speaks for itself.
    for header in [&b"PROXY UNKNOWN\r\n"[..], &ProxyProtocol::V2.header(None, None)] {
        let mut client = bed.connect();
        client.write_all(header).unwrap();
        assert_eq!(client_of(&bed, client), "127.0.0.1");
    }
    bed.close();
}

#[test]
fn a_header_may_come_in_pieces_and_with_what_follows() {
    let bed = http(TrustedPeers::All);
    for header in [LINE.as_bytes(), &binary()] {
        let mut client = bed.connect();
        client.set_nodelay(true).unwrap();
        for byte in header {
            client.write_all(&[*byte]).unwrap();
        }
        assert_eq!(client_of(&bed, client), "192.0.2.7");
        let mut client = bed.connect();
        client.write_all(&[header, GET.as_bytes()].concat()).unwrap();
        let mut daemon = bed.accept();
        assert!(read_head(&mut daemon).contains("X-Forwarded-For: 192.0.2.7\r\n"));
        send(&mut daemon, OK);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        drop((client, daemon));
        bed.until("the connection is gone", |stats| (stats.clients_now, stats.pooled_now) == (0, 0));
    }
    bed.close();
}

fn failure_of(engine: &TestEngine) -> String {
    let line = engine.sees("ProxyHeaderFailed");
    let (_, cause) = line.split_once("cause: ").unwrap();
    cause.trim_end_matches([' ', '}']).to_owned()
}

#[test]
fn a_connection_without_a_header_is_closed() {
    let quick = limits(|limits| limits.head_time = Duration::from_millis(100));
    let setup =
        |at| Setup { proxy_protocol: Some(TrustedPeers::All), limits: quick, ..Setup::http(vec![tcp(at)]) };
    let bed = Bed::start(setup);
    for (sent, ends, cause) in [
        (GET, false, "ProxyHeader"),
        ("\x16\x03\x01", false, "ProxyHeader"),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 4711 99999\r\n", false, "ProxyHeader"),
        ("", true, "ClosedEarly"),
        ("PROXY TCP4 192.0.2.7", true, "ClosedEarly"),
        ("PROXY TCP4 192.0.2.7", false, "Timeout(ProxyHeader)"),
    ] {
        let mut client = bed.connect();
        send(&mut client, sent);
        if ends {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(failure_of(&bed), cause, "{sent:?}");
        // Bytes that were not read make it a reset.
        let _ = client.read(&mut [0; 100]);
    }
    bed.has_no_connection("to the daemon");
    bed.close();
}

#[test]
fn a_stranger_may_not_speak_the_proxy_protocol() {
    let bed = http(listed("10.0.0.0/8"));
    let mut client = bed.connect();
    send(&mut client, LINE);
    assert_eq!(failure_of(&bed), "UntrustedPeer");
    let _ = client.read(&mut [0; 100]);
    bed.has_no_connection("to the daemon");
    bed.close();
}

/// A peer on a Unix socket is trusted by name; the header may come in pieces there, too.
#[test]
fn a_proxy_may_connect_to_a_unix_socket() {
    let (daemons, at) = listen();
    let workers =
        Workers::start(1.try_into().unwrap(), &EngineOptions::default(), &(Arc::new(()) as Arc<_>)).unwrap();
    let name = UnixAddr::from_abstract_name(format!("dockline-proxied-{}", std::process::id())).unwrap();
    let mut settings =
        ListenerSettings::new("test", Service::to(Arc::new(Upstream::new("daemon", vec![tcp(at)]))));
    settings.proxy_protocol = Some(listed("unix"));
    let mut conn = ConnConfig::default();
    conn.forwarding.x_forwarded = true;
    settings.conn = Arc::new(conn);
    workers.listen(Listener::new(UnixListener::bind_addr(&name).unwrap().into(), settings));
    for header in [LINE.as_bytes(), &binary()] {
        let mut client = UnixStream::connect_addr(&name).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        header.iter().for_each(|byte| client.write_all(&[*byte]).unwrap());
        send(&mut client, GET);
        let mut daemon = accept(&daemons);
        assert!(read_head(&mut daemon).contains("X-Forwarded-For: 192.0.2.7\r\n"));
    }
    workers.stop();
    workers.join().unwrap();
}

/// What a header names goes on in the next one, with the address that the client has connected to.
#[test]
fn a_forwarding_listener_passes_the_addresses_on() {
    let bed = Bed::start(|at| {
        let mut upstream = Upstream::new("daemon", vec![tcp(at)]);
        upstream.proxy_protocol = Some(ProxyProtocol::V1);
        Setup {
            proxy_protocol: Some(TrustedPeers::All),
            ..Setup::serving(Service::Forward(Arc::new(upstream)))
        }
    });
    let mut client = bed.connect();
    client.write_all(&[&binary(), &b"hello"[..]].concat()).unwrap();
    let mut daemon = bed.accept();
    assert_eq!(read_until(&mut daemon, "hello"), format!("{LINE}hello"));
    send(&mut daemon, "bye");
    drop(daemon);
    assert_eq!(read_until(&mut client, "bye"), "bye");
    drop(client);
    bed.close();
}

/// The longest header is read, and nothing of what follows it.
#[test]
fn a_header_of_the_greatest_length_is_read() {
    let bed = http(TrustedPeers::All);
    let client: Option<SocketAddr> = CLIENT.parse().ok();
    let mut header = ProxyProtocol::V2.header(client, client);
    header[14..16].copy_from_slice(&u16::try_from(ProxyHeader::MAX - 16).unwrap().to_be_bytes());
    header.resize(ProxyHeader::MAX, b'G');
    let mut client = bed.connect();
    client.write_all(&header).unwrap();
    assert_eq!(client_of(&bed, client), "192.0.2.7");
    bed.close();
}

/// HTTP for a daemon that wants to be told the client, and keeps connections for so long.
fn announcing(pool_time: Duration) -> Bed {
    Bed::start(|at| {
        let mut upstream = Upstream::new("daemon", vec![tcp(at)]);
        upstream.proxy_protocol = Some(ProxyProtocol::V1);
        let limits = limits(|limits| limits.pool_time = pool_time);
        Setup { limits, ..Setup::serving(Service::to(upstream)) }
    })
}

fn header_of(client: &TcpStream) -> String {
    let (source, destination) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let ips = format!("{} {}", source.ip(), destination.ip());
    format!("PROXY TCP4 {ips} {} {}\r\n", source.port(), destination.port())
}

fn respond(client: &mut TcpStream, daemon: &mut TcpStream) {
    send(daemon, OK);
    assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
}

#[test]
fn each_connection_of_a_client_to_the_daemon_names_the_client() {
    let bed = announcing(Duration::from_secs(60));
    let (mut one, mut two) = (bed.connect(), bed.connect());
    let mut daemons = [&mut one, &mut two].map(|client| {
        send(client, GET);
        let mut daemon = bed.accept();
        assert_eq!(read_until(&mut daemon, "\r\n"), header_of(client));
        assert!(read_head(&mut daemon).starts_with("GET /_ping "));
        respond(client, &mut daemon);
        daemon
    });
    // The next requests of each are on its own connection, without another header.
    for _ in 0..2 {
        for (client, daemon) in [&mut one, &mut two].into_iter().zip(&mut daemons).rev() {
            send(client, GET);
            assert!(read_head(daemon).starts_with("GET /_ping "));
            respond(client, daemon);
        }
    }
    let stats = bed.workers.stats();
    assert_eq!((stats.connects, stats.reuses, stats.pooled_now), (2, 4, 0));
    // With the client its connection to the daemon ends.
    drop(one);
    assert_eq!(daemons[0].read(&mut [0]).unwrap(), 0);
    // A request that must not be sent twice gets a new one.
    send(&mut two, "POST /containers/x/start HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut fresh = bed.accept();
    assert_eq!(read_until(&mut fresh, "\r\n"), header_of(&two));
    assert!(read_head(&mut fresh).starts_with("POST "));
    assert_eq!(daemons[1].read(&mut [0]).unwrap(), 0);
    respond(&mut two, &mut fresh);
    drop((two, fresh));
    bed.close();
}

#[test]
fn a_connection_that_the_daemon_closes_is_not_kept_for_its_client() {
    let bed = announcing(Duration::from_secs(60));
    let mut client = bed.connect();
    for _ in 0..2 {
        send(&mut client, GET);
        let mut daemon = bed.accept();
        assert_eq!(read_until(&mut daemon, "\r\n"), header_of(&client));
        read_head(&mut daemon);
        respond(&mut client, &mut daemon);
        daemon.shutdown(Shutdown::Write).unwrap();
        assert_eq!(daemon.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(bed.workers.stats().reuses, 0);
    drop(client);
    bed.close();
}

#[test]
fn a_connection_is_kept_for_its_client_no_longer_than_pool_time() {
    let bed = announcing(Duration::from_millis(100));
    let mut client = bed.connect();
    send(&mut client, GET);
    let mut daemon = bed.accept();
    read_until(&mut daemon, "\r\n");
    read_head(&mut daemon);
    respond(&mut client, &mut daemon);
    assert_eq!(daemon.read(&mut [0]).unwrap(), 0);
    // The client's own connection lives on.
    send(&mut client, GET);
    let mut daemon = bed.accept();
    assert_eq!(read_until(&mut daemon, "\r\n"), header_of(&client));
    drop((client, daemon));
    bed.close();
}
