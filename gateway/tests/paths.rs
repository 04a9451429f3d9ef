#![forbid(unsafe_code)]
//! Relative paths refer to the directory in which the program was started, for its whole lifetime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Gateway, TempDir, daemon, dockline, finish, stderr, until};

/// Creates a directory to start the program in, with a configuration whose upstream is that daemon.
fn site(dir: &TempDir, upstream: &str) {
    fs::create_dir(dir.path("site")).unwrap();
    let address = dir.unix(upstream);
    let text = format!(
        "[[listen]]\naddress = \"tcp://127.0.0.1:0\"\nupstream = \"docker\"\n\
         [[upstream]]\nname = \"docker\"\naddress = \"{address}\"\n\
         [[upstream]]\nname = \"other\"\naddress = \"tls://a\"\ntls = {{ ca = \"ca.pem\" }}\n\
         [log]\naccess = \"access.log\"\n"
    );
    let authority = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    fs::write(dir.path("site/ca.pem"), authority.cert.pem()).unwrap();
    fs::write(dir.path("site/d.toml"), text).unwrap();
}

fn is_logged(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("GET"))
}

/// A new process, which ends with the test.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn of_a_server_that_outlives_its_directory() {
    let dir = TempDir::new();
    daemon(&dir.path("one"), "one");
    daemon(&dir.path("two"), "two");
    site(&dir, "one");
    let mut command = dockline(&["serve", "--admin", "off", "--config", "d.toml"]);
    let gateway = Gateway::spawn(&dir, command.current_dir(dir.path("site")));
    assert!(gateway.get("/").contains("one got"));
    let log = dir.path("site/access.log");
    until("the request is logged", || is_logged(&log));

    fs::rename(&log, dir.path("site/access.log.1")).unwrap();
    gateway.signal(Signal::USR1);
    gateway.wait_log("the access log was reopened");
    gateway.get("/");
    until("the request is logged in a new file", || is_logged(&log));

    // A new version of the directory, as in some deployments.
    fs::rename(dir.path("site"), dir.path("old")).unwrap();
    fs::remove_file(dir.path("old/ca.pem")).unwrap();
    site(&dir, "two");
    gateway.signal(Signal::USR1);
    gateway.wait_log("the access log was reopened");
    gateway.signal(Signal::HUP);
    gateway.wait_log("reloaded");
    assert!(gateway.get("/").contains("two got"));
    until("the request is logged in the new directory", || is_logged(&log));

    fs::rename(dir.path("site"), dir.path("older")).unwrap();
    site(&dir, "one");
    gateway.signal(Signal::USR2);
    let message = gateway.manager.wait("MAINPID=");
    let _successor = Successor(Pid::from_raw(message["MAINPID=".len()..].parse().unwrap()).unwrap());
    // The old process may still accept a connection.
    until("the new process serves", || gateway.get("/").contains("one got"));
    until("the new process logs there, too", || is_logged(&log));
}

/// Returns the program in a directory of the test, without Docker.
fn command(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = dockline(arguments);
    command.current_dir(dir.path("")).env("DOCKER_HOST", dir.unix("no-docker")).stdout(Stdio::piped());
    command
}

#[test]
fn of_a_publication_in_the_background() {
    for by_environment in [false, true] {
        let dir = TempDir::new();
        let run = |words: &[&str]| {
            let state: &[&str] = if by_environment { &[] } else { &["--state-dir", "./state"] };
            let mut command = command(&dir, &[words, state].concat());
            if by_environment {
                command.env("DOCKLINE_STATE_DIR", "state");
            }
            let output = finish(&mut command);
            assert!(output.status.success(), "{words:?}: {}", stderr(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let id = run(&["publish", "--detach", "--for", "1m", "--to", "127.0.0.1:9", "127.0.0.1:0:9"]);
        assert!(dir.path(&format!("state/{}.log", id.trim())).exists());
        assert!(run(&["ports"]).contains(id.trim()));
        run(&["unpublish", id.trim()]);
        assert_eq!(dir.path("state").read_dir().unwrap().count(), 0);
    }
}
