#![forbid(unsafe_code)]
//! The contract with dockerd: flags, status pipe, inherited socket, signals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use dockline::untrusted::is_printable;
use support::{ORIGINAL, PROXY, Start, flags, free_port, publish, signal, words};

const CONTAINER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Command lines for which both programs must behave alike: exit status, status pipe, first line of
/// standard error.
#[test]
fn command_lines_as_the_original() {
    if !Path::new(ORIGINAL).exists() {
        eprintln!("skipped: {ORIGINAL} is not installed");
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = flags("tcp", taken.local_addr().unwrap(), CONTAINER).join(" ");
    let udp = flags("udp", taken_udp.local_addr().unwrap(), CONTAINER).join(" ");
    let mut lines: Vec<String> = [
        "-x",
        "--x",
        "---x",
        "-=x",
        "--=x",
        "-x=1",
        "-host-port",
        "-host-port abc",
        "-host-port=",
        "-host-port 08",
        "-host-port 1__0",
        "-host-port 99999999999999999999",
        "-container-port 80x",
        "-proto",
        "-host-ip",
        "-h",
        "-help",
        "--help",
        "-h=1",
        "-proto tcp -x",
        // Every form of number in Go, with a port that no socket can have.
        "-host-ip 127.0.0.1 -host-port 70000 -container-port 80",
        "-host-ip 127.0.0.1 -host-port 0x1_0000 -container-port 80",
        "-host-ip 127.0.0.1 -host-port -0b1 -container-port 80",
        "-host-ip=127.0.0.1 --host-port=0o200000 -container-port=80",
        "-host-ip 203.0.113.1 -host-port 80 -container-port 80",
        "-host-ip 203.0.113.1 -host-port 80 -container-port 80 -proto udp",
        "-host-ip 2001:db8::1 -host-port 80 -container-port 80",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.extend([tcp, udp]);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let ours = Start::default().run(&words).outcome();
        let theirs = Start { program: ORIGINAL, ..Start::default() }.run(&words).outcome();
        let comparable = |(status, code, errors): (String, Option<i32>, String)| {
            let first = errors.lines().next().unwrap_or_default().replace(ORIGINAL, PROXY);
            (status, code, first)
        };
        assert_eq!(comparable(ours), comparable(theirs), "{line}");
    }
}

#[test]
fn failures_are_reported_on_the_pipe() {
    let port = free_port("127.0.0.1");
    for (line, wanted) in [
        ("-proto foo -host-port 1 -container-port 1", "1\nunsupported protocol foo".to_owned()),
        ("-proto TCP -host-port 1 -container-port 1", "1\nunsupported protocol TCP".to_owned()),
        ("", "1\ncontainer port -1: must be between 1 and 65535".to_owned()),
        ("-container-port 0", "1\ncontainer port 0: must be between 1 and 65535".to_owned()),
        ("-container-port 80", "1\nlisten tcp4 0.0.0.0:-1: bind: invalid argument".to_owned()),
    ] {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        assert_eq!(Start::default().run(&words).outcome(), (wanted, Some(1), String::new()), "{line}");
    }
    let sctp = Start::default().run(&words(&flags("sctp", local(port), CONTAINER))).outcome();
    assert!(sctp.0.starts_with("1\nprotocol sctp is not supported"), "{sctp:?}");
    assert_eq!(sctp.1, Some(1));
}

/// Escape sequences are escaped on the pipe, whose text dockerd shows to its user, and on standard
/// error.
#[test]
fn text_from_outside_is_printable() {
    let evil = "\x1b]0;x\x07\u{9b}31m\n\u{202e}\x7f";
    let shown = r"\u{1b}]0;x\u{7}\u{9b}31m\n\u{202e}\u{7f}";
    let port = ["-host-port", "1", "-container-port", "80"];
    let protocol = [("DOCKLINE_PROXY_PROTOCOL", evil)];
    let transparent = [("DOCKLINE_PROXY_TRANSPARENT", evil)];
    let flag = format!("-{evil}");
    let ip = format!("-host-ip={evil}");
    for (arguments, env) in [
        (&[&port[..], &["-proto", evil]].concat()[..], &[][..]),
        (&port, &protocol),
        (&port, &transparent),
        (&[&flag], &[]),
        (&[&format!("{flag}=")], &[]),
        (&[&format!("--{flag}")], &[]),
        (&[&ip], &[]),
        (&["-host-port", evil], &[]),
        (&[&format!("-v={evil}")], &[]),
    ] {
        let (status, _, errors) = Start { env, ..Start::default() }.run(arguments).outcome();
        let all = status + &errors;
        assert!(all.chars().all(|c| matches!(c, '\n' | '\t') || is_printable(c)), "{arguments:?}: {all:?}");
        assert!(all.contains(shown), "{arguments:?}: {all}");
    }
}

#[test]
fn version_is_one_line() {
    for flag in ["-v", "--v", "-version", "--version=true"] {
        let done = Command::new(PROXY).arg(flag).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success());
        assert!(
            text.starts_with("docker-proxy (")
                && text.ends_with(&format!(" version {}\n", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(text.lines().count(), 1);
    }
}

/// Run by hand, without a status pipe, or with another file under its number.
#[test]
fn works_without_a_pipe() {
    for redirect in ["3>&-", "3</dev/null"] {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let flags = flags("udp", taken.local_addr().unwrap(), CONTAINER);
        let script = format!("exec \"$@\" {redirect}");
        let done = Command::new("sh").args(["-c", &script, "sh", PROXY]).args(&flags).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let errors = String::from_utf8(done.stderr).unwrap();
        assert!(errors.contains("bind: address already in use"), "{errors}");
    }
}

#[test]
fn binds_exactly_the_given_address() {
    for proto in ["tcp", "udp"] {
        let port = free_port("127.0.0.1");
        let mut proxy = Start::default().run(&words(&flags(proto, local(port), CONTAINER)));
        assert_eq!(proxy.status(), "0\n");
        // If it were any wider, this would be in use.
        let other = SocketAddr::from(([127, 0, 0, 2], port));
        assert!(if proto == "tcp" {
            TcpListener::bind(other).is_ok()
        } else {
            UdpSocket::bind(other).is_ok()
        });

        let port = free_port("::1");
        let mut proxy = Start::default().run(&words(&flags(
            proto,
            SocketAddr::new("::".parse().unwrap(), port),
            CONTAINER,
        )));
        assert_eq!(proxy.status(), "0\n");
        let v4 = local(port);
        assert!(
            if proto == "tcp" { TcpListener::bind(v4).is_ok() } else { UdpSocket::bind(v4).is_ok() },
            "V6ONLY"
        );
    }
}

#[test]
fn relay_in_use() {
    let second = flags("tcp", local(free_port("127.0.0.1")), CONTAINER);
    let mut first = Start::default().run(&words(&second));
    assert_eq!(first.status(), "0\n");
    let wanted = format!("1\nlisten tcp4 127.0.0.1:{}: bind: address already in use", second[5]);
    assert_eq!(Start::default().run(&words(&second)).outcome(), (wanted, Some(1), String::new()));
    // When the first one ends, the port is free at once.
    first.signal("INT");
    assert_eq!(first.wait().code(), Some(0));
    assert_eq!(Start::default().run(&words(&second)).status(), "0\n");
}

#[test]
fn relay_inherited_fd_wrong_type() {
    let dir = std::env::temp_dir().join(format!("dockline-docker-proxy-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = tcp();
    let cases = [
        ("tcp", Some(udp().into()), "unexpected socket type for listener fd: udp"),
        ("udp", Some(tcp().into()), "unexpected socket type for listener fd: tcp"),
        (
            "tcp",
            Some(TcpStream::connect(peer.local_addr().unwrap()).unwrap().into()),
            "unexpected socket type for listener fd: tcp, not listening",
        ),
        (
            "tcp",
            Some(UnixListener::bind(dir.join("socket")).unwrap().into()),
            "unexpected socket type for listener fd: neither tcp nor udp",
        ),
        (
            "tcp",
            Some(std::fs::File::open("/dev/null").unwrap().into()),
            "listener fd 4: socket operation on non-socket",
        ),
        ("tcp", None, "listener fd 4: bad file descriptor"),
    ];
    for (proto, listener, wanted) in cases {
        let mut flags = flags(proto, local(1), CONTAINER);
        flags.push("-use-listen-fd".to_owned());
        let outcome = Start { listener, ..Start::default() }.run(&words(&flags)).outcome();
        assert_eq!(outcome, (format!("1\n{wanted}"), Some(1), String::new()));
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// An inherited socket is used only on request: older versions of dockerd have another file there.
#[test]
fn descriptor_4_counts_only_with_the_flag() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let flags = flags("tcp", socket.local_addr().unwrap(), CONTAINER);
    let outcome = Start { listener: Some(socket.into()), ..Start::default() }.run(&words(&flags)).outcome();
    assert!(outcome.0.ends_with("bind: address already in use"), "{outcome:?}");
}

#[test]
fn stop_signals_end_it_with_status_0() {
    for proto in ["tcp", "udp"] {
        for name in ["TERM", "INT"] {
            let (mut proxy, _) = publish(Start::default(), proto, "127.0.0.1", CONTAINER);
            proxy.signal(name);
            assert_eq!(proxy.wait().code(), Some(0), "{proto} {name}");
        }
    }
}

/// dockerd makes the kernel send SIGTERM when it dies; here setpriv does.
#[test]
fn dies_with_its_parent() {
    let port = free_port("127.0.0.1");
    // The child prints its process ID; the parent waits to be killed.
    let child = "echo $$; exec setpriv --pdeathsig TERM \"$@\" 3>&1 >/dev/null 2>&1 </dev/null";
    let script = format!("sh -c '{child}' sh \"$@\" & exec 1>&-; wait");
    let mut parent = Command::new("sh")
        .args(["-c", &script, "sh", PROXY])
        .args(flags("udp", local(port), CONTAINER))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap());
    let (mut pid, mut rest) = (String::new(), String::new());
    lines.read_line(&mut pid).unwrap();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0\n");
    assert!(UdpSocket::bind(local(port)).is_err(), "the port is taken");
    parent.kill().unwrap();
    parent.wait().unwrap();
    let proc = format!("/proc/{}", pid.trim());
    let gone = || {
        !Path::new(&proc).exists()
            || std::fs::read_to_string(format!("{proc}/stat")).map_or(true, |s| s.contains(") Z "))
    };
    let deadline = (0..2_000).any(|_| {
        gone() || {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
            false
        }
    });
    if !deadline {
        signal(pid.trim().parse().unwrap(), "KILL");
        panic!("it outlived its parent");
    }
}
