#![forbid(unsafe_code)]
//! A daemon that is at fault, and what an operator reads of it: in the response, both logs and the
//! metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use rustix::process::Signal;
use support::{Gateway, TempDir, dockline, get, read_head};

#[test]
fn a_malformed_response_is_seen_in_both_logs_and_the_metrics() {
    let dir = TempDir::new();
    let daemon = UnixListener::bind(dir.path("docker")).unwrap();
    thread::spawn(move || {
        let (stream, _) = daemon.accept().unwrap();
        read_head(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
        (&stream).write_all(b"HTTP/1.1 200 OK\nServer: x\r\n\r\n").unwrap();
    });
    let (socket, admin, access) = (dir.unix("d.sock"), dir.unix("admin.sock"), dir.name("access.log"));
    let config = dir.write("d.toml", &format!("[log]\naccess = \"{access}\"\naccess_format = \"json\"\n"));
    let mut command = dockline(&["serve", "--config", &config, "--admin", &admin, "--listen", &socket]);
    let mut gateway = Gateway::spawn(&dir, command.args(["--upstream", &dir.unix("docker")]));

    let response = get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/info").unwrap();
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert!(response.contains("malformed response") && !response.contains("byte"), "{response}");

    let words = "a line ends in LF without CR (at byte 15); side=daemon phase=response-head cause=bare-lf";
    let line = gateway.wait_log(words);
    assert!(line.contains("GET /info"), "{line}");

    let metrics = get(UnixStream::connect(dir.path("admin.sock")).unwrap(), "/metrics").unwrap();
    let sample = r#"dockline_failures_total{phase="response-head",side="daemon",cause="bare-lf"} 1"#;
    assert!(metrics.contains(sample), "{metrics}");

    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    let line = fs::read_to_string(access).unwrap();
    let failure = r#""end":"bad-response","failure":{"side":"daemon","phase":"response-head","cause":"bare-lf","offset":15,"errno":null,"alert":null}"#;
    assert!(line.contains(failure), "{line}");
}
