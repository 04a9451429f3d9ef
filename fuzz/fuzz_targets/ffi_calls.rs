//! Sequences of C calls, right and wrong, on real sockets and on callbacks that call back in: no
//! crash, only statuses that are documented, and nothing left behind.
#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CStr, c_void};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;

use arbitrary::Arbitrary;
use dockline::ffi::*;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op {
    WorkerNew {
        slot: u8,
        max_pipes: u8,
        pipe_bytes: u16,
        log: bool,
        size: Size,
    },
    WorkerFree {
        slot: u8,
    },
    RelayNew {
        slot: u8,
        worker: u8,
        idle_ms: u16,
        linger_ms: u16,
        budget: u16,
        flags: Bits,
        sides: [Maker; 2],
        size: Size,
    },
    RelayFree {
        slot: u8,
    },
    Prefill {
        relay: Handle,
        side: i8,
        len: u16,
    },
    Pump {
        relay: Handle,
        ready: Bits,
        pass_ms: u16,
        size: Size,
    },
    Drain {
        relay: Handle,
        in_ms: u16,
    },
    Kill {
        relay: Handle,
    },
    Stats {
        relay: Handle,
        size: Size,
    },
    PeerSend {
        slot: u8,
        upstream: bool,
        len: u16,
        times: u8,
    },
    PeerReceive {
        slot: u8,
        upstream: bool,
        len: u16,
    },
    PeerShut {
        slot: u8,
        upstream: bool,
    },
    PeerClose {
        slot: u8,
        upstream: bool,
    },
    Answer {
        slot: u8,
        upstream: bool,
        answers: Vec<i16>,
    },
    Names(i32),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Size {
    Right,
    Less(u8),
    More(u8, bool),
    Absurd,
}

/// Mostly of the bits that mean something.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Bits {
    Low(u8),
    Any(u32),
}

impl Bits {
    fn within(self, mask: u32) -> u32 {
        match self {
            Self::Low(bits) => u32::from(bits) & mask,
            Self::Any(bits) => bits,
        }
    }
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Maker {
    Socket,
    Callbacks { with_fd: bool },
    Blocking,
    Fd(i8),
    HalfSet(u8),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Handle {
    Relay(u8),
    Null,
    /// A handle of the other type.
    Worker(u8),
}

const SLOTS: usize = 3;

/// What the callbacks of a side have.
#[derive(Default)]
struct HostSide {
    relay: Cell<*mut dockline_relay>,
    answers: RefCell<VecDeque<i16>>,
    called: Cell<u32>,
}

impl HostSide {
    /// Calls back in, which has to be noticed, and says what the script says.
    fn answer(user: *mut c_void) -> i64 {
        // SAFETY: `user` is the HostSide that outlives the relay.
        let side = unsafe { &*user.cast::<Self>() };
        side.called.set(side.called.get() + 1);
        let relay = side.relay.get();
        let mut stats = StatsRoom::new();
        // SAFETY: the relay is alive, it is calling us; the room is as large as said.
        unsafe {
            assert_eq!(dockline_relay_kill(relay), DOCKLINE_E_BUSY);
            assert_eq!(
                dockline_relay_stats_get(relay, stats.get(), size_of::<dockline_relay_stats>()),
                DOCKLINE_E_BUSY
            );
            dockline_relay_free(relay);
        }
        i64::from(side.answers.borrow_mut().pop_front().unwrap_or(DOCKLINE_IO_AGAIN as i16))
    }
}

unsafe extern "C" fn read(user: *mut c_void, buf: *mut c_void, len: usize) -> i64 {
    let answer = HostSide::answer(user);
    if let Ok(n) = usize::try_from(answer)
        && n <= len
    {
        // SAFETY: the library gives `len` writable bytes.
        unsafe { ptr::write_bytes(buf.cast::<u8>(), 0x5a, n) };
    }
    answer
}

unsafe extern "C" fn write(user: *mut c_void, buf: *const c_void, len: usize) -> i64 {
    // SAFETY: the library gives `len` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len) };
    assert!(!bytes.is_empty());
    std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    HostSide::answer(user)
}

unsafe extern "C" fn shutdown_write(user: *mut c_void) -> i32 {
    HostSide::answer(user) as i32
}

unsafe extern "C" fn log(user: *mut c_void, level: i32, text: dockline_str) {
    assert!(!user.is_null());
    assert!((DOCKLINE_LOG_ERROR..=DOCKLINE_LOG_INFO).contains(&level));
    // SAFETY: the library passes readable text.
    let text = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.len) };
    assert!(std::str::from_utf8(text).is_ok_and(|text| !text.is_empty()));
}

