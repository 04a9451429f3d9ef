//! Tunnels with TLS on one side and on both.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use dockline::drive::{Ready, Relay, RelayOptions, Socket, State, Transport, Worker, WorkerOptions};
use dockline::engine::tls::ClientTls;
use dockline::engine::tls::ServerTls;
use dockline::error::Side;
use dockline::relay::{CloseReason, Readiness, RelayConfig};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::peers::*;
use super::pki::Ca;

/// Returns both ends of a TCP connection with send buffers as small as the kernel allows. (With a
/// receive buffer below the segment size of the loopback, TCP waits for one window probe after
/// another.)
fn narrow() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for socket in [&near, &far] {
        SockRef::from(socket).set_send_buffer_size(2048).unwrap();
        socket.set_nonblocking(true).unwrap();
    }
    (near.into(), far.into())
}

/// Waits for edges of several sockets.
struct Edges {
    poll: Poll,
    events: Events,
}

impl Edges {
    fn of(sockets: &[&dyn AsRawFd]) -> Self {
        let poll = Poll::new().unwrap();
        for (index, socket) in sockets.iter().enumerate() {
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), both).unwrap();
        }
        Self { poll, events: Events::with_capacity(8) }
    }

    fn wait(&mut self, timeout: Duration) -> Vec<(usize, Readiness)> {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        let readiness = |event: &mio::event::Event| Readiness {
            read: event.is_readable(),
            write: event.is_writable(),
            hup: event.is_read_closed() || event.is_write_closed() || event.is_error(),
        };
        self.events.iter().map(|event| (event.token().0, readiness(event))).collect()
    }
}

/// Sends and half-closes, and reads to the end meanwhile.
fn duplex(mut stream: impl Transport, send: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut edges = Edges::of(&[&stream.socket().unwrap()]);
    let (mut at, mut shut, mut got, mut ended) = (0, false, Vec::new(), false);
    let mut buf = vec![0; 10_000];
    let blocked = |error: io::Error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
    while !(shut && ended) {
        let moved = (at, shut, got.len(), ended);
        let result = (|| {
            if at < send.len() {
                at += stream.write(&send[at..])?;
            } else if !shut {
                stream.shutdown_write()?;
                shut = true;
            }
            Ok(())
        })()
        .or_else(blocked);
        let result = result.and_then(|()| {
            if !ended {
                let n = stream.read(&mut buf)?;
                got.extend_from_slice(&buf[..n]);
                ended = n == 0;
            }
            Ok(())
        });
        if let Err(error) = result.or_else(blocked) {
            return (got, Err(error));
        }
        if moved == (at, shut, got.len(), ended) {
            assert!(!edges.wait(Duration::from_secs(20)).is_empty(), "stuck: {moved:?}");
        }
    }
    (got, Ok(()))
}

fn run_relay<D: Transport, U: Transport>(relay: &mut Relay<D, U>, sockets: [&OwnedFd; 2]) -> usize {
    let mut worker = Worker::new(WorkerOptions::default());
    let mut edges = Edges::of(&[sockets[0], sockets[1]]);
    let mut ready = Ready::default();
    let mut pumps = 0;
    loop {
        let wants = relay.pump(&mut worker, ready, now());
        pumps += 1;
        ready = Ready::default();
        let timeout = match wants.state {
            State::Done => return pumps,
            State::Yield => Duration::ZERO,
            State::Running => {
                wants.deadline.map_or(Duration::from_secs(20), |at| at.saturating_duration_since(now()))
            }
        };
        let seen = edges.wait(timeout);
        assert!(
            !seen.is_empty() || wants.state == State::Yield || wants.deadline.is_some(),
            "stuck: {wants:?}"
        );
        for (index, readiness) in seen {
            let side = if index == 0 { &mut ready.downstream } else { &mut ready.upstream };
            side.read |= readiness.read;
            side.write |= readiness.write;
            side.hup |= readiness.hup;
        }
    }
}

/// One side of a relay and the peer behind it.
fn side(
    tls: bool,
    server: &ServerTls,
    client: &ClientTls,
    relay_is_server: bool,
) -> (Box<dyn Transport + Send>, Box<dyn Transport + Send>, OwnedFd) {
    let (relay_end, peer_end) = narrow();
    let watched = relay_end.try_clone().unwrap();
    if !tls {
        return (Box::new(Socket::new(relay_end)), Box::new(Socket::new(peer_end)), watched);
    }
    let ends = if relay_is_server { (relay_end, peer_end) } else { (peer_end, relay_end) };
    let (at_server, at_client) = joined(server, client, ends).unwrap();
    if relay_is_server {
        (Box::new(at_server), Box::new(at_client), watched)
    } else {
        (Box::new(at_client), Box::new(at_server), watched)
    }
}

