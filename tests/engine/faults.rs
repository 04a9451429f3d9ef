//! Daemons and clients that go away, in every phase, and a router that panics.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

use super::support::{
    ATTACH, Ending, GET, Gate, OK, SWITCHED, accept, listen, nobody, read_head, read_rest, read_until, send,
};
use dockline::engine::{ClientInfo, EngineOptions, Route, Router, Upstream};
use dockline::h1::RequestHead;
use dockline::limits::Limits;

#[test]
fn a_daemon_that_refuses() {
    let gate = Gate::to(nobody());
    let mut client = gate.connect();
    for _ in 0..2 {
        send(&mut client, GET);
        assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
        let message = read_until(&mut client, "\n");
        assert!(message.starts_with(r#"{"message":"cannot connect to the Docker daemon"#), "{message}");
        gate.sees("exchange unreachable Some(502)");
    }
    drop(client);
    gate.close();
}

/// What a daemon says before it dies, how it dies, and what becomes of it: the last words of the answer that the client
/// gets, how its connection ends, and the record.
type Death = (&'static str, Ending, &'static str, Ending, &'static str);

fn die(request: &str, (says, death, last, ending, record): Death) {
    let context = format!("{says:?} {death:?}");
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, request);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, says);
    // A reset overtakes what was not read yet.
    let mut got = if says.ends_with("half") { read_until(&mut client, "half") } else { String::new() };
    death.inflict(daemon);
    let (rest, end) = read_rest_of_answer(&mut client, &got);
    got += &rest;
    assert!(got.ends_with(last), "{context}: {got:?}");
    assert_eq!(end, ending, "{context}");
    assert!(gate.sees("exchange").starts_with(record), "{context}");
    drop(client);
    gate.close();
}

/// The engine keeps the connection after an answer that is whole.
fn read_rest_of_answer(client: &mut TcpStream, got: &str) -> (String, Ending) {
    if got.is_empty() {
        client.shutdown(Shutdown::Write).unwrap();
    }
    read_rest(client)
}

#[test]
fn a_daemon_that_dies_before_its_answer() {
    for says in
        ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HTTP/1.1 100 Continue\r\n\r\n"]
    {
        for death in Ending::BOTH {
            die(
                GET,
                (says, death, "before it responded\"}\n", Ending::Clean, "exchange bad-response Some(502)"),
            );
        }
    }
}

#[test]
fn a_daemon_that_dies_in_its_answer() {
    let cut = "exchange truncated Some(200)";
    for death in Ending::BOTH {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        die(GET, (length, death, "\r\n\r\nhalf", Ending::Clean, cut));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf";
        die(GET, (chunked, death, "4\r\nhalf\r\n", Ending::Clean, cut));
    }
}

#[test]
fn a_daemon_that_dies_in_an_answer_without_an_end() {
    let unframed = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let old = "GET / HTTP/1.0\r\nHost: x\r\n\r\n";
    let (whole, cut) = ("exchange complete Some(200)", "exchange truncated Some(200)");
    // For a client of HTTP/1.0 the end of the connection is the end of the answer: only a reset is none.
    die(old, (unframed, Ending::Clean, "\r\n\r\nhalf", Ending::Clean, whole));
    die(old, (unframed, Ending::Reset, "\r\n\r\nhalf", Ending::Reset, cut));
    die(GET, (unframed, Ending::Reset, "4\r\nhalf\r\n", Ending::Clean, cut));
}

#[test]
fn a_daemon_that_dies_in_a_tunnel() {
    for death in Ending::BOTH {
        let (listener, at) = listen();
        let gate = Gate::to(at);
        let mut client = gate.connect();
        send(&mut client, ATTACH);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        send(&mut daemon, &format!("{SWITCHED}half"));
        read_until(&mut client, "half");
        death.inflict(daemon);
        assert_eq!(read_rest(&mut client), (String::new(), death));
        drop(client);
        let record = gate.sees("tunnel");
        let reason = if death == Ending::Reset { "upstream-reset" } else { "eof" };
        assert_eq!(record, format!("tunnel {reason} 0 4"));
        gate.close();
    }
}

/// The daemon's answer counts, also when it has stopped to read.
#[test]
fn a_daemon_that_answers_and_dies_before_the_request_is_whole() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, "POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno!");
    drop(daemon);
    let answer = read_until(&mut client, "no!");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(read_rest(&mut client), (String::new(), Ending::Clean));
    gate.sees("exchange complete Some(400)");
    drop(client);
    gate.close();
}

#[test]
fn a_client_that_leaves_in_a_head() {
    for ending in Ending::BOTH {
        let (listener, at) = listen();
        listener.set_nonblocking(true).unwrap();
        let gate = Gate::to(at);
        let mut client = gate.connect();
        send(&mut client, "GET /_ping HTTP/1.1\r\nHo");
        gate.until("it was accepted", |stats| stats.clients_now == 1);
        ending.inflict(client);
        gate.until("it is gone", |stats| stats.clients_now == 0);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        gate.close();
    }
}

#[test]
fn a_client_that_leaves_while_the_daemon_thinks() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    for request in [GET, ATTACH, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = gate.connect();
        send(&mut client, request);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        Ending::Reset.inflict(client);
        assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
        gate.sees("exchange client-aborted None");
    }
    gate.close();
}

