//! Another upstream, when one cannot be connected to.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dockline::engine::{Address, Destination, Route, RouteRequest, Router};
use dockline::proxy::Reply;

use super::super::connecting::FullBacklog;
use super::super::support::{
    ATTACH, Ending, GET, OK, PATIENCE, SWITCHED, Setup, TestEngine, accept, answering_daemon, limits, listen,
    pattern, read_head, read_rest, read_until, refusing_address, send, tcp, until,
};
use super::{Fixed, app};

fn start(destination: Destination) -> TestEngine {
    Setup::routed(Arc::new(Fixed(destination))).start()
}

fn missing() -> Address {
    Address::Unix("/nonexistent/app.sock".into())
}

#[test]
fn the_next_upstream_is_tried_when_one_refuses() {
    let engine = start(app([tcp(refusing_address()), missing(), tcp(answering_daemon())]));
    let mut client = engine.connect();
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    assert!(engine.sees("ConnectFailed").contains("name: \"0\""));
    assert!(engine.sees("ConnectFailed").contains("name: \"1\""));
    assert_eq!(engine.sees("exchange"), "exchange complete Some(200) 2 by app /_ping");
    drop(client);
    engine.close();
}

#[test]
fn the_next_upstream_may_be_on_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("dockline-next-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let engine = start(app([tcp(refusing_address()), Address::Unix(path.clone())]));
    let mut client = engine.connect();
    send(&mut client, GET);
    let (mut daemon, _) = listener.accept().unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    drop((client, daemon));
    engine.close();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_next_upstream_is_tried_when_one_takes_too_long() {
    let backlog = FullBacklog::new("takes-too-long");
    let destination = app([Address::Unix(backlog.path.clone()), tcp(answering_daemon())]);
    let limits = limits(|limits| limits.connect_time = Duration::from_millis(100));
    let engine = Setup { limits, ..Setup::routed(Arc::new(Fixed(destination))) }.start();
    let mut client = engine.connect();
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    let seen = engine.sees("ConnectFailed");
    assert!(seen.contains("Timeout(Connect)"), "{seen}");
    drop(client);
    engine.close();
}

/// What the client and the record get is what the last one was tried for.
#[test]
fn the_failure_is_that_of_the_last_upstream() {
    let backlog = FullBacklog::new("last");
    let slow = || Address::Unix(backlog.path.clone());
    let refused = || tcp(refusing_address());
    for (addresses, status, record) in [
        ([refused(), missing()], "502", "exchange unreachable Some(502) 1 by app /_ping"),
        ([slow(), refused()], "502", "exchange unreachable Some(502) 1 by app /_ping"),
        ([refused(), slow()], "504", "exchange upstream-timeout Some(504) 1 by app /_ping"),
    ] {
        let limits = limits(|limits| limits.connect_time = Duration::from_millis(100));
        let engine = Setup { limits, ..Setup::routed(Arc::new(Fixed(app(addresses)))) }.start();
        let mut client = engine.connect();
        send(&mut client, GET);
        assert!(read_head(&mut client).starts_with(&format!("HTTP/1.1 {status} ")));
        assert_eq!(engine.sees("exchange"), record);
        drop(client);
        engine.close();
    }
}

#[test]
fn no_more_upstreams_are_tried_than_there_may_be() {
    let live = answering_daemon();
    for (failing, status) in [(Destination::OTHERS, "200"), (Destination::OTHERS + 1, "502")] {
        let addresses = (0..failing).map(|_| missing()).chain([tcp(live)]);
        let engine = start(app(addresses));
        let mut client = engine.connect();
        send(&mut client, GET);
        assert!(read_head(&mut client).starts_with(&format!("HTTP/1.1 {status} ")), "{failing} fail");
        engine.until("each is counted", |stats| {
            stats.connect_failures == Destination::OTHERS as u64 + u64::from(status == "502")
        });
        drop(client);
        engine.close();
    }
}

/// The kept connection was dead, and there is no new one to the same upstream.
#[test]
fn the_next_upstream_is_tried_when_a_retry_cannot_connect() {
    let ((first, at), (second, next)) = (listen(), listen());
    let engine = start(app([tcp(at), tcp(next)]));
    let mut client = engine.connect();
    send(&mut client, GET);
    let mut daemon = accept(&first);
    read_head(&mut daemon);
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    engine.until("the connection is kept", |stats| stats.pooled_now == 1);
    drop(first);
    send(&mut client, GET);
    read_head(&mut daemon);
    drop(daemon);
    let mut daemon = accept(&second);
    assert!(read_head(&mut daemon).starts_with("GET /_ping "));
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    assert_eq!(engine.sees("exchange complete Some(200) 1"), "exchange complete Some(200) 1 by app /_ping");
    drop((client, daemon));
    engine.close();
}

/// An idle connection to the next upstream serves as well as a new one, unless the request was sent
/// before.
#[test]
fn an_idle_connection_to_the_next_upstream_is_used() {
    let (listener, at) = listen();
    let engine = start(app([missing(), tcp(at)]));
    let mut client = engine.connect();
    send(&mut client, GET);
    let mut daemon = accept(&listener);
    for round in 0..3 {
        read_head(&mut daemon);
        send(&mut daemon, OK);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        engine.until("it is kept", |stats| stats.pooled_now == 1 && stats.reuses == round);
        if round < 2 {
            send(&mut client, GET);
        }
    }
    drop((client, daemon));
    engine.close();
}

#[test]
fn a_body_goes_whole_to_the_upstream_that_accepts() {
    let (listener, at) = listen();
    let engine = start(app([tcp(refusing_address()), missing(), tcp(at)]));
    let mut client = engine.connect();
    let body = pattern(300_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
    let head = format!("POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let sender = {
        let (mut client, text) = (client.try_clone().unwrap(), format!("{head}{body}"));
        std::thread::spawn(move || send(&mut client, &text))
    };
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    assert!(read_until(&mut daemon, &body[body.len() - 64..]) == body, "another body");
    send(&mut daemon, OK);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    sender.join().unwrap();
    drop((client, daemon));
    engine.close();
}

/// It may have had its effect: an upstream that was connected to is the last, however it fails.
#[test]
fn a_request_that_was_sent_goes_to_no_other_upstream() {
    let ((first, at), (second, next)) = (listen(), listen());
    let engine = start(app([tcp(at), tcp(next)]));
    for ending in Ending::BOTH {
        let mut client = engine.connect();
        send(&mut client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nonce");
        let mut daemon = accept(&first);
        read_until(&mut daemon, "\r\n\r\nonce");
        ending.close(daemon);
        assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
        drop(client);
    }
    until("both are over", || engine.workers.stats().clients_now == 0);
    second.set_nonblocking(true).unwrap();
    second.accept().unwrap_err();
    engine.close();
}

#[test]
fn a_client_that_leaves_while_the_next_upstream_is_connected_to_leaves_nothing_behind() {
    let backlog = FullBacklog::new("next-leaves");
    let destination = app([missing(), Address::Unix(backlog.path.clone()), tcp(answering_daemon())]);
    let upstream = Arc::clone(&destination.others[0]);
    let engine = start(destination);
    let mut client = engine.connect();
    send(&mut client, GET);
    until("the second is tried", || upstream.in_flight().requests == 1);
    Ending::Reset.close(client);
    engine.sees("exchange client-aborted None 1 by app");
    until("nothing is in flight", || upstream.in_flight().is_zero());
    assert_eq!(engine.workers.stats().connects, 0);
    engine.close();
}

#[test]
fn a_switch_is_made_by_the_upstream_that_accepts() {
    let (listener, at) = listen();
    let engine = start(app([missing(), tcp(at)]));
    let mut client = engine.connect();
    send(&mut client, ATTACH);
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    send(&mut daemon, SWITCHED);
    read_head(&mut client);
    drop(client);
    assert_eq!(read_rest(&mut daemon).0, "");
    drop(daemon);
    assert_eq!(engine.sees("tunnel"), "tunnel eof 0 0 by app /containers/x/attach");
    engine.close();
}

/// Names destinations one after the other, and notes what it is asked for again.
struct Again {
    destinations: Mutex<Vec<Destination>>,
    unreachable: Mutex<Vec<Option<String>>>,
}

impl Again {
    fn new(destinations: impl IntoIterator<Item = Destination>) -> Arc<Self> {
        let ask_again = |destination| Destination { ask_again: true, ..destination };
        let mut destinations: Vec<_> = destinations.into_iter().map(ask_again).collect();
        destinations.reverse();
        Arc::new(Self { destinations: Mutex::new(destinations), unreachable: Mutex::default() })
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.unreachable.lock().unwrap().clone()
    }
}

impl Router for Again {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let unreachable = request.unreachable().map(|upstream| upstream.name.to_string());
        self.unreachable.lock().unwrap().push(unreachable);
        match self.destinations.lock().unwrap().pop() {
            Some(destination) => Route::To(destination),
            None if request.head().target().as_bytes() == b"/later" => {
                Route::Later { time: Duration::from_millis(10), otherwise: Reply::error(503, "in vain") }
            }
            None => Route::Reply(Reply::error(502, "nobody is there")),
        }
    }
}

#[test]
fn the_router_is_asked_again_when_all_refuse() {
    let router = Again::new([app([tcp(refusing_address()), missing()]), app([tcp(answering_daemon())])]);
    let engine = Setup::routed(Arc::clone(&router) as Arc<dyn Router>).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
    assert_eq!(router.asked(), [None, Some("1".into())]);
    drop(client);
    engine.close();
}

#[test]
fn the_router_is_not_asked_again_without_end() {
    let times = usize::from(Destination::ASKED_AGAIN) + 1;
    let router = Again::new((0..times).map(|_| app([missing()])));
    let engine = Setup::routed(Arc::clone(&router) as Arc<dyn Router>).start();
    let mut client = engine.connect();
    send(&mut client, GET);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 502 "));
    assert_eq!(router.asked().len(), times);
    drop(client);
    engine.close();
}

#[test]
fn a_reply_in_place_of_what_cannot_be_reached_is_recorded_with_the_reason() {
    for (path, status, word) in [("/", 502, "nobody is there"), ("/later", 503, "in vain")] {
        let router = Again::new([app([tcp(refusing_address())])]);
        let engine = Setup::routed(Arc::clone(&router) as Arc<dyn Router>).start();
        let mut client = engine.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        send(&mut client, &request);
        assert!(read_until(&mut client, "}\n").contains(word));
        let line = format!("exchange unreachable Some({status}) 0 by app {path}");
        assert_eq!(engine.sees("exchange"), line);
        // The next one is none of its business.
        send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        read_until(&mut client, "}\n");
        assert_eq!(engine.sees("exchange"), "exchange replied Some(502) -");
        drop(client);
        engine.close();
    }
}
