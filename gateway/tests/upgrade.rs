#![forbid(unsafe_code)]
//! A new process takes over while clients connect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use support::{Gateway, PATIENCE, TempDir, daemon, echo, get, tunnel, until};

/// Ends a process that is not a child.
struct Foreign(Pid);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn upgraded(gateway: &Gateway) -> Foreign {
    let message = gateway.manager.wait("MAINPID=");
    let pid = message["MAINPID=".len()..].parse().unwrap();
    Foreign(Pid::from_raw(pid).unwrap())
}

#[test]
fn no_client_is_refused_and_no_tunnel_is_cut() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    let mut gateway = Gateway::start(
        &dir,
        &["--listen", &format!("127.0.0.1:0,{}", dir.unix("d.sock")), "--upstream", &dir.unix("one")],
    );
    let address = gateway.tcp();
    let mut open = tunnel(address);

    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (done, served) = (Arc::clone(&done), Arc::clone(&served));
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let stream = TcpStream::connect(address).expect("a connection");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let answer = get(stream, "/").expect("an answer");
                    assert!(answer.contains("one got"), "{answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |count: u32| {
        let goal = served.load(Ordering::Relaxed) + count;
        until("answers", || {
            assert!(clients.iter().all(|client| !client.is_finished()), "a client was refused");
            served.load(Ordering::Relaxed) >= goal
        });
    };

    more(50);
    gateway.signal(Signal::USR2);
    let new = upgraded(&gateway);
    more(50);
    echo(&mut open, b"with the old process");
    assert!(get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/").unwrap().contains("one got"));

    // The old process ends with its last tunnel, and the new one owns the file of the socket.
    open.shutdown(Shutdown::Write).unwrap();
    assert_eq!(open.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(gateway.wait().code(), Some(0));
    more(50);
    assert!(get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/").unwrap().contains("one got"));

    // The new one can be upgraded as well.
    kill_process(new.0, Signal::USR2).unwrap();
    let newer = upgraded(&gateway);
    more(50);
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    kill_process(newer.0, Signal::TERM).unwrap();
    gateway.wait_log("stopped");
    until("the file is removed", || !dir.path("d.sock").exists());
}

#[test]
fn a_client_that_connected_before_an_upgrade_is_served_after_it() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    // By TCP, a silent client might not be accepted yet.
    let arguments = ["--listen", &dir.unix("d.sock"), "--upstream", &dir.unix("one"), "--threads", "1"];
    let mut gateway = Gateway::start(&dir, &arguments);
    let connect = || UnixStream::connect(dir.path("d.sock")).unwrap();
    let new = connect();
    // Accepted after the first one. After its response it is closed when the old process drains.
    let mut kept = connect();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(kept.read(&mut [0; 4096]).unwrap() > 0);
    gateway.signal(Signal::USR2);
    let _successor = upgraded(&gateway);
    while kept.read(&mut [0; 4096]).unwrap() > 0 {}

    assert!(get(new, "/").unwrap().contains("one got"));
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_new_process_that_fails_changes_nothing() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    // A symbolic link, so that the program can be replaced.
    let program = dir.path("dockline");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dockline"), &program).unwrap();
    let good = format!(
        "[[upstream]]\nname = \"docker\"\naddress = \"{}\"\n[[listen]]\naddress = \"{}\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n",
        dir.unix("one"),
        dir.unix("d.sock")
    );
    let file = dir.write("d.toml", &good);
    let mut command = Command::new(&program);
    command.args(["serve", "--admin", "off", "--config", &file]);
    let gateway = Gateway::spawn(&dir, command.env_clear());

    for (replacement, words) in [("/bin/false", "exit status: 1"), ("/none", "cannot start")] {
        fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink(replacement, &program).unwrap();
        gateway.signal(Signal::USR2);
        let line = gateway.wait_log("upgrade failed, this process continues to serve");
        assert!(line.contains(words), "{line}");
        assert!(gateway.get("/").contains("one got"));
    }

    // A process that takes the sockets and then fails.
    fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dockline"), &program).unwrap();
    dir.write("d.toml", &format!("{good}[[listen]]\naddress = \"unix:///none/none/d.sock\"\n"));
    gateway.signal(Signal::USR2);
    gateway.wait_log("upgrade failed, this process continues to serve");
    assert!(get(UnixStream::connect(dir.path("d.sock")).unwrap(), "/").unwrap().contains("one got"));

    dir.write("d.toml", &good);
    gateway.signal(Signal::USR2);
    let new = upgraded(&gateway);
    assert!(gateway.get("/").contains("one got"));
    drop(new);
}
