//! Types of `dockline_engine`.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::boundary::Kind;
use super::observe::{HostObserver, dockline_exchange_callback, dockline_tunnel_callback};
use super::options::{conn_options_from_c, dockline_conn_options, peers_from_text};
use super::relay_types::{DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS, DOCKLINE_RELAY_NO_SPLICE};
use super::route::{HostRouter, dockline_route_callback};
use super::status::Failure;
use super::text::dockline_str;
use super::types::{CStruct, struct_from_c};
use super::upstream::{dockline_upstream, upstream_from_c};
use super::worker::{HostLog, dockline_log_callback};
use crate::drive::{RelayOptions, WorkerOptions};
use crate::engine::{Engine, EngineOptions, Handle, ListenerHandle, ListenerSettings, Service, Stats};

/// A loop that owns its sockets: it accepts, connects, speaks HTTP and relays tunnels. One thread
/// at a time drives it (dockline_engine_poll, _run, _timeout_ms); any thread may call the rest
/// except dockline_engine_free. Make it after fork(2).
pub struct dockline_engine {
    _opaque: [u8; 0],
}

/// Bounds, behaviour and callbacks of an engine. Callbacks are called on the thread that drives the
/// engine, within dockline_engine_poll and _run. They must not block, unwind or longjmp. Within
/// them dockline_engine_poll, _run and _timeout_ms return DOCKLINE_E_BUSY and dockline_engine_free
/// does nothing; all other functions may be used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_engine_options {
    /// An exchange has ended or became a tunnel. NULL: not reported.
    pub exchange_ended: dockline_exchange_callback,
    /// A tunnel has ended. NULL: not reported.
    pub tunnel_ended: dockline_tunnel_callback,
    /// Something unusual has happened. NULL: no log.
    pub log: dockline_log_callback,
    /// The first argument of the callbacks.
    pub user: *mut c_void,
    /// Client connections at a time; at the maximum, accepting waits. 0: a third of the descriptors
    /// that the process may open (RLIMIT_NOFILE), less 64.
    pub connections: u64,
    /// As in dockline_relay_options, for tunnels. 0: 5000.
    pub linger_ms: u64,
    /// About how many bytes one turn moves for one tunnel. 0: 1 MiB.
    pub budget_bytes: u64,
    /// Connections accepted for each listener in one turn. 0: 64.
    pub accepts: u32,
    /// Pipes in use at a time, two descriptors each. 0: 64.
    pub max_pipes: u32,
    /// The size to request for each pipe; the kernel may grant less. 0: 1 MiB.
    pub pipe_bytes: u32,
    /// DOCKLINE_RELAY_NO_SPLICE, DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS
    pub flags: u32,
}

// SAFETY: integers, a pointer and optional function pointers; all zero is valid.
unsafe impl CStruct for dockline_engine_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What a listener serves.
pub type dockline_service = i32;
/// HTTP/1.1, request by request.
pub const DOCKLINE_SERVICE_HTTP: dockline_service = 0;
/// Bytes: each connection is joined with one to the upstream, or reset if that cannot be reached.
pub const DOCKLINE_SERVICE_FORWARD: dockline_service = 1;

/// What is served on a listener. Everything is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_listener_options {
    /// Its name in records and logs, in UTF-8; may be absent.
    pub name: dockline_str,
    /// For HTTP: called once for each request, before any of it is sent, on the thread that drives
    /// the engine, until the engine is freed.
    pub route: dockline_route_callback,
    /// The first argument of route.
    pub route_user: *mut c_void,
    /// Receives everything if route is NULL. May be freed when the listener has been adopted.
    pub upstream: *const dockline_upstream,
    /// NULL for the default, and then conn_size is 0.
    pub conn: *const dockline_conn_options,
    /// sizeof(dockline_conn_options)
    pub conn_size: usize,
    /// enum dockline_service
    pub service: i32,
    /// 0
    pub reserved: u32,
    /// The proxies in front of it, as in dockline_conn_options.trusted: each connection has to be
    /// one of theirs, and begin with a header of the PROXY protocol, version 1 or 2; the client
    /// that it names is the peer. Absent: no header is read.
    pub proxy_protocol: dockline_str,
}

