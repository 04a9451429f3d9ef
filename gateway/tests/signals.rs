#![forbid(unsafe_code)]
//! Each signal in each phase of a process. A phase is held by a configuration that does not arrive:
//! a FIFO.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::{Gateway, Manager, PATIENCE, TempDir, daemon, get, tunnel, until};

const STOPS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];
const OTHERS: [Signal; 3] = [Signal::HUP, Signal::USR1, Signal::USR2];

/// A daemon, a program that can be replaced, and a configuration that can be held back.
struct Bed {
    dir: TempDir,
    config: String,
    program: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let dir = TempDir::new();
        daemon(&dir.path("one"), "one");
        let program = dir.path("dockline");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dockline"), &program).unwrap();
        let config = format!(
            "[[listen]]\naddress = \"{}\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[upstream]]\nname = \"docker\"\naddress = \"{}\"\n",
            dir.unix("d.sock"),
            dir.unix("one")
        );
        dir.write("d.toml", &config);
        Self { dir, config, program }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let file = self.dir.name("d.toml");
        command.args(["serve", "--admin", "off", "--config", &file]).env_clear().stdin(Stdio::null());
        command
    }

    fn start(&self) -> Gateway {
        Gateway::spawn(&self.dir, &mut self.command())
    }

    /// Makes processes wait for the configuration.
    fn hold(&self) {
        let path = self.dir.path("d.toml");
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }

    /// Waits until the process waits, and lets it go on.
    fn release(&self) {
        let path = self.dir.path("d.toml");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let mut fifo = File::options().write(true).open(&path).unwrap();
        fifo.write_all(self.config.as_bytes()).unwrap();
        fs::remove_file(&path).unwrap();
        self.dir.write("d.toml", &self.config);
    }

    /// Replaces the program by a script that writes its process ID into a file.
    fn replace(&self, script: &str) {
        fs::remove_file(&self.program).unwrap();
        let pid = self.dir.name("pid");
        // A signal that a shell ignores is ignored by the program that it becomes.
        let ignores = if script == STUBBORN { "trap '' TERM" } else { "" };
        let text = format!("#!/bin/sh\n{ignores}\necho $$ > {pid}.new && mv {pid}.new {pid}\n{script}\n");
        fs::write(&self.program, text).unwrap();
        fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts an upgrade, and returns the new process, which runs the script.
    fn upgrade(&self, gateway: &Gateway, script: &str) -> Pid {
        self.replace(script);
        gateway.signal(Signal::USR2);
        until("the new process", || self.dir.path("pid").exists());
        let pid = fs::read_to_string(self.dir.path("pid")).unwrap();
        fs::remove_file(self.dir.path("pid")).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
    }

    fn serves(&self) -> bool {
        UnixStream::connect(self.dir.path("d.sock"))
            .is_ok_and(|stream| get(stream, "/").is_ok_and(|answer| answer.contains("one got")))
    }

    fn has_left_nothing(&self) -> bool {
        !self.dir.path("d.sock").exists()
    }
}

/// Returns the command that replaces the script by the program.
fn real() -> String {
    format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_dockline"))
}

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

/// Returns whether a process waits for the configuration.
fn waits(pid: Pid) -> bool {
    let wchan = fs::read_to_string(format!("/proc/{}/wchan", pid.as_raw_nonzero())).unwrap_or_default();
    let syscall = fs::read_to_string(format!("/proc/{}/syscall", pid.as_raw_nonzero())).unwrap_or_default();
    // open(2) or openat(2) of a FIFO without a writer.
    wchan.contains("fifo") || syscall.starts_with("257 ") || syscall.starts_with("2 ")
}

fn starting(bed: &Bed, manager: &Manager) -> Child {
    bed.hold();
    let child = bed.command().env("NOTIFY_SOCKET", &manager.address).stderr(Stdio::null()).spawn().unwrap();
    until("it waits for its configuration", || waits(Pid::from_child(&child)));
    child
}

/// Waits for the end of a process, and kills it if it does not end.
fn ended(child: &mut Child) -> ExitStatus {
    let pid = Pid::from_child(child);
    let (sender, late) = channel::<()>();
    let watch = thread::spawn(move || {
        let is_late = late.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        is_late.then(|| kill_process(pid, Signal::KILL))
    });
    let status = child.wait().unwrap();
    drop(sender);
    assert!(watch.join().unwrap().is_none(), "it does not end");
    status
}

