//! Requests that wait for a decision.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dockline::engine::{ClientInfo, Decider, PeerAddr, Route, RouteRequest, Router, Upstream};
use dockline::h1::{HostPolicy, RequestHeadReader};
use dockline::limits::Limits;
use dockline::proxy::Reply;

use super::super::support::{
    Ending, GET, OK, PATIENCE, Setup, TestEngine, accept, answering_daemon, listen, read_head, read_rest,
    read_until, refusing_address, send, tcp, until,
};
use super::{app, upstream};

/// Lets the test decide, and what is left to the time.
struct Deferring {
    deciders: Mutex<SyncSender<(Decider, Duration)>>,
    time: Duration,
}

impl Router for Deferring {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        self.deciders.lock().unwrap().send((request.defer(), request.waited())).unwrap();
        Route::Later { time: self.time, otherwise: Reply::error(404, "nobody knows") }
    }
}

/// An engine whose requests wait for the test.
struct Waiting {
    engine: TestEngine,
    deciders: Receiver<(Decider, Duration)>,
}

impl Waiting {
    fn new(time: Duration) -> Self {
        Self::on(1, time)
    }

    fn on(threads: usize, time: Duration) -> Self {
        let (sender, deciders) = sync_channel(100);
        let router = Deferring { deciders: Mutex::new(sender), time };
        Self { engine: Setup { threads, ..Setup::routed(Arc::new(router)) }.start(), deciders }
    }

    /// Waits until a request waits.
    fn decider(&self) -> Decider {
        let (decider, _) = self.deciders.recv_timeout(PATIENCE).unwrap();
        until("it waits", || decider.is_waiting());
        decider
    }

    fn ask(&self) -> (TcpStream, Decider) {
        let mut client = self.engine.connect();
        send(&mut client, GET);
        (client, self.decider())
    }
}

fn teapot() -> Route {
    Route::Reply(Reply::error(418, "short and stout"))
}

fn status(client: &mut TcpStream) -> String {
    let head = read_head(client);
    read_until(client, if head.starts_with("HTTP/1.1 200") { "OK" } else { "}\n" });
    head["HTTP/1.1 ".len()..][..3].to_owned()
}

#[test]
fn each_decision_is_followed() {
    let bed = Waiting::new(PATIENCE);
    let live = tcp(answering_daemon());
    let (mut client, decider) = bed.ask();
    decider.decide(Route::Upstream(upstream("docker", live.clone())));
    assert_eq!(status(&mut client), "200");
    assert_eq!(bed.engine.sees("exchange"), "exchange complete Some(200) docker");
    send(&mut client, GET);
    bed.decider().decide(Route::To(app([tcp(refusing_address()), live])));
    assert_eq!(status(&mut client), "200");
    assert_eq!(bed.engine.sees("exchange"), "exchange complete Some(200) 1 by app /_ping");
    send(&mut client, GET);
    bed.decider().decide(teapot());
    assert_eq!(status(&mut client), "418");
    assert_eq!(bed.engine.sees("exchange"), "exchange replied Some(418) -");
    send(&mut client, GET);
    let pause = Route::Later { time: Duration::ZERO, otherwise: Reply::error(410, "gone") };
    bed.decider().decide(pause);
    assert_eq!(status(&mut client), "410");
    drop(client);
    bed.engine.close();
}

#[test]
fn a_decider_that_is_dropped_ends_the_wait_with_503() {
    let bed = Waiting::new(PATIENCE);
    let (mut client, decider) = bed.ask();
    drop(decider);
    assert_eq!(status(&mut client), "503");
    drop(client);
    bed.engine.close();
}

#[test]
fn the_other_reply_is_sent_when_the_time_is_up() {
    let bed = Waiting::new(Duration::from_millis(100));
    let (mut client, decider) = bed.ask();
    assert_eq!(status(&mut client), "404");
    assert!(!decider.is_waiting());
    // The next request of the same connection waits now, for another decision.
    send(&mut client, GET);
    let next = bed.decider();
    decider.decide(teapot());
    assert_eq!(status(&mut client), "404");
    drop((client, next));
    bed.engine.close();
}

#[test]
fn a_decision_for_an_earlier_request_does_not_count_for_the_next() {
    let bed = Waiting::new(PATIENCE);
    let (mut client, first) = bed.ask();
    first.decide(teapot());
    assert_eq!(status(&mut client), "418");
    send(&mut client, GET);
    let second = bed.decider();
    assert!(second.is_waiting());
    second.decide(Route::Reply(Reply::error(410, "gone")));
    assert_eq!(status(&mut client), "410");
    drop(client);
    bed.engine.close();
}

