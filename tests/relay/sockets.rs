//! The relay on real sockets, TCP and Unix, under an edge-triggered poller.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use dockline::drive::{
    Ready, Relay, RelayOptions, SCRATCH_BYTES, SetupError, Socket, State, Transport, Wants, Worker,
    WorkerOptions,
};
use dockline::error::Side;
use dockline::relay::{CloseReason, Readiness};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{SockRef, Socket as RawSocket};

/// Returns a blocking end for the test, and the other end for the relay.
fn pair(tcp: bool) -> (RawSocket, OwnedFd) {
    let (test, relay): (OwnedFd, OwnedFd) = if tcp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let test = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (test.into(), listener.accept().unwrap().0.into())
    } else {
        let (test, relay) = UnixStream::pair().unwrap();
        (test.into(), relay.into())
    };
    SockRef::from(&relay).set_nonblocking(true).unwrap();
    let test = RawSocket::from(test);
    test.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (test, relay)
}

struct Bed {
    relay: Relay<Socket<OwnedFd>, Socket<OwnedFd>>,
    worker: Worker,
    poll: Poll,
    pumps: usize,
}

impl Bed {
    fn new(tcp: (bool, bool), options: RelayOptions, bounds: WorkerOptions) -> (Self, RawSocket, RawSocket) {
        let (client, downstream) = pair(tcp.0);
        let (daemon, upstream) = pair(tcp.1);
        let poll = Poll::new().unwrap();
        for (socket, token) in [(&downstream, Token(0)), (&upstream, Token(1))] {
            poll.registry()
                .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
                .unwrap();
        }
        let relay = Relay::new(Socket::new(downstream), Socket::new(upstream), options, now()).unwrap();
        (Self { relay, worker: Worker::new(bounds), poll, pumps: 0 }, client, daemon)
    }

    fn plain(tcp: (bool, bool)) -> (Self, RawSocket, RawSocket) {
        Self::new(tcp, RelayOptions::default(), WorkerOptions::default())
    }

    fn pump(&mut self, ready: Ready) -> Wants {
        self.pumps += 1;
        self.relay.pump(&mut self.worker, ready, now())
    }

    /// Drives the relay as an edge-triggered host does, until it is done or nothing happens for
    /// `quiet`.
    fn run(&mut self, quiet: Option<Duration>) -> State {
        let mut events = Events::with_capacity(8);
        let mut wants = self.pump(Ready::default());
        let give_up = now() + Duration::from_secs(30);
        loop {
            if wants.state == State::Done {
                return State::Done;
            }
            assert!(now() < give_up, "stuck: {wants:?}");
            let deadline = wants.deadline.map(|at| at.saturating_duration_since(now()));
            let timeout = match wants.state {
                State::Yield => Some(Duration::ZERO),
                _ => deadline.or(quiet).or(Some(Duration::from_secs(30))),
            };
            self.poll.poll(&mut events, timeout).unwrap();
            if events.is_empty() && wants.state == State::Running && deadline.is_none() {
                return State::Running;
            }
            let mut ready = Ready::default();
            for event in &events {
                let side =
                    if event.token() == Token(0) { &mut ready.downstream } else { &mut ready.upstream };
                side.read |= event.is_readable();
                side.write |= event.is_writable();
                side.hup |= event.is_read_closed() || event.is_write_closed() || event.is_error();
            }
            wants = self.pump(ready);
        }
    }

