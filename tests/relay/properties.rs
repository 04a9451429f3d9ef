//! The relay against a model of two peers, for any schedule of arrivals, windows, ends and
//! deadlines: every byte arrives once and in order, each end arrives behind its bytes, and memory
//! stays bounded.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dockline::drive::{
    Ready, Relay, RelayOptions, SCRATCH_BYTES, State, Transport, Wants, Worker, WorkerOptions,
};
use dockline::error::Side;
use dockline::relay::{CloseReason, Readiness, RelayConfig};
use proptest::prelude::*;

/// One peer and its connection.
#[derive(Debug, Default)]
struct Peer {
    /// All bytes that it has sent, and those that have arrived and were not read yet.
    sent: Vec<u8>,
    arrived: VecDeque<u8>,
    end: Option<End>,
    end_was_read: bool,
    /// How many bytes it accepts now, those that it has received, and whether it has received the
    /// end.
    window: usize,
    took: Vec<u8>,
    told_end: bool,
    refuses: Option<ErrorKind>,
    kind: Kind,
    /// Bytes that a transport of [`Kind::Keeps`] has accepted and not sent yet.
    kept: Vec<u8>,
    /// What the poller has to report.
    edge: Readiness,
    /// A write was refused for lack of room; the next room gives an edge.
    wants_room: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

/// How the transport behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// A socket.
    #[default]
    Plain,
    /// Like TLS, returns one record at a time, and the poller reports the first one only.
    Records,
    /// The same, and accepts bytes before the peer does.
    Keeps,
}

/// The most bytes that a transport keeps.
const KEPT: usize = 700;

impl Peer {
    /// Lets the peer receive as much as it accepts.
    fn take(&mut self, buf: &[u8]) -> usize {
        let n = buf.len().min(self.window);
        self.took.extend_from_slice(&buf[..n]);
        self.window -= n;
        if n < buf.len() {
            self.wants_room = true;
        }
        n
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(kind) = self.refuses {
            return Err(kind.into());
        }
        let kept = std::mem::take(&mut self.kept);
        let n = self.take(&kept);
        self.kept = kept[n..].to_vec();
        if self.kept.is_empty() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }
}

#[derive(Clone)]
struct Wire(Rc<RefCell<Peer>>);

impl Transport for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut peer = self.0.borrow_mut();
        assert!(!peer.end_was_read, "read after the end");
        let most = if peer.kind == Kind::Plain { buf.len() } else { buf.len().min(1000) };
        let n = most.min(peer.arrived.len());
        if n > 0 {
            for (slot, byte) in buf.iter_mut().zip(peer.arrived.drain(..n)) {
                *slot = byte;
            }
            return Ok(n);
        }
        match peer.end {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(End::Eof) => {
                peer.end_was_read = true;
                Ok(0)
            }
            Some(End::Reset) => {
                peer.end_was_read = true;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut peer = self.0.borrow_mut();
        assert!(!peer.told_end, "write after the half-close");
        peer.flush()?;
        if peer.kind == Kind::Keeps {
            let n = buf.len().min(KEPT);
            peer.kept = buf[..n].to_vec();
            let _ = peer.flush();
            return Ok(n);
        }
        let n = peer.take(buf);
        if n == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut peer = self.0.borrow_mut();
        assert!(!peer.told_end, "half-closed twice");
        if !peer.kept.is_empty() {
            peer.flush()?;
        }
        peer.told_end = true;
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.0.borrow().kept.is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_plain(&self) -> bool {
        self.0.borrow().kind == Kind::Plain
    }
}

#[derive(Debug, Clone)]
enum Event {
    Arrive(Side, usize),
    End(Side, End),
    Room(Side, usize),
    /// The peer accepts nothing any more.
    Refuse(Side, ErrorKind),
    Spurious,
    Pass(Duration),
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Downstream), Just(Side::Upstream)]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1..20_usize,
        2 => 1..5000_usize,
        1 => (SCRATCH_BYTES - 2)..(SCRATCH_BYTES + 3),
        1 => 1..3 * SCRATCH_BYTES,
    ]
}