/// A struct with room behind it, and a guard behind that.
struct Room<T> {
    bytes: Vec<u8>,
    of: std::marker::PhantomData<T>,
}

type StatsRoom = Room<dockline_relay_stats>;

const ROOM: usize = 256;

impl<T> Room<T> {
    fn new() -> Self {
        Self { bytes: vec![0xa5; size_of::<T>() + ROOM], of: std::marker::PhantomData }
    }

    fn holding(value: T, tail: u8) -> Self {
        let mut room = Self::new();
        room.bytes.fill(tail);
        // SAFETY: there is room, and the types are plain data.
        unsafe { room.bytes.as_mut_ptr().cast::<T>().write_unaligned(value) };
        room
    }

    fn get(&mut self) -> *mut T {
        self.bytes.as_mut_ptr().cast()
    }

    fn untouched_from(&self, at: usize) -> bool {
        self.bytes[at..].iter().all(|&byte| byte == 0xa5)
    }
}

impl Size {
    fn of<T>(self) -> usize {
        match self {
            Self::Right => size_of::<T>(),
            Self::Less(n) => size_of::<T>().saturating_sub(usize::from(n) + 1),
            Self::More(n, _) => size_of::<T>() + usize::from(n),
            Self::Absurd => usize::MAX - 7,
        }
    }

    fn tail(self) -> u8 {
        u8::from(matches!(self, Self::More(_, true)))
    }

    fn is_good_in(self) -> bool {
        matches!(self, Self::Right | Self::More(_, false) | Self::More(0, true))
    }

    fn is_good_out(self) -> bool {
        matches!(self, Self::Right | Self::More(..))
    }
}

struct Slot {
    relay: *mut dockline_relay,
    /// The ends that the peers have.
    peers: [Option<UnixStream>; 2],
    _own: [UnixStream; 2],
    hosts: [Box<HostSide>; 2],
    pumped: bool,
    done: bool,
}

#[derive(Default)]
struct Bed {
    workers: [*mut dockline_worker; SLOTS],
    slots: [Option<Slot>; SLOTS],
    now: u64,
    log_user: Box<u8>,
}

fn index(slot: u8) -> usize {
    usize::from(slot) % SLOTS
}

fn pair() -> (UnixStream, UnixStream) {
    let (peer, own) = UnixStream::pair().expect("descriptors");
    peer.set_nonblocking(true).expect("a socket");
    own.set_nonblocking(true).expect("a socket");
    (peer, own)
}

impl Bed {
    fn handle(&self, handle: Handle) -> *mut dockline_relay {
        match handle {
            Handle::Relay(slot) => {
                self.slots[index(slot)].as_ref().map_or(ptr::null_mut(), |slot| slot.relay)
            }
            Handle::Null => ptr::null_mut(),
            Handle::Worker(slot) => self.workers[index(slot)].cast(),
        }
    }

    fn slot(&mut self, handle: Handle) -> Option<&mut Slot> {
        match handle {
            Handle::Relay(slot) => self.slots[index(slot)].as_mut(),
            Handle::Null | Handle::Worker(_) => None,
        }
    }

    /// Returns the status of a call on this handle whose other arguments are right.
    fn good(&self, handle: Handle) -> dockline_status {
        match (handle, self.handle(handle).is_null()) {
            (_, true) => DOCKLINE_E_NULL,
            (Handle::Worker(_), false) => DOCKLINE_E_HANDLE,
            (_, false) => DOCKLINE_OK,
        }
    }