#[test]
fn a_client_that_leaves_is_noticed_while_its_request_waits() {
    let bed = Waiting::new(PATIENCE);
    let (listener, at) = listen();
    let (client, decider) = bed.ask();
    Ending::Reset.close(client);
    bed.engine.sees("exchange client-aborted None -");
    until("it does not wait", || !decider.is_waiting());
    let upstream = upstream("docker", tcp(at));
    decider.decide(Route::Upstream(Arc::clone(&upstream)));
    // Served behind that decision, if it had any effect.
    let (mut other, decider) = bed.ask();
    decider.decide(teapot());
    assert_eq!(status(&mut other), "418");
    assert_eq!((bed.engine.workers.stats().connects, Arc::strong_count(&upstream)), (0, 1));
    drop((other, listener));
    bed.engine.close();
}

/// A request that was received whole has an effect even if its client is gone, as without a proxy.
#[test]
fn a_request_whose_client_has_half_closed_is_served() {
    let bed = Waiting::new(PATIENCE);
    let (mut client, decider) = bed.ask();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    decider.decide(Route::Upstream(upstream("docker", tcp(answering_daemon()))));
    assert!(read_rest(&mut client).0.ends_with("OK"));
    bed.engine.close();
}

#[test]
fn a_body_waits_with_its_request() {
    let bed = Waiting::new(PATIENCE);
    let (listener, at) = listen();
    let mut client = bed.engine.connect();
    send(&mut client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
    let decider = bed.decider();
    send(&mut client, "half");
    decider.decide(Route::Upstream(upstream("docker", tcp(at))));
    let mut daemon = accept(&listener);
    read_until(&mut daemon, "\r\n\r\nhalfhalf");
    send(&mut daemon, OK);
    assert_eq!(status(&mut client), "200");
    drop((client, daemon));
    bed.engine.close();
}

#[test]
fn decisions_reach_the_engine_of_their_session() {
    let bed = Waiting::on(2, PATIENCE);
    let upstream = upstream("docker", tcp(answering_daemon()));
    let waiting: Vec<_> = (0..20).map(|_| bed.ask()).collect();
    let shares: Vec<u64> =
        bed.engine.workers.handles().iter().map(|handle| handle.stats().clients_now).collect();
    assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    let (clients, deciders): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
    let route = Arc::clone(&upstream);
    let decide =
        move || deciders.into_iter().for_each(|decider| decider.decide(Route::Upstream(Arc::clone(&route))));
    thread::spawn(decide).join().unwrap();
    for mut client in clients {
        assert_eq!(status(&mut client), "200");
    }
    until("nothing is in flight", || upstream.in_flight().is_zero());
    bed.engine.close();
}

#[test]
fn a_draining_engine_waits_for_decisions() {
    let bed = Waiting::new(PATIENCE);
    let (mut client, decider) = bed.ask();
    bed.engine.workers.drain(None);
    decider.decide(Route::Upstream(upstream("docker", tcp(answering_daemon()))));
    assert!(read_rest(&mut client).0.ends_with("OK"));
    drop(client);
    bed.engine.close();
}

#[test]
fn an_engine_that_stops_ends_the_wait() {
    let bed = Waiting::new(PATIENCE);
    let (mut client, decider) = bed.ask();
    bed.engine.workers.stop();
    assert_eq!(read_rest(&mut client).0, "");
    until("it does not wait", || !decider.is_waiting());
    decider.decide(teapot());
    bed.engine.close();
}

/// Sends requests on once there is an upstream.
#[derive(Default)]
struct Holding {
    upstream: Mutex<Option<Arc<Upstream>>>,
    held: Mutex<Vec<Decider>>,
    waits: Mutex<Vec<Duration>>,
}

impl Router for Holding {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        self.waits.lock().unwrap().push(request.waited());
        if let Some(upstream) = &*self.upstream.lock().unwrap() {
            return Route::Upstream(Arc::clone(upstream));
        }
        self.held.lock().unwrap().push(request.defer());
        Route::Later { time: PATIENCE.saturating_sub(request.waited()), otherwise: Reply::error(503, "no") }
    }
}

