#![forbid(unsafe_code)]
//! Long bodies and long tunnels through sockets that take little at a time, with readers that take their time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

use dockline::engine::{EngineOptions, Upstream};
use dockline::limits::Limits;
use socket2::SockRef;
use support::{
    ATTACH, GET, Gate, SWITCHED, accept, listen_with_buffers, patient, pattern, read_head, send, tcp,
};

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
        let size = support::read_until(stream, "\r\n");
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        sip(stream, size, &mut body);
        assert_eq!(support::read_until(stream, "\r\n"), "\r\n");
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
        assert_eq!(support::read_until(&mut client, "."), ".");
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
