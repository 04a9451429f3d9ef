//! What an operator ends: tunnels, and requests in each of their states.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;

use dockline::engine::{
    Address, Destination, Kill, OpenTunnel, Pair, Route, RouteRequest, Router, Service, Upstream,
};
use dockline::proxy::Reply;

use super::super::connecting::FullBacklog;
use super::super::support::{
    ATTACH, Bed, Ending, GET, OK, PATIENCE, SWITCHED, Setup, TestEngine, accept, listen_with_buffers,
    read_head, read_rest, read_until, send, tcp, until,
};
use super::{Fixed, upstream};

/// Ends what is meant on all engines. Returns how many there were.
fn kill(engine: &TestEngine, what: &Kill) -> usize {
    let (sender, count) = channel();
    for handle in engine.workers.handles() {
        let sender = sender.clone();
        handle.kill(what.clone(), move |count| sender.send(count).unwrap());
    }
    (0..engine.workers.handles().len()).map(|_| count.recv_timeout(PATIENCE).unwrap()).sum()
}

fn tunnels(engine: &TestEngine) -> Vec<OpenTunnel> {
    let (sender, tunnels) = channel();
    for handle in engine.workers.handles() {
        let sender = sender.clone();
        handle.tunnels(move |tunnels| sender.send(tunnels).unwrap());
    }
    (0..engine.workers.handles().len()).flat_map(|_| tunnels.recv_timeout(PATIENCE).unwrap()).collect()
}

/// A daemon behind an engine by the route `app`, and its upstream.
fn bed() -> (Bed, Arc<Upstream>) {
    let mut made = None;
    let bed = Bed::routed(|at| {
        let upstream = Arc::clone(made.insert(upstream("daemon", tcp(at))));
        Fixed(Destination { route: Some("app".into()), ..Destination::new(upstream) })
    });
    (bed, made.unwrap())
}

/// Everything that means a request or tunnel of the bed.
fn all_of(upstream: &Arc<Upstream>) -> [Kill; 3] {
    [Kill::Upstream(Arc::clone(upstream)), Kill::Route("app".into()), Kill::Listener("test".into())]
}

/// What is like it, and means nothing here.
fn others() -> [Kill; 5] {
    [
        Kill::Tunnel(u64::MAX),
        Kill::Upstream(upstream("daemon", Address::Unix("/x".into()))),
        Kill::Route("ap".into()),
        Kill::Identity("app".into()),
        Kill::Listener("tes".into()),
    ]
}

#[test]
fn a_tunnel_is_ended_by_its_number() {
    let (bed, _) = bed();
    let (mut one, mut end) = bed.tunnel();
    let (mut two, mut other_end) = bed.tunnel();
    let listed = tunnels(&bed);
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|tunnel| tunnel.route.as_deref() == Some("app")), "{listed:?}");
    let peer = one.local_addr().unwrap();
    let id = listed.iter().find(|tunnel| tunnel.peer == dockline::engine::PeerAddr::Ip(peer)).unwrap().id;
    for kill_other in others() {
        assert_eq!(kill(&bed, &kill_other), 0, "{kill_other:?}");
    }
    assert_eq!(kill(&bed, &Kill::Tunnel(id)), 1);
    assert_eq!(read_rest(&mut one), (String::new(), Ending::Reset));
    assert_eq!(read_rest(&mut end), (String::new(), Ending::Reset));
    assert_eq!(bed.sees("tunnel"), "tunnel killed 0 0 by app /containers/x/attach");
    assert_eq!(kill(&bed, &Kill::Tunnel(id)), 0, "it is gone");
    send(&mut two, "still here");
    read_until(&mut other_end, "still here");
    drop((two, other_end));
    bed.close();
}

