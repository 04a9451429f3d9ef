//! Daemons and clients that disappear, at every point of an exchange and of a tunnel; requests that
//! are refused; and a router that panics.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

use dockline::engine::{Route, RouteRequest, Router, Upstream};

use super::support::{
    ATTACH, Bed, Ending, GET, OK, SWITCHED, Setup, read_head, read_rest, read_until, refusing_address, send,
    tcp,
};

#[test]
fn a_daemon_that_refuses_connections_is_a_502() {
    let engine = Setup::http(vec![tcp(refusing_address())]).start();
    let mut client = engine.connect();
    for _ in 0..2 {
        send(&mut client, GET);
        assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
        let message = read_until(&mut client, "\n");
        assert!(message.starts_with(r#"{"message":"cannot connect to the Docker daemon"#), "{message}");
        engine.sees("exchange unreachable Some(502)");
    }
    drop(client);
    engine.close();
}

/// What a daemon sends before it dies, and how its connection ends.
struct Death {
    sends: &'static str,
    ending: Ending,
}

/// What follows: the last bytes that the client gets, how its connection ends, and what the
/// observer sees.
struct Consequence {
    last: &'static str,
    ending: Ending,
    record: &'static str,
}

fn daemon_dies(request: &str, death: Death, expected: Consequence) {
    let context = format!("{:?} {:?}", death.sends, death.ending);
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.request(request);
    send(&mut daemon, death.sends);
    // A reset overtakes what was not read yet.
    let mut got = if death.sends.ends_with("half") { read_until(&mut client, "half") } else { String::new() };
    death.ending.close(daemon);
    if got.is_empty() {
        // The engine keeps the connection after a complete response.
        client.shutdown(Shutdown::Write).unwrap();
    }
    let (rest, ending) = read_rest(&mut client);
    got += &rest;
    assert!(got.ends_with(expected.last), "{context}: {got:?}");
    assert_eq!(ending, expected.ending, "{context}");
    assert!(bed.sees("exchange").starts_with(expected.record), "{context}");
    drop(client);
    bed.close();
}

#[test]
fn a_daemon_that_dies_before_its_response_is_a_502() {
    for sends in
        ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HTTP/1.1 100 Continue\r\n\r\n"]
    {
        for ending in Ending::BOTH {
            let record = "exchange bad-response Some(502)";
            let expected = Consequence { last: "before it responded\"}\n", ending: Ending::Clean, record };
            daemon_dies(GET, Death { sends, ending }, expected);
        }
    }
}

#[test]
fn a_daemon_that_dies_in_its_response_leaves_it_incomplete() {
    let record = "exchange truncated Some(200)";
    for ending in Ending::BOTH {
        for (sends, last) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "\r\n\r\nhalf"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf", "4\r\nhalf\r\n"),
        ] {
            daemon_dies(GET, Death { sends, ending }, Consequence { last, ending: Ending::Clean, record });
        }
    }
}

/// For a client of HTTP/1.0 the end of the connection is the end of the response.
#[test]
fn only_a_clean_end_completes_a_response_without_a_length() {
    let sends = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let old = "GET / HTTP/1.0\r\nHost: x\r\n\r\n";
    let (complete, truncated) = ("exchange complete Some(200)", "exchange truncated Some(200)");
    for (request, death, last, ending, record) in [
        (old, Ending::Clean, "\r\n\r\nhalf", Ending::Clean, complete),
        (old, Ending::Reset, "\r\n\r\nhalf", Ending::Reset, truncated),
        (GET, Ending::Reset, "4\r\nhalf\r\n", Ending::Clean, truncated),
    ] {
        daemon_dies(request, Death { sends, ending: death }, Consequence { last, ending, record });
    }
}

#[test]
fn a_tunnel_ends_for_the_client_as_it_ends_for_the_daemon() {
    for ending in Ending::BOTH {
        let bed = Bed::new();
        let (mut client, mut daemon) = bed.request(ATTACH);
        send(&mut daemon, &format!("{SWITCHED}half"));
        read_until(&mut client, "half");
        ending.close(daemon);
        assert_eq!(read_rest(&mut client), (String::new(), ending));
        drop(client);
        let reason = if ending == Ending::Reset { "upstream-reset" } else { "eof" };
        assert_eq!(bed.sees("tunnel"), format!("tunnel {reason} 0 4"));
        bed.close();
    }
}

#[test]
fn a_response_reaches_the_client_although_the_daemon_reads_no_more() {
    let bed = Bed::new();
    let (mut client, mut daemon) =
        bed.request("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    send(&mut daemon, "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno!");
    drop(daemon);
    let response = read_until(&mut client, "no!");
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert_eq!(read_rest(&mut client), (String::new(), Ending::Clean));
    bed.sees("exchange complete Some(400)");
    drop(client);
    bed.close();
}

#[test]
fn a_client_that_leaves_in_a_head_causes_no_connection() {
    for ending in Ending::BOTH {
        let bed = Bed::new();
        let mut client = bed.connect();
        send(&mut client, "GET /_ping HTTP/1.1\r\nHo");
        bed.until("it is accepted", |stats| stats.clients_now == 1);
        ending.close(client);
        bed.until("it is gone", |stats| stats.clients_now == 0);
        bed.has_no_connection(&format!("{ending:?}"));
        bed.close();
    }
}

#[test]
fn a_client_that_leaves_before_the_response_ends_the_daemons_connection() {
    let bed = Bed::new();
    for request in [GET, ATTACH, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let (client, mut daemon) = bed.request(request);
        Ending::Reset.close(client);
        assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
        bed.sees("exchange client-aborted None");
    }
    bed.close();
}

#[test]
fn a_client_that_leaves_in_its_body_does_not_complete_it() {
    for (framing, part) in [("Content-Length: 9", "half"), ("Transfer-Encoding: chunked", "8\r\nhalf")] {
        for ending in Ending::BOTH {
            let bed = Bed::new();
            let head = format!("POST /build HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
            let (client, mut daemon) = bed.request(&format!("{head}{part}"));
            read_until(&mut daemon, "half");
            ending.close(client);
            let mut rest = Vec::new();
            let _ = daemon.read_to_end(&mut rest);
            assert!(matches!(&rest[..], b"" | b"\r\n"), "{rest:?}");
            bed.sees("exchange client-aborted None");
            bed.close();
        }
    }
}

#[test]
fn a_client_that_leaves_in_the_response_ends_the_daemons_connection() {
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let bed = Bed::new();
        let (mut client, mut daemon) = bed.request(GET);
        send(&mut daemon, &format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        read_head(&mut client);
        let server = thread::spawn(move || {
            let block = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
            while daemon.write_all(block.as_bytes()).is_ok() {}
        });
        client.read_exact(&mut [0; 300_000]).unwrap();
        Ending::Reset.close(client);
        server.join().unwrap();
        bed.sees("exchange client-aborted Some(200)");
        bed.close();
    }
}

#[test]
fn a_reset_of_the_client_resets_the_daemons_end_of_a_tunnel() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.tunnel();
    send(&mut client, "half");
    read_until(&mut daemon, "half");
    Ending::Reset.close(client);
    assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Reset));
    assert_eq!(bed.sees("tunnel"), "tunnel downstream-reset 4 0");
    bed.close();
}

