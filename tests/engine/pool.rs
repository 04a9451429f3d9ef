//! Idle connections, on both sides: when they are used again, and when they are closed; and many
//! requests at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dockline::drive::SCRATCH_BYTES;
use dockline::engine::{Route, RouteRequest, Router, Upstream};

use super::support::{
    Bed, Ending, GET, OK, Setup, accept, limits, listen, read_head, read_rest, read_until, send, tcp,
};

/// Makes an exchange on connections that are open.
fn exchange_on_both(client: &mut TcpStream, daemon: &mut TcpStream) {
    send(client, GET);
    read_head(daemon);
    send(daemon, OK);
    assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
}

#[test]
fn an_idle_connection_is_used_again_for_a_request_that_may_be_repeated() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.exchange();
    exchange_on_both(&mut client, &mut daemon);
    exchange_on_both(&mut bed.connect(), &mut daemon);
    assert_eq!(bed.workers.stats().reuses, 2);
    // A request that must not be sent twice gets a new one.
    send(&mut client, "POST /containers/x/start HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut fresh = bed.accept();
    assert!(read_head(&mut fresh).starts_with("POST "));
    send(&mut fresh, "HTTP/1.1 204 No Content\r\n\r\n");
    read_head(&mut client);
    drop((client, daemon, fresh));
    bed.close();
}

#[test]
fn several_engines_with_one_listener_count_every_request() {
    let (listener, at) = listen();
    let engine = Setup { threads: 2, ..Setup::http(vec![tcp(at)]) }.start();
    let mut client = engine.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    for _ in 0..2 {
        exchange_on_both(&mut client, &mut daemon);
    }
    engine.until("all are counted", |stats| (stats.requests, stats.connects, stats.reuses) == (3, 1, 2));
    drop((client, daemon));
    engine.close();
}

/// Makes an upstream for each request.
struct FreshUpstreams(SocketAddr);

impl Router for FreshUpstreams {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::Upstream(Arc::new(Upstream::new("fresh", vec![tcp(self.0)])))
    }
}

#[test]
fn no_connection_is_kept_to_an_upstream_that_is_gone() {
    let bed = Bed::routed(FreshUpstreams);
    let mut client = bed.connect();
    for _ in 0..3 {
        let mut daemon = bed.exchange_on(&mut client);
        assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Clean));
    }
    assert_eq!(bed.workers.stats().pooled_now, 0);
    drop(client);
    bed.close();
}

#[test]
fn an_idle_connection_that_the_daemon_closes_leaves_the_pool() {
    let bed = Bed::new();
    let (mut client, daemon) = bed.exchange();
    drop(daemon);
    bed.until("it has left", |stats| stats.pooled_now == 0);
    let daemon = bed.exchange_on(&mut client);
    assert_eq!(bed.workers.stats().reuses, 0);
    drop((client, daemon));
    bed.close();
}

/// The end of the daemon's connection and the request cross on the way.
#[test]
fn a_request_that_meets_a_closing_connection_is_sent_once_more() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.exchange();
    send(&mut client, GET);
    read_head(&mut daemon);
    drop(daemon);
    let mut second = bed.accept();
    assert!(read_head(&mut second).starts_with("GET /_ping "));
    drop(second);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
    bed.sees("exchange bad-response Some(502)");
    drop(client);
    bed.close();
}

/// When the connection is to be kept, such bytes are still in the kernel, and no event reports
/// them.
#[test]
fn bytes_behind_a_response_that_fills_the_buffer_do_not_answer_the_next_request() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.request(GET);
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let length = SCRATCH_BYTES - head(SCRATCH_BYTES).len();
    let mut response = head(length).into_bytes();
    response.resize(SCRATCH_BYTES, b'.');
    response.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled");
    daemon.write_all(&response).unwrap();
    client.read_exact(&mut vec![0; SCRATCH_BYTES]).unwrap();
    let fresh = bed.exchange_on(&mut client);
    drop((client, daemon, fresh));
    bed.close();
}

#[test]
fn bytes_behind_a_response_end_the_daemons_connection() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.request(GET);
    send(&mut daemon, &format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
    let daemon = bed.exchange_on(&mut client);
    drop((client, daemon));
    bed.close();
}

#[test]
fn bytes_on_an_idle_connection_end_it() {
    let bed = Bed::new();
    let (mut client, mut daemon) = bed.exchange();
    send(&mut daemon, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    bed.until("it has left the pool", |stats| stats.pooled_now == 0);
    // Closed, or reset because of the bytes that nobody read.
    assert_eq!(daemon.read(&mut [0]).unwrap_or(0), 0);
    let daemon = bed.exchange_on(&mut client);
    drop((client, daemon));
    bed.close();
}

/// Nothing else happens in the engine that could wake it.
#[test]
fn an_idle_connection_is_closed_after_pool_time() {
    let bed = Bed::with(limits(|limits| limits.pool_time = Duration::from_millis(100)));
    let (mut client, mut daemon) = bed.request("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    send(&mut daemon, OK);
    assert!(read_rest(&mut client).0.ends_with("OK"));
    assert_eq!(daemon.read(&mut [0]).unwrap(), 0);
    bed.close();
}

/// More requests than any queue holds, sent without reading.
#[test]
fn a_flood_of_pipelined_requests_is_answered_in_order() {
    const REQUESTS: usize = 20_000;
    let bed = Bed::new();
    let client = bed.connect();
    let mut sender = client.try_clone().unwrap();
    let flood: String = (0..REQUESTS).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let writer = thread::spawn(move || sender.write_all(flood.as_bytes()).unwrap());
    let daemon = bed.accept();
    let server = thread::spawn(move || {
        let mut daemon = BufReader::new(daemon);
        for number in 0..REQUESTS {
            let mut line = String::new();
            daemon.read_line(&mut line).unwrap();
            assert_eq!(line, format!("GET /{number} HTTP/1.1\r\n"));
            while line != "\r\n" {
                line.clear();
                daemon.read_line(&mut line).unwrap();
            }
            let body = number.to_string();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            daemon.get_mut().write_all(response.as_bytes()).unwrap();
        }
    });
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
    bed.until("all are counted", |stats| stats.requests == REQUESTS as u64);
    drop(client);
    bed.close();
}

/// One upstream after the other, each of which stays.
struct Turns(Vec<Arc<Upstream>>, AtomicUsize);

impl Router for Turns {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::Upstream(Arc::clone(&self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()]))
    }
}

#[test]
fn the_end_of_an_idle_connection_concerns_no_other_upstream() {
    let bed = Bed::routed(|at| {
        let upstream = |_| Arc::new(Upstream::new("one of three", vec![tcp(at)]));
        Turns((0..3).map(upstream).collect(), AtomicUsize::new(0))
    });
    let mut client = bed.connect();
    let mut daemons: Vec<TcpStream> = (0..3).map(|_| bed.exchange_on(&mut client)).collect();
    bed.until("all are kept", |stats| stats.pooled_now == 3);
    drop(daemons.remove(1));
    bed.until("one is gone", |stats| stats.pooled_now == 2);
    let [first, third] = &mut daemons[..] else { panic!("two are left") };
    exchange_on_both(&mut client, first);
    let second = bed.exchange_on(&mut client);
    exchange_on_both(&mut client, third);
    assert_eq!(bed.workers.stats().reuses, 2);
    drop((client, daemons, second));
    bed.close();
}
