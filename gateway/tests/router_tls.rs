#![forbid(unsafe_code)]
//! TLS of the router: with targets, and with the routers of other nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use support::authority::Authority;
use support::{Gateway, TempDir, daemon, dockline, read_head, until};

/// A gateway with TLS in front of something that responds `one got ...`.
struct Server {
    dir: TempDir,
    gateway: Gateway,
}

impl Server {
    /// It has a certificate for this name. Clients need one too, if `is_mutual`.
    fn start(authority: &Authority, name: &str, is_mutual: bool) -> Self {
        let dir = TempDir::new();
        daemon(&dir.path("one"), "one");
        authority.issue_for(&dir, ServerAuth, &[name]);
        let client_ca = match is_mutual {
            true => format!(", client_ca = \"{}\"", dir.name("ca.pem")),
            false => String::new(),
        };
        let config = dir.write(
            "server.toml",
            &format!(
                "[log]\naccess = \"{}\"\n[[upstream]]\nname = \"one\"\naddress = \"{}\"\n[[listen]]\n\
                 address = \"tls://127.0.0.1:0\"\n\
                 allow_hosts = [\"web.apps.test\", \"wrong.apps.test\"]\ntls = {{ cert = \"{}\", key = \"{}\"{client_ca} }}\n",
                dir.name("access.log"),
                dir.unix("one"),
                dir.name("cert.pem"),
                dir.name("key.pem"),
            ),
        );
        let gateway = serve(&dir, &config);
        Self { dir, gateway }
    }
}

fn serve(dir: &TempDir, config: &str) -> Gateway {
    Gateway::spawn(dir, &mut dockline(&["serve", "--admin", "off", "--config", config]))
}

/// Starts a router with these keys and further tables, which logs its requests as JSON.
fn router(dir: &TempDir, keys: &str, tables: &str) -> Gateway {
    let config = dir.write(
        "router.toml",
        &format!(
            "[log]\naccess = \"{}\"\naccess_format = \"json\"\n[[listen]]\naddress = \"tcp://127.0.0.1:0\"\n\
             router = true\n[router]\nnode = \"front\"\ndomains = [\"apps.test\"]\n{keys}\n{tables}",
            dir.name("access.log"),
        ),
    );
    serve(dir, &config)
}

/// Returns the `tls` of a router with the files of a directory.
fn files(tls: &TempDir, names: &[&str]) -> String {
    let files = names.iter().map(|name| format!("{name} = \"{}\"", tls.name(&format!("{name}.pem"))));
    files.collect::<Vec<_>>().join(", ")
}

