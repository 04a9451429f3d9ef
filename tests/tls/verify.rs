//! Which peers are accepted, and errors in a configuration.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use dockline::engine::tls::{
    ClientTls, ClientTlsConfig, Credentials, Handshake, Pem, ServerTls, ServerTlsConfig, TlsErrorKind,
    check_key_file,
};
use rustls::ClientConfig;

use super::peers::*;
use super::pki::{self, Ca, Usage};

#[test]
fn sni_chooses_the_certificate() {
    let ca = Ca::new();
    let names = [
        &["a.test"][..],
        &["b.test", "*.B.test", "*.c.test"],
        &["C.test", "x.c.test", "a.test"],
        &["*.c.test", "127.0.0.1"],
    ];
    let certificates: Vec<_> = names.iter().map(|names| ca.server(names)).collect();
    let all = certificates.iter().map(|leaf| leaf.credentials.clone()).collect();
    let config = ServerTlsConfig { certificates: all, ..ServerTlsConfig::new(ca.server(&["x"]).credentials) };
    let server = ServerTls::new(&config).unwrap();
    for (name, expected) in [
        ("a.test", 0),
        ("b.test", 1),
        ("x.b.test", 1),
        ("X.B.test", 1),
        ("C.test", 2),
        // The name itself comes before a wildcard.
        ("x.c.test", 2),
        ("y.c.test", 1),
        // A wildcard is for one label.
        ("x.y.b.test", 0),
        ("test", 0),
        ("d.test", 0),
        ("127.0.0.1", 0),
    ] {
        // The client accepts a certificate for any name, to see which one it gets.
        let (_, client) = shake(&server, &config_trusting_any_name(&ca), name);
        assert_eq!(client.leaf(), certificates[expected].der, "{name}");
    }
}

fn config_trusting_any_name(ca: &Ca) -> Arc<ClientConfig> {
    let mut config = client_config(ca, rustls::ALL_VERSIONS, None);
    config.dangerous().set_certificate_verifier(Arc::new(pki::AnyServer));
    Arc::new(config)
}

#[test]
fn client_certificates_are_verified() {
    let ca = Ca::new();
    let good = ca.leaf(Usage::Client, -1..30);
    let unrestricted = ca.leaf(Usage::Any, -1..30);
    let revoked = ca.leaf(Usage::Client, -1..30);
    let crl = ca.crl(ca.last_serial(), -1..1);
    let server = ServerTls::new(&with_client_ca(&ca, vec![crl])).unwrap();
    let other = Ca::new();
    let cases = [
        ("none", None),
        ("wrong CA", Some(other.leaf(Usage::Client, -1..30))),
        ("expired", Some(ca.leaf(Usage::Client, -30..-1))),
        ("not yet valid", Some(ca.leaf(Usage::Client, 1..30))),
        ("for servers", Some(ca.leaf(Usage::Server, -1..30))),
        ("revoked", Some(revoked)),
    ];
    for (version, _) in VERSIONS {
        for (what, own) in &cases {
            let config = Arc::new(client_config(&ca, &[version], own.as_ref()));
            let error = shake(&server, &config, "localhost").0.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
        }
        let config = Arc::new(client_config(&ca, &[version], Some(&good)));
        let stream = shake(&server, &config, "localhost").0.unwrap();
        let leaf = stream.peer_certificate().unwrap();
        assert_eq!(stream.identity().unwrap().as_ref(), fingerprint(leaf));
    }
    let config = config_of(&ca, Some(&unrestricted));
    assert!(shake(&server, &config, "localhost").0.is_ok(), "a certificate without a usage is valid for any");
    let foreign = ServerTls::new(&with_client_ca(&ca, vec![other.crl(999, -1..1)])).unwrap();
    assert!(shake(&foreign, &config, "localhost").0.is_err(), "no CRL of its issuer");
    let stale = ServerTls::new(&with_client_ca(&ca, vec![ca.crl(999, -3..-1)])).unwrap();
    assert!(shake(&stale, &config_of(&ca, Some(&good)), "localhost").0.is_err(), "the CRL has expired");
}

fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Each message of the handshake is as long as the TLS library accepts it; together they are too
/// long.
#[test]
fn a_handshake_with_a_very_long_chain_is_refused() {
    let ca = Ca::new();
    let own = ca.leaf(Usage::Client, -1..30);
    let server = ServerTls::new(&with_client_ca(&ca, vec![])).unwrap();
    for (bytes, taken) in [(60_000, true), (65_200, false)] {
        let mut chain = vec![own.der.clone()];
        // Each entry has three bytes of length.
        chain.resize((bytes - own.der.len()) / (ca.der().len() + 3), ca.der());
        let base = client_config(&ca, &[&rustls::version::TLS12], None);
        let mut config = base.clone();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(
            rustls::sign::CertifiedKey::from_der(chain, own.key(), base.crypto_provider()).unwrap(),
        ));
        config.alpn_protocols = vec![vec![b'x'; 255]; 8];
        config.alpn_protocols.push(b"http/1.1".to_vec());
        match shake(&server, &Arc::new(config), "localhost").0 {
            Ok(_) => assert!(taken, "{bytes}"),
            Err(error) => assert!(!taken && error.to_string().contains("64 KiB"), "{bytes}: {error}"),
        }
    }
}

#[test]
fn the_host_chooses_the_identity_of_a_client() {
    let ca = Ca::new();
    let own = ca.leaf(Usage::Client, -1..30);
    let mut config = with_client_ca(&ca, vec![]);
    for name in [Some("alice"), None] {
        config.identify = Arc::new(move |_| name.map(Arc::from));
        let server = ServerTls::new(&config).unwrap();
        let stream = shake(&server, &config_of(&ca, Some(&own)), "localhost").0.unwrap();
        assert_eq!(stream.identity().map(AsRef::as_ref), name);
    }
}

#[test]
fn alpn_other_than_http_1_1_is_refused() {
    let ca = Ca::new();
    let http = ServerTlsConfig::new(ca.server(&["localhost"]).credentials);
    let any = ServerTlsConfig { http_only: false, ..http.clone() };
    for (offer, http_takes) in [(vec![], true), (vec!["h2", "http/1.1"], true), (vec!["h2"], false)] {
        let mut config = client_config(&ca, rustls::ALL_VERSIONS, None);
        config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = Arc::new(config);
        assert_eq!(
            shake(&ServerTls::new(&http).unwrap(), &config, "localhost").0.is_ok(),
            http_takes,
            "{offer:?}"
        );
        assert!(shake(&ServerTls::new(&any).unwrap(), &config, "localhost").0.is_ok());
    }
}

