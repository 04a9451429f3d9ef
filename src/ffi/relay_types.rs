//! Types of `dockline_relay`.

use std::ffi::{CStr, c_char, c_void};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::boundary::Kind;
use super::host_side::HostSide;
use super::status::Failure;
use super::types::{CStruct, DOCKLINE_SIDE_DOWNSTREAM, DOCKLINE_SIDE_UPSTREAM, side_to_c, struct_from_c};
use super::worker::Clock;
use crate::drive::{Ready, Relay, RelayOptions, State, Wants, Worker};
use crate::error::Side;
use crate::relay::{CloseReason, Interest, Readiness};

/// A tunnel: two byte streams joined, driven by the host.
pub struct dockline_relay {
    _opaque: [u8; 0],
}

/// Results of the callbacks of an endpoint, besides a number of bytes.
pub type dockline_io_result = i32;
/// Not now.
pub const DOCKLINE_IO_AGAIN: dockline_io_result = -1;
/// The connection failed; no more I/O on this side.
pub const DOCKLINE_IO_RESET: dockline_io_result = -2;

/// One side of a relay: a descriptor, or callbacks if only the host can read and write (TLS).
/// Callbacks are called from within dockline_relay_pump; they must not unwind, longjmp or call
/// relays of the same worker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_endpoint {
    /// A connected, non-blocking stream socket, borrowed: the host keeps it open until the relay is
    /// freed, and closes it. With callbacks it is used only to see whether the peer is gone and to
    /// set SO_LINGER when the stream was cut; -1 if there is none.
    pub fd: i32,
    /// The first argument of the callbacks.
    pub user: *mut c_void,
    /// Reads up to len bytes. Returns their number, 0 at the end (FIN, close_notify), or
    /// DOCKLINE_IO_*. NULL, like the other two: the library reads, writes and splices fd itself.
    pub read: Option<unsafe extern "C" fn(user: *mut c_void, buf: *mut c_void, len: usize) -> i64>,
    /// Writes up to len bytes. Returns their number or DOCKLINE_IO_*.
    pub write: Option<unsafe extern "C" fn(user: *mut c_void, buf: *const c_void, len: usize) -> i64>,
    /// Half-closes. Returns 0 or DOCKLINE_IO_*. Called once, and again only after
    /// DOCKLINE_IO_AGAIN.
    pub shutdown_write: Option<unsafe extern "C" fn(user: *mut c_void) -> i32>,
}