#[test]
fn a_client_that_leaves_in_its_body() {
    for (request, part) in [("Content-Length: 9", "half"), ("Transfer-Encoding: chunked", "8\r\nhalf")] {
        for ending in Ending::BOTH {
            let (listener, at) = listen();
            let gate = Gate::to(at);
            let mut client = gate.connect();
            send(&mut client, &format!("POST /build HTTP/1.1\r\nHost: x\r\n{request}\r\n\r\n{part}"));
            let mut daemon = accept(&listener);
            read_until(&mut daemon, "half");
            ending.inflict(client);
            let mut rest = Vec::new();
            let _ = daemon.read_to_end(&mut rest);
            // Nothing that would make it look whole.
            assert!(matches!(&rest[..], b"" | b"\r\n"), "{rest:?}");
            gate.sees("exchange client-aborted None");
            gate.close();
        }
    }
}

#[test]
fn a_client_that_leaves_in_the_answer() {
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let (listener, at) = listen();
        let gate = Gate::to(at);
        let mut client = gate.connect();
        send(&mut client, GET);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        send(&mut daemon, &format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        read_head(&mut client);
        let server = thread::spawn(move || {
            let block = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
            while daemon.write_all(block.as_bytes()).is_ok() {}
        });
        client.read_exact(&mut [0; 300_000]).unwrap();
        Ending::Reset.inflict(client);
        // The daemon hears of it.
        server.join().unwrap();
        gate.sees("exchange client-aborted Some(200)");
        gate.close();
    }
}

#[test]
fn a_client_that_leaves_a_tunnel() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, ATTACH);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, SWITCHED);
    read_head(&mut client);
    send(&mut client, "half");
    read_until(&mut daemon, "half");
    Ending::Reset.inflict(client);
    assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Reset));
    assert_eq!(gate.sees("tunnel"), "tunnel downstream-reset 4 0");
    gate.close();
}

/// Panics when it is asked for `/boom`.
struct Mined(Arc<Upstream>);

impl Router for Mined {
    fn route(&self, _: &ClientInfo, request: &RequestHead) -> Route {
        assert_ne!(request.target().as_bytes(), b"/boom", "as the test wants it");
        Route::Upstream(Arc::clone(&self.0))
    }
}

#[test]
fn a_panic_ends_one_connection() {
    let (listener, at) = listen();
    let router = Mined(Arc::new(Upstream::new("daemon", vec![super::support::tcp(at)])));
    let gate = Gate::routed(Arc::new(router), Limits::default(), EngineOptions::default());
    let mut other = gate.connect();
    send(&mut other, ATTACH);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, SWITCHED);
    read_head(&mut other);
    for panics in 1..=3 {
        let mut client = gate.connect();
        send(&mut client, "GET /boom HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(read_rest(&mut client).0, "");
        gate.sees("Panicked");
        gate.until("it is gone", |stats| (stats.panics, stats.clients_now) == (panics, 1));
    }
    send(&mut other, "still here");
    read_until(&mut daemon, "still here");
    let mut client = gate.connect();
    send(&mut client, GET);
    let mut second = accept(&listener);
    read_head(&mut second);
    send(&mut second, OK);
    assert!(read_until(&mut client, "OK").starts_with("HTTP/1.1 200 OK"));
    drop((client, other, daemon));
    gate.close();
}

/// What is told of a request is not what is known of the one before it.
#[test]
fn a_request_that_is_refused_after_one_that_was_not() {
    let (listener, at) = listen();
    let gate = Gate::to(at);
    let mut client = gate.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_until(&mut client, "\r\n\r\nOK");
    assert_eq!(gate.sees("exchange"), "exchange complete Some(200) daemon");
    send(&mut client, "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n");
    read_rest(&mut client);
    assert_eq!(gate.sees("exchange"), "exchange bad-request Some(400) -");
    let mut client = gate.connect();
    send(&mut client, "rubbish\r\n\r\n");
    read_rest(&mut client);
    assert_eq!(gate.sees("exchange"), "exchange bad-request Some(400) -");
    // A head that cannot be read is no request, but answered.
    let stats = gate.workers.stats();
    assert_eq!((stats.requests, stats.own_replies), (2, 2));
    drop((client, daemon));
    gate.close();
}

/// Input for a tunnel that did not come about, in the same write as the request, is not the next request.
#[test]
fn input_for_a_tunnel_that_there_is_not() {
    let create = "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let not_found = "HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno";
    for answer in [None, Some(""), Some("SSH-2.0-x\r\n"), Some(not_found), Some(OK)] {
        let (listener, at) = listen();
        let gate = match answer {
            None => Gate::to(nobody()),
            Some(_) => Gate::to(at),
        };
        let mut client = gate.connect();
        send(&mut client, &format!("{ATTACH}{create}"));
        let mut seen = String::new();
        if let Some(answer) = answer {
            let mut daemon = accept(&listener);
            read_head(&mut daemon);
            send(&mut daemon, answer);
            daemon.shutdown(Shutdown::Write).unwrap();
            seen = read_rest(&mut daemon).0;
        }
        let (got, ending) = read_rest(&mut client);
        assert_eq!((got.matches("HTTP/1.1 ").count(), ending), (1, Ending::Clean), "{answer:?}: {got}");
        assert!(got.contains("Connection: close\r\n") && seen.is_empty(), "{answer:?}: {got}, {seen}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock, "{answer:?}");
        drop(client);
        gate.close();
    }
}
