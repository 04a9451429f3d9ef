//! An engine that runs out of file descriptors.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use dockline::engine::EngineOptions;

use super::support::{
    GET, OK, PATIENCE, Setup, answering_daemon, patient, read_reply_or_ok, read_until, send, tcp, until,
};

/// Set for the process with few descriptors: the address of its daemon.
const CHILD: &str = "DOCKLINE_TEST_DAEMON";

/// Not a test by itself: an engine in a process with few descriptors. It prints its address, then
/// what it sees.
#[test]
fn engine_with_few_descriptors() {
    let Ok(daemon) = env::var(CHILD) else { return };
    let options = EngineOptions { connections: Some(1000), ..EngineOptions::default() };
    let engine = Setup { options, ..Setup::http(vec![tcp(daemon.parse().unwrap())]) }.start();
    println!("at {}", engine.at);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The end of standard input is the end of the test.
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
        loop {
            println!("{}", engine.sees(""));
        }
    });
}

/// Reads the lines of a child in a thread.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits for a line with these words, and returns what follows them.
fn wait_for(lines: &Receiver<String>, words: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never printed: {words}"));
        if let Some((_, rest)) = line.split_once(words) {
            return rest.to_owned();
        }
    }
}

#[test]
fn without_descriptors_clients_wait_and_are_served_later() {
    const CLIENTS: usize = 60;
    let mut child = Command::new("sh")
        .args(["-c", r#"ulimit -n 40; exec "$0" "$@""#])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "descriptors::engine_with_few_descriptors", "--nocapture"])
        .env(CHILD, answering_daemon().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = lines(child.stdout.take().unwrap());
    let at = wait_for(&printed, "at ");
    // Each keeps its connection: the first ones take all descriptors.
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| patient(TcpStream::connect(&at).unwrap())).collect();
    for client in &mut clients {
        send(client, GET);
    }
    wait_for(&printed, "AcceptFailed");
    // There is none for a new connection to the daemon either, and the client gets a reply that
    // says so.
    read_reply_or_ok(&mut clients[0]);
    until("a client is refused", || {
        send(&mut &clients[0], "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        read_reply_or_ok(&mut &clients[0]).contains("out of connections")
    });
    wait_for(&printed, "OutOfResources { errno: Some(24) }");
    send(&mut clients[0], GET);
    // As those that were served leave, the others are accepted: none is forgotten.
    for mut client in clients {
        read_reply_or_ok(&mut client);
    }
    let mut client = patient(TcpStream::connect(&at).unwrap());
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop(child.stdin.take());
    child.wait().unwrap();
}
