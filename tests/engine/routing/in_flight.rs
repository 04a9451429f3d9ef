//! How many requests and tunnels an upstream has, whatever becomes of them.

use std::sync::{Arc, Mutex};

use dockline::engine::{Address, Destination, InFlight, Route, RouteRequest, Router, Upstream};

use super::super::connecting::FullBacklog;
use super::super::support::{
    ATTACH, Bed, Ending, GET, OK, SWITCHED, Setup, accept, limits, listen, read_head, read_rest, read_until,
    refusing_address, send, tcp, until,
};
use super::{Fixed, upstream};

/// A daemon behind an engine, and its upstream.
fn bed() -> (Bed, Arc<Upstream>) {
    let mut made = None;
    let bed = Bed::routed(|at| Fixed(Destination::new(Arc::clone(made.insert(upstream("daemon", tcp(at)))))));
    (bed, made.unwrap())
}

fn count(upstream: &Upstream, requests: u32, tunnels: u32) {
    let expected = InFlight { requests, tunnels };
    until(&format!("{expected:?}"), || upstream.in_flight() == expected);
}

#[test]
fn requests_and_tunnels_count_until_they_end() {
    let (bed, upstream) = bed();
    let (mut one, mut daemon) = bed.request(GET);
    count(&upstream, 1, 0);
    let (two, second) = bed.request(GET);
    count(&upstream, 2, 0);
    let (three, tunnel) = bed.tunnel();
    count(&upstream, 2, 1);
    send(&mut daemon, OK);
    read_until(&mut one, "\r\n\r\nOK");
    count(&upstream, 1, 1);
    drop((three, tunnel));
    count(&upstream, 1, 0);
    Ending::Reset.close(two);
    count(&upstream, 0, 0);
    // A kept connection, of either side, is not in flight.
    bed.until("it is kept", |stats| (stats.clients_now, stats.pooled_now) == (1, 1));
    drop((one, daemon, second));
    bed.close();
}

