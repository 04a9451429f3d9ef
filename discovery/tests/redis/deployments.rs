//! Passwords, TLS, Unix sockets, Sentinel, clusters.

use std::fs;
use std::process::Command;

use dockline_discovery::registry::redis::{Address, Layout, PublisherConfig, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::server::{Directory, Server, directory, free_port, wait_for};
use crate::support::{Machine, Reader, config};

fn parse(text: &str) -> Address {
    text.parse().unwrap()
}

/// Checks that what is published at an address is read there.
fn works(address: &Address, tls: &TlsFiles) {
    let config = PublisherConfig { tls: tls.clone(), ..config(address.clone()) };
    let one = Machine::new("one", config);
    one.has(&[("web", "172.17.0.2:80")]);
    let mut reader = Reader::with(address.clone(), tls.clone(), Layout::Structured([].into()));
    reader.sees(&["one/web=172.17.0.2:80"]);
    one.starts("db", "172.17.0.3:80");
    reader.sees(&["one/db=172.17.0.3:80", "one/web=172.17.0.2:80"]);
}

/// Returns why reading at an address fails.
fn fails(address: &Address, tls: &TlsFiles) -> String {
    let mut reader = Reader::with(address.clone(), tls.clone(), Layout::Structured([].into()));
    reader.waits("that it fails", |reader| reader.stale.is_some());
    reader.stale.unwrap()
}

#[test]
fn a_unix_socket_works() {
    let redis = Server::start(&[]);
    works(&parse(&format!("unix://{}?database=1", redis.socket().to_str().unwrap())), &TlsFiles::default());
    assert!(redis.keys().is_empty(), "it is another database");
}

#[test]
fn passwords_and_users_with_few_rights_work() {
    let redis = Server::start(&["--requirepass", "s@cret"]);
    let at = format!("127.0.0.1:{}", redis.port);
    let tls = TlsFiles::default();
    works(&parse(&format!("redis://:s%40cret@{at}")), &tls);
    works(&parse(&at).with_password("s@cret".into()), &tls);
    assert!(fails(&parse(&format!("redis://{at}")), &tls).contains("NOAUTH"));
    let why = fails(&parse(&format!("redis://:wrongone@{at}")), &tls);
    assert!(why.contains("authentication failed") && !why.contains("wrongone"), "{why}");

    // The rights of docs/REGISTRY.md.
    let admin = redis::Client::open(format!("redis://:s%40cret@{at}")).unwrap();
    let mut admin = admin.get_connection().unwrap();
    let rules = "ACL SETUSER dockline on >pw resetchannels &dockline:changes ~{dockline}:* -@all +@connection +@read \
                 +@write +@scripting +subscribe +publish +time +role -@dangerous";
    let mut words = rules.split_ascii_whitespace();
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command.exec(&mut admin).unwrap();
    works(&parse(&format!("redis://dockline:pw@{at}")), &tls);
}

/// A CA and what it has issued, in files for the server and in memory for us.
struct Pki {
    ca: Vec<u8>,
    client: (Vec<u8>, Vec<u8>),
    options: Vec<String>,
    _files: Directory,
}

fn pki() -> Pki {
    let dir = directory();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let issue = |names: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // Or it would seem to have issued itself.
        params.distinguished_name.push(DnType::CommonName, "issued");
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server, server_key) = issue(&["127.0.0.1"]);
    let (client, client_key) = issue(&["client"]);
    let file = |name: &str, text: &str| {
        let path = dir.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let options = vec![
        "--tls-cert-file".into(),
        file("server.pem", &server),
        "--tls-key-file".into(),
        file("server-key.pem", &server_key),
        "--tls-ca-cert-file".into(),
        file("ca.pem", &ca_pem),
    ];
    Pki {
        ca: ca_pem.into_bytes(),
        client: (client.into_bytes(), client_key.into_bytes()),
        options,
        _files: dir,
    }
}

#[test]
fn tls_with_client_certificates_works() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pki = pki();
    let port = free_port();
    let tls_port = port.to_string();
    let mut options: Vec<&str> = pki.options.iter().map(String::as_str).collect();
    options.extend(["--tls-port", &tls_port]);
    let _redis = Server::start(&options);
    let address = parse(&format!("rediss://127.0.0.1:{port}"));
    let files = TlsFiles { ca: Some(pki.ca.clone()), identity: Some(pki.client.clone()) };
    works(&address, &files);

    let why = fails(&address, &TlsFiles { identity: None, ..files.clone() });
    assert!(why.contains("CertificateRequired"), "{why}");
    let other = self::pki();
    let why = fails(&address, &TlsFiles { ca: Some(other.ca), ..files.clone() });
    assert!(why.contains("BadSignature") || why.contains("UnknownIssuer"), "{why}");
    let why = fails(&parse(&format!("rediss://localhost:{port}")), &files);
    assert!(why.contains("NotValidForName") || why.contains("not valid for name"), "{why}");
    let why = fails(&parse(&format!("redis://127.0.0.1:{port}")), &TlsFiles::default());
    assert!(!why.is_empty());
}

#[test]
fn with_sentinel_routes_follow_the_master() {
    let mut master = Server::start(&[]);
    let master_port = master.port.to_string();
    let replica = Server::start(&[
        "--replicaof",
        &format!("127.0.0.1 {master_port}"),
        "--repl-diskless-sync-delay",
        "0",
    ]);
    wait_for("the replica to be in sync", || {
        let info: String = replica.ask("INFO replication");
        info.contains("master_link_status:up").then_some(())
    });
    let watch = format!(
        "sentinel monitor main 127.0.0.1 {master_port} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n"
    );
    let sentinel = Server::sentinel(&watch);
    // It has to know of the replica, or there is nothing to choose.
    wait_for("the sentinel to find the replica", || {
        let found: Vec<redis::Value> = sentinel.ask("SENTINEL REPLICAS main");
        (!found.is_empty()).then_some(())
    });
    // The first sentinel is away.
    let address = parse(&format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port));
    let mut reader = Reader::new(address.clone());
    let one = Machine::new("one", config(address.clone()));
    one.has(&[("web", "172.17.0.2:80")]);
    reader.sees(&["one/web=172.17.0.2:80"]);
    master.kill();
    reader.waits("that it is stale", |reader| reader.stale.is_some());
    one.starts("db", "172.17.0.3:80");
    reader.sees(&["one/db=172.17.0.3:80", "one/web=172.17.0.2:80"]);
    assert_eq!((replica.keys().len(), reader.losses.len()), (2, 0));

    let wrong = parse(&format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port));
    assert!(fails(&wrong, &TlsFiles::default()).contains("does not know a master of this name"));
}

#[test]
fn in_a_cluster_the_server_with_the_keys_is_found() {
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let servers: Vec<Server> = (0..3).map(|_| Server::start(&options)).collect();
    let at: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&at)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    wait_for("the cluster", || {
        let is_ok = |server: &Server| server.ask::<String>("CLUSTER INFO").contains("cluster_state:ok");
        servers.iter().all(is_ok).then_some(())
    });
    // From each of the servers.
    for at in &at {
        works(&parse(&format!("redis+cluster://127.0.0.1:1,{at}")), &TlsFiles::default());
    }
    let with_keys = servers.iter().filter(|server| !server.keys().is_empty()).count();
    assert_eq!(with_keys, 1);
}
