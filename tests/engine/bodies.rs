//! Long bodies and long tunnels through sockets that take little at a time, with readers that take their time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::support::{
    ATTACH, Ending, GET, Gate, PATIENCE, SWITCHED, accept, limits, listen_with_buffers, patient, pattern,
    read_head, send, tcp,
};
use dockline::engine::{Address, EngineOptions, Upstream};
use dockline::limits::Limits;
use socket2::SockRef;

/// Bytes of a socket's buffers, of which the kernel makes a little more, and of a body: more than all buffers on the way.
/// Small ones cut every write; from large ones reads come back full, which is when bodies are spliced.
const SIZES: [(usize, usize); 2] = [(4096, 1_500_000), (1024 * 1024, 8_000_000)];
/// What a slow reader takes at a time: much less than a segment, and no divisor of anything.
const SIP: usize = 997;

/// A client, the engine, and a daemon, with buffers of a known size between them.
struct Line {
    gate: Gate,
    client: TcpStream,
    daemon: TcpStream,
}

impl Line {
    /// Sends the head of a request; the daemon has read it.
    fn new(buffer: usize, request: &str) -> Self {
        let (listener, at) = listen_with_buffers(buffer);
        let (front, front_at) = listen_with_buffers(buffer);
        let upstream = Arc::new(Upstream::new("daemon", vec![tcp(at)]));
        let gate = Gate::on(front, Arc::new(upstream), Limits::default(), EngineOptions::default());
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        SockRef::from(&client).set_recv_buffer_size(buffer).unwrap();
        client.connect(&front_at.into()).unwrap();
        let mut client = patient(client.into());
        send(&mut client, request);
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        Self { gate, client, daemon }
    }
}