/// Any transport, so that one type of relay serves all combinations.
struct Any(Box<dyn Transport + Send>);

impl Transport for Any {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }
    fn is_flushed(&self) -> bool {
        self.0.is_flushed()
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.0.socket()
    }
    fn is_plain(&self) -> bool {
        self.0.is_plain()
    }
}

const SIDES: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

#[test]
fn a_relay_with_tls_on_either_side_moves_long_streams_both_ways() {
    let ca = Ca::new();
    let (server, client) = plain_config(&ca);
    for tls in SIDES {
        let (downstream, at_client, watched_down) = side(tls.0, &server, &client, true);
        let (upstream, at_daemon, watched_up) = side(tls.1, &server, &client, false);
        let mut relay = Relay::new(Any(downstream), Any(upstream), RelayOptions::default(), now()).unwrap();
        let (up, down) = (noise(1 << 20, 1), noise((1 << 20) + 1, 2));
        let (sent_up, sent_down) = (up.clone(), down.clone());
        let at_client = thread::spawn(move || duplex(Any(at_client), &sent_up));
        let at_daemon = thread::spawn(move || duplex(Any(at_daemon), &sent_down));
        let pumps = run_relay(&mut relay, [&watched_down, &watched_up]);
        drop((watched_down, watched_up));
        let reason = relay.stats().close_reason;
        assert_eq!(reason, Some(CloseReason::Eof), "{tls:?}: {:?}", relay.last_error());
        let (got_down, ended) = at_client.join().unwrap();
        assert!(got_down == down && ended.is_ok(), "{tls:?} {ended:?}");
        let (got_up, ended) = at_daemon.join().unwrap();
        assert!(got_up == up && ended.is_ok(), "{tls:?} {ended:?}");
        assert!(pumps < 20_000, "{tls:?} spins: {pumps} pumps");
    }
}

/// `echo | docker run -i`: the end of the input, and then all of the output; and the other way
/// round.
#[test]
fn a_half_close_crosses_tls_and_the_other_direction_stays_open() {
    let ca = Ca::new();
    let (server, client) = plain_config(&ca);
    for tls in SIDES {
        for first in [Side::Downstream, Side::Upstream] {
            let (downstream, at_client, watched_down) = side(tls.0, &server, &client, true);
            let (upstream, at_daemon, watched_up) = side(tls.1, &server, &client, false);
            let config = RelayConfig { idle: None, linger: None };
            let options = RelayOptions { config, ..RelayOptions::default() };
            let mut relay = Relay::new(Any(downstream), Any(upstream), options, now()).unwrap();
            let bytes = noise(1 << 20, 3);
            let (mut asks, mut answers) =
                if first == Side::Downstream { (at_client, at_daemon) } else { (at_daemon, at_client) };
            asks.shutdown_write().unwrap();
            let sent = bytes.clone();
            let answering = thread::spawn(move || {
                let mut edges = Edges::of(&[&answers.socket().unwrap()]);
                // Nothing is sent before the end of the input has arrived.
                while answers
                    .read(&mut [0; 100])
                    .map_or_else(|e| e.kind() == ErrorKind::WouldBlock, |n| n > 0)
                {
                    edges.wait(Duration::from_secs(20));
                }
                send_all(&mut *answers, &sent, &mut edges);
                answers
            });
            let asking = thread::spawn(move || {
                let mut edges = Edges::of(&[&asks.socket().unwrap()]);
                let mut got = Vec::new();
                let mut buf = vec![0; 10_000];
                loop {
                    match asks.read(&mut buf) {
                        Ok(0) => return got,
                        Ok(n) => got.extend_from_slice(&buf[..n]),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            assert!(!edges.wait(Duration::from_secs(20)).is_empty(), "stuck");
                        }
                    }
                }
            });
            run_relay(&mut relay, [&watched_down, &watched_up]);
            assert_eq!(relay.stats().close_reason, Some(CloseReason::Eof), "{tls:?} {first:?}");
            assert_eq!(relay.stats().first_closer, Some(first));
            assert!(asking.join().unwrap() == bytes, "{tls:?} {first:?}");
            drop(answering.join().unwrap());
        }
    }
}

fn send_all(stream: &mut (dyn Transport + Send), bytes: &[u8], edges: &mut Edges) {
    let mut at = 0;
    loop {
        let result =
            if at < bytes.len() { stream.write(&bytes[at..]) } else { stream.shutdown_write().map(|()| 0) };
        match result {
            Ok(0) => return,
            Ok(n) => at += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(!edges.wait(Duration::from_secs(20)).is_empty(), "stuck");
            }
        }
    }
}
