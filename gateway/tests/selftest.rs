#![forbid(unsafe_code)]
//! `dockline selftest` against its own daemon, and against proxies that are bad on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

fn selftest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dockline")).arg("selftest").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns "pass", "fail" or "skip" for each case.
fn results(output: &Output) -> BTreeMap<String, String> {
    let value = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let out = text(&output.stdout);
    out.lines().filter_map(|line| Some((value(line, "case")?, value(line, "result")?))).collect()
}

/// A directory for a Unix socket, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("dockline-selftest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("daemon.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Copies one direction; called with the source, the sink, and a way to end both directions.
type Copier = fn(&mut dyn Read, &mut dyn Write, &dyn Fn());

/// Starts a proxy that knows nothing of HTTP. Its threads end with the test.
fn proxy(upstream: &Path, up: Copier, down: Copier) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = upstream.to_owned();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(daemon)) = (client, UnixStream::connect(&upstream)) else { continue };
            let (clients, daemons) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
            thread::spawn(move || run(client, daemon, up));
            thread::spawn(move || run_back(daemons, clients, down));
        }
    });
    address
}

fn run(mut client: TcpStream, mut daemon: UnixStream, copier: Copier) {
    let (one, other) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
    copier(&mut client, &mut daemon, &|| end(&one, &other));
}

fn run_back(mut daemon: UnixStream, mut client: TcpStream, copier: Copier) {
    let (one, other) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
    copier(&mut daemon, &mut client, &|| end(&one, &other));
}

fn end(client: &TcpStream, daemon: &UnixStream) {
    drop(client.shutdown(Shutdown::Both));
    drop(daemon.shutdown(Shutdown::Both));
}

/// Makes the mistake of nearly every proxy: the end of one direction ends both.
fn close_both(from: &mut dyn Read, to: &mut dyn Write, end: &dyn Fn()) {
    let mut buffer = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    end();
}

/// Forwards a response when it is complete, which is when the daemon closes.
fn keep_until_the_end(from: &mut dyn Read, to: &mut dyn Write, end: &dyn Fn()) {
    let mut kept = Vec::new();
    drop(from.read_to_end(&mut kept));
    drop(to.write_all(&kept));
    end();
}

fn against(upstream: &Directory, up: Copier, down: Copier, only: &[&str]) -> Output {
    let socket = upstream.socket();
    let proxy = proxy(&socket, up, down).to_string();
    let listen = format!("unix://{}", socket.display());
    let args =
        ["--against", &proxy, "--daemon-listen", &listen, "--format", "json", "--timeout", "4s", "--only"];
    selftest(&[&args, only].concat())
}

const PROXY_ONLY: [&str; 9] = [
    "bare-line-feed",
    "early-refused",
    "early-stdin",
    "h2c-stripped",
    "late-body",
    "length-and-chunked",
    "one-connection-token",
    "refused-not-pooled",
    "unasked-101",
];

#[test]
fn without_a_proxy_everything_passes() {
    let directory = Directory::new();
    let unix = format!("unix://{}", directory.socket().display());
    for listen in ["tcp://127.0.0.1:0", &unix] {
        let output = selftest(&["--daemon-listen", listen, "--format", "json"]);
        let results = results(&output);
        for (case, result) in &results {
            let expected = if PROXY_ONLY.contains(&case.as_str()) { "skip" } else { "pass" };
            assert_eq!(result, expected, "{case} on {listen}:\n{}", text(&output.stdout));
        }
        assert!(results.len() > 50, "{results:?}");
        assert_eq!(output.status.code(), Some(0));
    }
    assert!(!directory.socket().exists(), "the socket is left behind");
}

#[test]
fn a_proxy_that_closes_both_directions_fails() {
    let good = ["attach-101", "exec-101", "ping-pong", "refused-exec", "logs-follow", "empty-host"];
    let bad =
        ["no-stdin", "stdin-eof", "stdin-eof-200", "output-first", "parallel", "early-stdin", "h2c-stripped"];
    let output = against(&Directory::new(), close_both, close_both, &[&good[..], &bad].concat());
    let results = results(&output);
    for case in good {
        assert_eq!(results[case], "pass", "{case}:\n{}", text(&output.stdout));
    }
    for case in bad {
        assert_eq!(results[case], "fail", "{case}:\n{}", text(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).ends_with(&format!(
        "{{\"passed\":{},\"failed\":{},\"skipped\":0,\"total\":{}}}\n",
        good.len(),
        bad.len(),
        good.len() + bad.len()
    )));
}

#[test]
fn a_proxy_that_holds_responses_fails() {
    let bad = ["logs-follow", "wait-head"];
    let output =
        against(&Directory::new(), close_both, keep_until_the_end, &[&bad[..], &["cut-length"]].concat());
    let results = results(&output);
    assert_eq!((results.len(), results["cut-length"].as_str()), (3, "pass"), "{results:?}");
    for case in bad {
        assert_eq!(results[case], "fail", "{case}:\n{}", text(&output.stdout));
    }
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_proxy_with_another_upstream_gets_advice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            drop(client.read(&mut [0; 4096]));
            drop(client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let output =
        selftest(&["--against", &address, "--daemon-listen", "tcp://127.0.0.1:0", "--timeout", "2s"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in
        ["502 Bad Gateway", "proxy_pass http://127.0.0.1:", "server fake 127.0.0.1:", "--upstream tcp://"]
    {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn without_a_proxy() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = selftest(&["--against", &closed, "--daemon-listen", "tcp://127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot connect to the proxy"), "{}", text(&output.stderr));
}

#[test]
fn usage() {
    for wrong in [&["--only", "no-such-case"][..], &["--against", "http://x"], &["--timeout", "1"]] {
        assert_eq!(selftest(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let list = selftest(&["--list"]);
    assert_eq!(list.status.code(), Some(0));
    let list = text(&list.stdout);
    assert!(list.contains("no-stdin") && list.contains("docker run prints nothing and exits 0"), "{list}");
    assert!(list.lines().all(|line| line.len() <= 100), "{list}");
}
