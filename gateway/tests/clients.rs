#![forbid(unsafe_code)]
//! Who the client is, behind proxies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use support::{Gateway, PATIENCE, TempDir, daemon, read_head, until};

/// A gateway with these keys of its listener, and its access log.
struct Bed {
    dir: TempDir,
    gateway: Gateway,
}

impl Bed {
    fn new(keys: &str) -> Self {
        let dir = TempDir::new();
        daemon(&dir.path("one"), "one");
        let (upstream, log) = (dir.unix("one"), dir.name("access.log"));
        let file = format!(
            "[[listen]]\naddress = \"tcp://127.0.0.1:0\"\n{keys}\n\
             [[upstream]]\nname = \"one\"\naddress = \"{upstream}\"\n[log]\naccess = \"{log}\"\n"
        );
        let gateway = Gateway::start(&dir, &["--config", &dir.write("dockline.toml", &file)]);
        Self { dir, gateway }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.gateway.tcp()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    /// Makes an exchange on a connection, and returns its line in the access log.
    fn exchange(&self, client: &mut BufReader<TcpStream>, path: &str, fields: &str) -> String {
        write!(client.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        let head = read_head(client).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut body = vec![0; format!("one got GET {path} HTTP/1.1").len()];
        client.read_exact(&mut body).unwrap();
        let mut line = String::new();
        until("its line", || {
            let log = fs::read_to_string(self.dir.path("access.log")).unwrap();
            line = log.lines().find(|line| line.contains(path)).unwrap_or_default().to_owned();
            !line.is_empty()
        });
        line
    }
}

#[test]
fn each_request_of_a_trusted_proxy_has_its_own_client() {
    let bed = Bed::new("trusted = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let mut proxy = bed.connect();
    let line = bed.exchange(&mut proxy, "/one", "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.1\r\n");
    assert!(line.starts_with("127.0.0.1:") && line.contains(" forwarded_for=203.0.113.9 "), "{line}");
    let line = bed.exchange(&mut proxy, "/two", "X-Forwarded-For: 2001:db8::7\r\n");
    assert!(line.contains(" forwarded_for=2001:db8::7 "), "{line}");
    let line = bed.exchange(&mut proxy, "/three", "");
    assert!(!line.contains("forwarded_for"), "{line}");
    // A request that cannot be read is nobody's.
    let line = bed.exchange(&mut proxy, "/four", "X-Forwarded-For: 203.0.113.9\r\n");
    assert!(line.contains(" forwarded_for=203.0.113.9 "), "{line}");
    proxy.get_mut().write_all(b"rubbish\r\n\r\n").unwrap();
    assert!(read_head(&mut proxy).unwrap().starts_with("HTTP/1.1 400 "));
    until("its line", || {
        let log = fs::read_to_string(bed.dir.path("access.log")).unwrap();
        let line = log.lines().find(|line| line.contains(" 400 "));
        line.is_some_and(|line| {
            assert!(!line.contains("forwarded_for"), "{line}");
            true
        })
    });
}

#[test]
fn a_client_that_is_no_trusted_proxy_speaks_for_itself() {
    let bed = Bed::new("trusted = [\"10.0.0.0/8\", \"unix\"]");
    let line = bed.exchange(&mut bed.connect(), "/one", "X-Forwarded-For: 203.0.113.9\r\n");
    assert!(line.starts_with("127.0.0.1:") && !line.contains("forwarded_for"), "{line}");
}

/// Trust is about the client that the load balancer names.
#[test]
fn a_load_balancer_names_the_client() {
    let bed = Bed::new("proxy_protocol = [\"127.0.0.0/8\"]\ntrusted = [\"192.0.2.0/24\"]");
    let mut client = bed.connect();
    client.get_mut().write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n").unwrap();
    let by = client.get_ref().local_addr().unwrap();
    let line = bed.exchange(&mut client, "/one", "X-Forwarded-For: 203.0.113.9\r\n");
    let words = format!(" forwarded_for=203.0.113.9 proxied_by={by} ");
    assert!(line.starts_with("192.0.2.7:4711 ") && line.contains(&words), "{line}");

    let mut stranger = bed.connect();
    stranger.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    bed.gateway.wait_log("cause=proxy-header-malformed");
    let _ = stranger.read(&mut [0]);
}

#[test]
fn a_stranger_cannot_pass_for_a_load_balancer() {
    let bed = Bed::new("proxy_protocol = [\"10.0.0.0/8\"]");
    let mut stranger = bed.connect();
    stranger.get_mut().write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n").unwrap();
    bed.gateway.wait_log("cause=untrusted-peer");
    let _ = stranger.read(&mut [0]);
}