#[test]
fn before_it_serves() {
    for signal in STOPS {
        let bed = Bed::new();
        let mut child = starting(&bed, &Manager::new(&bed.dir));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(ended(&mut child).signal(), Some(signal.as_raw()), "{signal:?}");
        assert!(bed.has_left_nothing());
    }
    for signal in OTHERS {
        let bed = Bed::new();
        let manager = Manager::new(&bed.dir);
        let mut child = starting(&bed, &manager);
        kill_process(Pid::from_child(&child), signal).unwrap();
        bed.release();
        manager.wait("READY=1");
        assert!(bed.serves(), "{signal:?}");
        if signal == Signal::HUP {
            // The file may have been read before.
            manager.wait("RELOADING=1");
            manager.wait("READY=1");
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(ended(&mut child).success(), "{signal:?}");
    }
}

/// The configuration is there, but a file that it names is slow.
#[test]
fn before_it_listens() {
    for signal in STOPS {
        let bed = Bed::new();
        let log = bed.dir.path("access.log");
        mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        bed.dir.write("d.toml", &format!("{}[log]\naccess = \"{}\"\n", bed.config, log.display()));
        let mut child = bed.command().stderr(Stdio::null()).spawn().unwrap();
        until("it waits for its log", || waits(Pid::from_child(&child)));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(ended(&mut child).signal(), Some(signal.as_raw()), "{signal:?}");
        assert!(bed.has_left_nothing());
    }
}

#[test]
fn while_it_serves() {
    for signal in STOPS {
        let bed = Bed::new();
        let mut gateway = bed.start();
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0), "{signal:?}");
        assert!(bed.has_left_nothing());
    }
    let bed = Bed::new();
    let gateway = bed.start();
    for signal in [Signal::HUP, Signal::USR1] {
        gateway.signal(signal);
        assert!(bed.serves(), "{signal:?}");
    }
    gateway.wait_log("reloaded");
}

#[test]
fn while_it_reloads() {
    let reloading = |bed: &Bed| {
        let gateway = bed.start();
        bed.hold();
        gateway.signal(Signal::HUP);
        gateway.manager.wait("RELOADING=1");
        assert!(bed.serves());
        gateway
    };
    for signal in STOPS {
        let bed = Bed::new();
        let mut gateway = reloading(&bed);
        gateway.signal(signal);
        gateway.manager.wait("STOPPING=1");
        assert_eq!(gateway.wait().code(), Some(0), "{signal:?}");
        assert!(bed.has_left_nothing());

        let bed = Bed::new();
        let mut gateway = reloading(&bed);
        let _open = tunnel(gateway.tcp());
        gateway.signal(Signal::TERM);
        gateway.wait_log("stopping");
        // What was read meanwhile is no longer needed.
        bed.release();
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(128 + signal.as_raw()), "{signal:?}");
    }
    for signal in OTHERS {
        let bed = Bed::new();
        let mut gateway = reloading(&bed);
        gateway.signal(signal);
        bed.release();
        gateway.manager.wait("READY=1");
        if signal == Signal::HUP {
            gateway.manager.wait("RELOADING=1");
            gateway.manager.wait("READY=1");
        }
        if signal == Signal::USR2 {
            let message = gateway.manager.wait("MAINPID=");
            let new = Pid::from_raw(message["MAINPID=".len()..].parse().unwrap()).unwrap();
            assert_eq!(gateway.wait().code(), Some(0));
            assert!(bed.serves());
            kill_process(new, Signal::TERM).unwrap();
        } else {
            assert!(bed.serves(), "{signal:?}");
            gateway.signal(Signal::TERM);
            assert_eq!(gateway.wait().code(), Some(0), "{signal:?}");
        }
        until("the file is removed", || bed.has_left_nothing());
    }
}

/// The new process reads its configuration, or does nothing, or does not end.
const SUCCESSORS: [&str; 3] = ["", "exec sleep 1000", STUBBORN];
const STUBBORN: &str = "exec sleep 999";

