//! A client that half-closes after its request gets the response, over every transport and at every
//! point of an exchange.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use dockline::engine::tls::ServerTls;
use dockline::engine::{
    Address, EngineOptions, Listener, ListenerSettings, Observer, Service, Upstream, Workers,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::peers::{config_of, plain_config};
use super::pki::Ca;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Unix,
    /// With a close_notify before the end.
    Tls,
    /// With the end of the TCP stream only, as many clients do; dockerd responds to it.
    TlsBareEnd,
}

const TRANSPORTS: [Transport; 4] = [Transport::Tcp, Transport::Unix, Transport::Tls, Transport::TlsBareEnd];

enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, bool),
}

impl Client {
    fn send(&mut self, text: &str) {
        match self {
            Self::Tcp(stream) => stream.write_all(text.as_bytes()).unwrap(),
            Self::Unix(stream) => stream.write_all(text.as_bytes()).unwrap(),
            Self::Tls(stream, _) => {
                stream.write_all(text.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        }
    }

    fn half_close(&mut self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Tls(stream, notify) => {
                if *notify {
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                }
                stream.sock.shutdown(Shutdown::Write).unwrap();
            }
        }
    }

    /// Reads up to and including these bytes.
    fn read_until(&mut self, end: &str) {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let n = self.read(&mut byte);
            assert_eq!(n, 1, "{:?} ended before {end:?}", String::from_utf8_lossy(&got));
            got.push(byte[0]);
        }
    }

    /// Reads to the end.
    fn rest(&mut self) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; 1000]);
        loop {
            match self.read(&mut piece) {
                0 => return String::from_utf8(all).unwrap(),
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Reads. A clean end and an error are both an end.
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let result = match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(stream, _) => stream.read(buf),
        };
        result.unwrap_or(0)
    }
}

/// An engine behind a transport, and the daemon, which the test plays.
struct Bed {
    workers: Workers,
    daemon: TcpListener,
    front: Front,
    ca: Ca,
    transport: Transport,
}

enum Front {
    Tcp(std::net::SocketAddr),
    Unix(std::path::PathBuf),
}

impl Bed {
    fn new(transport: Transport) -> Self {
        let daemon = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = daemon.local_addr().unwrap();
        let address = Address::Tcp { host: at.ip().to_string(), port: at.port() };
        let upstream = Upstream::new("daemon", vec![address]);
        let ca = Ca::new();
        let mut settings = ListenerSettings::new("test", Service::to(upstream));
        let (socket, front): (OwnedFd, Front) = if transport == Transport::Unix {
            // Tests may be threads of one process.
            let name = format!("dockline-half-close-{}-{}.sock", std::process::id(), at.port());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            (UnixListener::bind(&path).unwrap().into(), Front::Unix(path))
        } else {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let at = listener.local_addr().unwrap();
            (listener.into(), Front::Tcp(at))
        };
        if matches!(transport, Transport::Tls | Transport::TlsBareEnd) {
            let server: ServerTls = plain_config(&ca).0;
            settings.tls = Some(Arc::new(server));
        }
        let observer: Arc<dyn Observer> = Arc::new(());
        let workers = Workers::start(NonZeroUsize::MIN, &EngineOptions::default(), &observer).unwrap();
        workers.listen(Listener::new(socket, settings));
        Self { workers, daemon, front, ca, transport }
    }

    fn client(&self) -> Client {
        let stream = match &self.front {
            Front::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Client::Unix(stream);
            }
            Front::Tcp(at) => TcpStream::connect(at).unwrap(),
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if self.transport == Transport::Tcp {
            return Client::Tcp(stream);
        }
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(config_of(&self.ca, None), name).unwrap();
        Client::Tls(Box::new(StreamOwned::new(tls, stream)), self.transport == Transport::Tls)
    }