// SAFETY: integers, pointers and an optional function pointer; all zero is valid.
unsafe impl CStruct for dockline_listener_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Two connected stream sockets to be joined, with what was read from them before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_pair {
    /// The client's connection.
    pub downstream_fd: i32,
    /// The daemon's connection.
    pub upstream_fd: i32,
    /// Bytes read from the client and not yet sent on, at most 1 MiB; copied.
    pub from_downstream: *const c_void,
    /// Bytes of from_downstream.
    pub from_downstream_len: usize,
    /// Bytes read from the daemon and not yet sent on, at most 1 MiB; copied.
    pub from_upstream: *const c_void,
    /// Bytes of from_upstream.
    pub from_upstream_len: usize,
    /// The name of the upstream in the record, in UTF-8; may be absent.
    pub name: dockline_str,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_pair {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// States of an engine.
pub type dockline_engine_state = i32;
/// It serves.
pub const DOCKLINE_ENGINE_RUNNING: dockline_engine_state = 0;
/// It was stopped and finishes what it has begun.
pub const DOCKLINE_ENGINE_DRAINING: dockline_engine_state = 1;
/// Nothing is left to do.
pub const DOCKLINE_ENGINE_DONE: dockline_engine_state = 2;

/// Counters of an engine. All except the _now ones only grow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_engine_stats {
    /// Client connections accepted or adopted.
    pub accepted: u64,
    /// Client connections open now.
    pub clients_now: u64,
    /// Exchanges that ended or became tunnels.
    pub requests: u64,
    /// Replies by the engine itself: errors, and what the host decided.
    pub own_replies: u64,
    /// Tunnels opened.
    pub tunnels: u64,
    /// Tunnels open now.
    pub tunnels_now: u64,
    /// Tunnel bytes from clients that were delivered.
    pub tunnel_bytes_up: u64,
    /// Tunnel bytes to clients that were delivered.
    pub tunnel_bytes_down: u64,
    /// Connections made to upstreams.
    pub connects: u64,
    /// Requests that used a kept upstream connection.
    pub reuses: u64,
    /// Unused upstream connections kept now.
    pub pooled_now: u64,
    /// Attempts to connect to an address of an upstream that failed.
    pub connect_failures: u64,
    /// Times that accepting paused for lack of descriptors or memory.
    pub accept_pauses: u64,
    /// Connections ended by a bug in dockline.
    pub panics: u64,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_engine_stats {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_engine`.
pub(super) struct EngineHandle(pub(super) Engine);

/// The part that any thread may use.
pub(super) struct EngineShared {
    pub(super) handle: Handle,
    pub(super) fd: RawFd,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) stopped: AtomicBool,
}

/// Adopted listeners that were not closed, by number.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) open: BTreeMap<u64, ListenerHandle>,
    pub(super) last: u64,
}

impl Kind for EngineHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0005;
    type Shared = EngineShared;
}

/// # Safety
/// `options` is NULL or points to `size` readable bytes.
pub(super) unsafe fn engine_options_from_c(
    options: *const dockline_engine_options,
    size: usize,
) -> Result<(EngineOptions, HostObserver), Failure> {
    let mut out = EngineOptions::default();
    if options.is_null() && size == 0 {
        let silent =
            HostObserver { exchange_ended: None, tunnel_ended: None, log: None, user: std::ptr::null_mut() };
        return Ok((out, silent));
    }
    // SAFETY: the caller's promise.
    let options = unsafe { struct_from_c(options, size) }?;
    if options.flags & !(DOCKLINE_RELAY_NO_SPLICE | DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS) != 0 {
        return Err(Failure::Value);
    }
    let number = |from: u64| usize::try_from(from).unwrap_or(usize::MAX);
    if options.connections != 0 {
        out.connections = Some(number(options.connections));
    }
    if options.accepts != 0 {
        out.accepts = number(options.accepts.into());
    }
    out.relay = relay_options(&options);
    out.worker = worker_options(&options);
    let observer = HostObserver {
        exchange_ended: options.exchange_ended,
        tunnel_ended: options.tunnel_ended,
        log: options.log.map(|log| HostLog { log, user: options.user }),
        user: options.user,
    };
    Ok((out, observer))
}

fn relay_options(options: &dockline_engine_options) -> RelayOptions {
    let mut out = RelayOptions::default();
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
    out
}

fn worker_options(options: &dockline_engine_options) -> WorkerOptions {
    let mut out = WorkerOptions::default();
    if options.max_pipes != 0 {
        out.max_pipes = usize::try_from(options.max_pipes).unwrap_or(usize::MAX);
    }
    if options.pipe_bytes != 0 {
        out.pipe_bytes = usize::try_from(options.pipe_bytes).unwrap_or(usize::MAX);
    }
    out
}

/// Converts the counters.
pub(super) fn stats_to_c(stats: &Stats) -> dockline_engine_stats {
    dockline_engine_stats {
        accepted: stats.accepted,
        clients_now: stats.clients_now,
        requests: stats.requests,
        own_replies: stats.own_replies,
        tunnels: stats.tunnels,
        tunnels_now: stats.tunnels_now,
        tunnel_bytes_up: stats.tunnel_bytes_up,
        tunnel_bytes_down: stats.tunnel_bytes_down,
        connects: stats.connects,
        reuses: stats.reuses,
        pooled_now: stats.pooled_now,
        connect_failures: stats.connect_failures,
        accept_pauses: stats.accept_pauses,
        panics: stats.panics,
    }
}

/// # Safety
/// `options` is NULL or points to `size` readable bytes, and so do the pointers in it.
pub(super) unsafe fn settings_from_c(
    options: *const dockline_listener_options,
    size: usize,
) -> Result<ListenerSettings, Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { struct_from_c(options, size) }?;
    // SAFETY: the caller's promise about the pointers.
    let name = unsafe { options.name.utf8() }?;
    // SAFETY: as above.
    let conn = unsafe { conn_options_from_c(options.conn, options.conn_size) }?;
    // SAFETY: as above.
    let proxies = unsafe { options.proxy_protocol.utf8() }?;
    if options.reserved != 0 || (options.route.is_some() && !options.upstream.is_null()) {
        return Err(Failure::Value);
    }
    let service = match (options.service, options.route) {
        (DOCKLINE_SERVICE_HTTP, Some(route)) => {
            Service::Http(Arc::new(HostRouter { route, user: options.route_user }))
        }
        (service @ (DOCKLINE_SERVICE_HTTP | DOCKLINE_SERVICE_FORWARD), None) => {
            // SAFETY: as above.
            let upstream = unsafe { upstream_from_c(options.upstream) }?;
            if service == DOCKLINE_SERVICE_HTTP { Service::to(upstream) } else { Service::Forward(upstream) }
        }
        _ => return Err(Failure::Value),
    };
    let mut settings = ListenerSettings::new(name.unwrap_or_default(), service);
    settings.conn = Arc::new(conn);
    settings.proxy_protocol = proxies.map(peers_from_text).transpose()?;
    Ok(settings)
}
