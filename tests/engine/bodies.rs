//! Long bodies and long tunnels through small buffers, with slow readers and with peers that stop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use dockline::engine::Address;
use dockline::limits::Limits;
use socket2::SockRef;

use super::support::{
    ATTACH, Bed, Ending, GET, PATIENCE, SWITCHED, Setup, TestEngine, limits, listen_with_buffers, patient,
    pattern, read_head, read_until, send,
};

/// The size of the sockets' buffers, of which the kernel makes a little more, and of a body that is
/// larger than all buffers on the way. Small buffers cut every write; from large ones reads come
/// back full, which is when bodies are spliced.
const SIZES: [(usize, usize); 2] = [(4096, 1_500_000), (1024 * 1024, 8_000_000)];
/// What a slow reader reads at a time: much less than a segment, and a divisor of nothing.
const SLOW_READ: usize = 997;

/// Sends the head of a request through buffers of a known size. Returns both ends; the daemon has
/// read the head.
fn request_through_buffers(buffer: usize, request: &str) -> (Bed, TcpStream, TcpStream) {
    let bed = Bed::with_buffers(buffer, Limits::default());
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    SockRef::from(&client).set_recv_buffer_size(buffer).unwrap();
    client.connect(&bed.at.into()).unwrap();
    let mut client = patient(client.into());
    let daemon = bed.request_on(&mut client, request);
    (bed, client, daemon)
}

/// Writes a body as it stands on the wire, whole or in chunks of a size.
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

fn upload(target: &str, len: usize, chunk: Option<usize>) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", framing(len, chunk))
}

/// Reads a body slowly.
fn read_body(stream: &mut TcpStream, len: usize, chunked: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if !chunked {
        read_slowly(stream, len, &mut body);
        return body;
    }
    loop {
        let size = read_until(stream, "\r\n");
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        read_slowly(stream, size, &mut body);
        assert_eq!(read_until(stream, "\r\n"), "\r\n");
        if size == 0 {
            return body;
        }
    }
}

fn read_slowly(stream: &mut TcpStream, mut left: usize, body: &mut Vec<u8>) {
    let mut buffer = [0; SLOW_READ];
    while left > 0 {
        let n = stream.read(&mut buffer[..left.min(SLOW_READ)]).unwrap();
        assert_ne!(n, 0, "the end, with {left} bytes to come");
        body.extend_from_slice(&buffer[..n]);
        left -= n;
    }
}

/// Each size of buffers and body, with each framing: a length, long chunks, short chunks.
fn sizes_and_framings() -> impl Iterator<Item = (usize, usize, Option<usize>)> {
    let chunks = [None, Some(70_001), Some(300)];
    SIZES.into_iter().flat_map(move |(buffer, len)| chunks.into_iter().map(move |chunk| (buffer, len, chunk)))
}

#[test]
fn a_long_response_reaches_a_slow_client() {
    for (buffer, len, chunk) in sizes_and_framings() {
        let (bed, mut client, mut daemon) = request_through_buffers(buffer, GET);
        let body = pattern(len);
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(len, chunk));
        let all = [head.into_bytes(), wire(&body, chunk)].concat();
        let server = thread::spawn(move || daemon.write_all(&all).unwrap());
        read_head(&mut client);
        assert!(read_body(&mut client, len, chunk.is_some()) == body, "{buffer} {chunk:?}");
        server.join().unwrap();
        bed.sees("exchange complete Some(200)");
        drop(client);
        bed.close();
    }
}

#[test]
fn a_long_request_reaches_a_slow_daemon() {
    for (buffer, len, chunk) in sizes_and_framings() {
        let head = upload("/images/load", len, chunk);
        let (bed, mut client, mut daemon) = request_through_buffers(buffer, &head);
        let body = pattern(len);
        let all = wire(&body, chunk);
        let mut sender = client.try_clone().unwrap();
        let writer = thread::spawn(move || sender.write_all(&all).unwrap());
        assert!(read_body(&mut daemon, len, chunk.is_some()) == body, "{buffer} {chunk:?}");
        writer.join().unwrap();
        send(&mut daemon, "HTTP/1.1 204 No Content\r\n\r\n");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 204 "));
        bed.sees("exchange complete Some(204)");
        drop((client, daemon));
        bed.close();
    }
}

