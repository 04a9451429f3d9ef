#![forbid(unsafe_code)]
//! Listening sockets: Unix sockets, files in their place, and sockets from a service manager.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::{Gateway, TempDir, daemon, finish, get, run, stderr};

#[test]
fn mode_and_group_are_set_whatever_the_umask() {
    let dir = TempDir::new();
    let group = fs::metadata(dir.path("")).unwrap().gid();
    for (umask, query, mode) in
        [("0", "", 0o600), ("077", &*format!("?mode=0666&group={group}"), 0o666), ("0", "?mode=0440", 0o440)]
    {
        let dir = TempDir::new();
        let script = format!("umask {umask}; exec \"$0\" serve --admin off --listen \"$1\"");
        let address = format!("{}{query}", dir.unix("d.sock"));
        let _gateway = Gateway::spawn(
            &dir,
            Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_dockline"), &address]).env_clear(),
        );
        let found = fs::symlink_metadata(dir.path("d.sock")).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (mode, group));
    }
}

#[test]
fn an_unknown_group_leaves_nothing_behind() {
    let dir = TempDir::new();
    let address = format!("{}?group=no-such-group", dir.unix("d.sock"));
    let output = run(&["serve", "--admin", "off", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no group `no-such-group`"), "{}", stderr(&output));
    assert!(!dir.path("d.sock").exists());
}

#[test]
fn a_stale_socket_is_replaced_and_removed_at_the_end() {
    let dir = TempDir::new();
    drop(UnixListener::bind(dir.path("d.sock")).unwrap());
    daemon(&dir.path("docker"), "docker");
    let mut gateway =
        Gateway::start(&dir, &["--listen", &dir.unix("d.sock"), "--upstream", &dir.unix("docker")]);
    let answer = get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/info").unwrap();
    assert!(answer.ends_with("docker got GET /info HTTP/1.1"), "{answer}");
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success());
    assert!(!dir.path("d.sock").exists());
}

#[test]
fn other_files_are_left_alone() {
    let dir = TempDir::new();
    let refused = |words: &str| {
        let output = run(&["serve", "--admin", "off", "--listen", &dir.unix("d.sock")]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    };
    fs::write(dir.path("d.sock"), "precious").unwrap();
    refused("not a socket");
    assert_eq!(fs::read(dir.path("d.sock")).unwrap(), b"precious");
    fs::remove_file(dir.path("d.sock")).unwrap();

    drop(UnixListener::bind(dir.path("other")).unwrap());
    symlink(dir.path("other"), dir.path("d.sock")).unwrap();
    refused("not a socket");
    assert!(dir.path("other").exists());
    fs::remove_file(dir.path("d.sock")).unwrap();

    let alive = UnixListener::bind(dir.path("d.sock")).unwrap();
    refused("another program listens there");
    assert!(fs::metadata(dir.path("d.sock")).unwrap().file_type().is_socket());
    drop(alive);
}

#[test]
fn a_socket_of_another_user_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a socket of somebody else");
        return;
    }
    let dir = TempDir::new();
    drop(UnixListener::bind(dir.path("d.sock")).unwrap());
    std::os::unix::fs::lchown(dir.path("d.sock"), Some(12345), None).unwrap();
    let output = run(&["serve", "--admin", "off", "--listen", &dir.unix("d.sock")]);
    assert!(stderr(&output).contains("belongs to user 12345"), "{}", stderr(&output));
    assert!(dir.path("d.sock").exists());
}

#[test]
fn a_busy_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--admin", "off", "--listen", &address]);
    let said = stderr(&output);
    assert!(said.contains(&format!("tcp://{address}: another program listens there")), "{said}");
}

/// Passes two sockets as systemd does, at 3 and 4, to the process that the shell becomes.
fn activated(names: &str, first: OwnedFd, second: OwnedFd, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec 3<&0 4>&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" serve --admin off \"$@\"",
        ])
        .arg(env!("CARGO_BIN_EXE_dockline"))
        .args(arguments)
        .env_clear()
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(first)
        .stdout(second);
    command
}

