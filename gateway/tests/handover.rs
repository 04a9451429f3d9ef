#![forbid(unsafe_code)]
//! Listening sockets that pass from one process to another while either side dies: each is served
//! by one of them, or free.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::cmsg_space;
use rustix::net::{
    self, AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, kill_process};
use support::{Gateway, PATIENCE, TempDir, daemon, get, until};

fn ask(address: SocketAddr) -> String {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    get(client, "/").unwrap()
}

/// A new process dies, or misbehaves, at each step: the old one continues to serve.
#[test]
fn a_successor_that_dies_at_any_step() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let program = dir.path("dockline");
    let real = env!("CARGO_BIN_EXE_dockline");
    std::os::unix::fs::symlink(real, &program).unwrap();
    let mut command = Command::new(&program);
    let listen = format!("127.0.0.1:0,{}", dir.unix("d.sock"));
    command.args(["serve", "--admin", "off", "--listen", &listen, "--upstream", &dir.unix("one")]);
    let gateway = Gateway::spawn(&dir, command.env("PATH", std::env::var("PATH").unwrap()));
    // Each read of standard input takes one message: two sockets and the end.
    for (what, script, says) in [
        ("nothing read", "kill -9 $$", "signal: 9"),
        ("one socket", "dd bs=1024 count=1 >&2; kill -9 $$", "signal: 9"),
        ("all sockets", "dd bs=1024 count=2 >&2; kill -9 $$", "signal: 9"),
        ("all of it", "dd bs=1024 count=3 >&2; kill -9 $$", "signal: 9"),
        ("half a reply", "dd bs=1024 count=3 >&2; printf rea >&0; kill -9 $$", "did not reply as expected"),
        (
            "another reply, and no end",
            "dd bs=1024 count=3 >&2; printf no >&0; exec sleep 1000",
            "did not reply as expected",
        ),
        ("not at all, and no end", "exec <&- sleep 1000", "did not reply as expected"),
    ] {
        fs::remove_file(&program).unwrap();
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        gateway.signal(Signal::USR2);
        let line = gateway.wait_log("upgrade failed, this process continues to serve");
        assert!(line.contains(says), "{what}: {line}");
        assert!(gateway.get("/").contains("one got"), "{what}");
        let unix = UnixStream::connect(dir.path("d.sock")).unwrap();
        assert!(get(unix, "/").unwrap().contains("one got"), "{what}");
    }
    // And it can still be replaced.
    fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink(real, &program).unwrap();
    gateway.signal(Signal::USR2);
    let message = gateway.manager.wait("MAINPID=");
    let new = Pid::from_raw(message["MAINPID=".len()..].parse().unwrap()).unwrap();
    assert!(gateway.get("/").contains("one got"));
    kill_process(new, Signal::TERM).unwrap();
    gateway.wait_log("stopped");
    until("the file is removed", || !dir.path("d.sock").exists());
}

/// The sockets of the old process: two, and one that the new process does not need.
struct Old {
    peer: OwnedFd,
    tcp: TcpListener,
    unix: UnixListener,
    unwanted: TcpListener,
    unwanted_unix: UnixListener,
    paths: [PathBuf; 2],
}