/// Panics at a request for `/boom`.
struct PanickingRouter(Arc<Upstream>);

impl Router for PanickingRouter {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        assert_ne!(request.head().target().as_bytes(), b"/boom", "the test wants a panic");
        Route::Upstream(Arc::clone(&self.0))
    }
}

#[test]
fn a_panic_ends_one_session_only() {
    let bed = Bed::routed(|at| PanickingRouter(Arc::new(Upstream::new("daemon", vec![tcp(at)]))));
    let (mut other, mut daemon) = bed.tunnel();
    for panics in 1..=3 {
        let mut client = bed.connect();
        send(&mut client, "GET /boom HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(read_rest(&mut client).0, "");
        bed.sees("Panicked");
        bed.until("it is gone", |stats| (stats.panics, stats.clients_now) == (panics, 1));
    }
    send(&mut other, "still here");
    read_until(&mut daemon, "still here");
    let (mut client, mut second) = bed.request(GET);
    send(&mut second, OK);
    assert!(read_until(&mut client, "OK").starts_with("HTTP/1.1 200 OK"));
    drop((client, other, daemon));
    bed.close();
}

#[test]
fn the_record_of_a_refused_request_has_nothing_of_the_request_before() {
    let bed = Bed::new();
    let (mut client, daemon) = bed.exchange();
    assert_eq!(bed.sees("exchange"), "exchange complete Some(200) daemon");
    send(&mut client, "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n");
    read_rest(&mut client);
    assert_eq!(bed.sees("exchange"), "exchange bad-request Some(400) -");
    let mut client = bed.connect();
    send(&mut client, "rubbish\r\n\r\n");
    read_rest(&mut client);
    assert_eq!(bed.sees("exchange"), "exchange bad-request Some(400) -");
    // A head that cannot be parsed is not counted as a request, but gets a reply.
    let stats = bed.workers.stats();
    assert_eq!((stats.requests, stats.own_replies), (2, 2));
    drop((client, daemon));
    bed.close();
}

/// A client that asks for a switch may send its input in the same write.
#[test]
fn bytes_behind_a_request_to_switch_are_not_a_request_if_there_is_no_switch() {
    let create = "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let request = format!("{ATTACH}{create}");
    let is_refused = |client: &mut TcpStream, context: &str| {
        let (got, ending) = read_rest(client);
        assert_eq!((got.matches("HTTP/1.1 ").count(), ending), (1, Ending::Clean), "{context}: {got}");
        assert!(got.contains("Connection: close\r\n"), "{context}: {got}");
    };
    let not_found = "HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno";
    for response in ["", "SSH-2.0-x\r\n", not_found, OK] {
        let bed = Bed::new();
        let (mut client, mut daemon) = bed.request(&request);
        send(&mut daemon, response);
        daemon.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut daemon).0, "", "{response:?}");
        is_refused(&mut client, response);
        bed.has_no_connection(response);
        drop(client);
        bed.close();
    }
    let engine = Setup::http(vec![tcp(refusing_address())]).start();
    let mut client = engine.connect();
    send(&mut client, &request);
    is_refused(&mut client, "no daemon");
    drop(client);
    engine.close();
}