    fn worker_new(&mut self, slot: u8, max_pipes: u8, pipe_bytes: u16, with_log: bool, size: Size) {
        let options = dockline_worker_options {
            log: with_log.then_some(log as _),
            log_user: ptr::from_mut(&mut *self.log_user).cast(),
            max_pipes: max_pipes.into(),
            pipe_bytes: pipe_bytes.into(),
        };
        let mut room = Room::holding(options, size.tail());
        let mut out = ptr::null_mut();
        // SAFETY: the room is larger than every size that is not refused at once.
        let status =
            unsafe { dockline_worker_new(room.get(), size.of::<dockline_worker_options>(), &mut out) };
        assert_eq!(status, if size.is_good_in() { DOCKLINE_OK } else { DOCKLINE_E_SIZE });
        assert_eq!(out.is_null(), status != DOCKLINE_OK);
        if status == DOCKLINE_OK {
            let old = std::mem::replace(&mut self.workers[index(slot)], out);
            // SAFETY: it came from dockline_worker_new and is forgotten here.
            unsafe { dockline_worker_free(old) };
        }
    }

    fn relay_new(&mut self, op: &Op) {
        let &Op::RelayNew { slot, worker, idle_ms, linger_ms, budget, flags, sides, size } = op else {
            return;
        };
        let options = dockline_relay_options {
            idle_ms: idle_ms.into(),
            linger_ms: linger_ms.into(),
            budget_bytes: budget.into(),
            flags: flags.within(3),
            reserved: 0,
        };
        let ((down_peer, down), (up_peer, up)) = (pair(), pair());
        let hosts = [Box::<HostSide>::default(), Box::default()];
        let endpoint = |maker: Maker, own: &UnixStream, host: &HostSide| {
            let mut endpoint = dockline_endpoint {
                fd: own.as_raw_fd(),
                user: ptr::from_ref(host).cast_mut().cast(),
                read: None,
                write: None,
                shutdown_write: None,
            };
            match maker {
                Maker::Socket => {}
                Maker::Callbacks { with_fd } => {
                    endpoint.fd = if with_fd { endpoint.fd } else { -1 };
                    endpoint.read = Some(read);
                    endpoint.write = Some(write);
                    endpoint.shutdown_write = Some(shutdown_write);
                }
                Maker::Blocking => own.set_nonblocking(false).expect("a socket"),
                // Descriptors 0 to 2 are somebody else's, and so may be any that is open.
                Maker::Fd(fd) => endpoint.fd = i32::from(fd.min(-1)),
                Maker::HalfSet(bits) => {
                    endpoint.read = (bits & 1 != 0).then_some(read as _);
                    endpoint.write = (bits & 2 != 0).then_some(write as _);
                    endpoint.shutdown_write = (bits & 3 == 0).then_some(shutdown_write as _);
                }
            }
            endpoint
        };
        let downstream = endpoint(sides[0], &down, &hosts[0]);
        let upstream = endpoint(sides[1], &up, &hosts[1]);
        let mut room = Room::holding(options, size.tail());
        let mut out = ptr::null_mut();
        // SAFETY: the room is larger than every size that is not refused at once; the rest outlives
        // the relay.
        let status = unsafe {
            dockline_relay_new(
                self.workers[index(worker)],
                room.get(),
                size.of::<dockline_relay_options>(),
                &downstream,
                &upstream,
                size_of::<dockline_endpoint>(),
                self.now,
                &mut out,
            )
        };
        let wrong = [DOCKLINE_E_NULL, DOCKLINE_E_SIZE, DOCKLINE_E_VALUE, DOCKLINE_E_BLOCKING];
        assert!(status == DOCKLINE_OK || wrong.contains(&status), "{status}");
        assert_eq!(out.is_null(), status != DOCKLINE_OK);
        let good = |maker| matches!(maker, Maker::Socket | Maker::Callbacks { .. });
        let expected = good(sides[0])
            && good(sides[1])
            && size.is_good_in()
            && options.flags < 4
            && !self.workers[index(worker)].is_null();
        assert_eq!(status == DOCKLINE_OK, expected, "{op:?}");
        if status == DOCKLINE_OK {
            self.relay_free(slot);
            hosts.iter().for_each(|host| host.relay.set(out));
            let peers = [Some(down_peer), Some(up_peer)];
            self.slots[index(slot)] =
                Some(Slot { relay: out, peers, _own: [down, up], hosts, pumped: false, done: false });
        }
    }

