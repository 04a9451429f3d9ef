#![forbid(unsafe_code)]
//! Text from outside is never displayed or logged raw: each output, with escape sequences as input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread;

use dockline::untrusted::is_printable;
use rustix::process::Signal;
use support::{Gateway, TempDir, dockline, finish, get, read_head, until};

/// A title, a colour, CSI of C1, a newline, another direction, no width, and DEL.
const EVIL: &str = "\x1b]0;x\x07\x1b[31m\u{9b}31m\ndockline: \u{202e}\u{200b}\x7f";
/// Their escaped forms.
const SHOWN: &str = r"\u{1b}]0;x\u{7}\u{1b}[31m\u{9b}31m\ndockline: \u{202e}\u{200b}\u{7f}";

/// Asserts that an output is printable, and returns it.
fn seen(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    assert!(text.chars().all(|c| c == '\n' || is_printable(c)), "{text:?}");
    text
}

/// Runs a command to its end, and returns both of its outputs.
fn both(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } = finish(command.stdout(Stdio::piped()));
    seen(&stdout) + &seen(&stderr)
}

type Answer = fn() -> serde_json::Value;

/// Starts a Docker daemon that responds to requests for paths with these prefixes, and refuses all
/// others with the evil text.
fn docker(dir: &TempDir, answers: &'static [(&'static str, Answer)]) -> String {
    let listener = UnixListener::bind(dir.path("docker.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let Some(head) = read_head(&mut stream) else { continue };
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match answers.iter().find(|(beginning, _)| path.starts_with(beginning)) {
                Some((_, answer)) => ("200 OK", answer()),
                None => ("500 Internal Server Error", serde_json::json!({ "message": EVIL })),
            };
            let body = body.to_string();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    dir.unix("docker.sock")
}

/// Runs `publish` or a related command with that daemon.
fn publishing(dir: &TempDir, docker: &str, arguments: &[&str]) -> String {
    both(dockline(arguments).env("DOCKLINE_STATE_DIR", dir.path("state")).env("DOCKER_HOST", docker))
}

#[test]
fn the_name_of_the_process_that_has_a_port() {
    let name = "\x1b]0;x\x07\u{9b}\n\x1b[m";
    fs::write("/proc/self/comm", name).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("{}:9", taken.local_addr().unwrap());
    let said = publishing(&TempDir::new(), "unix:///none", &["publish", "--to", "127.0.0.1", &port]);
    assert!(said.contains(r"`\u{1b}]0;x\u{7}\u{9b}\n\u{1b}[m` (pid "), "{said}");
}

#[test]
fn messages_of_the_daemon() {
    let dir = TempDir::new();
    let host = docker(&dir, &[]);
    for arguments in [&["publish", "web", "80"][..], &["publish", "-d", "web", "80"], &["ports"]] {
        let said = publishing(&dir, &host, arguments);
        assert!(said.contains(SHOWN), "{arguments:?}: {said}");
    }
}

#[test]
fn names_of_containers_and_networks() {
    let dir = TempDir::new();
    let host = docker(
        &dir,
        &[
            ("/containers/web/json", || {
                let network = serde_json::json!({ "IPAddress": "127.0.0.9" });
                serde_json::json!({
                    "Id": EVIL, "Name": EVIL, "State": { "Running": true },
                    "HostConfig": { "NetworkMode": "bridge" },
                    "NetworkSettings": { "Networks": { EVIL: network, "back": network } },
                })
            }),
            ("/containers/shared/json", || {
                serde_json::json!({
                    "Id": "a", "Name": "/shared", "State": { "Running": true },
                    "HostConfig": { "NetworkMode": format!("container:{EVIL}") }, "NetworkSettings": {},
                })
            }),
            ("/containers/odd/json", || serde_json::json!({ "Id": [EVIL] })),
            ("/containers/json", || {
                let port = serde_json::json!(
                    { "IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" }
                );
                serde_json::json!([{ "Id": EVIL, "Names": [format!("/{EVIL}")], "Ports": [port] }])
            }),
        ],
    );
    for (arguments, wanted) in [
        (&["publish", "web", "80"][..], SHOWN),
        (&["publish", "--network", "bakc", "web", "80"], SHOWN),
        (&["publish", "--network", EVIL, "odd", "80"], "not a response of the Docker API"),
        (&["publish", "--network", &format!("{EVIL}2"), "web", "80"], "did you mean"),
        (&["publish", "shared", "80"], SHOWN),
        (&["publish", EVIL, "80"], SHOWN),
        (&["unpublish", EVIL], SHOWN),
        (&["ports"], SHOWN),
    ] {
        let said = publishing(&dir, &host, arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    // Data is unchanged, but in a displayable form.
    let said = publishing(&dir, &host, &["ports", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(listed["container"], EVIL);
}

#[test]
fn words_of_the_command_line() {
    for (command, arguments) in [
        ("serve", &["--listen", EVIL][..]),
        ("serve", &["--upstream", EVIL]),
        ("serve", &["--log-level", EVIL]),
        ("serve", &["--drain-timeout", EVIL]),
        ("serve", &[EVIL]),
        ("check", &["--config", EVIL]),
        ("check", &["--listen", "tls://127.0.0.1:1", "--tls-dir", EVIL]),
        ("publish", &["--to", EVIL, "80"]),
        ("publish", &["--to", "127.0.0.1", EVIL]),
        ("publish", &["--to", "127.0.0.1", &format!("80/{EVIL}")]),
        ("publish", &["--state-dir", EVIL, "--to", "127.0.0.1", EVIL]),
        ("ports", &["--host", &format!("unix:///{EVIL}"), "--state-dir", EVIL]),
        ("ports", &["--host", &format!("tcp://{EVIL}:1")]),
        ("healthcheck", &["--admin", &format!("unix:///{EVIL}")]),
        ("selftest", &["--only", EVIL]),
        ("selftest", &["--against", &format!("unix:///{EVIL}"), "--daemon-listen", "127.0.0.1:0"]),
        ("selftest", &["--daemon-listen", &format!("unix:///{EVIL}/d")]),
        ("man", &[EVIL]),
        ("completions", &[EVIL]),
        (EVIL, &[]),
    ] {
        let said = both(dockline(&[command]).args(arguments).current_dir(TempDir::new().path("")));
        assert!(!said.is_empty(), "{command} {arguments:?}");
    }
}

#[test]
fn the_name_by_which_the_program_is_run() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["serve", "--frob"], &["--version"], &[]] {
        let said = both(dockline(arguments).arg0(EVIL));
        assert!(said.contains("dockline"), "{said}");
    }
}

#[test]
fn a_configuration() {
    let dir = TempDir::new();
    let tls = "tls = { cert = \"c\", key = \"k\" }";
    let evil = r"\u001b]0;x\u0007\u009b31m\n\u202e";
    for text in [
        format!("# {EVIL}\n"),
        format!("[[listen]]\naddress = \"{evil}\"\n"),
        format!("[[listen]]\naddress = \"127.0.0.1:1\"\nupstream = \"{evil}\"\n"),
        format!("[[listen]]\nname = \"{evil}\"\naddress = \"127.0.0.1:1\"\n"),
        format!("[[listen]]\naddress = \"tls://{evil}\"\n{tls}\n"),
        format!("[[listen]]\naddress = \"unix:///{evil}?mode=9\"\n"),
        format!("[[listen]]\naddress = \"unix:///d?user={evil}\"\n"),
        format!("[[listen]]\naddress = \"unix:///d?{evil}=a\"\n"),
        format!("[[upstream]]\nname = \"{evil}\"\naddress = \"tcp://a\"\n"),
        format!(
            "[[upstream]]\nname = \"u\"\naddress = \"tls://a\"\ntls = {{ ca = \"{evil}\", name = \"{evil}\" }}\n"
        ),
        format!("\"{evil}\" = 1\n"),
        format!("[log]\n\t\"levle{evil}\" = 1 # é \u{202e}\n"),
        format!("[log]\nlevel = \"{evil}\"\n"),
        format!("[log]\nformat = \"{evil}\"\n"),
        format!("[limits]\nhead_time = \"{evil}\"\n"),
        format!("[limits]\nheld = \"{evil}\"\n"),
        format!("[forwarding]\nvia = \"{evil}\"\n"),
        format!("[admin]\naddress = \"{evil}\"\n"),
        format!("a = \"{evil}\"\n"),
    ] {
        let file = dir.write("\u{202e}\x1b[31m.toml", &text);
        let said = both(&mut dockline(&["check", "--config", &file]));
        assert!(said.contains(r"\u{202e}\u{1b}[31m.toml"), "{said}");
    }
}

#[test]
fn logs_and_status_of_a_server() {
    for format in ["text", "json"] {
        let dir = TempDir::new();
        fs::create_dir(dir.path(EVIL)).unwrap();
        let upstream = format!("unix://{}/one", dir.name(EVIL));
        let listener = format!("unix://{}/d.sock", dir.name(EVIL));
        let (access, admin) = (dir.name(&format!("{EVIL}/access.log")), dir.unix("admin.sock"));
        let mut command = dockline(&["serve", "--log-level", "debug", "--log-format", format]);
        command.args(["--access-log", &access, "--access-log-format", format, "--admin", &admin]);
        command.args(["--listen", &format!("127.0.0.1:0,{listener}"), "--upstream", &upstream]);
        let own = fs::File::create(dir.path("own.log")).unwrap();
        let mut gateway = Gateway::spawn_logging_to(&dir, &mut command, own);
        seen(gateway.ready.as_bytes());
        let target = "/\x1b]0;x\x07\u{9b}\u{202e}\x7f";
        let _ = get(std::net::TcpStream::connect(gateway.tcp()).unwrap(), target);
        let _ = gateway.get("/ok");
        until("the requests are logged", || fs::read_to_string(&access).unwrap().contains("/ok"));
        for path in ["/metrics", "/readyz", "/readyz?verbose"] {
            let stream = std::os::unix::net::UnixStream::connect(dir.path("admin.sock")).unwrap();
            let answer = get(stream, path).unwrap();
            seen(answer.replace('\r', "").as_bytes());
        }
        both(&mut dockline(&["healthcheck", "--admin", &admin]));
        fs::set_permissions(&access, fs::Permissions::from_mode(0o000)).unwrap();
        gateway.signal(Signal::USR1);
        gateway.signal(Signal::HUP);
        gateway.manager.wait("RELOADING=1");
        seen(gateway.manager.wait("READY=1").as_bytes());
        gateway.signal(Signal::TERM);
        gateway.wait();
        let own = seen(&fs::read(dir.path("own.log")).unwrap());
        assert!(own.contains("cannot connect to unix://") && own.contains("u{202e}"), "{own}");
        seen(&fs::read(&access).unwrap());
    }
}

#[test]
fn responses_of_another_program_at_the_admin_address() {
    let dir = TempDir::new();
    let listener = UnixListener::bind(dir.path("admin.sock")).unwrap();
    thread::spawn(move || {
        for (stream, status) in listener.incoming().map_while(Result::ok).zip(["200 OK", "503 No"]) {
            let mut stream = BufReader::new(stream);
            read_head(&mut stream);
            let _ = write!(stream.get_mut(), "HTTP/1.1 {status}\r\n\r\n{EVIL}\n");
        }
    });
    for _ in 0..2 {
        let said = both(&mut dockline(&["healthcheck", "--admin", &dir.unix("admin.sock")]));
        assert!(said.contains(SHOWN), "{said}");
    }
}

#[test]
fn sockets_that_systemd_passes() {
    let name = EVIL.replace(':', "");
    for (number, wanted) in [("1", SHOWN.replace(':', "")), (EVIL, SHOWN.to_owned())] {
        // They are for the process with this ID.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$@\" 3</dev/null", "sh", env!("CARGO_BIN_EXE_dockline")]);
        command.args(["serve", "--admin", "off", "--listen", "fd://web"]);
        let said = both(command.env_clear().env("LISTEN_FDS", number).env("LISTEN_FDNAMES", &name));
        assert!(said.contains(&wanted), "{said}");
    }
}
