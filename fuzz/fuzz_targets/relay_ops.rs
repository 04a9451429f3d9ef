//! A relay between two scripted peers under an edge-triggered poller: what arrives is a prefix of
//! what was sent, memory stays bounded, and when both peers end in peace everything has arrived and
//! the ends behind it.
#![no_main]

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use dockline::drive::{
    PREFILL_LIMIT, Ready, Relay, RelayOptions, SCRATCH_BYTES, State, Transport, Wants, Worker, WorkerOptions,
};
use dockline::error::Side;
use dockline::relay::{CloseReason, Readiness, RelayConfig};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    idle_ms: Option<u16>,
    linger_ms: Option<u16>,
    budget: u16,
    peers: [Kind; 2],
    prefill: [u16; 2],
    ops: Vec<Op>,
}

/// How a connection behaves.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Kind {
    /// A read gives all there is.
    Plain,
    /// A read or write moves so many bytes at most, as TLS records do, however many more there are.
    Records(u16),
}

#[derive(Arbitrary, Debug)]
enum Op {
    /// The peer sends so many bytes, times 16 if the flag is set.
    Send(Upstream, u16, bool),
    /// The peer makes room.
    Room(Upstream, u16, bool),
    End(Upstream),
    Reset(Upstream),
    /// The peer takes no more; with a reset, or as one that stopped reading.
    Refuse(Upstream, bool),
    /// The next half-closes would block.
    ShutLater(Upstream, bool),
    Gone(Upstream),
    Pass(u16),
    Drain(u16),
    Kill,
    Pump,
    /// Pump with readiness that was not seen.
    Spurious(u8),
}

type Upstream = bool;

/// Smaller ones, and more bytes than that, only take time.
const LEAST_RECORD: usize = 64;
const MOST_SENT: usize = 512 * 1024;

fn side_of(upstream: Upstream) -> Side {
    if upstream { Side::Upstream } else { Side::Downstream }
}

/// The byte at some place of a peer's stream.
fn byte_at(upstream: Upstream, place: usize) -> u8 {
    (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) as u8 ^ u8::from(upstream)
}

#[derive(Debug)]
struct Peer {
    upstream: Upstream,
    kind: Kind,
    /// Bytes it has sent, and how many of them were read.
    sent: usize,
    read: usize,
    end: Option<End>,
    end_was_read: bool,
    room: usize,
    /// Bytes it got; what they are is checked as they come.
    got: usize,
    told_end: bool,
    refuses: Option<ErrorKind>,
    shut_later: bool,
    edge: Readiness,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Eof,
    Reset,
}

#[derive(Clone)]
struct Wire(Rc<RefCell<Peer>>);

impl Peer {
    fn at_most(&self, n: usize) -> usize {
        match self.kind {
            Kind::Plain => n,
            Kind::Records(size) => n.min(usize::from(size).max(LEAST_RECORD)),
        }
    }
}

impl Transport for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut peer = self.0.borrow_mut();
        assert!(!buf.is_empty());
        assert!(!peer.end_was_read, "read behind the end");
        let n = peer.at_most(buf.len()).min(peer.sent - peer.read);
        if n > 0 {
            for (place, slot) in (peer.read..).zip(&mut buf[..n]) {
                *slot = byte_at(peer.upstream, place);
            }
            peer.read += n;
            return Ok(n);
        }
        let Some(end) = peer.end else { return Err(ErrorKind::WouldBlock.into()) };
        peer.end_was_read = true;
        if end == End::Eof { Ok(0) } else { Err(io::Error::from_raw_os_error(104)) }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut peer = self.0.borrow_mut();
        assert!(!buf.is_empty());
        assert!(!peer.told_end, "write behind the half-close");
        if let Some(kind) = peer.refuses {
            return Err(kind.into());
        }
        let n = peer.at_most(buf.len()).min(peer.room);
        for (place, byte) in (peer.got..).zip(&buf[..n]) {
            assert_eq!(*byte, byte_at(!peer.upstream, place), "byte {place}");
        }
        peer.got += n;
        peer.room -= n;
        if n == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut peer = self.0.borrow_mut();
        assert!(!peer.told_end, "half-closed twice");
        if peer.shut_later {
            return Err(ErrorKind::WouldBlock.into());
        }
        peer.told_end = true;
        Ok(())
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_plain(&self) -> bool {
        matches!(self.0.borrow().kind, Kind::Plain)
    }
}

