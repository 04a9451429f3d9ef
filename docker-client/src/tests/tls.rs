//! TLS: the daemon's certificate is verified, and ours is shown.

use std::sync::Arc;

use dockline::engine::tls::{ClientTlsConfig, Credentials, Pem};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &Ca, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, ca).unwrap(), key)
}

/// Serves one connection of a daemon that verifies its clients, with these responses.
fn tls_daemon(ca: &Ca, name: &str, responses: Vec<String>) -> Address {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (certificate, key) = leaf(ca, name);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from(certificate)],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        for response in responses {
            if request(&mut stream).is_none() || stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    Address::Tcp { host: "127.0.0.1".into(), port }
}

fn client(address: Address, ca: &Ca, own: Option<&Ca>) -> Docker {
    let mut config = ClientTlsConfig::new(Pem::new("ca.pem", ca.pem()));
    config.credentials = own.map(|ca| {
        let (certificate, key) = leaf(ca, "someone.test");
        Credentials {
            chain: Pem::new("cert.pem", certificate.pem()),
            key: Pem::new("key.pem", key.serialize_pem()),
        }
    });
    Docker::with_tls(address, ClientTls::new(&config).unwrap()).unwrap()
}

#[test]
fn requests_and_events_go_by_tls() {
    let ca = authority();
    let long = format!("[{}1]", "1,".repeat(200_000));
    let docker = client(tls_daemon(&ca, "127.0.0.1", vec![ok("1"), ok(&long), ok("3")]), &ca, Some(&ca));
    assert_eq!(docker.get::<u8>("/1").unwrap(), 1);
    assert_eq!(docker.get::<Vec<u8>>("/2").unwrap().len(), 200_001);
    assert_eq!(docker.get::<u8>("/3").unwrap(), 3);

    let docker = client(tls_daemon(&ca, "127.0.0.1", vec![ok("{}\n{}")]), &ca, Some(&ca));
    let mut events = docker.events(&EventFilter { types: &[], actions: &[] }, None).unwrap();
    assert_eq!(events.next(LONG).unwrap(), Received::Event(b"{}".to_vec()));
    assert_eq!(events.next(LONG).unwrap(), Received::Event(b"{}".to_vec()));
    assert!(events.next(LONG).is_err());
}

#[test]
fn a_daemon_with_a_certificate_for_another_name_or_of_another_authority_gets_no_request() {
    let (ca, other) = (authority(), authority());
    for (name, trusted) in [("127.0.0.2", &ca), ("127.0.0.1", &other)] {
        let docker = client(tls_daemon(&ca, name, vec![ok("1")]), trusted, Some(&ca));
        let error = docker.get::<u8>("/1").unwrap_err();
        assert!(matches!(error, DockerError::Unreachable { .. }), "{error}");
    }
}

#[test]
fn a_daemon_that_wants_another_certificate_refuses_the_connection() {
    let (ca, other) = (authority(), authority());
    for own in [None, Some(&other)] {
        let docker = client(tls_daemon(&ca, "127.0.0.1", vec![ok("1")]), &ca, own);
        let error = docker.get::<u8>("/1").unwrap_err();
        assert!(!matches!(error, DockerError::Refused { .. }), "{error}");
    }
}