#[test]
fn the_router_is_asked_again_when_a_decider_says_so() {
    let router = Arc::new(Holding::default());
    let engine = Setup::routed(Arc::clone(&router) as Arc<dyn Router>).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    let again = |times: usize| {
        until("it waits", || router.held.lock().unwrap().iter().any(Decider::is_waiting));
        assert_eq!(router.waits.lock().unwrap().len(), times);
        let held = std::mem::take(&mut *router.held.lock().unwrap());
        held.into_iter().for_each(Decider::again);
    };
    again(1);
    until("it was asked again", || router.waits.lock().unwrap().len() == 2);
    *router.upstream.lock().unwrap() = Some(upstream("docker", tcp(answering_daemon())));
    again(2);
    assert_eq!(status(&mut client), "200");
    let waits = router.waits.lock().unwrap().clone();
    assert!(waits[0].is_zero() && !waits[1].is_zero() && waits[2] >= waits[1], "{waits:?}");
    drop(client);
    engine.close();
}

/// Uses a decider of the first wait when it is asked again, and defers once more.
struct Late {
    first: Mutex<Option<Decider>>,
    deciders: Mutex<SyncSender<Decider>>,
}

impl Router for Late {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let mut first = self.first.lock().unwrap();
        match first.take() {
            None => *first = Some(request.defer()),
            Some(late) => late.decide(teapot()),
        }
        self.deciders.lock().unwrap().send(request.defer()).unwrap();
        Route::Later { time: PATIENCE, otherwise: Reply::error(404, "nobody knows") }
    }
}

#[test]
fn a_decision_of_a_wait_that_is_over_does_not_count_for_the_next() {
    let (sender, deciders) = sync_channel(1);
    let router = Late { first: Mutex::new(None), deciders: Mutex::new(sender) };
    let engine = Setup::routed(Arc::new(router)).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    deciders.recv_timeout(PATIENCE).unwrap().again();
    let second = deciders.recv_timeout(PATIENCE).unwrap();
    // Behind the late decision in the inbox.
    second.decide(Route::Reply(Reply::error(410, "gone")));
    assert_eq!(status(&mut client), "410");
    drop(client);
    engine.close();
}

/// Defers twice, and keeps one of the deciders.
struct Twice(Mutex<SyncSender<[Decider; 2]>>);

impl Router for Twice {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        self.0.lock().unwrap().send([request.defer(), request.defer()]).unwrap();
        Route::Later { time: PATIENCE, otherwise: Reply::error(404, "nobody knows") }
    }
}

#[test]
fn the_first_of_several_deciders_decides() {
    let (sender, deciders) = sync_channel(1);
    let engine = Setup::routed(Arc::new(Twice(Mutex::new(sender)))).start();
    let mut client = engine.connect();
    for _ in 0..2 {
        send(&mut client, GET);
        let [one, other] = deciders.recv_timeout(PATIENCE).unwrap();
        until("it waits", || one.is_waiting() && other.is_waiting());
        other.decide(teapot());
        assert_eq!(status(&mut client), "418");
        assert!(!one.is_waiting());
        one.decide(Route::Reply(Reply::error(410, "gone")));
    }
    drop(client);
    engine.close();
}

/// Asks for time, and for no decider.
struct Pausing(Option<Reply>);

impl Router for Pausing {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let decider = request.defer();
        match &self.0 {
            // The decider decides before the wait has begun: it has no effect, nor has its end.
            Some(reply) => Route::Reply(reply.clone()),
            None => {
                drop(decider);
                Route::Later { time: PATIENCE, otherwise: Reply::error(404, "nobody knows") }
            }
        }
    }
}

#[test]
fn a_decider_counts_from_when_it_was_made() {
    for (reply, expected) in [(Some(Reply::error(418, "stout")), "418"), (None, "503")] {
        let engine = Setup::routed(Arc::new(Pausing(reply))).start();
        let mut client = engine.connect();
        for _ in 0..2 {
            send(&mut client, GET);
            assert_eq!(status(&mut client), expected);
        }
        drop(client);
        engine.close();
    }
}

#[test]
fn nobody_waits_for_a_request_that_came_through_no_engine() {
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
    let (head, _) = reader.read(GET.as_bytes()).unwrap().unwrap();
    let client = ClientInfo::new(PeerAddr::Unknown, "x");
    let decider = RouteRequest::new(&client, &head).defer();
    assert!(!decider.is_waiting());
    decider.decide(teapot());
}