    fn reason(&self) -> CloseReason {
        self.relay.stats().close_reason.unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test is the host, and its clock is the real one")]
fn now() -> Instant {
    Instant::now()
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn read_all(mut socket: RawSocket) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = socket.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, error)
}

const KINDS: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn every_byte_arrives_once_and_in_order() {
    for kinds in KINDS {
        for (splice, max_pipes) in [(true, 256), (true, 1), (true, 0), (false, 256)] {
            let options = RelayOptions { splice, ..RelayOptions::default() };
            let bounds = WorkerOptions { max_pipes, ..WorkerOptions::default() };
            let (mut bed, client, daemon) = Bed::new(kinds, options, bounds);
            let (up, down) = (noise(3_000_001, 1), noise(5_000_003, 2));
            let sender = |mut socket: RawSocket, bytes: Vec<u8>| {
                thread::spawn(move || {
                    socket.write_all(&bytes).unwrap();
                    socket.shutdown(Shutdown::Write).unwrap();
                })
            };
            let senders = [
                sender(client.try_clone().unwrap(), up.clone()),
                sender(daemon.try_clone().unwrap(), down.clone()),
            ];
            let readers = [thread::spawn(|| read_all(client)), thread::spawn(|| read_all(daemon))];
            assert_eq!(bed.run(None), State::Done);
            assert_eq!(bed.reason(), CloseReason::Eof);
            senders.into_iter().for_each(|thread| thread.join().unwrap());
            let [got_down, got_up] = readers.map(|thread| thread.join().unwrap());
            assert!(
                got_up == (up, None) && got_down == (down, None),
                "{kinds:?} splice={splice}/{max_pipes}"
            );
            let spliced = bed.relay.spliced(Side::Downstream) + bed.relay.spliced(Side::Upstream);
            assert_eq!(spliced > 0, splice && max_pipes > 0, "{kinds:?} {splice} {max_pipes}: {spliced}");
        }
    }
}

#[test]
fn streams_of_sizes_around_the_buffer_arrive() {
    for kinds in KINDS {
        for len in [0, 1, SCRATCH_BYTES - 1, SCRATCH_BYTES, SCRATCH_BYTES + 1, 4 * SCRATCH_BYTES + 1] {
            let (mut bed, mut client, daemon) = Bed::plain(kinds);
            let bytes = noise(len, 3);
            let reader = thread::spawn(|| read_all(daemon));
            let sent = bytes.clone();
            let writer = thread::spawn(move || {
                client.write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                read_all(client)
            });
            bed.run(Some(Duration::from_millis(50)));
            // The daemon ends its output when its input has ended, because its reader is dropped.
            assert_eq!(reader.join().unwrap(), (bytes, None), "{kinds:?} {len}");
            assert_eq!(bed.run(None), State::Done);
            assert_eq!(writer.join().unwrap().0.len(), 0);
        }
    }
}

#[test]
fn a_half_close_of_the_client_is_delivered_and_the_daemon_may_go_on() {
    for kinds in KINDS {
        let (mut bed, mut client, mut daemon) = Bed::plain(kinds);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(bed.run(Some(Duration::from_millis(20))), State::Running);
        let mut question = Vec::new();
        daemon.read_to_end(&mut question).unwrap();
        assert_eq!(question, b"question");
        let answer = noise(200_000, 4);
        let sent = answer.clone();
        let writer = thread::spawn(move || daemon.write_all(&sent).unwrap());
        let reader = thread::spawn(|| read_all(client));
        assert_eq!(bed.run(None), State::Done);
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), (answer, None));
        assert_eq!(bed.relay.stats().first_closer, Some(Side::Downstream));
        assert_eq!(bed.reason(), CloseReason::Eof);
    }
}

#[test]
fn a_half_close_of_the_daemon_is_delivered_and_the_client_may_go_on() {
    for kinds in KINDS {
        let (mut bed, mut client, mut daemon) = Bed::plain(kinds);
        daemon.write_all(b"bye").unwrap();
        daemon.shutdown(Shutdown::Write).unwrap();
        assert_ne!(bed.run_for(Duration::from_millis(20)), State::Done);
        let mut bye = Vec::new();
        client.read_to_end(&mut bye).unwrap();
        assert_eq!(bye, b"bye");
        client.write_all(b"still here").unwrap();
        assert_ne!(bed.run_for(Duration::from_millis(20)), State::Done);
        let mut buf = [0; 10];
        daemon.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"still here");
        drop(client);
        assert_eq!(bed.run(None), State::Done);
        assert_eq!(bed.relay.stats().first_closer, Some(Side::Upstream));
        assert_eq!(bed.reason(), CloseReason::Eof);
    }
}