#[test]
fn sockets_come_from_the_service_manager() {
    let dir = TempDir::new();
    daemon(&dir.path("docker"), "docker");
    let upstream = dir.unix("docker");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    for listen in [&["--listen", "fd://"][..], &["--listen", "fd://web,fd://3"], &["--listen", "fd://4"]] {
        let dir = TempDir::new();
        let unix = UnixListener::bind(dir.path("u.sock")).unwrap();
        let mut arguments = vec!["--upstream", &upstream];
        arguments.extend(listen);
        let (first, second) = (tcp.try_clone().unwrap().into(), unix.into());
        let mut gateway = Gateway::spawn(&dir, &mut activated("tcp:web", first, second, &arguments));
        let answer = get(UnixStream::connect(dir.path("u.sock")).unwrap(), "/a").unwrap();
        assert!(answer.ends_with("docker got GET /a HTTP/1.1"), "{answer}");
        if listen[1] == "fd://4" {
            gateway.wait_log("fd://3 (tcp) was passed, but no listener");
        } else {
            assert_eq!(gateway.tcp(), address);
            get(TcpStream::connect(address).unwrap(), "/a").unwrap();
        }
        gateway.signal(Signal::TERM);
        assert!(gateway.wait().success());
        // The file belongs to the service manager.
        assert!(dir.path("u.sock").exists());
    }
}

/// The configuration does not show it: the socket is not there yet, or has another name.
#[test]
fn an_upstream_that_is_a_listener_is_refused() {
    let dir = TempDir::new();
    symlink("d.sock", dir.path("link")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (listen, upstream) in [
        (dir.unix("d.sock"), dir.unix("link")),
        (format!("tcp://127.0.0.1:{port}"), format!("tcp://[::ffff:127.0.0.1]:{port}")),
        (format!("tcp://0.0.0.0:{port}"), format!("tcp://[::ffff:127.0.0.2]:{port}")),
    ] {
        let output = run(&["serve", "--admin", "off", "--listen", &listen, "--upstream", &upstream]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("requests would loop"), "{}", stderr(&output));
        assert!(!dir.path("d.sock").exists());
    }
    // Whichever process has opened it.
    let (tcp, unix) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(dir.path("u.sock")).unwrap());
    for upstream in [format!("tcp://{}", tcp.local_addr().unwrap()), dir.unix("u.sock")] {
        let (first, second) = (tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into());
        let arguments = ["--listen", "fd://", "--upstream", &upstream];
        let output = finish(&mut activated("tcp:unix", first, second, &arguments));
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("requests would loop"), "{}", stderr(&output));
    }
}

/// The failed reload had taken the socket already.
#[test]
fn passed_sockets_outlive_a_failed_reload() {
    let dir = TempDir::new();
    daemon(&dir.path("docker"), "docker");
    let config = |listeners: &[&str]| {
        let mut text: String =
            listeners.iter().map(|address| format!("[[listen]]\naddress = \"{address}\"\n")).collect();
        text.push_str(&format!("[[upstream]]\nname = \"docker\"\naddress = \"{}\"\n", dir.unix("docker")));
        dir.write("d.toml", &text)
    };
    let file = config(&["tcp://127.0.0.1:0"]);
    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let passed = first.local_addr().unwrap();
    let arguments = ["--config", &file];
    let mut command = activated("one:two", first.into(), second.into(), &arguments);
    let gateway = Gateway::spawn(&dir, &mut command);
    config(&["tcp://127.0.0.1:0", "fd://one", "unix:///none/none/d.sock"]);
    gateway.signal(Signal::HUP);
    gateway.wait_log("not reloaded, the old configuration stays");
    config(&["tcp://127.0.0.1:0", "fd://one"]);
    gateway.signal(Signal::HUP);
    gateway.manager.wait("RELOADING=1");
    gateway.manager.wait("READY=1");
    let client = TcpStream::connect(passed).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(get(client, "/a").unwrap().contains("docker got"));
}

#[test]
fn passed_sockets_must_listen() {
    let connected = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    };
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    for (listen, words) in [
        ("fd://3", "fd://3 does not listen"),
        ("fd://udp", "fd://4 is not a TCP or Unix stream socket"),
        ("fd://none", "fd://none was not passed"),
        ("fd://5", "left: fd://3 (tcp), fd://4 (udp)"),
    ] {
        let output = finish(&mut activated("tcp:udp", connected(), udp(), &["--listen", listen]));
        assert_eq!(output.status.code(), Some(1), "{listen}");
        assert!(stderr(&output).contains(words), "{listen}: {}", stderr(&output));
    }
}
