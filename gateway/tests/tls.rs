#![forbid(unsafe_code)]
//! TLS on both sides: one gateway is the client of another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::ExtendedKeyUsagePurpose;
use rustix::process::Signal;
use support::authority::Authority;
use support::{Gateway, TempDir, daemon, run, stderr, tunnel, until};

fn client_of(server: &Gateway, dir: &TempDir, tls: &TempDir) -> Gateway {
    client_with(server, dir, tls, &[])
}

fn client_with(server: &Gateway, dir: &TempDir, tls: &TempDir, more: &[&str]) -> Gateway {
    let address = format!("tls://{}", server.tcp());
    let files = [tls.name("ca.pem"), tls.name("cert.pem"), tls.name("key.pem")];
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &address,
        "--upstream-tls-ca",
        &files[0],
        "--upstream-tls-cert",
        &files[1],
        "--upstream-tls-key",
        &files[2],
    ];
    Gateway::start(dir, &[&arguments, more].concat())
}

#[test]
fn clients_are_identified_and_authorities_are_reloaded() {
    let (dir, server_tls, client_tls, client_dir) =
        (TempDir::new(), TempDir::new(), TempDir::new(), TempDir::new());
    daemon(&dir.path("one"), "one");
    let authority = Authority::new("one");
    authority.issue(&server_tls, ExtendedKeyUsagePurpose::ServerAuth);
    authority.issue(&client_tls, ExtendedKeyUsagePurpose::ClientAuth);
    let log = dir.name("access.log");
    let server = Gateway::start(
        &dir,
        &[
            "--listen",
            "tls://127.0.0.1:0",
            "--tls-dir",
            &server_tls.name(""),
            "--upstream",
            &dir.unix("one"),
            "--access-log",
            &log,
        ],
    );
    let client = client_of(&server, &client_dir, &client_tls);
    assert!(client.get("/known").contains("one got"));
    drop(tunnel(client.tcp()));
    until("a line with the client's name", || {
        fs::read_to_string(&log)
            .unwrap()
            .lines()
            .any(|line| line.contains("/known") && line.contains("alice"))
    });

    // Another authority: clients of the old one are refused.
    server_tls.write("ca.pem", &Authority::new("two").1);
    server.signal(Signal::HUP);
    server.wait_log("reloaded");
    let stranger = client_of(&server, &TempDir::new(), &client_tls);
    let answer = stranger.get("/");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    server.wait_log("TLS handshake");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let tls = TempDir::new();
    Authority::new("one").issue(&tls, ExtendedKeyUsagePurpose::ServerAuth);
    let check = || run(&["check", "--listen", "tls://127.0.0.1:1", "--tls-dir", &tls.name("")]);
    assert!(check().status.success(), "{}", stderr(&check()));
    fs::set_permissions(tls.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
}

/// A directory without an authority would admit everybody; a certificate and a key that are named
/// do so on purpose.
#[test]
fn a_directory_without_an_authority_is_refused() {
    let tls = TempDir::new();
    Authority::new("one").issue(&tls, ExtendedKeyUsagePurpose::ServerAuth);
    fs::remove_file(tls.path("ca.pem")).unwrap();
    for command in ["check", "serve"] {
        let output = run(&[command, "--listen", "tls://127.0.0.1:0", "--tls-dir", &tls.name("")]);
        let said = stderr(&output);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("ca.pem") && said.contains("put the authority of client certificates into ca.pem"),
            "{said}"
        );
    }
    let (cert, key) = (tls.name("cert.pem"), tls.name("key.pem"));
    let output = run(&["check", "--listen", "tls://127.0.0.1:1", "--tls-cert", &cert, "--tls-key", &key]);
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("WITHOUT A CLIENT CERTIFICATE"), "{said}");
}