impl Bed {
    /// Like `run`, but ends also while a deadline is pending.
    fn run_for(&mut self, quiet: Duration) -> State {
        let mut events = Events::with_capacity(8);
        let mut ready = Ready::default();
        loop {
            let wants = self.pump(ready);
            if wants.state == State::Done {
                return State::Done;
            }
            self.poll.poll(&mut events, Some(quiet)).unwrap();
            if events.is_empty() && wants.state == State::Running {
                return State::Running;
            }
            ready = Ready { downstream: Readiness::ALL, upstream: Readiness::ALL };
        }
    }
}

#[test]
fn a_reset_is_delivered_behind_the_bytes_before_it() {
    for (breaker, reason) in
        [(Side::Upstream, CloseReason::UpstreamReset), (Side::Downstream, CloseReason::DownstreamReset)]
    {
        let (mut bed, client, daemon) = Bed::plain((true, true));
        let (mut broken, victim) =
            if breaker == Side::Upstream { (daemon, client) } else { (client, daemon) };
        let bytes = noise(100_000, 5);
        let reader = thread::spawn(|| read_all(victim));
        broken.write_all(&bytes).unwrap();
        bed.run(Some(Duration::from_millis(50)));
        broken.set_linger(Some(Duration::ZERO)).unwrap();
        drop(broken);
        assert_eq!(bed.run(None), State::Done);
        assert_eq!(bed.reason(), reason);
        assert_eq!(bed.relay.stats().first_closer, Some(breaker));
        drop(bed);
        let (got, error) = reader.join().unwrap();
        assert!(got == bytes, "what came before the reset was delivered");
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "the end must not look clean");
    }
}

#[test]
fn a_slow_reader_stops_the_sender_and_memory_is_bounded() {
    for kinds in KINDS {
        for splice in [true, false] {
            let options = RelayOptions { splice, ..RelayOptions::default() };
            let (mut bed, client, daemon) = Bed::new(kinds, options, WorkerOptions::default());
            daemon.set_nonblocking(true).unwrap();
            let bytes = noise(1 << 20, 6);
            let mut sent = 0;
            // The client does not read: sooner or later no write succeeds any more.
            let mut idle_rounds = 0;
            while idle_rounds < 3 {
                match (&daemon).write(&bytes) {
                    Ok(n) => {
                        sent += n;
                        idle_rounds = 0;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        idle_rounds += 1;
                    }
                }
                bed.run(Some(Duration::from_millis(5)));
                assert!(sent < 64 << 20, "nothing stops the daemon");
            }
            let stats = bed.relay.stats().down;
            let held = stats.received - stats.delivered;
            let pipe = WorkerOptions::default().pipe_bytes as u64;
            assert!(held <= pipe.max(SCRATCH_BYTES as u64), "{held} bytes held");
            let pumps = bed.pumps;
            bed.run(Some(Duration::from_millis(50)));
            let more = bed.pumps - pumps;
            // The kernel may still move some bytes between its own buffers; a busy loop makes
            // thousands.
            assert!(more <= 50, "a blocked tunnel spins: {more} pumps {kinds:?} {splice}");
            // The reader goes on and gets everything.
            daemon.shutdown(Shutdown::Write).unwrap();
            let reader = thread::spawn(|| read_all(client));
            bed.run(Some(Duration::from_millis(200)));
            let (got, error) = reader.join().unwrap();
            assert_eq!((got.len(), error), (sent, None));
        }
    }
}