#[test]
fn a_stop_within_an_upgrade_stops_both() {
    for script in SUCCESSORS {
        for signal in STOPS {
            let bed = Bed::new();
            let mut gateway = bed.start();
            let real = real();
            bed.hold();
            let new = bed.upgrade(&gateway, if script.is_empty() { &real } else { script });
            gateway.signal(signal);
            assert_eq!(gateway.wait().code(), Some(0), "{script:?}, {signal:?}");
            until("the new process ends, too", || is_gone(new));
            assert!(bed.has_left_nothing(), "{script:?}, {signal:?}");
            if script == STUBBORN {
                break;
            }
        }
    }
}

#[test]
fn a_second_stop_within_an_upgrade_ends_both_at_once() {
    for signal in STOPS {
        let bed = Bed::new();
        let mut gateway = bed.start();
        // A tunnel, so that the first stop must wait.
        let _open = tunnel(gateway.tcp());
        let new = bed.upgrade(&gateway, STUBBORN);
        gateway.signal(signal);
        gateway.wait_log("stopping");
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(128 + signal.as_raw()), "{signal:?}");
        until("the new process ends, too", || is_gone(new));
    }
}

/// It serves, but the old process does not know yet.
#[test]
fn a_stop_when_the_new_process_is_ready() {
    let bed = Bed::new();
    let mut gateway = bed.start();
    bed.hold();
    let new = bed.upgrade(&gateway, &real());
    until("it waits for its configuration", || waits(new));
    gateway.signal(Signal::STOP);
    bed.release();
    gateway.manager.wait("READY=1");
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    assert_eq!(gateway.wait().code(), Some(0));
    until("the new process ends, too", || is_gone(new));
    assert!(bed.has_left_nothing());
}

#[test]
fn other_signals_within_an_upgrade() {
    let bed = Bed::new();
    let gateway = bed.start();
    bed.hold();
    let new = bed.upgrade(&gateway, &real());
    for signal in [Signal::HUP, Signal::USR2] {
        gateway.signal(signal);
        gateway.wait_log("an upgrade is in progress");
    }
    gateway.signal(Signal::USR1);
    // To the new process, as by a script that reads its process ID from a file.
    until("it waits for its configuration", || waits(new));
    for signal in OTHERS {
        kill_process(new, signal).unwrap();
    }
    bed.release();
    assert_eq!(gateway.manager.wait("MAINPID="), format!("MAINPID={}", new.as_raw_nonzero()));
    assert!(bed.serves());
    kill_process(new, Signal::TERM).unwrap();
    until("the file is removed", || bed.has_left_nothing());
}

/// A new process is stopped before it serves: the old one continues.
#[test]
fn a_stop_of_the_new_process_alone() {
    let bed = Bed::new();
    let gateway = bed.start();
    for signal in STOPS {
        bed.hold();
        let new = bed.upgrade(&gateway, &real());
        until("it waits for its configuration", || waits(new));
        kill_process(new, signal).unwrap();
        gateway.wait_log("upgrade failed, this process continues to serve");
        assert!(bed.serves(), "{signal:?}");
        fs::remove_file(bed.dir.path("d.toml")).unwrap();
        bed.dir.write("d.toml", &bed.config);
    }
}

/// Signals to the old process after an upgrade do not concern the new one.
#[test]
fn after_an_upgrade() {
    for signal in STOPS {
        let bed = Bed::new();
        let mut gateway = bed.start();
        let open = tunnel(gateway.tcp());
        let new = bed.upgrade(&gateway, &real());
        gateway.manager.wait("MAINPID=");
        for other in [Signal::HUP, Signal::USR2] {
            gateway.signal(other);
            gateway.wait_log("about to end");
        }
        gateway.signal(signal);
        gateway.wait_log("stopping");
        drop(open);
        assert_eq!(gateway.wait().code(), Some(0), "{signal:?}");
        assert!(!is_gone(new) && bed.serves(), "{signal:?}");
        kill_process(new, Signal::TERM).unwrap();
        until("the file is removed", || bed.has_left_nothing());
    }
}

#[test]
fn while_it_stops() {
    for second in STOPS {
        let bed = Bed::new();
        let mut gateway = bed.start();
        let _open = tunnel(gateway.tcp());
        gateway.signal(Signal::TERM);
        gateway.wait_log("stopping");
        for other in [Signal::HUP, Signal::USR2] {
            gateway.signal(other);
            gateway.wait_log("about to end");
        }
        gateway.signal(Signal::USR1);
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(128 + second.as_raw()), "{second:?}");
    }
}
