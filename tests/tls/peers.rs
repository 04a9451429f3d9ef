//! A client built on rustls alone, and handshakes.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use dockline::drive::Transport;
use dockline::engine::tls::{
    ClientTls, ClientTlsConfig, Handshake, Pem, ServerTls, ServerTlsConfig, TlsStream,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::pki::{Ca, Leaf};

pub(crate) const VERSIONS: [(&SupportedProtocolVersion, &str); 2] =
    [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")];

/// A TLS client built on rustls alone, on a non-blocking socket.
pub(crate) struct Client {
    pub(crate) tls: ClientConnection,
    pub(crate) socket: UnixStream,
}

impl Client {
    /// Writes and reads what it can. Returns whether the handshake is done.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                written => written?,
            };
        }
        match self.tls.read_tls(&mut self.socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            read => {
                read?;
                self.tls.process_new_packets().map_err(io::Error::other)?;
            }
        }
        Ok(!self.tls.is_handshaking() && !self.tls.wants_write())
    }

    pub(crate) fn leaf(&self) -> CertificateDer<'static> {
        self.tls.peer_certificates().unwrap()[0].clone()
    }
}

pub(crate) fn client_config(
    ca: &Ca,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<&Leaf>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match own {
        Some(own) => builder.with_client_auth_cert(vec![own.der.clone()], own.key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// Returns both ends of a Unix connection, non-blocking.
pub(crate) fn sockets() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// Makes a handshake of a [`Client`] with `server`. Returns the result of the server, and the
/// client.
pub(crate) fn shake(
    server: &ServerTls,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (io::Result<TlsStream>, Client) {
    let (ours, socket) = sockets();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = Client { tls: ClientConnection::new(Arc::clone(config), name).unwrap(), socket };
    let mut stream = server.accept(ours.into()).unwrap();
    for _ in 0..20 {
        let client_done = client.step().unwrap_or(true);
        match stream.handshake() {
            Ok(Handshake::Done) if client_done => {
                // The tickets of TLS 1.3 follow.
                let _ = client.step();
                return (Ok(stream), client);
            }
            Ok(_) => {}
            Err(error) => {
                let _ = client.step();
                return (Err(error), client);
            }
        }
    }
    panic!("the handshake does not end: {stream:?}");
}

/// Makes a handshake of a server and a client of dockline on both ends of a connection.
pub(crate) fn joined(
    server: &ServerTls,
    client: &ClientTls,
    ends: (OwnedFd, OwnedFd),
) -> io::Result<(TlsStream, TlsStream)> {
    let mut server = server.accept(ends.0)?;
    let mut client = client.connect(ends.1, "localhost")?;
    loop {
        let (a, b) = (client.handshake()?, server.handshake()?);
        if (a, b) == (Handshake::Done, Handshake::Done) {
            return Ok((server, client));
        }
    }
}

pub(crate) fn tls_pair(ca: &Ca) -> (TlsStream, TlsStream) {
    let (server, client) = plain_config(ca);
    let (a, b) = sockets();
    joined(&server, &client, (a.into(), b.into())).unwrap()
}

pub(crate) fn plain_config(ca: &Ca) -> (ServerTls, ClientTls) {
    let server = ServerTls::new(&ServerTlsConfig::new(ca.server(&["localhost"]).credentials)).unwrap();
    (server, ClientTls::new(&ClientTlsConfig::new(ca.pem())).unwrap())
}

pub(crate) fn with_client_ca(ca: &Ca, crls: Vec<Pem>) -> ServerTlsConfig {
    ServerTlsConfig {
        client_ca: Some(ca.pem()),
        crls,
        ..ServerTlsConfig::new(ca.server(&["localhost"]).credentials)
    }
}

pub(crate) fn config_of(ca: &Ca, own: Option<&Leaf>) -> Arc<ClientConfig> {
    Arc::new(client_config(ca, rustls::ALL_VERSIONS, own))
}

pub(crate) fn reads(stream: &mut TlsStream) -> Vec<u8> {
    let mut buf = [0; 100];
    let n = stream.read(&mut buf).unwrap();
    buf[..n].to_vec()
}

#[expect(clippy::disallowed_methods, reason = "the test is the host, and its clock is the real one")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}