/// Counts the descriptors of the process, which must have no other test at the time: nextest gives
/// each test a process.
#[test]
fn an_idle_relay_holds_no_pipe() {
    let (mut bed, mut client, mut daemon) = Bed::plain((true, false));
    bed.run(Some(Duration::from_millis(5)));
    let before = open_fds();
    let mut buf = [0; 4];
    for _ in 0..10 {
        client.write_all(b"ping").unwrap();
        bed.run(Some(Duration::from_millis(5)));
        daemon.read_exact(&mut buf).unwrap();
        daemon.write_all(b"pong").unwrap();
        bed.run(Some(Duration::from_millis(5)));
        client.read_exact(&mut buf).unwrap();
    }
    assert_eq!(open_fds(), before, "keystrokes need no pipe");
    // Bulk borrows a pipe from the worker, and returns it.
    let bytes = noise(4 << 20, 7);
    let reader = thread::spawn(move || {
        let mut got = vec![0; 4 << 20];
        client.read_exact(&mut got).unwrap();
        (client, got)
    });
    let sent = bytes.clone();
    let writer = thread::spawn(move || {
        daemon.write_all(&sent).unwrap();
        daemon
    });
    bed.run(Some(Duration::from_millis(100)));
    let (_client, got) = reader.join().unwrap();
    let _daemon = writer.join().unwrap();
    assert!(got == bytes);
    assert!(bed.relay.spliced(Side::Upstream) > 0);
    bed.worker = Worker::new(WorkerOptions::default());
    assert_eq!(open_fds(), before, "the tunnel kept a pipe");
}

/// A pipe is limited in slots as well as bytes: small messages fill it long before its size, and no
/// new edge reports the bytes that stayed in the socket.
#[test]
fn small_messages_arrive_that_fill_the_slots_of_a_pipe() {
    let (mut bed, client, mut daemon) = Bed::plain((true, false));
    let reader = thread::spawn(|| read_all(client));
    daemon.write_all(&noise(2 * SCRATCH_BYTES, 8)).unwrap();
    bed.run(Some(Duration::from_millis(20)));
    for _ in 0..20 {
        for _ in 0..100 {
            daemon.write_all(b"x").unwrap();
        }
        bed.run(Some(Duration::from_millis(5)));
    }
    daemon.shutdown(Shutdown::Write).unwrap();
    bed.run(Some(Duration::from_millis(20)));
    let _ = daemon.shutdown(Shutdown::Both);
    assert_eq!(reader.join().unwrap().0.len(), 2 * SCRATCH_BYTES + 2000);
}

#[test]
fn a_reset_of_the_client_ends_a_blocked_relay() {
    for tcp in [true, false] {
        let (mut bed, client, daemon) = Bed::plain((tcp, false));
        client.set_nonblocking(true).unwrap();
        let bytes = noise(1 << 20, 9);
        // The daemon does not read its stdin.
        while (&client).write(&bytes).is_ok() {
            bed.run(Some(Duration::from_millis(5)));
        }
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(bed.run(None), State::Done, "tcp={tcp}");
        assert_eq!(bed.reason(), CloseReason::DownstreamReset);
        drop(daemon);
    }
}

/// Docker: the command has ended while its input still arrives. Its output is delivered
/// nevertheless.
#[test]
fn output_of_a_daemon_that_reads_no_more_is_delivered() {
    let (mut bed, mut client, mut daemon) = Bed::plain((true, false));
    daemon.write_all(b"last words").unwrap();
    daemon.shutdown(Shutdown::Read).unwrap();
    client.write_all(b"stdin that nobody wants").unwrap();
    bed.run(Some(Duration::from_millis(20)));
    daemon.write_all(b", really").unwrap();
    daemon.shutdown(Shutdown::Write).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bed.run(None), State::Done);
    drop(bed);
    assert_eq!(read_all(client).0, b"last words, really");
}

#[test]
fn setup_refuses_blocking_sockets_and_what_is_no_stream_socket() {
    let (_client, good) = pair(true);
    let (blocking, _other) = UnixStream::pair().unwrap();
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    datagram.set_nonblocking(true).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let make =
        |fd| Relay::new(Socket::new(good.as_fd()), Socket::new(fd), RelayOptions::default(), now()).map(drop);
    assert!(matches!(make(blocking.as_fd()), Err(SetupError::Blocking(Side::Upstream))));
    assert!(matches!(make(datagram.as_fd()), Err(SetupError::NotStream(Side::Upstream))));
    assert!(matches!(make(file.as_fd()), Err(SetupError::NotStream(Side::Upstream))));
    assert!(make(good.as_fd()).is_ok());
}