// SAFETY: integers, a pointer and optional function pointers; all zero is valid.
unsafe impl CStruct for dockline_endpoint {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Relay flag: never splice.
pub const DOCKLINE_RELAY_NO_SPLICE: u32 = 0x01;
/// Relay flag: do not set TCP_NODELAY and keepalive (30 s, 6 x 10 s) on TCP sockets.
pub const DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS: u32 = 0x02;

/// How a relay behaves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_relay_options {
    /// Ends the relay after so many milliseconds without a byte in either direction. 0: never.
    pub idle_ms: u64,
    /// After the daemon's end was passed on: milliseconds to wait for the client's, while no byte
    /// moves towards the upstream. 0: 5000. UINT64_MAX: for ever.
    pub linger_ms: u64,
    /// About how many bytes one pump moves. 0: 1 MiB.
    pub budget_bytes: u64,
    /// DOCKLINE_RELAY_*
    pub flags: u32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_relay_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// The downstream may be read.
pub const DOCKLINE_DOWNSTREAM_READ: u32 = 0x01;
/// The downstream may be written.
pub const DOCKLINE_DOWNSTREAM_WRITE: u32 = 0x02;
/// The poller reported EPOLLRDHUP, EPOLLHUP or EPOLLERR on the downstream: a short read then does
/// not prove that nothing is left. An edge-triggered host that cannot tell passes it with every
/// READ. Never in interest.
pub const DOCKLINE_DOWNSTREAM_HUP: u32 = 0x04;
/// The host knows that the downstream connection is dead. Never in interest.
pub const DOCKLINE_DOWNSTREAM_GONE: u32 = 0x08;
/// The upstream may be read.
pub const DOCKLINE_UPSTREAM_READ: u32 = 0x10;
/// The upstream may be written.
pub const DOCKLINE_UPSTREAM_WRITE: u32 = 0x20;
/// As DOCKLINE_DOWNSTREAM_HUP.
pub const DOCKLINE_UPSTREAM_HUP: u32 = 0x40;
/// As DOCKLINE_DOWNSTREAM_GONE.
pub const DOCKLINE_UPSTREAM_GONE: u32 = 0x80;

/// States of a relay.
pub type dockline_relay_state = i32;
/// Pump upon interest or deadline.
pub const DOCKLINE_RELAY_RUNNING: dockline_relay_state = 0;
/// The budget is spent: pump again soon, after other work.
pub const DOCKLINE_RELAY_YIELD: dockline_relay_state = 1;
/// It has ended: read the stats, free the relay, close both connections.
pub const DOCKLINE_RELAY_DONE: dockline_relay_state = 2;

/// No deadline; as a duration: without a limit.
pub const DOCKLINE_NO_DEADLINE: u64 = u64::MAX;

/// What a relay waits for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_relay_wants {
    /// enum dockline_relay_state
    pub state: i32,
    /// READ and WRITE bits of both sides to wait for.
    pub interest: u32,
    /// When to pump at the latest, on the host's clock; or DOCKLINE_NO_DEADLINE.
    pub deadline_ms: u64,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_relay_wants {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Why a relay or a tunnel ended.
pub type dockline_close_reason = i32;
/// It has not ended.
pub const DOCKLINE_CLOSE_NONE: dockline_close_reason = 0;
/// Both directions ended by themselves.
pub const DOCKLINE_CLOSE_EOF: dockline_close_reason = 1;
/// The daemon's end was passed on, and the client did not follow within linger_ms.
pub const DOCKLINE_CLOSE_LINGER: dockline_close_reason = 2;
/// No byte moved for idle_ms.
pub const DOCKLINE_CLOSE_IDLE: dockline_close_reason = 3;
/// The client's connection was reset, or its peer stopped acknowledging.
pub const DOCKLINE_CLOSE_DOWNSTREAM_RESET: dockline_close_reason = 4;
/// The daemon's connection was reset, or its peer stopped acknowledging.
pub const DOCKLINE_CLOSE_UPSTREAM_RESET: dockline_close_reason = 5;
/// The time given by dockline_relay_drain, or by dockline_engine_stop, has passed.
pub const DOCKLINE_CLOSE_DRAIN: dockline_close_reason = 6;
/// dockline_relay_kill, or dockline_engine_kill
pub const DOCKLINE_CLOSE_KILLED: dockline_close_reason = 7;

/// Counters of a relay. "Up" is from the client to the daemon.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_relay_stats {
    /// Bytes that the upstream received.
    pub bytes_up: u64,
    /// Bytes that the downstream received.
    pub bytes_down: u64,
    /// Bytes read from the downstream, including prefilled ones.
    pub received_up: u64,
    /// Bytes read from the upstream, including prefilled ones.
    pub received_down: u64,
    /// How many of bytes_up went through a pipe.
    pub spliced_up: u64,
    /// How many of bytes_down went through a pipe.
    pub spliced_down: u64,
    /// When a byte last moved, on the host's clock.
    pub last_activity_ms: u64,
    /// The side that ended first, by EOF or reset: enum dockline_side
    pub first_closer: i32,
    /// enum dockline_close_reason
    pub close_reason: i32,
    /// The errno of the last failed read, write or shutdown; 0 if none failed.
    pub error_number: i32,
    /// The sides to close without close_notify because their streams were cut:
    /// DOCKLINE_SIDE_DOWNSTREAM and DOCKLINE_SIDE_UPSTREAM as bits. For TCP descriptors SO_LINGER
    /// has already been set.
    pub abort_sides: i32,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_relay_stats {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_relay`.
pub(super) struct RelayHandle {
    pub(super) relay: Relay<HostSide, HostSide>,
    pub(super) worker: Arc<Mutex<Worker>>,
    pub(super) clock: Clock,
}

impl Kind for RelayHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0002;
    type Shared = ();
}

/// Returns the word for a close reason, for logs: "none", "eof", "linger", "idle",
/// "downstream-reset", "upstream-reset", "drain", "killed".
///
/// @param reason enum dockline_close_reason
/// @return a static string; "unknown" for another number
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_close_reason_name(reason: i32) -> *const c_char {
    let name: &CStr = match reason {
        DOCKLINE_CLOSE_NONE => c"none",
        DOCKLINE_CLOSE_EOF => c"eof",
        DOCKLINE_CLOSE_LINGER => c"linger",
        DOCKLINE_CLOSE_IDLE => c"idle",
        DOCKLINE_CLOSE_DOWNSTREAM_RESET => c"downstream-reset",
        DOCKLINE_CLOSE_UPSTREAM_RESET => c"upstream-reset",
        DOCKLINE_CLOSE_DRAIN => c"drain",
        DOCKLINE_CLOSE_KILLED => c"killed",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// # Safety
/// `options` is NULL or points to `size` readable bytes.
pub(super) unsafe fn relay_options_from_c(
    options: *const dockline_relay_options,
    size: usize,
) -> Result<RelayOptions, Failure> {
    let mut out = RelayOptions::default();
    if options.is_null() && size == 0 {
        return Ok(out);
    }
    // SAFETY: the caller's promise.
    let options = unsafe { struct_from_c(options, size) }?;
    let known = DOCKLINE_RELAY_NO_SPLICE | DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS;
    if options.flags & !known != 0 || options.reserved != 0 {
        return Err(Failure::Value);
    }
    if options.idle_ms != 0 {
        out.config.idle = Some(Duration::from_millis(options.idle_ms));
    }
    match options.linger_ms {
        0 => {}
        u64::MAX => out.config.linger = None,
        ms => out.config.linger = Some(Duration::from_millis(ms)),
    }
    if options.budget_bytes != 0 {
        out.budget = usize::try_from(options.budget_bytes).unwrap_or(usize::MAX);
    }
    out.splice = options.flags & DOCKLINE_RELAY_NO_SPLICE == 0;
    out.tune_sockets = options.flags & DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS == 0;
    Ok(out)
}

pub(super) fn ready_from_c(ready: u32) -> Ready {
    let has = |bit| ready & bit != 0;
    Ready {
        downstream: Readiness {
            read: has(DOCKLINE_DOWNSTREAM_READ),
            write: has(DOCKLINE_DOWNSTREAM_WRITE),
            hup: has(DOCKLINE_DOWNSTREAM_HUP),
        },
        upstream: Readiness {
            read: has(DOCKLINE_UPSTREAM_READ),
            write: has(DOCKLINE_UPSTREAM_WRITE),
            hup: has(DOCKLINE_UPSTREAM_HUP),
        },
    }
}

pub(super) fn wants_to_c(wants: &Wants, clock: Clock) -> dockline_relay_wants {
    let bits = |interest: Interest, read, write| {
        (if interest.read { read } else { 0 }) | (if interest.write { write } else { 0 })
    };
    dockline_relay_wants {
        state: match wants.state {
            State::Running => DOCKLINE_RELAY_RUNNING,
            State::Yield => DOCKLINE_RELAY_YIELD,
            State::Done => DOCKLINE_RELAY_DONE,
        },
        interest: bits(wants.downstream, DOCKLINE_DOWNSTREAM_READ, DOCKLINE_DOWNSTREAM_WRITE)
            | bits(wants.upstream, DOCKLINE_UPSTREAM_READ, DOCKLINE_UPSTREAM_WRITE),
        deadline_ms: wants.deadline.map_or(DOCKLINE_NO_DEADLINE, |at| clock.ms(at)),
    }
}

pub(super) fn stats_to_c(handle: &RelayHandle) -> dockline_relay_stats {
    let relay = &handle.relay;
    let stats = relay.stats();
    let abort = |side, bit| if relay.must_abort(side) { bit } else { 0 };
    dockline_relay_stats {
        bytes_up: stats.up.delivered,
        bytes_down: stats.down.delivered,
        received_up: stats.up.received,
        received_down: stats.down.received,
        spliced_up: relay.spliced(Side::Downstream),
        spliced_down: relay.spliced(Side::Upstream),
        last_activity_ms: handle.clock.ms(stats.last_activity),
        first_closer: side_to_c(stats.first_closer),
        close_reason: close_reason_to_c(stats.close_reason),
        error_number: relay.last_error().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)),
        abort_sides: abort(Side::Downstream, DOCKLINE_SIDE_DOWNSTREAM)
            | abort(Side::Upstream, DOCKLINE_SIDE_UPSTREAM),
    }
}

/// Returns the number of a close reason.
pub(super) fn close_reason_to_c(reason: Option<CloseReason>) -> i32 {
    match reason {
        None => DOCKLINE_CLOSE_NONE,
        Some(CloseReason::Eof) => DOCKLINE_CLOSE_EOF,
        Some(CloseReason::Linger) => DOCKLINE_CLOSE_LINGER,
        Some(CloseReason::Idle) => DOCKLINE_CLOSE_IDLE,
        Some(CloseReason::DownstreamReset) => DOCKLINE_CLOSE_DOWNSTREAM_RESET,
        Some(CloseReason::UpstreamReset) => DOCKLINE_CLOSE_UPSTREAM_RESET,
        Some(CloseReason::Drain) => DOCKLINE_CLOSE_DRAIN,
        Some(CloseReason::Killed) => DOCKLINE_CLOSE_KILLED,
    }
}
