//! The limit of connections, and a listener that fails.

use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

use dockline::engine::EngineOptions;

use super::support::{
    GET, OK, Setup, TestEngine, answering_daemon, listen, read_rest, read_until, send, tcp,
};

fn exchange(client: &mut TcpStream) {
    send(client, GET);
    assert_eq!(read_until(client, "\r\n\r\nOK"), OK);
}

/// Engines that may have so many connections each.
fn engines(threads: usize, connections: usize) -> TestEngine {
    let options = EngineOptions { connections: Some(connections), ..EngineOptions::default() };
    Setup { threads, options, ..Setup::http(vec![tcp(answering_daemon())]) }.start()
}

#[test]
fn an_engine_at_its_limit_accepts_no_connection_until_one_ends() {
    let engine = engines(1, 2);
    let (mut first, mut second) = (engine.connect(), engine.connect());
    exchange(&mut first);
    exchange(&mut second);
    let mut third = engine.connect();
    send(&mut third, GET);
    engine.sees("Full { connections: 2 }");
    // It waits in the backlog, and the others are served.
    exchange(&mut first);
    assert_eq!(engine.workers.stats().accepted, 2);
    drop(second);
    assert_eq!(read_until(&mut third, "\r\n\r\nOK"), OK);
    assert_eq!(engine.workers.stats().accepted, 3);
    drop((first, third));
    engine.close();
}

/// The engine that polls the listener is full, and accepts for the one that is not.
#[test]
fn a_full_engine_accepts_for_another_that_has_room() {
    let engine = engines(2, 1);
    let (mut first, mut second) = (engine.connect(), engine.connect());
    exchange(&mut first);
    exchange(&mut second);
    for _ in 0..3 {
        let mut third = engine.connect();
        send(&mut third, GET);
        engine.sees("Full { connections: 1 }");
        drop(second);
        assert_eq!(read_until(&mut third, "\r\n\r\nOK"), OK);
        second = third;
    }
    drop((first, second));
    engine.close();
}

/// Another process that shares the listener may shut it down. The poller would report that without
/// end.
#[test]
fn a_listener_that_was_shut_down_is_reported_and_paused() {
    let (listener, at) = listen();
    let shared = listener.try_clone().unwrap();
    let engine = Setup { listener, ..Setup::http(vec![tcp(at)]) }.start();
    // After this exchange the listener is certainly polled.
    let mut client = engine.connect();
    send(&mut client, "rubbish\r\n\r\n");
    read_rest(&mut client);
    TcpStream::from(OwnedFd::from(shared)).shutdown(Shutdown::Both).unwrap();
    let event = engine.sees("AcceptFailed");
    assert!(event.contains("paused: true"), "{event}");
    engine.close();
}