fn ask(router: &Gateway, name: &str) -> String {
    let mut stream = TcpStream::connect(router.tcp()).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: {name}.apps.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Checks that a request fails for this cause, and that only the operator is told so.
fn fails(router: &Gateway, dir: &TempDir, name: &str, phase: &str, cause: &str) {
    let answer = ask(router, name);
    assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("ertificate"), "{answer}");
    let failure = r#""status":502,"upstream":""#;
    let reason = format!(r#""failure":{{"side":"daemon","phase":"{phase}","cause":"{cause}","#);
    until("a line of the access log", || {
        let log = fs::read_to_string(dir.path("access.log")).unwrap();
        log.lines().any(|line| line.contains(failure) && line.contains(&reason))
    });
}

#[test]
fn a_fixed_target_with_tls_is_reached_by_its_authority() {
    let (authority, stranger) = (Authority::new("one"), Authority::new("two"));
    let server = Server::start(&authority, "localhost", false);
    let tls = TempDir::new();
    authority.issue(&tls, ClientAuth);
    tls.write("other.pem", &stranger.1);
    let at = server.gateway.tcp();
    let tables = format!(
        "[[route]]\nname = \"web\"\ntargets = [\"https://localhost:{port}\"]\n\
         [[route]]\nname = \"wrong\"\ntargets = [\"https://{at}\"]\n",
        port = at.port(),
    );

    let dir = TempDir::new();
    let front = router(&dir, &format!("docker = []\ntarget_tls = {{ {} }}", files(&tls, &["ca"])), &tables);
    assert!(ask(&front, "web").contains("one got GET / "), "{}", ask(&front, "web"));
    // The certificate is for the name, not for the address.
    fails(&front, &dir, "wrong", "connect", "tls-wrong-name");
    front.wait_log("cause=tls-wrong-name");

    let dir = TempDir::new();
    let keys = format!("docker = []\ntarget_tls = {{ ca = \"{}\" }}", tls.name("other.pem"));
    let front = router(&dir, &keys, &tables);
    fails(&front, &dir, "web", "connect", "tls-unknown-issuer");
    front.wait_log("cause=tls-unknown-issuer");

    // With a name of its own it may have any address.
    let dir = TempDir::new();
    let keys = format!("docker = []\ntarget_tls = {{ {}, name = \"localhost\" }}", files(&tls, &["ca"]));
    assert!(ask(&router(&dir, &keys, &tables), "wrong").contains("one got GET / "));
}

/// Starts a daemon with one container. Its address is none of this machine's interfaces, so that it
/// counts as another machine.
fn docker() -> SocketAddr {
    const CONTAINER: &str = r#"{"Id":"abc","Name":"/web","Created":"2024-01-01T00:00:00Z",
        "State":{"Running":true,"StartedAt":"2024-01-01T00:00:01Z"},
        "Config":{"Env":["DPROXY_FORWARD_NAME=web"],"ExposedPorts":{"80/tcp":{}}},
        "HostConfig":{"NetworkMode":"bridge"},
        "NetworkSettings":{"Networks":{"bridge":{"NetworkID":"n","Gateway":"172.17.0.1","IPAddress":"172.17.0.2","IPPrefixLen":16}}}}"#;
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(head) = read_head(&mut reader) {
                    let body = match head.split(' ').nth(1).unwrap() {
                        target if target.starts_with("/events") => {
                            (&stream)
                                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                                .unwrap();
                            continue;
                        }
                        "/containers/abc/json" => CONTAINER,
                        _ => r#"[{"Id":"abc","Names":["/web"],"State":"running"}]"#,
                    };
                    let length = body.len();
                    write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
                }
            });
        }
    });
    at
}

#[test]
fn the_router_of_a_worker_is_reached_by_mutual_tls() {
    let (authority, stranger) = (Authority::new("one"), Authority::new("two"));
    let worker = Server::start(&authority, "worker-1", true);
    let (tls, other) = (TempDir::new(), TempDir::new());
    authority.issue(&tls, ClientAuth);
    stranger.issue(&other, ClientAuth);
    let docker = docker();
    let front = |dir: &TempDir, gateway: SocketAddr, tls: &str| {
        let keys = format!(
            "docker = [{{ address = \"tcp://{docker}\", node = \"worker-1\", gateway = \"{gateway}\" }}]\n\
             gateway_tls = {{ {tls} }}"
        );
        router(dir, &keys, "")
    };
    let at = worker.gateway.tcp();

    let dir = TempDir::new();
    let good = front(&dir, at, &files(&tls, &["ca", "cert", "key"]));
    assert!(ask(&good, "web").contains("one got GET / "), "{}", ask(&good, "web"));
    until("the worker knows who has asked", || {
        fs::read_to_string(worker.dir.path("access.log")).unwrap().contains("alice")
    });

    // The front door believes another authority.
    let dir = TempDir::new();
    let credentials = files(&tls, &["cert", "key"]);
    let wrong = front(&dir, at, &format!("ca = \"{}\", {credentials}", other.name("ca.pem")));
    fails(&wrong, &dir, "web", "connect", "tls-unknown-issuer");
    wrong.wait_log("cause=tls-unknown-issuer");

    // The worker believes another authority. The handshake of the front door is over by then.
    let dir = TempDir::new();
    let credentials = files(&other, &["cert", "key"]);
    let wrong = front(&dir, at, &format!("{}, {credentials}", files(&tls, &["ca"])));
    let answer = ask(&wrong, "web");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    worker.gateway.wait_log("cause=tls-unknown-issuer");

    // What listens there is another machine, with a good certificate of its own.
    let another = Server::start(&authority, "worker-2", true);
    let dir = TempDir::new();
    let wrong = front(&dir, another.gateway.tcp(), &files(&tls, &["ca", "cert", "key"]));
    fails(&wrong, &dir, "web", "connect", "tls-wrong-name");
    wrong.wait_log("cause=tls-wrong-name");
}