/// A reload that changes nothing about an upstream keeps its idle connections. Another certificate
/// is another upstream.
#[test]
fn a_reload_keeps_connections_by_tls_unless_a_file_has_changed() {
    let (dir, server_tls, client_tls, client_dir) =
        (TempDir::new(), TempDir::new(), TempDir::new(), TempDir::new());
    daemon(&dir.path("one"), "one");
    let authority = Authority::new("one");
    authority.issue(&server_tls, ExtendedKeyUsagePurpose::ServerAuth);
    authority.issue(&client_tls, ExtendedKeyUsagePurpose::ClientAuth);
    let tls = server_tls.name("");
    let server = Gateway::start(
        &dir,
        &["--listen", "tls://127.0.0.1:0", "--tls-dir", &tls, "--upstream", &dir.unix("one")],
    );
    let log = client_dir.name("access.log");
    let client = client_with(&server, &client_dir, &client_tls, &["--threads", "1", "--access-log", &log]);
    let reuses = |path: &str| {
        assert!(client.get(path).contains("one got"));
        let mut line = String::new();
        until("its line", || {
            let lines = fs::read_to_string(&log).unwrap();
            line = lines.lines().find(|line| line.contains(path)).unwrap_or_default().to_owned();
            !line.is_empty()
        });
        line.contains("reused=true")
    };
    let reload = || {
        client.signal(Signal::HUP);
        client.wait_log("reloaded");
    };
    assert!(!reuses("/first"));
    reload();
    assert!(reuses("/same"));
    authority.issue(&client_tls, ExtendedKeyUsagePurpose::ClientAuth);
    reload();
    assert!(!reuses("/renewed"));
    reload();
    assert!(reuses("/same-again"));
}

/// A directory of certificates, for which a gateway asks as the client of another.
struct Names {
    dir: TempDir,
    server: Gateway,
}

impl Names {
    /// Replaces a file, as tools do that renew certificates.
    fn write(dir: &TempDir, name: &str, text: &str) {
        let new = dir.write(".new", text);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, dir.path(name)).unwrap();
    }

    /// Returns what a client gets that trusts an authority and asks for a name.
    fn get(&self, authority: &Authority, name: &str) -> String {
        let dir = TempDir::new();
        let (address, ca) = (format!("tls://{}", self.server.tcp()), dir.write("ca.pem", &authority.1));
        let tls = ["--upstream-tls-ca", &ca, "--upstream-tls-name", name];
        let listen = ["--listen", "127.0.0.1:0", "--upstream", &address];
        Gateway::start(&dir, &[listen, tls].concat()).get("/")
    }
}

#[test]
fn each_name_has_its_certificate_and_the_directory_is_watched() {
    let (dir, certs) = (TempDir::new(), TempDir::new());
    daemon(&dir.path("one"), "one");
    let authorities = ["a", "b", "renewed"].map(Authority::new);
    let [a, b, renewed] = &authorities;
    for (authority, name) in [(a, "a.test"), (b, "b.test")] {
        let (cert, key) = authority.server(name);
        Names::write(&certs, &format!("{name}.crt"), &cert);
        Names::write(&certs, &format!("{name}.key"), &key);
    }
    let file = format!(
        "[[listen]]\naddress = \"tls://127.0.0.1:0\"\ntls = {{ certificates = \"{}\" }}\n\
         [[upstream]]\nname = \"one\"\naddress = \"{}\"\n",
        certs.name(""),
        dir.unix("one")
    );
    let server = Gateway::start(&dir, &["--config", &dir.write("dockline.toml", &file)]);
    let names = Names { dir: certs, server };
    for (authority, name, wanted) in [(a, "a.test", "200"), (b, "b.test", "200"), (a, "b.test", "502")] {
        let answer = names.get(authority, name);
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{name}: {answer}");
    }

    // A broken one is not used, a new one is.
    Names::write(&names.dir, "a.test.crt", "rubbish");
    names.server.wait_log("a.test.crt: no certificate");
    let (cert, key) = renewed.server("a.test");
    Names::write(&names.dir, "a.test.key", &key);
    Names::write(&names.dir, "a.test.crt", &cert);
    names.server.wait_log("its certificates have changed; there are 2");
    assert!(names.get(renewed, "a.test").starts_with("HTTP/1.1 200 "));
    assert!(names.get(b, "b.test").starts_with("HTTP/1.1 200 "));

    // So it is after a reload.
    names.server.signal(Signal::HUP);
    names.server.wait_log("reloaded");
    let (cert, key) = renewed.server("c.test");
    Names::write(&names.dir, "c.test.key", &key);
    Names::write(&names.dir, "c.test.crt", &cert);
    names.server.wait_log("its certificates have changed; there are 3");
    assert!(names.get(renewed, "c.test").starts_with("HTTP/1.1 200 "));
}
