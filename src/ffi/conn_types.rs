//! Types of `dockline_conn`.

use std::ffi::c_void;

use super::boundary::Kind;
use super::hijack::tunnel_to_c;
use super::message::dockline_field;
use super::status::Failure;
use super::types::CStruct;
use super::worker::Clock;
use crate::proxy::ProxyConn;
use crate::proxy::conn::{ConnEvent, ConnWants, ExchangeSummary, IntoTunnel, Reuse};

/// One client connection as HTTP/1.1, and the upstream connections that serve it one after the
/// other. The host owns the sockets and the clock and decides where a request goes.
pub struct dockline_conn {
    _opaque: [u8; 0],
}

/// Half-close the downstream, then call dockline_conn_shut_done.
pub const DOCKLINE_DOWNSTREAM_SHUT: u32 = 0x100;
/// Half-close the upstream, then call dockline_conn_shut_done.
pub const DOCKLINE_UPSTREAM_SHUT: u32 = 0x1000;

/// What the host has to do.
pub type dockline_conn_event_kind = i32;
/// Nothing for now.
pub const DOCKLINE_EVENT_NONE: dockline_conn_event_kind = 0;
/// A request was read (dockline_conn_request_view): find a connection for it and call
/// dockline_conn_upstream_ready or dockline_conn_upstream_failed; or call dockline_conn_reply.
pub const DOCKLINE_EVENT_NEED_UPSTREAM: dockline_conn_event_kind = 1;
/// The upstream connection is no longer used: keep it for other requests if DOCKLINE_EVENT_KEEP is
/// set, else close it.
pub const DOCKLINE_EVENT_RELEASE_UPSTREAM: dockline_conn_event_kind = 2;
/// An exchange has ended (dockline_conn_record_get). Also precedes DOCKLINE_EVENT_TUNNEL.
pub const DOCKLINE_EVENT_EXCHANGE_ENDED: dockline_conn_event_kind = 3;
/// From now on both connections carry raw bytes: call dockline_conn_tunnel_take.
pub const DOCKLINE_EVENT_TUNNEL: dockline_conn_event_kind = 4;
/// Close the client's connection, by a reset if DOCKLINE_EVENT_RESET is set, and free the handle.
pub const DOCKLINE_EVENT_CLOSED: dockline_conn_event_kind = 5;

/// Event flag, with NEED_UPSTREAM: a kept connection may be used. Without it, use a new one: the
/// request must not be sent twice, and the peer of a kept connection may be closing it.
pub const DOCKLINE_EVENT_MAY_REUSE: u32 = 0x01;
/// Event flag, with NEED_UPSTREAM: the same request was sent before, on a kept connection that
/// turned out to be closed.
pub const DOCKLINE_EVENT_AGAIN: u32 = 0x02;
/// Event flag, with RELEASE_UPSTREAM: the connection may serve other requests.
pub const DOCKLINE_EVENT_KEEP: u32 = 0x04;
/// Event flag, with CLOSED: a clean end would look like the end of the response.
pub const DOCKLINE_EVENT_RESET: u32 = 0x08;

/// An event of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_conn_event {
    /// enum dockline_conn_event_kind
    pub kind: i32,
    /// DOCKLINE_EVENT_MAY_REUSE, _AGAIN, _KEEP, _RESET
    pub flags: u32,
    /// With TUNNEL: DOCKLINE_DECISION_TUNNEL_*.
    pub tunnel: i32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_conn_event {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Why there is no upstream connection for a request, and the status that the client receives.
pub type dockline_upstream_failure = i32;
/// No connection could be made: 502.
pub const DOCKLINE_FAILED_UNREACHABLE: dockline_upstream_failure = 1;
/// The attempt took too long: 504.
pub const DOCKLINE_FAILED_TIMEOUT: dockline_upstream_failure = 2;
/// There is no descriptor or memory for another connection: 503.
pub const DOCKLINE_FAILED_OVERLOADED: dockline_upstream_failure = 3;

/// What a tunnel begins with: bytes that were received and not yet sent on. They belong to the
/// handle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_conn_tunnel {
    /// From the client, for the upstream.
    pub from_downstream: *const c_void,
    /// Bytes of from_downstream.
    pub from_downstream_len: usize,
    /// From the upstream, for the client.
    pub from_upstream: *const c_void,
    /// Bytes of from_upstream.
    pub from_upstream_len: usize,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_conn_tunnel {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_conn`.
pub(super) struct ConnHandle {
    pub(super) machine: Machine,
    pub(super) clock: Clock,
    /// Fields of the request that was viewed last.
    pub(super) fields: Vec<dockline_field>,
    /// The exchange whose end was reported last.
    pub(super) record: Option<Box<ExchangeSummary>>,
    /// Whether the tunnel was reported.
    pub(super) is_tunnel: bool,
}

pub(super) enum Machine {
    Live(Box<ProxyConn>),
    Taken(IntoTunnel),
}

impl Kind for ConnHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0003;
    type Shared = ();
}

impl ConnHandle {
    pub(super) fn live(&mut self) -> Result<&mut ProxyConn, Failure> {
        match &mut self.machine {
            Machine::Live(conn) => Ok(conn),
            Machine::Taken(_) => Err(Failure::State),
        }
    }

    /// Returns the connection if NEED_UPSTREAM awaits its answer.
    pub(super) fn asking(&mut self) -> Result<&mut ProxyConn, Failure> {
        self.live().and_then(|conn| if conn.needs_upstream() { Ok(conn) } else { Err(Failure::State) })
    }
}

/// Returns the bits of a side.
pub(super) fn bits(wants: ConnWants, (read, write, shut): (u32, u32, u32)) -> u32 {
    let bit = |is_wanted, bit| if is_wanted { bit } else { 0 };
    bit(wants.read, read) | bit(wants.write, write) | bit(wants.shut_write, shut)
}

pub(super) fn event_of(kind: i32, flags: u32) -> dockline_conn_event {
    dockline_conn_event { kind, flags, tunnel: 0, reserved: 0 }
}

/// Converts an event, and keeps what the host may ask for afterwards.
pub(super) fn event_to_c(event: ConnEvent, handle: &mut ConnHandle) -> dockline_conn_event {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    match event {
        ConnEvent::NeedUpstream { may_reuse, again } => event_of(
            DOCKLINE_EVENT_NEED_UPSTREAM,
            flag(may_reuse, DOCKLINE_EVENT_MAY_REUSE) | flag(again, DOCKLINE_EVENT_AGAIN),
        ),
        ConnEvent::ReleaseUpstream(reuse) => {
            event_of(DOCKLINE_EVENT_RELEASE_UPSTREAM, flag(matches!(reuse, Reuse::Keep), DOCKLINE_EVENT_KEEP))
        }
        ConnEvent::ExchangeEnded(summary) => {
            handle.record = Some(summary);
            event_of(DOCKLINE_EVENT_EXCHANGE_ENDED, 0)
        }
        ConnEvent::Tunnel(kind) => {
            handle.is_tunnel = true;
            let tunnel = tunnel_to_c(Some(kind));
            dockline_conn_event { tunnel, ..event_of(DOCKLINE_EVENT_TUNNEL, 0) }
        }
        ConnEvent::Closed { reset } => event_of(DOCKLINE_EVENT_CLOSED, flag(reset, DOCKLINE_EVENT_RESET)),
    }
}
