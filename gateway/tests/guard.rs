#![forbid(unsafe_code)]
//! Access to listeners: default address, host names, web pages, warnings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use support::{Gateway, TempDir, daemon, run, stderr};

/// Returns the response to a request with these fields.
fn ask(gateway: &Gateway, line: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(gateway.tcp()).unwrap();
    write!(stream, "{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn without_anything_it_is_a_socket_of_this_user_alone() {
    let dir = TempDir::new();
    daemon(&dir.path("daemon"), "daemon");
    // A private /run, in which it is root.
    let mut command = Command::new("unshare");
    command
        .args([
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /run && exec \"$0\" serve --upstream \"$1\"",
        ])
        .args([env!("CARGO_BIN_EXE_dockline"), &dir.unix("daemon")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    let gateway = Gateway::spawn(&dir, &mut command);
    gateway.wait_log("to use it: export DOCKER_HOST=unix:///run/dockline/docker.sock");
    let run = format!("/proc/{}/root/run/dockline", gateway.child.id());
    for socket in ["docker.sock", "admin.sock"] {
        let mode = fs::metadata(format!("{run}/{socket}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{socket}");
    }
    assert_eq!(fs::metadata(&run).unwrap().permissions().mode() & 0o022, 0);
}

#[test]
fn every_tcp_listener_without_client_certificates_has_a_warning() {
    let warned = |arguments: &[&str]| {
        let output = run(&[&["check"], arguments].concat());
        stderr(&output)
            .lines()
            .filter(|line| line.contains(" IS OPEN TO "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (address, whom) in [
        ("tcp://127.0.0.1:2375", "EVERY USER OF THIS MACHINE"),
        ("localhost:1", "EVERY USER OF THIS MACHINE"),
        ("tcp://[::1]:2375", "EVERY USER OF THIS MACHINE"),
        ("tcp://0.0.0.0:2375", "OTHER MACHINES"),
        ("tcp://192.0.2.1:2375", "OTHER MACHINES"),
    ] {
        let lines = warned(&["--listen", address]);
        assert!(
            lines.len() == 1 && lines[0].contains(whom) && lines[0].contains("root"),
            "{address}: {lines:?}"
        );
    }
    assert_eq!(warned(&["--listen", "unix:///run/x.sock"]), Vec::<String>::new());
}

#[test]
fn foreign_requests_are_refused_and_logged() {
    let dir = TempDir::new();
    daemon(&dir.path("daemon"), "daemon");
    let gateway = Gateway::start(&dir, &["--listen", "127.0.0.1:0", "--upstream", &dir.unix("daemon")]);
    gateway.wait_log("IS OPEN TO EVERY USER OF THIS MACHINE");
    let create = "POST /v1.41/containers/create";
    for fields in [
        "Host: evil.example:2375\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
    ] {
        let answer = ask(&gateway, create, fields);
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("--allow-"), "{fields}: {answer}");
    }
    assert!(gateway.wait_log("refused").contains("evil.example"));
    let websocket = "Host: localhost\r\nOrigin: https://evil.example\r\nUpgrade: websocket\r\n";
    assert!(ask(&gateway, "GET /containers/c/attach/ws", websocket).starts_with("HTTP/1.1 403 "));
    for fields in
        ["Host: localhost\r\n", "Host: \r\n", "Host: 127.0.0.1\r\nOrigin: http://localhost:3000\r\n"]
    {
        assert!(ask(&gateway, create, fields).contains("daemon got"), "{fields}");
    }
}

#[test]
fn allowed_requests_pass_after_a_reload() {
    let dir = TempDir::new();
    daemon(&dir.path("daemon"), "daemon");
    let text = |more: &str| {
        format!(
            "[[listen]]\naddress = \"tcp://127.0.0.1:0\"\n{more}\n\
             [[upstream]]\nname = \"docker\"\naddress = \"{}\"\n",
            dir.unix("daemon")
        )
    };
    let file = dir.write("d.toml", &text(""));
    let gateway = Gateway::start(&dir, &["--config", &file]);
    let strange = "Host: gateway.example\r\nOrigin: https://ui.example\r\n";
    assert!(ask(&gateway, "GET /info", strange).starts_with("HTTP/1.1 403 "));
    dir.write(
        "d.toml",
        &text("allow_hosts = [\"gateway.example\"]\nallow_origins = [\"https://ui.example\"]"),
    );
    gateway.signal(rustix::process::Signal::HUP);
    gateway.wait_log("reloaded");
    assert!(ask(&gateway, "GET /info", strange).contains("daemon got"));
    drop(gateway);
    let dir = TempDir::new();
    daemon(&dir.path("daemon"), "daemon");
    let line = ["--listen", "127.0.0.1:0", "--allow-host", "*", "--allow-origin", "*", "--upstream"];
    let gateway = Gateway::start(&dir, &[&line[..], &[&dir.unix("daemon")]].concat());
    assert!(ask(&gateway, "GET /info", strange).contains("daemon got"));
}