/// As `docker load` does it: the daemon responds while it reads, and its last byte comes when it
/// has read everything.
#[test]
fn a_long_request_and_a_long_response_pass_at_once() {
    for (buffer, len) in SIZES {
        let head = upload("/images/load", len, None);
        let (bed, mut client, mut daemon) = request_through_buffers(buffer, &head);
        send(&mut daemon, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", len + 1));
        read_head(&mut client);
        both_ways(&mut client, &mut daemon, len);
        send(&mut daemon, ".");
        assert_eq!(read_until(&mut client, "."), ".");
        bed.sees("exchange complete Some(200)");
        drop((client, daemon));
        bed.close();
    }
}

#[test]
fn a_tunnel_moves_long_streams_both_ways_at_once() {
    for (buffer, len) in SIZES {
        let (bed, mut client, mut daemon) = request_through_buffers(buffer, ATTACH);
        send(&mut daemon, SWITCHED);
        read_head(&mut client);
        both_ways(&mut client, &mut daemon, len);
        for stream in [&client, &daemon] {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        for stream in [&mut client, &mut daemon] {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        assert_eq!(bed.sees("tunnel"), format!("tunnel eof {len} {len}"));
        bed.close();
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

/// More than all buffers on the way hold, the pipe in the engine among them.
const LONG: usize = 3 * 1024 * 1024;

/// A client that has read a part of a long response and reads no more, so that a pipe in the engine
/// is full.
struct Stalled {
    engine: TestEngine,
    client: TcpStream,
    daemon: UnixStream,
    body: Vec<u8>,
    /// How much of the body the client has read, and how much the daemon has sent.
    read: usize,
    sent: usize,
}

impl Stalled {
    fn new(name: &str, request: &str, limits: Limits) -> Self {
        let path = std::env::temp_dir().join(format!("dockline-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let setup = Setup::http(vec![Address::Unix(path.clone())]);
        let engine = Setup { limits, listener: listen_with_buffers(128 * 1024).0, ..setup }.start();
        let mut client = engine.connect();
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
        Self { engine, client, daemon, body, read, sent }
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

#[test]
fn a_stalled_response_is_complete_although_the_daemon_reads_no_more() {
    let head = upload("/images/load", LONG, None);
    let Stalled { engine, mut client, mut daemon, body, read, sent } =
        Stalled::new("early", &head, Limits::default());
    daemon.shutdown(Shutdown::Read).unwrap();
    // More than the buffers on the way hold, so that the engine notices, and drops the rest.
    client.write_all(&body).unwrap();
    thread::scope(|scope| {
        daemon.set_write_timeout(Some(PATIENCE)).unwrap();
        scope.spawn(|| daemon.write_all(&body[sent..]).unwrap());
        let mut rest = vec![0; LONG - read];
        client.read_exact(&mut rest).unwrap();
        assert!(rest == body[read..]);
    });
    engine.sees("exchange complete Some(200)");
    drop(client);
    engine.close();
}

#[test]
fn a_client_that_reads_no_more_is_timed_out_after_body_progress() {
    let time = Duration::from_secs(1);
    let stalled = Stalled::new("stalls", GET, limits(|limits| limits.body_progress = time));
    stalled.engine.sees("exchange client-timeout Some(200)");
    drop((stalled.client, stalled.daemon));
    stalled.engine.close();
}

/// The end of its stream is behind bytes that the engine cannot read yet.
#[test]
fn a_client_that_resets_a_stalled_upload_is_noticed() {
    let bed = Bed::with_buffers(64 * 1024, Limits::default());
    let mut client = bed.connect();
    SockRef::from(&client).set_send_buffer_size(64 * 1024).unwrap();
    let len = 32_000_000;
    let daemon = bed.request_on(&mut client, &upload("/images/load", len, None));
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(send_until_stalled(&mut client, &vec![0; len]) < len, "nothing stalls");
    Ending::Reset.close(client);
    bed.sees("exchange client-aborted None");
    drop(daemon);
    bed.close();
}

/// Asserts that nothing arrives within the read timeout, neither bytes nor an end.
fn assert_quiet(stream: &mut impl Read) {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("not quiet: {other:?}"),
    }
}

/// The bytes in the pipe of the engine wait for the daemon, and the client cannot send.
#[test]
fn an_upload_to_a_daemon_that_pauses_is_not_timed_out() {
    let time = Duration::from_millis(300);
    // More than all buffers on the way hold.
    let len = 32_000_000;
    let body = pattern(len);
    for target in ["/upload", "/images/load"] {
        let bed = Bed::with_buffers(128 * 1024, limits(|limits| limits.body_progress = time));
        let (mut client, mut daemon) = bed.request(&upload(target, len, None));
        SockRef::from(&client).set_send_buffer_size(128 * 1024).unwrap();
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let sent = send_until_stalled(&mut client, &body);
        assert!(sent < len, "nothing stalls");
        client.set_read_timeout(Some(time * 4)).unwrap();
        assert_quiet(&mut client);
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
        bed.close();
    }
}

/// `docker logs | less`: the response as in
/// `a_client_that_reads_no_more_is_timed_out_after_body_progress`, but a stream.
#[test]
fn a_stream_to_a_client_that_pauses_is_not_timed_out() {
    let time = Duration::from_millis(300);
    let request = "GET /v1.41/containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let Stalled { engine, mut client, mut daemon, body, read, sent } =
        Stalled::new("pager", request, limits(|limits| limits.body_progress = time));
    daemon.set_read_timeout(Some(time * 4)).unwrap();
    assert_quiet(&mut daemon);
    thread::scope(|scope| {
        daemon.set_write_timeout(Some(PATIENCE)).unwrap();
        scope.spawn(|| daemon.write_all(&body[sent..]).unwrap());
        let mut rest = vec![0; LONG - read];
        client.read_exact(&mut rest).unwrap();
        assert!(rest == body[read..]);
    });
    engine.sees("exchange complete Some(200)");
    drop(client);
    engine.close();
}