#[test]
fn prefill_accepts_bytes_up_to_its_limit_and_before_the_start() {
    use dockline::drive::{PREFILL_LIMIT, PrefillError};
    let (mut bed, _client, daemon) = Bed::plain((true, false));
    assert_eq!(bed.relay.prefill(Side::Downstream, &noise(PREFILL_LIMIT - 1, 1)), Ok(()));
    assert_eq!(bed.relay.prefill(Side::Downstream, &[1, 2]), Err(PrefillError::TooMuch));
    assert_eq!(bed.relay.prefill(Side::Downstream, &[1]), Ok(()));
    assert_eq!(bed.relay.prefill(Side::Downstream, &[1]), Err(PrefillError::TooMuch));
    assert_eq!(bed.relay.prefill(Side::Downstream, &[]), Ok(()));
    let reader = thread::spawn(move || {
        let mut got = vec![0; PREFILL_LIMIT];
        (&daemon).read_exact(&mut got).unwrap();
        (daemon, got)
    });
    bed.run(Some(Duration::from_millis(100)));
    assert!(reader.join().unwrap().1[..PREFILL_LIMIT - 1] == noise(PREFILL_LIMIT - 1, 1));
    assert_eq!(bed.relay.prefill(Side::Upstream, b"late"), Err(PrefillError::Started));
}

/// A socket whose first write, or half-close, fails.
struct Faulty {
    socket: Socket<UnixStream>,
    write: Option<i32>,
    shut: Option<i32>,
}

impl Faulty {
    fn relay(write: Option<i32>, shut: Option<i32>) -> (Relay<Socket<UnixStream>, Self>, [UnixStream; 2]) {
        let [(client, downstream), (daemon, upstream)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        downstream.set_nonblocking(true).unwrap();
        upstream.set_nonblocking(true).unwrap();
        let (downstream, upstream) =
            (Socket::new(downstream), Self { socket: Socket::new(upstream), write, shut });
        (Relay::new(downstream, upstream, RelayOptions::default(), now()).unwrap(), [client, daemon])
    }
}

impl Transport for Faulty {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(buf)
    }

    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self.write.take() {
            Some(code) => Err(std::io::Error::from_raw_os_error(code)),
            None => self.socket.write(buf),
        }
    }

    fn shutdown_write(&mut self) -> std::io::Result<()> {
        match self.shut.take() {
            Some(code) => Err(std::io::Error::from_raw_os_error(code)),
            None => self.socket.shutdown_write(),
        }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.socket()
    }

    fn is_plain(&self) -> bool {
        self.socket.is_plain()
    }
}

/// The daemon waits for the rest, or for the end of its input.
#[test]
fn an_error_that_is_no_hang_up_ends_the_relay() {
    for (write, shut) in [(Some(libc::EIO), None), (None, Some(libc::ENOMEM))] {
        let (mut relay, [mut client, mut daemon]) = Faulty::relay(write, shut);
        client.write_all(b"x").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let wants = relay.pump(&mut Worker::new(WorkerOptions::default()), Ready::default(), now());
        assert_eq!((wants.state, relay.must_abort(Side::Downstream)), (State::Done, true));
        drop(relay);
        assert_eq!(daemon.read_to_end(&mut Vec::new()).unwrap(), usize::from(shut.is_some()));
    }
}

/// No event reports that there is memory again.
#[test]
fn a_write_that_fails_for_lack_of_memory_is_retried_at_a_deadline() {
    let (mut relay, [mut client, mut daemon]) = Faulty::relay(Some(libc::ENOBUFS), None);
    let now = now();
    let mut worker = Worker::new(WorkerOptions::default());
    client.write_all(b"x").unwrap();
    let wants = relay.pump(&mut worker, Ready::default(), now);
    assert!(!wants.upstream.write, "it is writable all the time");
    relay.pump(&mut worker, Ready::default(), wants.deadline.unwrap());
    daemon.set_nonblocking(true).unwrap();
    assert_eq!(daemon.read(&mut [0; 2]).unwrap(), 1);
}