    fn relay_free(&mut self, slot: u8) {
        if let Some(slot) = self.slots[index(slot)].take() {
            let calls = slot.hosts.each_ref().map(|host| host.called.get());
            // SAFETY: it came from dockline_relay_new and is forgotten here.
            unsafe { dockline_relay_free(slot.relay) };
            assert_eq!(slot.hosts.each_ref().map(|host| host.called.get()), calls, "free calls nothing back");
        }
    }

    fn prefill(&mut self, handle: Handle, side: i8, len: u16) {
        let bytes = vec![0x77; len.into()];
        // SAFETY: the bytes are there.
        let status =
            unsafe { dockline_relay_prefill(self.handle(handle), side.into(), bytes.as_ptr().cast(), bytes.len()) };
        let good = self.good(handle);
        match self.slot(handle) {
            _ if good != DOCKLINE_OK => assert_eq!(status, good),
            _ if !(1..=2).contains(&side) => assert_eq!(status, DOCKLINE_E_VALUE),
            Some(slot) if slot.pumped => assert_eq!(status, DOCKLINE_E_STATE),
            _ => assert!(status == DOCKLINE_OK || status == DOCKLINE_E_LIMIT),
        }
    }

    fn pump(&mut self, handle: Handle, ready: Bits, pass_ms: u16, size: Size) {
        self.now += u64::from(pass_ms);
        let mut room = Room::<dockline_relay_wants>::new();
        let ready = ready.within(0xff);
        let bytes = size.of::<dockline_relay_wants>();
        // SAFETY: the room is larger than every size that is not refused at once.
        let status = unsafe { dockline_relay_pump(self.handle(handle), ready, self.now, room.get(), bytes) };
        let good = self.good(handle);
        let expected = match good {
            DOCKLINE_OK if !size.is_good_out() => DOCKLINE_E_SIZE,
            DOCKLINE_OK if ready > 0xff => DOCKLINE_E_VALUE,
            other => other,
        };
        assert_eq!(status, expected);
        assert!(room.untouched_from(if status == DOCKLINE_OK { bytes } else { 0 }));
        let (now, Some(slot)) = (self.now, self.slot(handle)) else { return };
        if status == DOCKLINE_OK {
            // SAFETY: it has just been written.
            let wants = unsafe { room.get().read_unaligned() };
            let done = wants.state == DOCKLINE_RELAY_DONE;
            assert!((DOCKLINE_RELAY_RUNNING..=DOCKLINE_RELAY_DONE).contains(&wants.state));
            assert!(done || !slot.done, "done is done");
            assert_eq!(wants.interest & !0x33, 0);
            assert!(
                wants.state != DOCKLINE_RELAY_RUNNING || wants.interest != 0 || wants.deadline_ms != u64::MAX
            );
            assert!(
                wants.state != DOCKLINE_RELAY_RUNNING || wants.deadline_ms > now,
                "a deadline that has passed"
            );
            slot.pumped = true;
            slot.done = done;
        }
    }

    fn stats(&mut self, handle: Handle, size: Size) {
        let mut room = StatsRoom::new();
        let bytes = size.of::<dockline_relay_stats>();
        // SAFETY: the room is larger than every size that is not refused at once.
        let status = unsafe { dockline_relay_stats_get(self.handle(handle), room.get(), bytes) };
        let expected = match self.good(handle) {
            DOCKLINE_OK if !size.is_good_out() => DOCKLINE_E_SIZE,
            other => other,
        };
        assert_eq!(status, expected);
        assert!(room.untouched_from(if status == DOCKLINE_OK { bytes } else { 0 }));
        if status == DOCKLINE_OK {
            // SAFETY: it has just been written.
            let stats = unsafe { room.get().read_unaligned() };
            assert!(stats.bytes_up <= stats.received_up && stats.bytes_down <= stats.received_down);
            assert!(stats.spliced_up <= stats.bytes_up && stats.spliced_down <= stats.bytes_down);
            assert!(stats.last_activity_ms <= self.now);
            assert!((0..=2).contains(&stats.first_closer) && (0..=7).contains(&stats.close_reason));
            assert!((0..=3).contains(&stats.abort_sides));
            let done = self.slot(handle).is_some_and(|slot| slot.done);
            assert!(!done || stats.close_reason != DOCKLINE_CLOSE_NONE);
        }
    }

