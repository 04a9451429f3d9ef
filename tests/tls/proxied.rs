//! The PROXY protocol with TLS: the header comes before the handshake.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use dockline::engine::tls::{ClientTls, ClientTlsConfig, ServerTls, ServerTlsConfig};
use dockline::engine::{
    Address, EngineOptions, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};
use dockline::proxy::{ProxyProtocol, TrustedPeers};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::peers::config_of;
use super::pki::Ca;

const PATIENCE: Duration = Duration::from_secs(20);

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

fn read_until(stream: &mut impl Read, mark: &str) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(mark.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

fn start(settings: ListenerSettings, socket: TcpListener) -> Workers {
    let observer: Arc<dyn Observer> = Arc::new(());
    let workers = Workers::start(NonZeroUsize::MIN, &EngineOptions::default(), &observer).unwrap();
    workers.listen(Listener::new(socket.into(), settings));
    workers
}

fn tcp(at: SocketAddr) -> Address {
    Address::Tcp { host: at.ip().to_string(), port: at.port() }
}

#[test]
fn a_header_comes_before_the_handshake_of_a_client() {
    let ca = Ca::new();
    let ((daemons, daemon_at), (socket, at)) = (listen(), listen());
    let mut upstream = Upstream::new("daemon", vec![tcp(daemon_at)]);
    upstream.proxy_protocol = Some(ProxyProtocol::V1);
    let mut settings = ListenerSettings::new("test", Service::Forward(Arc::new(upstream)));
    settings.proxy_protocol = Some(TrustedPeers::All);
    settings.tls =
        Some(Arc::new(ServerTls::new(&ServerTlsConfig::new(ca.server(&["localhost"]).credentials)).unwrap()));
    let workers = start(settings, socket);
    // In one segment with the first bytes of the handshake, and on its own.
    for together in [true, false] {
        let mut socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = ProxyProtocol::V2.header("192.0.2.7:4711".parse().ok(), "198.51.100.1:443".parse().ok());
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(config_of(&ca, None), name).unwrap();
        let mut first = header;
        if together {
            tls.write_tls(&mut first).unwrap();
        }
        socket.write_all(&first).unwrap();
        let mut client = StreamOwned::new(tls, socket);
        client.write_all(b"hello").unwrap();
        let mut daemon = daemons.accept().unwrap().0;
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read_until(&mut daemon, "hello"), "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello");
        daemon.write_all(b"bye").unwrap();
        assert_eq!(read_until(&mut client, "bye"), "bye");
    }
    workers.stop();
    workers.join().unwrap();
}

#[test]
fn a_header_comes_before_the_handshake_with_an_upstream() {
    for forwards in [true, false] {
        let ((daemons, daemon_at), (socket, at)) = (listen(), listen());
        let mut upstream = Upstream::new("daemon", vec![tcp(daemon_at)]);
        upstream.proxy_protocol = Some(ProxyProtocol::V1);
        upstream.tls = Some(Arc::new(ClientTls::new(&ClientTlsConfig::new(Ca::new().pem())).unwrap()));
        let upstream = Arc::new(upstream);
        let service = if forwards { Service::Forward(upstream) } else { Service::to(upstream) };
        let workers = start(ListenerSettings::new("test", service), socket);
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut daemon = daemons.accept().unwrap().0;
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = client.local_addr().unwrap().port();
        let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", at.port());
        assert_eq!(read_until(&mut daemon, "\r\n"), header);
        let mut record = [0; 2];
        daemon.read_exact(&mut record).unwrap();
        assert_eq!(record, [22, 3], "a handshake record");
        workers.stop();
        workers.join().unwrap();
    }
}