#[test]
fn configuration_errors_name_the_file_and_the_cause() {
    let ca = Ca::new();
    let good = ca.server(&["localhost"]).credentials;
    let text = |kind: &str| format!("-----BEGIN {kind}-----\nMAMCAQE=\n-----END {kind}-----\n");
    let server = |config: ServerTlsConfig| ServerTls::new(&config).unwrap_err();
    let cases = [
        (TlsErrorKind::NoCertificate, Credentials { chain: Pem::new("it", "no PEM at all"), ..good.clone() }),
        (
            TlsErrorKind::Pem,
            Credentials { chain: Pem::new("it", "-----BEGIN CERTIFICATE-----\n?"), ..good.clone() },
        ),
        (
            TlsErrorKind::Certificate,
            Credentials { chain: Pem::new("it", text("CERTIFICATE")), ..good.clone() },
        ),
        (TlsErrorKind::NoKey, Credentials { key: Pem::new("it", ""), ..good.clone() }),
        (
            TlsErrorKind::Pem,
            Credentials { key: Pem::new("it", "-----BEGIN PRIVATE KEY-----\n?"), ..good.clone() },
        ),
        (TlsErrorKind::Key, Credentials { key: Pem::new("it", text("PRIVATE KEY")), ..good.clone() }),
    ];
    for (kind, credentials) in cases {
        let error = server(ServerTlsConfig::new(credentials));
        assert_eq!((error.kind(), error.subject()), (kind, "it"), "{error}");
        assert!(error.to_string().starts_with("it: "), "{error}");
    }
    let mixed = Credentials { chain: good.chain.clone(), key: ca.server(&["localhost"]).credentials.key };
    assert_eq!(server(ServerTlsConfig::new(mixed)).kind(), TlsErrorKind::KeyMismatch);
    let empty = ServerTlsConfig { certificates: vec![], ..ServerTlsConfig::new(good.clone()) };
    assert_eq!(server(empty).kind(), TlsErrorKind::NoCertificate);
    let no_ca = ServerTlsConfig { client_ca: Some(Pem::new("it", "")), ..with_client_ca(&ca, vec![]) };
    assert_eq!((server(no_ca.clone()).kind(), server(no_ca).subject()), (TlsErrorKind::NoCertificate, "it"));
    assert_eq!(server(with_client_ca(&ca, vec![Pem::new("it", "")])).kind(), TlsErrorKind::NoCrl);
    let crl_alone = ServerTlsConfig { client_ca: None, ..with_client_ca(&ca, vec![ca.crl(1, -1..1)]) };
    assert_eq!(server(crl_alone).kind(), TlsErrorKind::CrlWithoutCa);

    let client = ClientTlsConfig { server_name: Some("no name".into()), ..ClientTlsConfig::new(ca.pem()) };
    let error = ClientTls::new(&client).unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::ServerName);
    assert!(error.to_string().contains("no name"), "{error}");
    let error = plain_config(&ca).1.connect(sockets().0.into(), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = std::env::temp_dir().join(format!("dockline-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("key.pem");
    assert_eq!(check_key_file(&path).unwrap_err().kind(), TlsErrorKind::Unreadable);
    assert_eq!(Credentials::read(&path, &path).unwrap_err().kind(), TlsErrorKind::Unreadable);
    std::fs::write(&path, "").unwrap();
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let checked = check_key_file(&path);
        assert_eq!(checked.is_ok(), good, "{mode:o}");
        if let Err(error) = checked {
            assert_eq!(error.kind(), TlsErrorKind::KeyExposed(mode));
            assert!(error.to_string().contains(&format!("key.pem: mode {mode:04o}")), "{error}");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_server_is_verified_by_name_or_address() {
    let ca = Ca::new();
    let server =
        ServerTls::new(&ServerTlsConfig::new(ca.server(&["daemon.test", "127.0.0.1"]).credentials)).unwrap();
    let connect = |ca: &Ca, name: Option<&str>, host: &str| {
        let config =
            ClientTlsConfig { server_name: name.map(str::to_owned), ..ClientTlsConfig::new(ca.pem()) };
        let client = ClientTls::new(&config).unwrap();
        let (a, b) = sockets();
        let (mut server, mut client) =
            (server.accept(a.into()).unwrap(), client.connect(b.into(), host).unwrap());
        for _ in 0..20 {
            let done = client.handshake()? == Handshake::Done;
            if server.handshake()? == Handshake::Done && done {
                return Ok::<_, io::Error>(server.sni().map(str::to_owned));
            }
        }
        panic!("the handshake does not end");
    };
    assert_eq!(connect(&ca, None, "daemon.test").unwrap().as_deref(), Some("daemon.test"));
    assert_eq!(connect(&ca, None, "127.0.0.1").unwrap(), None);
    assert_eq!(connect(&ca, Some("daemon.test"), "10.0.0.1").unwrap().as_deref(), Some("daemon.test"));
    assert_eq!(connect(&ca, None, "other.test").unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(connect(&ca, None, "::1").unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(connect(&Ca::new(), None, "daemon.test").unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn client_configurations_are_compared_by_content() {
    let ca = Ca::new();
    let (one, two) = (ca.leaf(Usage::Client, -1..30), ca.leaf(Usage::Client, -1..30));
    let tls = |config: &ClientTlsConfig| ClientTls::new(config).unwrap();
    let base = ClientTlsConfig {
        credentials: Some(one.credentials.clone()),
        server_name: Some("daemon.test".into()),
        ..ClientTlsConfig::new(ca.pem())
    };
    let first = tls(&base);
    assert_eq!(first, first);
    assert_eq!(first, tls(&base));
    let authority = ca.text();
    let renamed = ClientTlsConfig { ca: Pem::new("another name", authority.clone()), ..base.clone() };
    assert_eq!(first, tls(&renamed));
    for (what, other) in [
        ("another authority", ClientTlsConfig { ca: Ca::new().pem(), ..base.clone() }),
        ("one more line", ClientTlsConfig { ca: Pem::new("ca.pem", authority + "\n"), ..base.clone() }),
        ("another certificate", ClientTlsConfig { credentials: Some(two.credentials), ..base.clone() }),
        ("no certificate", ClientTlsConfig { credentials: None, ..base.clone() }),
        ("another name", ClientTlsConfig { server_name: Some("daemon2.test".into()), ..base.clone() }),
        ("no name", ClientTlsConfig { server_name: None, ..base.clone() }),
    ] {
        let other_tls = tls(&other);
        assert_ne!(first, other_tls, "{what}");
        // A reload counts.
        other_tls.reload(&base).unwrap();
        assert_eq!(first, other_tls, "{what}");
    }
}