    fn peer(&mut self, slot: u8, upstream: bool) -> Option<&mut UnixStream> {
        self.slots[index(slot)].as_mut()?.peers[usize::from(upstream)].as_mut()
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::WorkerNew { slot, max_pipes, pipe_bytes, log, size } => {
                self.worker_new(slot, max_pipes, pipe_bytes, log, size);
            }
            Op::WorkerFree { slot } => {
                let worker = std::mem::replace(&mut self.workers[index(slot)], ptr::null_mut());
                // SAFETY: it came from dockline_worker_new and is forgotten here.
                unsafe { dockline_worker_free(worker) };
            }
            Op::RelayNew { .. } => self.relay_new(op),
            Op::RelayFree { slot } => self.relay_free(slot),
            Op::Prefill { relay, side, len } => self.prefill(relay, side, len),
            Op::Pump { relay, ready, pass_ms, size } => self.pump(relay, ready, pass_ms, size),
            Op::Drain { relay, in_ms } => {
                // SAFETY: the handle is NULL or alive.
                let status = unsafe { dockline_relay_drain(self.handle(relay), self.now + u64::from(in_ms)) };
                assert_eq!(status, self.good(relay));
            }
            Op::Kill { relay } => {
                // SAFETY: the handle is NULL or alive.
                let status = unsafe { dockline_relay_kill(self.handle(relay)) };
                assert_eq!(status, self.good(relay));
            }
            Op::Stats { relay, size } => self.stats(relay, size),
            Op::PeerSend { slot, upstream, len, times } => {
                let bytes = vec![0x33; len.into()];
                for _ in 0..=times % 8 {
                    if let Some(peer) = self.peer(slot, upstream) {
                        let _ = peer.write(&bytes);
                    }
                }
            }
            Op::PeerReceive { slot, upstream, len } => {
                let mut bytes = vec![0; len.into()];
                if let Some(peer) = self.peer(slot, upstream) {
                    let _ = peer.read(&mut bytes);
                }
            }
            Op::PeerShut { slot, upstream } => {
                if let Some(peer) = self.peer(slot, upstream) {
                    let _ = peer.shutdown(Shutdown::Write);
                }
            }
            Op::PeerClose { slot, upstream } => {
                if let Some(slot) = &mut self.slots[index(slot)] {
                    slot.peers[usize::from(upstream)] = None;
                }
            }
            Op::Answer { slot, upstream, ref answers } => {
                if let Some(slot) = &self.slots[index(slot)] {
                    slot.hosts[usize::from(upstream)].answers.borrow_mut().extend(answers);
                }
            }
            Op::Names(number) => {
                let names = [
                    dockline_status_name(number),
                    dockline_status_text(number),
                    dockline_close_reason_name(number),
                ];
                // SAFETY: static strings.
                assert!(names.iter().all(|&name| !unsafe { CStr::from_ptr(name) }.is_empty()));
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Workers first: relays stay valid without them.
        for slot in 0..SLOTS as u8 {
            self.act(&Op::WorkerFree { slot });
        }
        for slot in 0..SLOTS as u8 {
            self.act(&Op::Pump {
                relay: Handle::Relay(slot),
                ready: Bits::Low(0x77),
                pass_ms: 0,
                size: Size::Right,
            });
            self.act(&Op::Stats { relay: Handle::Relay(slot), size: Size::Right });
            self.act(&Op::RelayFree { slot });
        }
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fuzz_target!(|ops: Vec<Op>| {
    let before = open_descriptors();
    let mut bed = Bed::default();
    for op in ops.iter().take(200) {
        bed.act(op);
    }
    drop(bed);
    assert_eq!(open_descriptors(), before);
});
