#![forbid(unsafe_code)]
//! Signals, the service manager, and health.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::Stdio;

use rustix::process::Signal;
use support::{Gateway, PATIENCE, TempDir, daemon, dockline, echo, get, run, stderr, tunnel, until};

/// Returns a configuration with one TCP listener, one Unix listener and one upstream.
fn config(dir: &TempDir, listen: &[&str], upstream: &str) -> String {
    let listeners: String = listen.iter().map(|it| format!("[[listen]]\naddress = \"{it}\"\n")).collect();
    let text = format!("{listeners}[[upstream]]\nname = \"docker\"\naddress = \"{}\"\n", dir.unix(upstream));
    dir.write("d.toml", &text)
}

#[test]
fn a_reload_changes_what_is_new_and_keeps_the_rest() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    daemon(&dir.path("two"), "two");
    let (a, b) = (dir.unix("a.sock"), dir.unix("b.sock"));
    let file = config(&dir, &["tcp://127.0.0.1:0", &a], "one");
    let gateway = Gateway::start(&dir, &["--config", &file]);
    assert!(gateway.get("/").contains("one got"));
    let mut open = tunnel(gateway.tcp());

    config(&dir, &["tcp://127.0.0.1:0", &format!("{b}?mode=0666")], "two");
    gateway.signal(Signal::HUP);
    assert!(gateway.manager.wait("RELOADING=1").contains("\nMONOTONIC_USEC="));
    // The port that was chosen does not change.
    assert!(gateway.manager.wait("READY=1").contains(&gateway.tcp().to_string()));
    assert!(gateway.get("/").contains("two got"));
    assert!(get(UnixStream::connect(dir.path("b.sock")).unwrap(), "/").unwrap().contains("two got"));
    assert!(!dir.path("a.sock").exists());
    echo(&mut open, b"still here");
}

#[test]
fn a_bad_file_changes_nothing() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let file = config(&dir, &["tcp://127.0.0.1:0"], "one");
    let gateway = Gateway::start(&dir, &["--config", &file]);
    for (text, words) in [
        ("thread = 1\n", "did you mean `threads`?"),
        ("[[listen]]\naddress = \"tls://127.0.0.1:0\"\ntls = { dir = \"/none\" }\n", "cannot be read"),
        ("[[listen]]\naddress = \"unix:///none/none/d.sock\"\n", "cannot listen on unix:///none/none/d.sock"),
    ] {
        fs::write(dir.path("d.toml"), text).unwrap();
        gateway.signal(Signal::HUP);
        let line = gateway.wait_log("not reloaded, the old configuration stays");
        assert!(line.contains(words), "{line}");
        gateway.manager.wait("READY=1");
        assert!(gateway.get("/").contains("one got"));
    }
    // Sockets that were opened before the failure are closed.
    config(&dir, &["tcp://127.0.0.1:0", &dir.unix("new.sock"), "unix:///none/none/d.sock"], "one");
    gateway.signal(Signal::HUP);
    gateway.wait_log("not reloaded, the old configuration stays");
    assert!(!dir.path("new.sock").exists());

    config(&dir, &["tcp://127.0.0.1:0", &dir.unix("new.sock")], "one");
    gateway.signal(Signal::HUP);
    gateway.wait_log("reloaded");
    assert!(get(UnixStream::connect(dir.path("new.sock")).unwrap(), "/").unwrap().contains("one got"));
}

#[test]
fn termination_waits_for_tunnels() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let mut gateway = Gateway::start(
        &dir,
        &["--listen", "127.0.0.1:0", "--upstream", &dir.unix("one"), "--drain-timeout", "0"],
    );
    let mut open = tunnel(gateway.tcp());
    gateway.signal(Signal::TERM);
    gateway.manager.wait("STOPPING=1");
    // The workers close the listener: it is closed when a connection fails.
    until("a refusal", || {
        let refused = TcpStream::connect_timeout(&gateway.tcp(), PATIENCE).err();
        refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    echo(&mut open, b"after the signal");
    open.shutdown(Shutdown::Write).unwrap();
    assert_eq!(open.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn termination_has_a_time_limit() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let mut gateway = Gateway::start(
        &dir,
        &["--listen", "127.0.0.1:0", "--upstream", &dir.unix("one"), "--drain-timeout", "100ms"],
    );
    let mut open = tunnel(gateway.tcp());
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!matches!(open.read(&mut [0; 1]), Ok(1..)));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (second, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = TempDir::new();
        daemon(&dir.path("one"), "one");
        let mut gateway = Gateway::start(
            &dir,
            &["--listen", "127.0.0.1:0", "--upstream", &dir.unix("one"), "--drain-timeout", "0"],
        );
        let _open = tunnel(gateway.tcp());
        gateway.signal(Signal::TERM);
        gateway.manager.wait("STOPPING=1");
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(status));
    }
}

#[test]
fn the_access_log_is_reopened() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let log = dir.name("access.log");
    let mut gateway = Gateway::start(
        &dir,
        &["--listen", "127.0.0.1:0", "--upstream", &dir.unix("one"), "--access-log", &log],
    );
    gateway.get("/before");
    until("a line", || fs::read_to_string(&log).unwrap().contains("/before"));
    fs::rename(&log, dir.path("access.log.1")).unwrap();
    gateway.signal(Signal::USR1);
    gateway.wait_log("the access log was reopened");
    gateway.get("/after");
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    let new = fs::read_to_string(&log).unwrap();
    assert!(new.contains("/after") && !new.contains("/before"), "{new}");
}

#[test]
fn the_watchdog_is_reset_and_names_may_be_abstract() {
    let name = format!("dockline-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = dockline(&["serve", "--admin", "off", "--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .env("WATCHDOG_USEC", "20000")
        .spawn()
        .unwrap();
    let mut message = [0; 512];
    let mut next = || {
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert!(next().starts_with("READY=1\nSTATUS=serving on tcp://127.0.0.1:"));
    assert_eq!((next().as_str(), next().as_str()), ("WATCHDOG=1", "WATCHDOG=1"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn healthcheck_asks_the_admin_listener() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let admin = dir.unix("admin.sock");
    let ask = || run(&["healthcheck", "--admin", &admin]);
    let output = ask();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("admin.sock"), "{}", stderr(&output));

    let mut gateway = Gateway::spawn(
        &dir,
        dockline(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "0", "--upstream"])
            .args([&dir.unix("one"), "--admin", &admin])
            .stdout(Stdio::null()),
    );
    let output = ask();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n");
    let metrics = get(UnixStream::connect(dir.path("admin.sock")).unwrap(), "/metrics").unwrap();
    assert!(metrics.contains("dockline_build_info"), "{metrics}");

    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    assert!(!dir.path("admin.sock").exists());
}

#[test]
fn the_next_upstream_is_tried() {
    let dir = TempDir::new();
    daemon(&dir.path("two"), "two");
    let upstreams = format!("{},{}", dir.unix("one"), dir.unix("two"));
    let gateway = Gateway::start(&dir, &["--listen", "127.0.0.1:0", "--upstream", &upstreams]);
    assert!(gateway.get("/").contains("two got"));
}