    /// Accepts the next connection of the engine, as the daemon does.
    fn accept(&self) -> TcpStream {
        let (stream, _) = self.daemon.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn close(self) {
        self.workers.drain(Some(PATIENCE));
        self.workers.join().unwrap();
        if let Front::Unix(path) = self.front {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Reads up to and including these bytes.
fn read_until(daemon: &mut TcpStream, end: &str) {
    let (mut got, mut byte) = (Vec::new(), [0]);
    while !got.ends_with(end.as_bytes()) {
        assert_eq!(daemon.read(&mut byte).unwrap(), 1, "{:?} ended", String::from_utf8_lossy(&got));
        got.push(byte[0]);
    }
}

const GET: &str = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/// What the client sends before its half-close, the last of what the daemon has read then, and its
/// response.
const COMPLETE: &[(&str, &str, &str)] = &[
    (GET, "\r\n\r\n", OK),
    ("HEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
    ("GET /_ping HTTP/1.0\r\n\r\n", "\r\n\r\n", OK),
    ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "body", OK),
    (
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "0\r\n\r\n",
        OK,
    ),
    ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi", "hi", OK),
    // Streams: the half-close reaches the daemon.
    ("GET /events?until=1 HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n", OK),
    ("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "body", OK),
    // Requests for a switch, without one.
    ("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "{}", OK),
    (
        "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    ),
];

#[test]
fn a_complete_request_is_answered_after_a_half_close() {
    for transport in TRANSPORTS {
        let bed = Bed::new(transport);
        for (request, seen, response) in COMPLETE {
            let mut client = bed.client();
            client.send(request);
            client.half_close();
            let mut daemon = bed.accept();
            read_until(&mut daemon, seen);
            daemon.write_all(response.as_bytes()).unwrap();
            drop(daemon);
            let (status, end) = (&response[..12], response.rsplit("\r\n").next().unwrap());
            let got = client.rest();
            assert!(got.starts_with(status) && got.ends_with(end), "{transport:?}: {request:?}: {got:?}");
        }
        bed.close();
    }
}

#[test]
fn a_half_close_within_the_response_does_not_cut_it_off() {
    for transport in TRANSPORTS {
        let bed = Bed::new(transport);
        let mut client = bed.client();
        client.send(GET);
        let mut daemon = bed.accept();
        read_until(&mut daemon, "\r\n\r\n");
        daemon.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").unwrap();
        client.read_until("half\r\n");
        client.half_close();
        daemon.write_all(b"4\r\nrest\r\n0\r\n\r\n").unwrap();
        assert_eq!(client.rest(), "4\r\nrest\r\n0\r\n\r\n", "{transport:?}");
        bed.close();
    }
}

#[test]
fn pipelined_requests_are_answered_after_a_half_close() {
    for transport in TRANSPORTS {
        let bed = Bed::new(transport);
        let mut client = bed.client();
        client.send(&GET.repeat(3));
        client.half_close();
        let mut daemon = bed.accept();
        for _ in 0..3 {
            read_until(&mut daemon, "\r\n\r\n");
            daemon.write_all(OK.as_bytes()).unwrap();
        }
        assert_eq!(client.rest().matches("HTTP/1.1 200 OK").count(), 3, "{transport:?}");
        bed.close();
    }
}

/// The daemon must not take the end of the connection for the end of the body.
#[test]
fn a_half_close_within_a_request_aborts_it() {
    for transport in TRANSPORTS {
        let bed = Bed::new(transport);
        for cut in [
            "GET /_ping HTTP/1.1\r\nHost: x\r\n",
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbod",
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
        ] {
            let mut client = bed.client();
            client.send(cut);
            client.half_close();
            assert_eq!(client.rest(), "", "{transport:?}: {cut:?}");
            if cut.starts_with("POST") {
                let (mut daemon, mut got) = (bed.accept(), Vec::new());
                let _ = daemon.read_to_end(&mut got);
                assert!(!got.ends_with(b"body") && !got.ends_with(b"0\r\n\r\n"), "{transport:?}: {cut:?}");
            }
        }
        bed.close();
    }
}

/// On a Unix socket a close differs from a half-close. The request is sent, and then the connection
/// to the daemon closed, as it would be without a proxy.
#[test]
fn a_client_that_closes_a_unix_socket_ends_the_exchange() {
    for request in ["POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", GET] {
        let bed = Bed::new(Transport::Unix);
        let mut client = bed.client();
        client.send(request);
        drop(client);
        let mut daemon = bed.accept();
        read_until(&mut daemon, if request == GET { "\r\n\r\n" } else { "{}" });
        assert_eq!(daemon.read(&mut [0]).unwrap(), 0, "{request}");
        // The same when the close follows a half-close.
        let mut client = bed.client();
        client.send(GET);
        let mut daemon = bed.accept();
        read_until(&mut daemon, "\r\n\r\n");
        client.half_close();
        drop(client);
        assert_eq!(daemon.read(&mut [0]).unwrap(), 0);
        bed.close();
    }
}
