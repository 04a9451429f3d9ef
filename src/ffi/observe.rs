//! What an engine tells its host.

use std::ffi::c_void;
use std::net::SocketAddr;

use super::hijack::tunnel_to_c;
use super::record::{
    DOCKLINE_CLIENT_TLS, DOCKLINE_CLIENT_UNIX, DOCKLINE_EXCHANGE_REUSED, dockline_client,
    dockline_exchange_record, end_to_c, ip_to_c, us,
};
use super::relay_types::close_reason_to_c;
use super::types::{CStruct, side_to_c};
use super::worker::{DOCKLINE_LOG_ERROR, DOCKLINE_LOG_INFO, DOCKLINE_LOG_WARN, HostLog};
use crate::engine::{ClientInfo, Event, Exchange, Observer, PeerAddr, Tunnel};

/// A tunnel that ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_tunnel_record {
    /// The method of the request that opened it; empty for a connection that was no HTTP.
    pub method: *const u8,
    /// Bytes of method.
    pub method_len: usize,
    /// Its target, at most the first 255 bytes.
    pub target: *const u8,
    /// Bytes of target.
    pub target_len: usize,
    /// The name of the upstream, or of the pair.
    pub upstream: *const u8,
    /// Bytes of upstream.
    pub upstream_len: usize,
    /// Bytes that the upstream took.
    pub bytes_up: u64,
    /// Bytes that the downstream took.
    pub bytes_down: u64,
    /// Bytes taken from the downstream.
    pub received_up: u64,
    /// Bytes taken from the upstream.
    pub received_down: u64,
    /// How many microseconds it was open.
    pub duration_us: u64,
    /// DOCKLINE_DECISION_TUNNEL_*, or 0 for a connection that was no HTTP.
    pub tunnel: i32,
    /// The side that ended first: DOCKLINE_SIDE_*.
    pub first_closer: i32,
    /// DOCKLINE_CLOSE_*
    pub close_reason: i32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_tunnel_record {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Told when a request has been dealt with.
pub(super) type ExchangeCallback = unsafe extern "C" fn(
    user: *mut c_void,
    client: *const dockline_client,
    client_size: usize,
    record: *const dockline_exchange_record,
    record_size: usize,
);

/// Told when a tunnel ended.
pub(super) type TunnelCallback = unsafe extern "C" fn(
    user: *mut c_void,
    client: *const dockline_client,
    client_size: usize,
    record: *const dockline_tunnel_record,
    record_size: usize,
);

/// The host's callbacks.
pub(super) struct HostObserver {
    pub(super) exchange_ended: Option<ExchangeCallback>,
    pub(super) tunnel_ended: Option<TunnelCallback>,
    pub(super) log: Option<HostLog>,
    pub(super) user: *mut c_void,
}

// SAFETY: the host promises that the callbacks may be called on whatever thread drives the engine.
unsafe impl Send for HostObserver {}
// SAFETY: as above; an engine calls them from one thread at a time.
unsafe impl Sync for HostObserver {}

impl Observer for HostObserver {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let Some(call) = self.exchange_ended else { return };
        let client = client_to_c(exchange.client);
        let upstream = exchange.upstream.map_or("", |upstream| &*upstream.name);
        let record = dockline_exchange_record {
            method: exchange.method.as_ptr(),
            method_len: exchange.method.len(),
            target: exchange.target.as_ptr(),
            target_len: exchange.target.len(),
            upstream: upstream.as_ptr(),
            upstream_len: upstream.len(),
            bytes_up: exchange.bytes_up,
            bytes_down: exchange.bytes_down,
            duration_us: us(exchange.duration),
            head_us: exchange.time_to_head.map_or(0, us),
            status: exchange.status.map_or(0, u32::from),
            end: end_to_c(exchange.end),
            tunnel: tunnel_to_c(exchange.tunnel),
            flags: if exchange.reused { DOCKLINE_EXCHANGE_REUSED } else { 0 },
        };
        // SAFETY: the host gave the function and its argument together; the structs live for the call.
        unsafe {
            call(self.user, &raw const client, size_of_val(&client), &raw const record, size_of_val(&record))
        };
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let Some(call) = self.tunnel_ended else { return };
        let client = client_to_c(tunnel.client);
        let name = &*tunnel.upstream.name;
        let record = dockline_tunnel_record {
            method: tunnel.method.as_ptr(),
            method_len: tunnel.method.len(),
            target: tunnel.target.as_ptr(),
            target_len: tunnel.target.len(),
            upstream: name.as_ptr(),
            upstream_len: name.len(),
            bytes_up: tunnel.stats.up.delivered,
            bytes_down: tunnel.stats.down.delivered,
            received_up: tunnel.stats.up.received,
            received_down: tunnel.stats.down.received,
            duration_us: us(tunnel.duration),
            tunnel: tunnel_to_c(tunnel.kind),
            first_closer: side_to_c(tunnel.stats.first_closer),
            close_reason: close_reason_to_c(tunnel.stats.close_reason),
            reserved: 0,
        };
        // SAFETY: as in `exchange`.
        unsafe {
            call(self.user, &raw const client, size_of_val(&client), &raw const record, size_of_val(&record))
        };
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = &self.log else { return };
        let (level, text) = match event {
            Event::Relay(event) => return log.report(event),
            Event::AcceptFailed { listener, error, paused } => {
                let then = if *paused { "; it pauses for a moment" } else { "" };
                (DOCKLINE_LOG_ERROR, format!("listener \"{listener}\": {error}{then}"))
            }
            Event::Full { connections } => (
                DOCKLINE_LOG_WARN,
                format!("{connections} connections, as many as may be: new ones wait until there are fewer"),
            ),
            Event::HandshakeFailed { client, reason, .. } => {
                (DOCKLINE_LOG_INFO, format!("client {}: TLS handshake: {reason}", client.peer))
            }
            Event::ConnectFailed { upstream, address, error, .. } => {
                (DOCKLINE_LOG_ERROR, format!("upstream \"{}\" at {address}: {error}", upstream.name))
            }
            Event::ForwardFailed { client, upstream, failure } => (
                DOCKLINE_LOG_INFO,
                format!("client {}: upstream \"{}\": {failure}", client.peer, upstream.name),
            ),
            Event::Reset { side, error } => (DOCKLINE_LOG_INFO, format!("{side:?} connection: {error}")),
            Event::Panicked => (
                DOCKLINE_LOG_ERROR,
                "dockline failed inside a connection, which is closed; please report it".into(),
            ),
        };
        log.write(level, &text);
    }
}

/// The client as C sees it.
pub(super) fn client_to_c(info: &ClientInfo) -> dockline_client {
    let mut client = dockline_client {
        ip: [0; 16],
        ip_len: 0,
        port: 0,
        flags: if info.tls { DOCKLINE_CLIENT_TLS } else { 0 },
        pid: 0,
        uid: 0,
        gid: 0,
        listener: info.listener.as_ptr(),
        listener_len: info.listener.len(),
    };
    match info.peer {
        PeerAddr::Ip(address) => set_address(&mut client, address),
        PeerAddr::Unix { pid, uid, gid } => {
            client.flags |= DOCKLINE_CLIENT_UNIX;
            (client.pid, client.uid, client.gid) = (pid, uid, gid);
        }
        PeerAddr::Unknown => {}
    }
    client
}

fn set_address(client: &mut dockline_client, address: SocketAddr) {
    (client.ip, client.ip_len) = ip_to_c(address.ip());
    client.port = address.port().into();
}