/// How a body is cut up on the wire. Not in step with what the engine reads at a time.
fn wire(body: &[u8], chunk: Option<usize>) -> Vec<u8> {
    let Some(size) = chunk else { return body.to_vec() };
    let mut wire = Vec::new();
    for piece in body.chunks(size) {
        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fn framing(len: usize, chunk: Option<usize>) -> String {
    chunk.map_or_else(|| format!("Content-Length: {len}"), |_| "Transfer-Encoding: chunked".into())
}

/// Reads a body sip by sip.
fn read_body(stream: &mut TcpStream, len: usize, chunked: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if !chunked {
        sip(stream, len, &mut body);
        return body;
    }
    loop {
        let size = super::support::read_until(stream, "\r\n");
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        sip(stream, size, &mut body);
        assert_eq!(super::support::read_until(stream, "\r\n"), "\r\n");
        if size == 0 {
            return body;
        }
    }
}

fn sip(stream: &mut TcpStream, mut left: usize, body: &mut Vec<u8>) {
    let mut buffer = [0; SIP];
    while left > 0 {
        let n = stream.read(&mut buffer[..left.min(SIP)]).unwrap();
        assert_ne!(n, 0, "the end, with {left} bytes to come");
        body.extend_from_slice(&buffer[..n]);
        left -= n;
    }
}

/// Each size of buffers with each framing: a length, long chunks, short ones.
fn lines() -> impl Iterator<Item = (usize, usize, Option<usize>)> {
    let chunks = [None, Some(70_001), Some(300)];
    SIZES.into_iter().flat_map(move |(buffer, len)| chunks.into_iter().map(move |chunk| (buffer, len, chunk)))
}

#[test]
fn a_long_answer_for_a_slow_client() {
    for (buffer, len, chunk) in lines() {
        let Line { gate, mut client, mut daemon } = Line::new(buffer, GET);
        let body = pattern(len);
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(len, chunk));
        let all = [head.into_bytes(), wire(&body, chunk)].concat();
        let server = thread::spawn(move || daemon.write_all(&all).unwrap());
        read_head(&mut client);
        assert!(read_body(&mut client, len, chunk.is_some()) == body, "{buffer} {chunk:?}");
        server.join().unwrap();
        gate.sees("exchange complete Some(200)");
        drop(client);
        gate.close();
    }
}

#[test]
fn a_long_request_for_a_slow_daemon() {
    for (buffer, len, chunk) in lines() {
        let head = format!("POST /images/load HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(len, chunk));
        let Line { gate, mut client, mut daemon } = Line::new(buffer, &head);
        let body = pattern(len);
        let all = wire(&body, chunk);
        let mut sender = client.try_clone().unwrap();
        let writer = thread::spawn(move || sender.write_all(&all).unwrap());
        assert!(read_body(&mut daemon, len, chunk.is_some()) == body, "{buffer} {chunk:?}");
        writer.join().unwrap();
        send(&mut daemon, "HTTP/1.1 204 No Content\r\n\r\n");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 204 "));
        gate.sees("exchange complete Some(204)");
        drop((client, daemon));
        gate.close();
    }
}

/// Both at once, as `docker load` does it: the daemon answers while it reads. Its last word comes when it has read all.
#[test]
fn a_long_request_and_a_long_answer_at_once() {
    for (buffer, len) in SIZES {
        let head = format!("POST /images/load HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(len, None));
        let Line { gate, mut client, mut daemon } = Line::new(buffer, &head);
        send(&mut daemon, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", len + 1));
        read_head(&mut client);
        both_ways(&mut client, &mut daemon, len);
        send(&mut daemon, ".");
        assert_eq!(super::support::read_until(&mut client, "."), ".");
        gate.sees("exchange complete Some(200)");
        drop((client, daemon));
        gate.close();
    }
}

#[test]
fn a_long_tunnel_in_both_directions_at_once() {
    for (buffer, len) in SIZES {
        let Line { gate, mut client, mut daemon } = Line::new(buffer, ATTACH);
        send(&mut daemon, SWITCHED);
        read_head(&mut client);
        both_ways(&mut client, &mut daemon, len);
        for stream in [&client, &daemon] {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        for stream in [&mut client, &mut daemon] {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        assert_eq!(gate.sees("tunnel"), format!("tunnel eof {len} {len}"));
        gate.close();
    }
}

fn both_ways(client: &mut TcpStream, daemon: &mut TcpStream, len: usize) {
    let body = pattern(len);
    thread::scope(|scope| {
        for stream in [&*client, &*daemon] {
            let (mut writer, mut reader) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
            let body = &body;
            scope.spawn(move || writer.write_all(body).unwrap());
            scope.spawn(move || assert!(read_body(&mut reader, len, false) == *body));
        }
    });
}

/// More than all buffers on the way of what stalls, the pipe among them.
const LONG: usize = 3 * 1024 * 1024;

/// A client that has read some of a long answer and takes no more, so that a pipe in the engine is full.
struct Stalled {
    gate: Gate,
    client: TcpStream,
    daemon: UnixStream,
    body: Vec<u8>,
    /// How much of the body the client has read, and the daemon has sent.
    read: usize,
    sent: usize,
}

impl Stalled {
    fn new(name: &str, request: &str, limits: Limits) -> Self {
        let path = std::env::temp_dir().join(format!("dockline-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let (front, front_at) = listen_with_buffers(128 * 1024);
        let upstream = Arc::new(Upstream::new("daemon", vec![Address::Unix(path.clone())]));
        let gate = Gate::on(front, Arc::new(upstream), limits, EngineOptions::default());
        let mut client = patient(TcpStream::connect(front_at).unwrap());
        SockRef::from(&client).set_recv_buffer_size(128 * 1024).unwrap();
        send(&mut client, request);
        let (mut daemon, _) = listener.accept().unwrap();
        std::fs::remove_file(path).unwrap();
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        read_head(&mut daemon);
        send(&mut daemon, &format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
        read_head(&mut client);
        let (body, read) = (pattern(LONG), 512 * 1024);
        let mut sender = daemon.try_clone().unwrap();
        sender.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let (sent, _) = thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let mut taken = vec![0; read];
                client.read_exact(&mut taken).unwrap();
                assert!(taken == body[..read]);
            });
            (send_until_stalled(&mut sender, &body), taken.join().unwrap())
        });
        assert!(sent < LONG, "nothing stalls");
        Self { gate, client, daemon, body, read, sent }
    }
}

fn send_until_stalled(stream: &mut impl Write, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

/// What is on its way to the client is not lost with the request.
#[test]
fn a_daemon_that_reads_no_more_loses_nothing_of_its_answer() {
    let head = format!("POST /images/load HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(LONG, None));
    let Stalled { gate, mut client, mut daemon, body, read, sent } =
        Stalled::new("early", &head, Limits::default());
    daemon.shutdown(Shutdown::Read).unwrap();
    // More than the buffers on the way: the engine has met the refusal, and throws the rest away.
    client.write_all(&body).unwrap();
    thread::scope(|scope| {
        daemon.set_write_timeout(Some(PATIENCE)).unwrap();
        scope.spawn(|| daemon.write_all(&body[sent..]).unwrap());
        let mut rest = vec![0; LONG - read];
        client.read_exact(&mut rest).unwrap();
        assert!(rest == body[read..]);
    });
    gate.sees("exchange complete Some(200)");
    drop(client);
    gate.close();
}

#[test]
fn a_client_that_takes_nothing_of_a_long_answer_has_its_time() {
    let time = Duration::from_secs(1);
    let stalled = Stalled::new("stalls", GET, limits(|limits| limits.body_progress = time));
    stalled.gate.sees("exchange client-timeout Some(200)");
    drop((stalled.client, stalled.daemon));
    stalled.gate.close();
}

/// Its end would be behind bytes that nobody takes.
#[test]
fn a_client_that_vanishes_while_its_request_stalls() {
    let (listener, at) = listen_with_buffers(64 * 1024);
    let (front, front_at) = listen_with_buffers(64 * 1024);
    let upstream = Arc::new(Upstream::new("daemon", vec![tcp(at)]));
    let gate = Gate::on(front, Arc::new(upstream), Limits::default(), EngineOptions::default());
    let mut client = TcpStream::connect(front_at).unwrap();
    SockRef::from(&client).set_send_buffer_size(64 * 1024).unwrap();
    let len = 32_000_000;
    send(&mut client, &format!("POST /images/load HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(len, None)));
    let mut daemon = accept(&listener);
    read_head(&mut daemon);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(send_until_stalled(&mut client, &vec![0; len]) < len, "nothing stalls");
    Ending::Reset.inflict(client);
    gate.sees("exchange client-aborted None");
    drop(daemon);
    gate.close();
}

/// Sees that nothing comes and nobody ends for so long.
fn is_quiet(stream: &mut impl Read) {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("something came: {other:?}"),
    }
}

/// What lies in a pipe between the two waits for the daemon.
#[test]
fn a_daemon_that_pauses_does_not_cost_the_client_its_upload() {
    let time = Duration::from_millis(300);
    // More than all buffers on the way.
    let len = 32_000_000;
    let body = pattern(len);
    for target in ["/upload", "/images/load"] {
        let (listener, at) = listen_with_buffers(128 * 1024);
        let (front, front_at) = listen_with_buffers(128 * 1024);
        let upstream = Arc::new(Upstream::new("daemon", vec![tcp(at)]));
        let gate = Gate::on(
            front,
            Arc::new(upstream),
            limits(|limits| limits.body_progress = time),
            EngineOptions::default(),
        );
        let mut client = patient(TcpStream::connect(front_at).unwrap());
        send(&mut client, &format!("POST {target} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(len, None)));
        let mut daemon = accept(&listener);
        read_head(&mut daemon);
        SockRef::from(&client).set_send_buffer_size(128 * 1024).unwrap();
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let sent = send_until_stalled(&mut client, &body);
        assert!(sent < len, "nothing stalls");
        client.set_read_timeout(Some(time * 4)).unwrap();
        is_quiet(&mut client);
        let mut client = patient(client);
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&body[sent..]).unwrap());
            let mut got = vec![0; len];
            daemon.read_exact(&mut got).unwrap();
            assert!(got == body, "{target}");
        });
        send(&mut daemon, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "), "{target}");
        drop((client, daemon));
        gate.close();
    }
}

/// `docker logs | less`: the same answer as in `a_client_that_takes_nothing_of_a_long_answer_has_its_time`, of a stream.
#[test]
fn a_client_at_a_pager_keeps_its_stream() {
    let time = Duration::from_millis(300);
    let request = "GET /v1.41/containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let Stalled { gate, mut client, mut daemon, body, read, sent } =
        Stalled::new("pager", request, limits(|limits| limits.body_progress = time));
    daemon.set_read_timeout(Some(time * 4)).unwrap();
    is_quiet(&mut daemon);
    thread::scope(|scope| {
        daemon.set_write_timeout(Some(PATIENCE)).unwrap();
        scope.spawn(|| daemon.write_all(&body[sent..]).unwrap());
        let mut rest = vec![0; LONG - read];
        client.read_exact(&mut rest).unwrap();
        assert!(rest == body[read..]);
    });
    gate.sees("exchange complete Some(200)");
    drop(client);
    gate.close();
}