struct Bed {
    relay: Relay<Wire, Wire>,
    worker: Worker,
    peers: [Wire; 2],
    now: Instant,
    /// Nothing happened that cuts a stream.
    peaceful: bool,
    last: Option<Wants>,
}

impl Bed {
    fn peer(&self, upstream: Upstream) -> std::cell::RefMut<'_, Peer> {
        self.peers[usize::from(upstream)].0.borrow_mut()
    }

    /// Pumps with the edges that have not been passed on.
    fn pump(&mut self, more: u8) -> State {
        let has = |bit: u8| more & (1 << bit) != 0;
        let mut ready = Ready {
            downstream: Readiness { read: has(0), write: has(1), hup: has(2) },
            upstream: Readiness { read: has(3), write: has(4), hup: has(5) },
        };
        for (upstream, to) in [(false, &mut ready.downstream), (true, &mut ready.upstream)] {
            let seen = std::mem::take(&mut self.peer(upstream).edge);
            to.read |= seen.read;
            to.write |= seen.write;
            to.hup |= seen.hup;
        }
        let wants = self.relay.pump(&mut self.worker, ready, self.now);
        let stats = self.relay.stats();
        for (counts, upstream) in [(stats.up, false), (stats.down, true)] {
            assert!(counts.delivered <= counts.received);
            assert_eq!(counts.received as usize, self.peer(upstream).read);
            assert_eq!(counts.delivered as usize, self.peer(!upstream).got);
        }
        match wants.state {
            State::Running => assert!(
                wants.deadline.is_some()
                    || [wants.downstream, wants.upstream]
                        .iter()
                        .any(|interest| interest.read || interest.write),
                "nothing would ever wake it: {wants:?}"
            ),
            State::Done => assert!(stats.close_reason.is_some() && wants.deadline.is_none()),
            State::Yield => {}
        }
        if let Some(Wants { state: State::Done, .. }) = self.last {
            assert_eq!(wants.state, State::Done, "done is done");
        }
        self.last = Some(wants);
        wants.state
    }

    fn act(&mut self, op: &Op) {
        let times = |n: u16, more: bool| usize::from(n) * if more { 16 } else { 1 };
        match *op {
            Op::Send(upstream, n, more) => {
                let mut peer = self.peer(upstream);
                if peer.end.is_none() {
                    peer.sent = (peer.sent + times(n, more)).min(MOST_SENT);
                    peer.edge.read = true;
                }
            }
            Op::Room(upstream, n, more) => {
                let mut peer = self.peer(upstream);
                peer.room += times(n, more);
                peer.edge.write = true;
            }
            Op::End(upstream) => self.end(upstream, End::Eof),
            Op::Reset(upstream) => {
                self.peaceful = false;
                self.end(upstream, End::Reset);
            }
            Op::Refuse(upstream, reset) => {
                self.peaceful = false;
                let mut peer = self.peer(upstream);
                peer.refuses = Some(if reset { ErrorKind::ConnectionReset } else { ErrorKind::BrokenPipe });
                peer.edge = Readiness::ALL;
            }
            Op::ShutLater(upstream, later) => {
                let mut peer = self.peer(upstream);
                peer.shut_later = later;
                peer.edge.write |= !later;
            }
            Op::Gone(upstream) => {
                self.peaceful = false;
                self.relay.peer_gone(side_of(upstream), self.now);
            }
            Op::Pass(ms) => self.now += Duration::from_millis(ms.into()),
            Op::Drain(ms) => {
                self.peaceful = false;
                self.relay.drain(self.now + Duration::from_millis(ms.into()));
            }
            Op::Kill => {
                self.peaceful = false;
                self.relay.kill();
            }
            Op::Pump => drop(self.pump(0)),
            Op::Spurious(bits) => drop(self.pump(bits)),
        }
    }

    fn end(&mut self, upstream: Upstream, end: End) {
        let mut peer = self.peer(upstream);
        if peer.end.is_none() {
            peer.end = Some(end);
            peer.edge = Readiness { read: true, hup: true, write: peer.edge.write };
        }
    }

    /// Both peers read everything: nothing may be left waiting for an edge that will not come.
    fn settle(&mut self) {
        for upstream in [false, true] {
            self.act(&Op::ShutLater(upstream, false));
            let mut peer = self.peer(upstream);
            peer.room = usize::MAX / 2;
            peer.edge.write = true;
        }
        while self.pump(0) == State::Yield {}
        if self.peaceful && self.relay.stats().close_reason.is_none() {
            for upstream in [false, true] {
                let source = self.peer(!upstream);
                assert_eq!(source.read, source.sent, "not read, and nothing will tell that it is there");
                assert_eq!(self.peer(upstream).got, source.sent, "not delivered, though there is room");
            }
        }
    }

    /// Both peers end; the relay has to come to its end, too.
    fn finish(&mut self) {
        self.act(&Op::End(false));
        self.act(&Op::End(true));
        for round in 0.. {
            assert!(round < 8 * MOST_SENT / LEAST_RECORD, "it does not end: {:?}", self.last);
            match self.pump(0) {
                State::Done => break,
                State::Yield => {}
                State::Running => {
                    let wants = self.last.expect("just set");
                    let at = wants.deadline.unwrap_or_else(|| panic!("stuck: {wants:?}"));
                    self.now = self.now.max(at);
                }
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let peers = [false, true].map(|upstream| {
        Wire(Rc::new(RefCell::new(Peer {
            upstream,
            kind: input.peers[usize::from(upstream)],
            sent: 0,
            read: 0,
            end: None,
            end_was_read: false,
            room: 0,
            got: 0,
            told_end: false,
            refuses: None,
            shut_later: false,
            edge: Readiness::default(),
        })))
    });
    let limit = |ms: Option<u16>| ms.map(|ms| Duration::from_millis(u64::from(ms) + 1));
    let options = RelayOptions {
        config: RelayConfig { idle: limit(input.idle_ms), linger: limit(input.linger_ms) },
        budget: usize::from(input.budget) * 16 + LEAST_RECORD,
        ..RelayOptions::default()
    };
    let now = Instant::now();
    let relay = Relay::new(peers[0].clone(), peers[1].clone(), options, now).expect("nothing to refuse");
    let worker = Worker::new(WorkerOptions::default());
    let mut bed = Bed { relay, worker, peers, now, peaceful: true, last: None };
    for upstream in [false, true] {
        let len = usize::from(input.prefill[usize::from(upstream)]);
        let bytes: Vec<u8> = (0..len).map(|place| byte_at(upstream, place)).collect();
        bed.relay.prefill(side_of(upstream), &bytes).expect("within the limit");
        let mut peer = bed.peer(upstream);
        peer.sent = len;
        peer.read = len;
        assert!(len <= PREFILL_LIMIT);
    }
    for op in input.ops.iter().take(100) {
        bed.act(op);
        let stats = bed.relay.stats();
        for (counts, prefilled) in [(stats.up, input.prefill[0]), (stats.down, input.prefill[1])] {
            let bound = SCRATCH_BYTES.max(usize::from(prefilled)) as u64;
            assert!(!bed.peaceful || counts.received - counts.delivered <= bound);
        }
    }
    bed.settle();
    bed.finish();
    let reason = bed.relay.stats().close_reason.expect("it is done");
    match reason {
        CloseReason::Eof if bed.peaceful => {
            for upstream in [false, true] {
                let (sent, peer) = (bed.peer(!upstream).sent, bed.peer(upstream));
                assert_eq!(peer.got, sent, "everything has to arrive");
                assert!(peer.told_end);
            }
        }
        CloseReason::Linger => assert!(bed.peer(false).told_end && input.linger_ms.is_some()),
        CloseReason::Idle => assert!(input.idle_ms.is_some()),
        CloseReason::Eof => {}
        _ => assert!(!bed.peaceful, "{reason:?} in peace"),
    }
    // A stream that was cut does not look whole.
    for upstream in [false, true] {
        let (source, target) = (bed.peer(!upstream), bed.peer(upstream));
        if target.told_end {
            assert!(target.got == source.sent && source.end == Some(End::Eof), "a clean end behind a part");
        }
    }
});