#[test]
fn numbers_of_tunnels_are_unique_over_engines() {
    let upstream = upstream("daemon", Address::Unix("/nonexistent".into()));
    let one = Setup { threads: 2, ..Setup::routed(Arc::new(Arc::clone(&upstream))) }.start();
    let other = Setup::routed(Arc::new(upstream)).start();
    let mut ends = Vec::new();
    for engine in [&one, &one, &one, &one, &other] {
        let ((a, downstream), (b, up)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        ends.push((a, b));
        engine.workers.adopt(Pair {
            downstream: downstream.into(),
            upstream: up.into(),
            downstream_early: Vec::new(),
            upstream_early: Vec::new(),
            name: "pair".into(),
        });
    }
    one.until("they are open", |stats| stats.tunnels_now == 4);
    other.until("it is open", |stats| stats.tunnels_now == 1);
    let mut ids: Vec<u64> =
        tunnels(&one).into_iter().chain(tunnels(&other)).map(|tunnel| tunnel.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    drop(ends);
    one.close();
    other.close();
}

#[test]
fn tunnels_are_ended_by_what_they_have_in_common() {
    for which in 0..3 {
        let (bed, upstream) = bed();
        let mut ends: Vec<_> = (0..3).map(|_| bed.tunnel()).collect();
        assert_eq!(kill(&bed, &all_of(&upstream)[which]), 3);
        for (client, daemon) in &mut ends {
            assert_eq!(read_rest(client), (String::new(), Ending::Reset));
            assert_eq!(read_rest(daemon), (String::new(), Ending::Reset));
        }
        until("nothing is in flight", || upstream.in_flight().is_zero());
        drop(ends);
        bed.close();
    }
}

#[test]
fn a_request_without_a_response_gets_503_and_the_connection_goes_on() {
    for which in 0..3 {
        let (bed, upstream) = bed();
        let (mut client, mut daemon) = bed.request(GET);
        for kill_other in others() {
            assert_eq!(kill(&bed, &kill_other), 0, "{kill_other:?}");
        }
        assert_eq!(kill(&bed, &all_of(&upstream)[which]), 1);
        assert!(read_head(&mut client).starts_with("HTTP/1.1 503 "));
        read_until(&mut client, "}\n");
        assert_eq!(read_rest(&mut daemon), (String::new(), Ending::Clean), "the daemon is left");
        assert_eq!(bed.sees("exchange"), "exchange stopped Some(503) daemon by app /_ping");
        assert_eq!(kill(&bed, &all_of(&upstream)[which]), 0, "it is over");
        let daemon = bed.exchange_on(&mut client);
        drop((client, daemon));
        bed.close();
    }
}

#[test]
fn a_response_that_has_begun_is_cut_so_that_it_does_not_look_whole() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n";
    let (new, old) = (GET, "GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n");
    for (request, head, ending) in
        [(new, length, Ending::Clean), (new, chunks, Ending::Clean), (old, chunks, Ending::Reset)]
    {
        let (bed, upstream) = bed();
        let (mut client, mut daemon) = bed.request(request);
        send(&mut daemon, &format!("{head}four"));
        read_until(&mut client, "four");
        assert_eq!(kill(&bed, &Kill::Upstream(upstream)), 1);
        let (rest, end) = read_rest(&mut client);
        assert!(end == ending && !rest.contains("0\r\n\r\n"), "{head} {rest} {end:?}");
        read_rest(&mut daemon);
        assert_eq!(bed.sees("exchange"), "exchange stopped Some(200) daemon by app /_ping");
        drop(client);
        bed.close();
    }
}

#[test]
fn a_request_whose_body_is_on_its_way_gets_503() {
    let (bed, upstream) = bed();
    let (mut client, mut daemon) =
        bed.request("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
    read_until(&mut daemon, "half");
    assert_eq!(kill(&bed, &Kill::Upstream(upstream)), 1);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 503 "));
    read_until(&mut client, "}\n");
    read_rest(&mut daemon);
    drop(client);
    bed.close();
}

#[test]
fn a_request_that_is_connecting_gets_503() {
    let backlog = FullBacklog::new("killed");
    let slow = upstream("slow", Address::Unix(backlog.path.clone()));
    let engine = Setup::routed(Arc::new(Arc::clone(&slow))).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    until("it connects", || slow.in_flight().requests == 1);
    assert_eq!(kill(&engine, &Kill::Upstream(Arc::clone(&slow))), 1);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 503 "));
    engine.sees("exchange stopped Some(503) slow");
    until("nothing is in flight", || slow.in_flight().is_zero());
    drop(client);
    engine.close();
}

/// Decides never.
struct Undecided;

impl Router for Undecided {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::Later { time: PATIENCE, otherwise: Reply::error(404, "nobody knows") }
    }
}

#[test]
fn a_request_that_waits_for_a_decision_gets_503() {
    let engine = Setup::routed(Arc::new(Undecided)).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    until("it waits", || kill(&engine, &Kill::Listener("test".into())) == 1);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 503 "));
    engine.sees("exchange stopped Some(503) -");
    drop(client);
    engine.close();
}

#[test]
fn a_forwarded_connection_that_waits_for_its_upstream_is_reset() {
    let backlog = FullBacklog::new("killed-forward");
    let slow = upstream("slow", Address::Unix(backlog.path.clone()));
    let setup = Setup { service: Service::Forward(Arc::clone(&slow)), ..Setup::forward(Vec::new()) };
    let engine = setup.start();
    let mut client = engine.connect();
    until("it connects", || slow.in_flight().tunnels == 1);
    assert_eq!(kill(&engine, &Kill::Upstream(Arc::clone(&slow))), 1);
    assert_eq!(read_rest(&mut client), (String::new(), Ending::Reset));
    assert!(engine.sees("ForwardFailed").contains("side: Proxy, phase: Connect, cause: Killed"));
    until("nothing is in flight", || slow.in_flight().is_zero());
    engine.close();
}

#[test]
fn connections_between_requests_stay_open() {
    let (bed, upstream) = bed();
    let (mut client, mut daemon) = bed.exchange();
    for what in all_of(&upstream) {
        assert_eq!(kill(&bed, &what), 0);
    }
    send(&mut client, GET);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    read_until(&mut client, "\r\n\r\nOK");
    drop((client, daemon));
    bed.close();
}

/// The head of the tunnel waits in the engine, because the client does not read: it must not see a
/// clean end behind it.
#[test]
fn a_tunnel_whose_head_is_not_delivered_yet_is_ended_as_one() {
    let mut made = None;
    let (listener, at) = listen_with_buffers(4096);
    let destination = Destination::new(Arc::clone(made.insert(upstream("daemon", tcp(at)))));
    let setup = Setup::routed(Arc::new(Fixed(destination)));
    let engine = Setup { listener: listen_with_buffers(4096).0, ..setup }.start();
    let mut client = small(&engine);
    send(&mut client, ATTACH);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    let filler = format!("X-Filler: {}\r\n", ".".repeat(60_000));
    send(&mut daemon, &SWITCHED.replace("\r\n\r\n", &format!("\r\n{filler}\r\n")));
    read_until(&mut client, "101");
    let upstream = made.unwrap();
    assert_eq!(kill(&engine, &Kill::Upstream(Arc::clone(&upstream))), 1);
    let end = read_rest(&mut client).1;
    assert_eq!(end, Ending::Reset);
    drop(daemon);
    until("nothing is in flight", || upstream.in_flight().is_zero());
    engine.close();
}

/// Connects with a small buffer.
fn small(engine: &TestEngine) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&engine.at.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