#[test]
fn however_a_request_ends_it_is_no_longer_in_flight() {
    type Ends = fn(&Bed, &mut std::net::TcpStream, std::net::TcpStream);
    let endings: [(&str, Ends); 6] = [
        ("whole", |_, client, mut daemon| {
            send(&mut daemon, OK);
            read_until(client, "\r\n\r\nOK");
        }),
        ("no response", |_, client, daemon| {
            drop(daemon);
            assert!(read_head(client).starts_with("HTTP/1.1 502 "));
        }),
        ("malformed response", |_, client, mut daemon| {
            send(&mut daemon, "rubbish\r\n\r\n");
            assert!(read_head(client).starts_with("HTTP/1.1 502 "));
        }),
        ("cut response", |_, client, mut daemon| {
            send(&mut daemon, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour");
            read_until(client, "four");
            drop(daemon);
            assert_eq!(read_rest(client).0, "");
        }),
        ("reset", |_, _, daemon| Ending::Reset.close(daemon)),
        ("stopped", |bed, client, _daemon| {
            bed.workers.stop();
            read_rest(client);
        }),
    ];
    for (what, end) in endings {
        let (bed, upstream) = bed();
        let (mut client, daemon) = bed.request("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        count(&upstream, 1, 0);
        end(&bed, &mut client, daemon);
        until(what, || upstream.in_flight().is_zero());
        drop(client);
        bed.close();
    }
}

/// The count goes with the upstream that is tried.
#[test]
fn only_the_upstream_that_is_tried_has_the_request() {
    let backlog = FullBacklog::new("counted");
    let refusing = upstream("refusing", tcp(refusing_address()));
    let slow = upstream("slow", Address::Unix(backlog.path.clone()));
    let others = vec![Arc::clone(&slow)];
    let router = Fixed(Destination { others, ..Destination::new(Arc::clone(&refusing)) });
    let engine = Setup::routed(Arc::new(router)).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    count(&slow, 1, 0);
    count(&refusing, 0, 0);
    Ending::Reset.close(client);
    count(&slow, 0, 0);
    engine.close();
}

#[test]
fn a_retry_counts_once() {
    let (bed, upstream) = bed();
    let (mut client, mut daemon) = bed.exchange();
    count(&upstream, 0, 0);
    send(&mut client, GET);
    read_head(&mut daemon);
    drop(daemon);
    let mut daemon = bed.accept();
    read_head(&mut daemon);
    count(&upstream, 1, 0);
    send(&mut daemon, OK);
    read_until(&mut client, "\r\n\r\nOK");
    count(&upstream, 0, 0);
    drop((client, daemon));
    bed.close();
}

/// Panics when it is asked for the second time, on the same connection.
struct PanicsLater(Mutex<u32>, Arc<Upstream>);

impl Router for PanicsLater {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        let mut asked = self.0.lock().unwrap();
        *asked += 1;
        assert_eq!(*asked, 1, "on purpose");
        drop(asked);
        Route::Upstream(Arc::clone(&self.1))
    }
}

#[test]
fn a_panic_leaves_nothing_in_flight() {
    let (listener, at) = listen();
    let upstream = upstream("daemon", tcp(at));
    let engine = Setup::routed(Arc::new(PanicsLater(Mutex::new(0), Arc::clone(&upstream)))).start();
    let mut client = engine.connect();
    send(&mut client, &format!("{GET}{GET}"));
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    count(&upstream, 1, 0);
    send(&mut daemon, OK);
    engine.sees("Panicked");
    count(&upstream, 0, 0);
    drop((client, daemon));
    engine.close();
}

#[test]
fn a_forwarded_connection_counts_as_a_tunnel_from_its_beginning() {
    let backlog = FullBacklog::new("forwarded");
    let upstream = upstream("daemon", Address::Unix(backlog.path.clone()));
    let service = dockline::engine::Service::Forward(Arc::clone(&upstream));
    let setup = Setup { service, ..Setup::forward(Vec::new()) };
    let engine = setup.start();
    let client = engine.connect();
    count(&upstream, 0, 1);
    Ending::Reset.close(client);
    count(&upstream, 0, 0);
    engine.close();
}

#[test]
fn a_tunnel_counts_until_it_ends_however_it_ends() {
    for ending in Ending::BOTH {
        let (bed, upstream) = bed();
        let (mut client, mut daemon) = bed.request(ATTACH);
        count(&upstream, 1, 0);
        send(&mut daemon, SWITCHED);
        read_head(&mut client);
        count(&upstream, 0, 1);
        ending.close(client);
        drop(daemon);
        count(&upstream, 0, 0);
        bed.close();
    }
    // And if its engine stops.
    let (bed, upstream) = bed();
    let (client, daemon) = bed.tunnel();
    count(&upstream, 0, 1);
    bed.workers.stop();
    count(&upstream, 0, 0);
    drop((client, daemon));
    bed.close();
}

/// The route of this listener has changed.
struct Swapped(Mutex<Arc<Upstream>>);

impl Router for Swapped {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::Upstream(Arc::clone(&self.0.lock().unwrap()))
    }
}

/// Long before they would expire.
#[test]
fn idle_connections_of_an_upstream_that_was_dropped_are_closed_soon() {
    let ((listener, at), (_next, other)) = (listen(), listen());
    let router = Arc::new(Swapped(Mutex::new(upstream("old", tcp(at)))));
    let limits = limits(|limits| limits.pool_time = std::time::Duration::from_secs(3600));
    let engine = Setup { limits, ..Setup::routed(Arc::clone(&router) as Arc<dyn Router>) }.start();
    let mut client = engine.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_until(&mut client, "\r\n\r\nOK");
    engine.until("it is kept", |stats| stats.pooled_now == 1);
    *router.0.lock().unwrap() = upstream("new", tcp(other));
    assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Clean));
    engine.until("it is gone", |stats| stats.pooled_now == 0);
    drop(client);
    engine.close();
}
