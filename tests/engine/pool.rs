//! Kept connections, on both sides: when they are used again, when not, and many requests at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::support::{
    Ending, GET, Gate, OK, accept, limits, listen, read_head, read_rest, read_until, send, tcp,
};
use dockline::drive::SCRATCH_BYTES;
use dockline::engine::{ClientInfo, EngineOptions, Route, Router, Upstream};
use dockline::h1::RequestHead;

/// One request and its answer on connections that are there; both ends are played here.
fn ask(client: &mut TcpStream, daemon: &mut TcpStream) {
    send(client, GET);
    read_head(daemon);
    send(daemon, OK);
    read_head(client);
    read_until(client, "OK");
}

/// A client, and the daemon's end of a connection that has served it once and waits in the pool.
fn warmed(gate: &Gate, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = gate.connect();
    send(&mut client, GET);
    let mut daemon = accept(listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_until(&mut client, "OK\r\nContent-Length: 2\r\n\r\nOK");
    gate.until("it is kept", |stats| stats.pooled_now == 1);
    (client, daemon)
}

#[test]
fn a_connection_is_used_again_for_what_may_be_repeated() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let (mut client, mut daemon) = warmed(&gate, &listener);
    ask(&mut client, &mut daemon);
    // Another client gets it, too.
    ask(&mut gate.connect(), &mut daemon);
    assert_eq!(gate.workers.stats().reuses, 2);
    // A request that must not be sent twice gets a new one.
    send(&mut client, "POST /containers/x/start HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut fresh = accept(&listener);
    assert!(read_head(&mut fresh).starts_with("POST "));
    send(&mut fresh, "HTTP/1.1 204 No Content\r\n\r\n");
    read_head(&mut client);
    drop((client, daemon, fresh));
    gate.close();
}

/// Makes an upstream for each request.
struct Fresh(SocketAddr);

impl Router for Fresh {
    fn route(&self, _: &ClientInfo, _: &RequestHead) -> Route {
        Route::Upstream(Arc::new(Upstream::new("fresh", vec![tcp(self.0)])))
    }
}

#[test]
fn no_connection_is_kept_that_nobody_can_ask_for() {
    let (listener, at) = listen();
    let router = Arc::new(Fresh(at));
    let gate = Gate::on_threads(1, listen().0, router, limits(|_| {}), EngineOptions::default());
    let mut client = gate.connect();
    for _ in 0..3 {
        send(&mut client, GET);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        send(&mut daemon, OK);
        read_until(&mut client, "OK\r\nContent-Length: 2\r\n\r\nOK");
        assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Clean));
    }
    assert_eq!(gate.workers.stats().pooled_now, 0);
    drop(client);
    gate.close();
}

#[test]
fn a_connection_that_the_daemon_closes_leaves_the_pool() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let (mut client, daemon) = warmed(&gate, &listener);
    drop(daemon);
    gate.until("it is out", |stats| stats.pooled_now == 0);
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_until(&mut client, "\r\n\r\nOK");
    assert_eq!(gate.workers.stats().reuses, 0);
    drop((client, daemon));
    gate.close();
}

/// The daemon's end and the request cross on the way: the request goes out once more, on a new connection.
#[test]
fn a_request_that_meets_a_closing_connection_is_repeated_once() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let (mut client, mut daemon) = warmed(&gate, &listener);
    send(&mut client, GET);
    read_head(&mut daemon);
    drop(daemon);
    let mut second = accept(&listener);
    assert!(read_head(&mut second).starts_with("GET /_ping "));
    drop(second);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
    gate.sees("exchange bad-response Some(502)");
    drop(client);
    gate.close();
}

/// Bytes behind an answer that fills the read buffer to the last byte are in the kernel when the connection is to be
/// kept, and no event will tell of them. They must not be the next answer.
#[test]
fn bytes_behind_an_answer_that_fills_the_buffer_answer_nobody() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let length = SCRATCH_BYTES - head(SCRATCH_BYTES).len();
    let mut answer = head(length).into_bytes();
    answer.resize(SCRATCH_BYTES, b'.');
    answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled");
    daemon.write_all(&answer).unwrap();
    let mut got = vec![0; SCRATCH_BYTES];
    client.read_exact(&mut got).unwrap();
    send(&mut client, GET);
    let mut fresh = accept(&listener);
    read_head(&mut fresh);
    send(&mut fresh, OK);
    read_until(&mut client, "\r\n\r\nOK");
    drop((client, daemon, fresh));
    gate.close();
}

/// Nothing else happens in the engine.
#[test]
fn an_unused_connection_has_its_time() {
    let (listener, at) = listen();
    let short = limits(|limits| limits.pool_time = Duration::from_millis(100));
    let gate = Gate::with(vec![tcp(at)], short, EngineOptions::default());
    let mut client = gate.connect();
    send(&mut client, "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert!(read_rest(&mut client).0.ends_with("OK"));
    assert_eq!(daemon.read(&mut [0]).unwrap(), 0);
    gate.close();
}

/// Nobody may get them as an answer.
#[test]
fn bytes_that_nobody_asked_for_end_a_kept_connection() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let (mut client, mut daemon) = warmed(&gate, &listener);
    send(&mut daemon, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    gate.until("it is out", |stats| stats.pooled_now == 0);
    // Closed, or reset because of the bytes that nobody read.
    assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop((client, daemon));
    gate.close();
}

#[test]
fn bytes_behind_an_answer_end_the_connection_as_well() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, &format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop((client, daemon));
    gate.close();
}

/// More requests than any queue holds, sent without reading: each has its own answer, in order.
#[test]
fn a_flood_of_pipelined_requests() {
    const REQUESTS: usize = 20_000;
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let server = thread::spawn(move || {
        let mut daemon = BufReader::new(accept(&listener));
        for number in 0..REQUESTS {
            let mut line = String::new();
            daemon.read_line(&mut line).unwrap();
            assert_eq!(line, format!("GET /{number} HTTP/1.1\r\n"));
            while line != "\r\n" {
                line.clear();
                daemon.read_line(&mut line).unwrap();
            }
            let body = number.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            daemon.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    let client = gate.connect();
    let mut sender = client.try_clone().unwrap();
    let flood: String = (0..REQUESTS).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let writer = thread::spawn(move || sender.write_all(flood.as_bytes()).unwrap());
    let mut client = BufReader::new(client);
    for number in 0..REQUESTS {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            client.read_line(&mut head).unwrap();
        }
        let mut body = vec![0; number.to_string().len()];
        client.read_exact(&mut body).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), number.to_string());
    }
    writer.join().unwrap();
    server.join().unwrap();
    gate.until("all are counted", |stats| stats.requests == REQUESTS as u64);
    drop(client);
    gate.close();
}
