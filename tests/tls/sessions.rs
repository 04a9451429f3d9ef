//! Resumption of sessions, and reload of certificates.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use dockline::drive::Transport;
use dockline::engine::tls::{ClientTls, ClientTlsConfig, Pem, ServerTls, ServerTlsConfig, TlsErrorKind};

use super::peers::*;
use super::pki::{self, Ca, Usage, days};

#[test]
fn a_session_is_resumed_until_the_next_reload() {
    let ca = Ca::new();
    let own = ca.leaf(Usage::Client, -1..30);
    for (version, _) in VERSIONS {
        let server = ServerTls::new(&with_client_ca(&ca, vec![])).unwrap();
        let config = Arc::new(client_config(&ca, &[version], Some(&own)));
        let shake = || shake(&server, &config, "localhost").0.unwrap();
        let first = shake();
        assert!(!first.is_resumed());
        let second = shake();
        assert!(second.is_resumed(), "{version:?}");
        assert_eq!(second.identity(), first.identity());
        assert!(second.identity().is_some());
        server.reload(&with_client_ca(&ca, vec![])).unwrap();
        assert!(!shake().is_resumed(), "{version:?}: a session of the old generation");
        assert!(shake().is_resumed());
    }
}

#[test]
fn a_session_is_not_resumed_under_another_name() {
    let ca = Ca::new();
    let server = ServerTls::new(&ServerTlsConfig::new(ca.server(&["a.test", "b.test"]).credentials)).unwrap();
    for (version, _) in VERSIONS {
        let mut config = client_config(&ca, &[version], None);
        // A client that offers every session everywhere.
        config.resumption = rustls::client::Resumption::store(Arc::new(pki::OneForAll::new()));
        let config = Arc::new(config);
        let resumed = |name| shake(&server, &config, name).0.unwrap().is_resumed();
        assert!(!resumed("a.test"));
        assert!(resumed("a.test"));
        assert!(!resumed("b.test"), "{version:?}");
    }
}

/// The TLS library does not verify the certificate of a resumed session again; dockline does.
#[test]
fn a_session_is_not_resumed_after_its_certificate_has_expired() {
    let ca = Ca::new();
    for (version, _) in VERSIONS {
        let own = ca.client_until(days(0) + 2);
        let server = ServerTls::new(&with_client_ca(&ca, vec![])).unwrap();
        let config = Arc::new(client_config(&ca, &[version], Some(&own)));
        assert!(!shake(&server, &config, "localhost").0.unwrap().is_resumed());
        let give_up = now() + Duration::from_secs(20);
        let error = loop {
            match shake(&server, &config, "localhost").0 {
                Ok(stream) => assert!(stream.is_resumed() && now() < give_up, "{version:?}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("xpired"), "{error}");
    }
}

#[test]
fn a_failed_reload_changes_nothing() {
    let ca = Ca::new();
    let own = ca.leaf(Usage::Client, -1..30);
    let server = ServerTls::new(&with_client_ca(&ca, vec![ca.crl(ca.last_serial(), -1..1)])).unwrap();
    let broken = Pem::new("broken.crl", "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n");
    let error = server.reload(&with_client_ca(&ca, vec![broken])).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (TlsErrorKind::Crl, "broken.crl"));
    assert!(shake(&server, &config_of(&ca, Some(&own)), "localhost").0.is_err(), "still revoked");
    server.reload(&with_client_ca(&ca, vec![])).unwrap();
    assert!(shake(&server, &config_of(&ca, Some(&own)), "localhost").0.is_ok());

    let client = ClientTls::new(&ClientTlsConfig::new(ca.pem())).unwrap();
    assert!(client.reload(&ClientTlsConfig::new(Pem::new("empty", ""))).is_err());
    let (a, b) = sockets();
    assert!(joined(&plain_config(&ca).0, &client, (a.into(), b.into())).is_ok(), "it still works");
}

#[test]
fn an_upstream_may_ask_for_a_client_certificate() {
    let ca = Ca::new();
    let own = ca.leaf(Usage::Client, -1..30);
    let server = ServerTls::new(&with_client_ca(&ca, vec![])).unwrap();
    let config = ClientTlsConfig { credentials: Some(own.credentials), ..ClientTlsConfig::new(ca.pem()) };
    let client = ClientTls::new(&config).unwrap();
    let mut resumed = Vec::new();
    for reload in [false, false, true] {
        if reload {
            client.reload(&config).unwrap();
        }
        let (a, b) = sockets();
        let (server, mut client) = joined(&server, &client, (a.into(), b.into())).unwrap();
        assert!(server.identity().is_some());
        // The tickets of TLS 1.3 follow the handshake.
        assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        resumed.push(client.is_resumed());
    }
    assert_eq!(resumed, [false, true, false]);
}
