//! Connections to an upstream: several addresses, names, and a Unix socket whose backlog is full.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use dockline::engine::Address;
use dockline::limits::Limits;
use socket2::{Domain, SockAddr, Socket, Type};

use super::support::{
    Ending, GET, OK, PATIENCE, Setup, TestEngine, answering_daemon, limits, read_head, read_until,
    refusing_address, send, tcp,
};

#[test]
fn the_next_address_is_tried_when_one_fails() {
    let live = answering_daemon();
    // Also as a name, which on most machines has a second address, where nobody listens.
    for last in [tcp(live), Address::Tcp { host: "localhost".into(), port: live.port() }] {
        let missing = Address::Unix("/nonexistent/docker.sock".into());
        let engine = Setup::http(vec![tcp(refusing_address()), missing, last]).start();
        let mut client = engine.connect();
        send(&mut client, GET);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        engine.sees("ConnectFailed");
        engine.sees("ConnectFailed");
        drop(client);
        engine.close();
    }
}

#[test]
fn the_next_address_is_tried_when_a_name_does_not_exist() {
    let name = Address::Tcp { host: "daemon.invalid".into(), port: 1 };
    let engine = Setup::http(vec![name, tcp(answering_daemon())]).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop(client);
    engine.close();
}

/// A Unix listener with room for one connection, and that connection.
pub(super) struct FullBacklog {
    pub(super) path: PathBuf,
    listener: UnixListener,
    first: Socket,
}

impl FullBacklog {
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("dockline-{name}-{}.sock", std::process::id()));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let at = SockAddr::unix(&path).unwrap();
        socket.bind(&at).unwrap();
        socket.listen(0).unwrap();
        let first = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        first.connect(&at).unwrap();
        Self { path, listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)), first }
    }

    fn engine(&self, limits: Limits) -> TestEngine {
        Setup { limits, ..Setup::http(vec![Address::Unix(self.path.clone())]) }.start()
    }
}

impl Drop for FullBacklog {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn connecting_waits_for_room_in_a_full_backlog() {
    let backlog = FullBacklog::new("waits");
    let engine = backlog.engine(Limits::default());
    let mut client = engine.connect();
    send(&mut client, GET);
    engine.until("the client is accepted", |stats| stats.accepted == 1);
    assert_eq!(engine.workers.stats().connects, 0);
    drop(backlog.listener.accept().unwrap());
    let (stream, _) = backlog.listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = String::new();
    BufReader::new(&stream).read_line(&mut head).unwrap();
    assert_eq!(head, "GET /_ping HTTP/1.1\r\n");
    drop((stream, client));
    engine.close();
}

#[test]
fn connecting_to_a_full_backlog_is_timed_out_after_connect_time() {
    let backlog = FullBacklog::new("gives-up");
    let engine = backlog.engine(limits(|limits| limits.connect_time = Duration::from_millis(100)));
    let mut client = engine.connect();
    send(&mut client, GET);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 504 "));
    engine.sees("ConnectFailed");
    engine.sees("exchange upstream-timeout Some(504)");
    drop((client, backlog.first.try_clone().unwrap()));
    engine.close();
}

#[test]
fn a_client_that_leaves_while_connecting_leaves_nothing_behind() {
    let backlog = FullBacklog::new("leaves");
    let engine = backlog.engine(Limits::default());
    let mut client = engine.connect();
    send(&mut client, GET);
    engine.until("it is accepted", |stats| stats.accepted == 1);
    Ending::Reset.close(client);
    engine.sees("exchange client-aborted None");
    engine.until("it is gone", |stats| stats.clients_now == 0);
    engine.close();
}
