//! What a `dockline_conn` is and tells.

use super::boundary::Kind;
use super::hijack::tunnel_to_c;
use super::message::dockline_field;
use super::status::Failure;
use super::types::CStruct;
use super::worker::Clock;
use crate::proxy::ProxyConn;
use crate::proxy::conn::{ConnEvent, ConnWants, ExchangeSummary, IntoTunnel, Reuse};

/// One client connection as HTTP/1.1, and the upstream connections that serve it one after the other. The host has
/// the sockets, the clock, and the say about where a request goes.
pub struct dockline_conn {
    _opaque: [u8; 0],
}

/// Half-close the downstream, then call dockline_conn_shut_done.
pub const DOCKLINE_DOWNSTREAM_SHUT: u32 = 0x100;
/// Half-close the upstream, then call dockline_conn_shut_done.
pub const DOCKLINE_UPSTREAM_SHUT: u32 = 0x1000;

/// There is nothing to do for now.
pub const DOCKLINE_EVENT_NONE: i32 = 0;
/// A request was read (dockline_conn_request_view): find a connection for it and call
/// dockline_conn_upstream_ready, or dockline_conn_upstream_failed; or answer it with dockline_conn_reply.
pub const DOCKLINE_EVENT_NEED_UPSTREAM: i32 = 1;
/// The upstream connection is not used any more: keep it for others if DOCKLINE_EVENT_KEEP is set, else close it.
pub const DOCKLINE_EVENT_RELEASE_UPSTREAM: i32 = 2;
/// A request has been dealt with (dockline_conn_record_get). Comes before DOCKLINE_EVENT_TUNNEL, too.
pub const DOCKLINE_EVENT_EXCHANGE_ENDED: i32 = 3;
/// From here on both connections carry raw bytes: dockline_conn_tunnel_take.
pub const DOCKLINE_EVENT_TUNNEL: i32 = 4;
/// Close the client's connection, by a reset if DOCKLINE_EVENT_RESET is set, and free the handle.
pub const DOCKLINE_EVENT_CLOSED: i32 = 5;

/// With NEED_UPSTREAM: a kept connection will do. Without it, one that is newly made: the request must not be sent
/// twice, and is not risked on a connection that its peer may be closing.
pub const DOCKLINE_EVENT_MAY_REUSE: u32 = 1;
/// With NEED_UPSTREAM: the same request was sent before, on a kept connection that turned out to be dead.
pub const DOCKLINE_EVENT_AGAIN: u32 = 2;
/// With RELEASE_UPSTREAM: the connection may serve other requests.
pub const DOCKLINE_EVENT_KEEP: u32 = 4;
/// With CLOSED: a clean end would be taken for the end of the answer.
pub const DOCKLINE_EVENT_RESET: u32 = 8;

/// What the host has to do.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_conn_event {
    /// DOCKLINE_EVENT_NONE and so on
    pub kind: i32,
    /// DOCKLINE_EVENT_MAY_REUSE and so on
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

/// No connection could be made: answered with 502.
pub const DOCKLINE_FAILED_UNREACHABLE: i32 = 1;
/// The attempt took too long: 504.
pub const DOCKLINE_FAILED_TIMEOUT: i32 = 2;
/// There is no descriptor or memory for one more connection: 503.
pub const DOCKLINE_FAILED_OVERLOADED: i32 = 3;

/// What a tunnel begins with: bytes that were received and not yet sent on. They belong to the handle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_conn_tunnel {
    /// Of the client, for the upstream.
    pub from_downstream: *const u8,
    /// Bytes of from_downstream.
    pub from_downstream_len: usize,
    /// Of the upstream, for the client.
    pub from_upstream: *const u8,
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
    /// Of the request that was looked at last.
    pub(super) fields: Vec<dockline_field>,
    /// Of the exchange whose end was told last.
    pub(super) record: Option<Box<ExchangeSummary>>,
    /// Whether the tunnel was told.
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

    /// One that waits for the answer to NEED_UPSTREAM.
    pub(super) fn asking(&mut self) -> Result<&mut ProxyConn, Failure> {
        self.live().and_then(|conn| if conn.needs_upstream() { Ok(conn) } else { Err(Failure::State) })
    }
}

/// The bits of a side.
pub(super) fn bits(wants: ConnWants, (read, write, shut): (u32, u32, u32)) -> u32 {
    let bit = |is_wanted, bit| if is_wanted { bit } else { 0 };
    bit(wants.read, read) | bit(wants.write, write) | bit(wants.shut_write, shut)
}

pub(super) fn event_of(kind: i32, flags: u32) -> dockline_conn_event {
    dockline_conn_event { kind, flags, tunnel: 0, reserved: 0 }
}

/// The event as C sees it; what it leaves to be asked for is kept.
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