impl Old {
    /// Starts the new process.
    fn start(dir: &TempDir) -> (Self, Child) {
        let (peer, theirs) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let paths = [dir.path("d.sock"), dir.path("unwanted.sock")];
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let old = Self {
            peer,
            unix: UnixListener::bind(&paths[0]).unwrap(),
            unwanted: TcpListener::bind("127.0.0.1:0").unwrap(),
            unwanted_unix: UnixListener::bind(&paths[1]).unwrap(),
            tcp,
            paths,
        };
        let listen = format!("{},{}", old.tcp.local_addr().unwrap(), dir.unix("d.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockline"));
        command.args(["serve", "--admin", "off", "--listen", &listen, "--upstream", &dir.unix("one")]);
        command.env_clear().env("DOCKLINE_HANDOVER", "stdin").stdin(Stdio::from(theirs));
        (old, command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn send(&self, key: &str, socket: Option<&dyn AsFd>) {
        let fds: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        net::sendmsg(&self.peer, &[IoSlice::new(key.as_bytes())], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// Sends this many of the messages.
    fn hand_over(&self, messages: usize) {
        let unix = |path: &PathBuf| format!("unix://{}", path.display());
        let all: [(String, Option<&dyn AsFd>); 5] = [
            (format!("tcp://{}", self.tcp.local_addr().unwrap()), Some(&self.tcp)),
            (unix(&self.paths[0]), Some(&self.unix)),
            (format!("tcp://{}", self.unwanted.local_addr().unwrap()), Some(&self.unwanted)),
            (unix(&self.paths[1]), Some(&self.unwanted_unix)),
            ("end".into(), None),
        ];
        for (key, socket) in all.iter().take(messages) {
            self.send(key, *socket);
        }
    }
}

/// The old process dies at each step: before the end of the list, the new one ends; after it, it
/// serves.
#[test]
fn a_predecessor_that_dies_at_any_step() {
    for (messages, waits) in [(0, false), (1, false), (2, false), (4, false), (5, false), (5, true)] {
        let dir = TempDir::new();
        daemon(&dir.path("one"), "one");
        let (old, mut new) = Old::start(&dir);
        let [at, unwanted] = [&old.tcp, &old.unwanted].map(|socket| socket.local_addr().unwrap());
        old.hand_over(messages);
        if waits {
            assert_eq!(net::recv(&old.peer, &mut [0; 16], net::RecvFlags::empty()).unwrap().1, 5);
        }
        drop(old);
        if messages < 5 {
            let output = new.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{messages}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("cannot receive the sockets of the old process"), "{said}");
            for address in [at, unwanted] {
                drop(TcpListener::bind(address).unwrap());
            }
            continue;
        }
        assert!(ask(at).contains("one got"));
        assert!(get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/").unwrap().contains("one got"));
        // Nothing would serve what is no longer configured.
        until("the port is free", || TcpListener::bind(unwanted).is_ok());
        until("the file is removed", || !dir.path("unwanted.sock").exists());
        kill_process(Pid::from_child(&new), Signal::TERM).unwrap();
        assert!(new.wait().unwrap().success());
        assert!(!dir.path("d.sock").exists());
    }
}

/// As under systemd, which keeps the socket. No waiting client is lost.
#[test]
fn an_activated_process_that_is_killed_loses_no_waiting_client() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let start = || {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" serve --admin off \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_dockline")).args([
            "--listen",
            "fd://",
            "--upstream",
            &dir.unix("one"),
        ]);
        command
            .env_clear()
            .env("LISTEN_FDS", "1")
            .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
        command
    };
    for step in ["before it has the socket", "serving"] {
        if step == "serving" {
            let mut gateway = Gateway::spawn(&TempDir::new(), &mut start());
            assert!(gateway.get("/").contains("one got"));
            gateway.signal(Signal::KILL);
            gateway.wait();
        } else {
            let mut killed = start().stderr(Stdio::null()).spawn().unwrap();
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        let waiting = TcpStream::connect(at).unwrap();
        waiting.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut gateway = Gateway::spawn(&TempDir::new(), &mut start());
        assert!(get(waiting, "/").unwrap().contains("one got"), "{step}");
        gateway.signal(Signal::TERM);
        assert!(gateway.wait().success());
    }
}

/// A passed socket without a listener is available to a configuration after an upgrade.
#[test]
fn passed_sockets_outlive_an_upgrade() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let config = |listeners: &[&str]| {
        let mut text: String =
            listeners.iter().map(|address| format!("[[listen]]\naddress = \"{address}\"\n")).collect();
        text.push_str(&format!("[[upstream]]\nname = \"docker\"\naddress = \"{}\"\n", dir.unix("one")));
        dir.write("d.toml", &text)
    };
    let file = config(&["tcp://127.0.0.1:0"]);
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = passed.local_addr().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" serve --admin off --config \"$1\""]);
    command.args([env!("CARGO_BIN_EXE_dockline"), &file]).env_clear();
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").stdin(Stdio::from(OwnedFd::from(passed)));
    let gateway = Gateway::spawn(&dir, &mut command);
    let upgrade = || {
        let message = gateway.manager.wait("MAINPID=");
        Pid::from_raw(message["MAINPID=".len()..].parse().unwrap()).unwrap()
    };
    gateway.signal(Signal::USR2);
    let second = upgrade();
    kill_process(second, Signal::USR2).unwrap();
    let third = upgrade();
    config(&["tcp://127.0.0.1:0", "fd://web"]);
    kill_process(third, Signal::HUP).unwrap();
    assert!(ask(at).contains("one got"));
    kill_process(third, Signal::TERM).unwrap();
    gateway.wait_log("stopped");
}