fn quiet_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (side(), size()).prop_map(|(side, n)| Event::Arrive(side, n)),
        4 => (side(), size()).prop_map(|(side, n)| Event::Room(side, n)),
        1 => side().prop_map(|side| Event::End(side, End::Eof)),
        1 => Just(Event::Spurious),
        1 => (0..4000_u64).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => quiet_event(),
        1 => side().prop_map(|side| Event::End(side, End::Reset)),
        1 => (side(), prop_oneof![Just(ErrorKind::BrokenPipe), Just(ErrorKind::ConnectionReset)])
            .prop_map(|(side, kind)| Event::Refuse(side, kind)),
    ]
}

/// How the host polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poller {
    /// Reports each change once, whether asked for or not.
    Edge,
    /// Reports the present state, as far as it was asked for.
    Level,
}

struct World {
    peers: [Wire; 2],
    relay: Relay<Wire, Wire>,
    worker: Worker,
    poller: Poller,
    now: Instant,
    wants: Option<Wants>,
    counter: u8,
}

impl World {
    fn new(poller: Poller, kind: Kind, budget: usize, prefill: usize) -> Self {
        let wire = || Wire(Rc::new(RefCell::new(Peer { window: 100, kind, ..Peer::default() })));
        let peers = [wire(), wire()];
        #[expect(clippy::disallowed_methods, reason = "an arbitrary start for the virtual clock")]
        let now = Instant::now();
        let config = RelayConfig { idle: None, linger: None };
        let options = RelayOptions { config, budget, ..RelayOptions::default() };
        let mut relay = Relay::new(peers[0].clone(), peers[1].clone(), options, now).unwrap();
        for (index, from) in [Side::Downstream, Side::Upstream].into_iter().enumerate() {
            let early: Vec<u8> = (0..prefill).map(|i| i.to_le_bytes()[0]).collect();
            peers[index].0.borrow_mut().sent.extend_from_slice(&early);
            relay.prefill(from, &early).unwrap();
        }
        Self {
            peers,
            relay,
            worker: Worker::new(WorkerOptions::default()),
            poller,
            now,
            wants: None,
            counter: 0,
        }
    }

    fn peer(&self, side: Side) -> std::cell::RefMut<'_, Peer> {
        self.peers[usize::from(side == Side::Upstream)].0.borrow_mut()
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Arrive(side, n) => {
                let counter = &mut self.counter;
                let mut peer = self.peers[usize::from(side == Side::Upstream)].0.borrow_mut();
                if peer.end.is_none() {
                    for _ in 0..n {
                        *counter = counter.wrapping_mul(31).wrapping_add(7);
                        peer.sent.push(*counter);
                        peer.arrived.push_back(*counter);
                    }
                    peer.edge.read = true;
                }
            }
            Event::End(side, end) => {
                let mut peer = self.peer(side);
                if peer.end.is_none() {
                    peer.end = Some(end);
                    peer.edge.hup = true;
                }
            }
            Event::Room(side, n) => {
                let mut peer = self.peer(side);
                peer.window += n;
                if std::mem::take(&mut peer.wants_room) {
                    peer.edge.write = true;
                }
            }
            Event::Refuse(side, kind) => {
                let mut peer = self.peer(side);
                peer.refuses = Some(kind);
                peer.edge.write = true;
            }
            Event::Spurious => {}
            Event::Pass(time) => self.now += time,
        }
    }

    fn ready(&self, side: Side) -> Readiness {
        let mut peer = self.peer(side);
        match (self.poller, self.wants) {
            (Poller::Edge, _) | (_, None) => std::mem::take(&mut peer.edge),
            (Poller::Level, Some(wants)) => {
                let interest = match side {
                    Side::Downstream => wants.downstream,
                    Side::Upstream => wants.upstream,
                };
                Readiness {
                    read: interest.read && (!peer.arrived.is_empty() || peer.end.is_some()),
                    write: interest.write && (peer.window > 0 || peer.refuses.is_some()),
                    hup: peer.end.is_some() && !peer.end_was_read,
                }
            }
        }
    }

    fn pump(&mut self) -> State {
        loop {
            let ready =
                Ready { downstream: self.ready(Side::Downstream), upstream: self.ready(Side::Upstream) };
            let wants = self.relay.pump(&mut self.worker, ready, self.now);
            self.wants = Some(wants);
            self.check_always();
            if wants.state != State::Yield {
                self.check_not_stalled(wants.state);
                return wants.state;
            }
        }
    }

    /// Checks that bytes that were reported wait for nothing but the readiness of the other side.
    fn check_not_stalled(&self, state: State) {
        for (from, to) in [(Side::Downstream, Side::Upstream), (Side::Upstream, Side::Downstream)] {
            let (source, target) = (self.peer(from), self.peer(to));
            let faulty =
                source.end == Some(End::Reset) || source.refuses.is_some() || target.refuses.is_some();
            let stalled = !source.arrived.is_empty() && target.window > 0 && self.poller == Poller::Edge;
            assert!(state == State::Done || faulty || target.end == Some(End::Reset) || !stalled, "stalled");
        }
    }

    fn check_always(&self) {
        let stats = self.relay.stats();
        for (from, to, direction) in
            [(Side::Downstream, Side::Upstream, stats.up), (Side::Upstream, Side::Downstream, stats.down)]
        {
            let (source, target) = (self.peer(from), self.peer(to));
            assert!(source.sent.starts_with(&target.took), "bytes lost, repeated or reordered");
            assert_eq!(direction.delivered, (target.took.len() + target.kept.len()) as u64);
            assert!(direction.received <= source.sent.len() as u64);
            if target.told_end && target.refuses.is_none() {
                assert_eq!(source.end, Some(End::Eof), "an end that the source did not send");
                assert_eq!(target.took, source.sent, "the end overtook bytes");
            }
            let held = direction.received - direction.delivered;
            let prefill_and_scratch = 3 * SCRATCH_BYTES as u64;
            let running = stats.close_reason.is_none() && target.refuses.is_none();
            assert!(!running || held <= prefill_and_scratch, "{held} bytes held");
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Plain), Just(Kind::Records), Just(Kind::Keeps)]
}

fn pollers() -> impl Strategy<Value = Poller> {
    prop_oneof![Just(Poller::Edge), Just(Poller::Level)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn all_bytes_and_both_half_closes_arrive(
        events in prop::collection::vec(quiet_event(), 0..60),
        poller in pollers(),
        kind in kinds(),
        budget in prop_oneof![Just(1_usize), Just(1000), Just(1 << 20)],
        prefill in prop_oneof![Just(0_usize), 1..300_usize],
    ) {
        let mut world = World::new(poller, kind, budget, prefill);
        world.pump();
        for event in &events {
            world.apply(event);
            world.pump();
        }
        for side in [Side::Downstream, Side::Upstream] {
            world.apply(&Event::End(side, End::Eof));
            world.apply(&Event::Room(side, usize::MAX / 4));
        }
        let mut turns = 0;
        while world.pump() != State::Done {
            turns += 1;
            prop_assert!(turns < 10, "stuck: {:?}", world.wants);
        }
        for (from, to) in [(Side::Downstream, Side::Upstream), (Side::Upstream, Side::Downstream)] {
            prop_assert_eq!(&world.peer(from).sent, &world.peer(to).took);
            prop_assert!(world.peer(to).told_end);
            prop_assert!(!world.relay.must_abort(to));
        }
        prop_assert_eq!(world.relay.stats().close_reason, Some(CloseReason::Eof));
    }

    #[test]
    fn a_fault_ends_the_relay_and_loses_no_accepted_byte(
        events in prop::collection::vec(any_event(), 0..60),
        poller in pollers(),
        kind in kinds(),
        faulty in side(),
    ) {
        let mut world = World::new(poller, kind, 1 << 20, 0);
        world.pump();
        let mut done = false;
        for event in &events {
            world.apply(event);
            done = done || world.pump() == State::Done;
        }
        world.apply(&Event::End(faulty, End::Reset));
        for side in [Side::Downstream, Side::Upstream] {
            world.apply(&Event::End(side, End::Eof));
            world.apply(&Event::Room(side, usize::MAX / 4));
        }
        for _ in 0..10 {
            done = done || world.pump() == State::Done;
            if let Some(deadline) = world.wants.and_then(|wants| wants.deadline) {
                world.now = world.now.max(deadline);
            }
        }
        prop_assert!(done, "still running: {:?}", world.wants);
        let reason = world.relay.stats().close_reason.unwrap();
        for (from, to) in [(Side::Downstream, Side::Upstream), (Side::Upstream, Side::Downstream)] {
            let (source, target) = (world.peer(from), world.peer(to));
            if source.end == Some(End::Reset) && source.end_was_read && target.refuses.is_none() {
                // What was read before the reset was delivered, and the end does not look clean.
                prop_assert!(!target.told_end);
                prop_assert!(world.relay.must_abort(to), "{:?}", reason);
            }
        }
        let client = world.peer(Side::Downstream);
        if reason == CloseReason::Eof && client.refuses.is_none() {
            prop_assert_eq!(&world.peer(Side::Upstream).sent, &client.took, "the response of the daemon is complete");
        }
    }

    #[test]
    fn the_idle_timeout_counts_from_the_last_byte(quiet in 1..2000_u64, idle in 1..2000_u64) {
        let mut world = World::new(Poller::Edge, Kind::Plain, 1 << 20, 0);
        let config = RelayConfig { idle: Some(Duration::from_millis(idle)), linger: None };
        let options = RelayOptions { config, ..RelayOptions::default() };
        world.relay = Relay::new(world.peers[0].clone(), world.peers[1].clone(), options, world.now).unwrap();
        world.pump();
        world.apply(&Event::Pass(Duration::from_millis(idle - 1)));
        world.apply(&Event::Arrive(Side::Downstream, 3));
        prop_assert_eq!(world.pump(), State::Running);
        world.apply(&Event::Pass(Duration::from_millis(quiet)));
        let state = world.pump();
        prop_assert_eq!(state == State::Done, quiet >= idle, "{:?}", state);
        if quiet >= idle {
            prop_assert_eq!(world.relay.stats().close_reason, Some(CloseReason::Idle));
            prop_assert!(world.relay.must_abort(Side::Downstream));
        }
    }
}

#[test]
fn the_linger_timeout_ends_a_tunnel_whose_client_does_not_half_close() {
    let mut world = World::new(Poller::Edge, Kind::Plain, 1 << 20, 0);
    let options = RelayOptions::default();
    world.relay = Relay::new(world.peers[0].clone(), world.peers[1].clone(), options, world.now).unwrap();
    world.apply(&Event::End(Side::Upstream, End::Eof));
    assert_eq!(world.pump(), State::Running);
    world.apply(&Event::Pass(Duration::from_millis(4999)));
    assert_eq!(world.pump(), State::Running);
    // A byte that is forwarded is progress.
    world.apply(&Event::Arrive(Side::Downstream, 1));
    assert_eq!(world.pump(), State::Running);
    world.apply(&Event::Pass(Duration::from_millis(4999)));
    assert_eq!(world.pump(), State::Running);
    world.apply(&Event::Pass(Duration::from_millis(1)));
    assert_eq!(world.pump(), State::Done);
    assert_eq!(world.relay.stats().close_reason, Some(CloseReason::Linger));
    assert_eq!(world.relay.stats().first_closer, Some(Side::Upstream));
    assert!(!world.relay.must_abort(Side::Downstream), "the client has had its clean end");
}

/// The kernel reports a reset once: to the write that meets it. The end of file behind it is not
/// clean.
#[test]
fn a_reset_that_was_reported_to_a_write_is_not_forgotten() {
    for (kind, clean) in [(ErrorKind::BrokenPipe, true), (ErrorKind::ConnectionReset, false)] {
        let mut world = World::new(Poller::Edge, Kind::Plain, 1 << 20, 0);
        world.pump();
        world.apply(&Event::Refuse(Side::Upstream, kind));
        world.apply(&Event::Arrive(Side::Downstream, 5));
        assert_eq!(world.pump(), State::Running, "the daemon may still send");
        world.apply(&Event::Room(Side::Downstream, 1000));
        world.apply(&Event::Arrive(Side::Upstream, 500));
        world.apply(&Event::End(Side::Upstream, End::Eof));
        world.apply(&Event::End(Side::Downstream, End::Eof));
        assert_eq!(world.pump(), State::Done);
        assert_eq!(world.peer(Side::Downstream).took.len(), 500);
        let reason = if clean { CloseReason::Eof } else { CloseReason::UpstreamReset };
        assert_eq!(world.relay.stats().close_reason, Some(reason));
        assert_eq!(world.relay.must_abort(Side::Downstream), !clean);
    }
}

/// A daemon that responds at once must not occupy the loop of the host.
#[test]
fn a_long_run_of_small_messages_yields() {
    let mut world = World::new(Poller::Edge, Kind::Records, 1 << 20, 0);
    for side in [Side::Downstream, Side::Upstream] {
        world.apply(&Event::Room(side, usize::MAX / 4));
    }
    // A record of 1000 bytes a read, far below the budget in bytes.
    world.apply(&Event::Arrive(Side::Upstream, 200_000));
    let ready = Ready { upstream: Readiness::ALL, ..Ready::default() };
    let wants = world.relay.pump(&mut world.worker, ready, world.now);
    assert_eq!(wants.state, State::Yield);
    // 64 reads: one of the client, which sent nothing, and these.
    assert_eq!(world.relay.stats().down.delivered, 63_000);
}

/// Bytes inside a transport are not delivered yet, whatever follows them.
#[test]
fn bytes_inside_a_transport_are_sent_before_the_end() {
    for (end, reason) in [(End::Eof, CloseReason::Eof), (End::Reset, CloseReason::UpstreamReset)] {
        let mut world = World::new(Poller::Level, Kind::Keeps, 1 << 20, 0);
        world.peer(Side::Downstream).window = 0;
        world.apply(&Event::Arrive(Side::Upstream, 10));
        world.apply(&Event::End(Side::Downstream, End::Eof));
        world.apply(&Event::End(Side::Upstream, end));
        assert_eq!(world.pump(), State::Running);
        assert_eq!(world.relay.stats().down.delivered, 10, "the transport has them");
        assert!(world.wants.unwrap().downstream.write, "and the relay waits for room on its behalf");
        world.apply(&Event::Room(Side::Downstream, 9));
        assert_eq!(world.pump(), State::Running);
        world.apply(&Event::Room(Side::Downstream, 1));
        // The relay goes on with the event or, should that be lost, at its deadline.
        world.now = world.wants.unwrap().deadline.unwrap_or(world.now);
        assert_eq!(world.pump(), State::Done);
        assert_eq!(world.relay.stats().close_reason, Some(reason));
        assert_eq!(world.peer(Side::Downstream).took.len(), 10);
    }
}

/// A flush that fails is a write that fails. A peer that accepts nothing is waited for a limited
/// time.
#[test]
fn bytes_inside_a_transport_are_dropped_with_their_peer() {
    let kept = || {
        let mut world = World::new(Poller::Edge, Kind::Keeps, 1 << 20, 0);
        world.peer(Side::Downstream).window = 0;
        world.peer(Side::Upstream).window = 0;
        world.apply(&Event::Arrive(Side::Upstream, 10));
        world.apply(&Event::Arrive(Side::Downstream, 10));
        assert_eq!(world.pump(), State::Running);
        world
    };
    let mut world = kept();
    world.apply(&Event::Refuse(Side::Downstream, ErrorKind::BrokenPipe));
    assert_eq!(world.pump(), State::Running, "the upstream is still to get its bytes");
    world.apply(&Event::Room(Side::Upstream, 10));
    world.now = world.wants.unwrap().deadline.unwrap();
    assert_eq!(world.pump(), State::Done);
    assert_eq!(world.relay.stats().close_reason, Some(CloseReason::DownstreamReset));
    assert_eq!(world.peer(Side::Upstream).took.len(), 10);

    let mut world = kept();
    world.apply(&Event::Refuse(Side::Upstream, ErrorKind::BrokenPipe));
    assert_eq!(world.pump(), State::Running, "the upstream may still send");
    assert!(!world.wants.unwrap().upstream.write, "but accepts no more");

    let mut world = kept();
    world.apply(&Event::End(Side::Upstream, End::Reset));
    assert_eq!(world.pump(), State::Running);
    world.apply(&Event::Pass(Duration::from_secs(1)));
    assert_eq!(world.pump(), State::Done, "a client that reads nothing is waited for a second");
}

#[test]
fn drain_and_kill_abort_both_sides() {
    for kill in [false, true] {
        let mut world = World::new(Poller::Edge, Kind::Plain, 1 << 20, 0);
        assert_eq!(world.pump(), State::Running);
        if kill {
            world.relay.kill();
        } else {
            world.relay.drain(world.now + Duration::from_secs(1));
            world.relay.drain(world.now + Duration::from_secs(2));
            assert_eq!(world.pump(), State::Running);
            world.apply(&Event::Pass(Duration::from_secs(1)));
        }
        assert_eq!(world.pump(), State::Done);
        let reason = if kill { CloseReason::Killed } else { CloseReason::Drain };
        assert_eq!(world.relay.stats().close_reason, Some(reason));
        assert!(world.relay.must_abort(Side::Downstream) && world.relay.must_abort(Side::Upstream));
    }
}
