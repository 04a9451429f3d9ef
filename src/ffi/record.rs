//! What became of an exchange or a tunnel: the records that callbacks and
//! `dockline_conn_record_get` deliver.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use super::failure::{dockline_failure, failure_to_c};
use super::hijack::tunnel_to_c;
use super::relay_types::close_reason_to_c;
use super::text::dockline_str;
use super::types::{CStruct, side_to_c};
use crate::engine::{Exchange, Tunnel};
use crate::h1::RequestHead;
use crate::proxy::ExchangeEnd;
use crate::proxy::conn::{EndKind, ExchangeSummary};

/// How an exchange ended.
pub type dockline_exchange_end = i32;
/// The response was delivered whole, or the tunnel was opened.
pub const DOCKLINE_END_COMPLETE: dockline_exchange_end = 1;
/// The proxy replied by itself, as the host decided.
pub const DOCKLINE_END_REPLIED: dockline_exchange_end = 2;
/// The request could not be accepted: malformed, over a limit, or refused.
pub const DOCKLINE_END_BAD_REQUEST: dockline_exchange_end = 3;
/// The client took too long to send its request or to receive the response.
pub const DOCKLINE_END_CLIENT_TIMEOUT: dockline_exchange_end = 4;
/// The client closed its connection.
pub const DOCKLINE_END_CLIENT_ABORTED: dockline_exchange_end = 5;
/// The upstream could not be reached.
pub const DOCKLINE_END_UNREACHABLE: dockline_exchange_end = 6;
/// The upstream's response was malformed, or the connection ended or failed before one.
pub const DOCKLINE_END_BAD_RESPONSE: dockline_exchange_end = 7;
/// The upstream took too long to respond or to receive the request.
pub const DOCKLINE_END_UPSTREAM_TIMEOUT: dockline_exchange_end = 8;
/// The upstream's response was cut short, and the client could see that.
pub const DOCKLINE_END_TRUNCATED: dockline_exchange_end = 9;
/// The host ended it, or the proxy itself failed.
pub const DOCKLINE_END_STOPPED: dockline_exchange_end = 10;

/// Exchange flag: it used a kept upstream connection. Set by the engine; a host that connects
/// itself knows.
pub const DOCKLINE_EXCHANGE_REUSED: u32 = 0x01;

/// One exchange, from the first byte of the request to the end of the response or the beginning of
/// a tunnel.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_exchange_record {
    /// The method; empty if the request could not be read.
    pub method: dockline_str,
    /// The request target, as sent; empty if the request could not be read.
    pub target: dockline_str,
    /// The name of the engine's upstream that received the request; empty if none did.
    pub upstream: dockline_str,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// Microseconds from the first byte of the request to the end of the response (of its head for
    /// a tunnel).
    pub duration_us: u64,
    /// Microseconds from the first byte of the request to the head of the response; 0 without a
    /// response.
    pub head_us: u64,
    /// The status of the response; 0 if none was sent.
    pub status: u32,
    /// enum dockline_exchange_end
    pub end: i32,
    /// DOCKLINE_DECISION_TUNNEL_*, or 0 if it did not become a tunnel.
    pub tunnel: i32,
    /// DOCKLINE_EXCHANGE_*
    pub flags: u32,
    /// Why it failed, for all ends except DOCKLINE_END_COMPLETE, _REPLIED, and _STOPPED where
    /// everything was stopped.
    pub failure: dockline_failure,
    /// The name of the engine's route that the request took; absent if it has none.
    pub route: dockline_str,
    /// The number of the engine's tunnel that it became, for dockline_engine_kill_tunnel; 0 if it
    /// did not.
    pub tunnel_id: u64,
}

// SAFETY: integers and text; all zero is valid.
unsafe impl CStruct for dockline_exchange_record {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// One tunnel that ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_tunnel_record {
    /// The method of the request that opened it; empty for a connection that was not HTTP.
    pub method: dockline_str,
    /// The target of that request, at most its first 255 bytes.
    pub target: dockline_str,
    /// The name of the upstream or of the pair.
    pub upstream: dockline_str,
    /// Bytes that the upstream received.
    pub bytes_up: u64,
    /// Bytes that the downstream received.
    pub bytes_down: u64,
    /// Bytes read from the downstream.
    pub received_up: u64,
    /// Bytes read from the upstream.
    pub received_down: u64,
    /// How many microseconds it was open.
    pub duration_us: u64,
    /// DOCKLINE_DECISION_TUNNEL_*, or 0 for a connection that was not HTTP.
    pub tunnel: i32,
    /// The side that ended first: enum dockline_side
    pub first_closer: i32,
    /// enum dockline_close_reason
    pub close_reason: i32,
    /// 0
    pub reserved: u32,
    /// Why it failed, for all close reasons except DOCKLINE_CLOSE_EOF and _LINGER.
    pub failure: dockline_failure,
    /// The name of the route that led to the upstream; absent if it has none.
    pub route: dockline_str,
    /// Its number, which no other tunnel of this process has.
    pub id: u64,
}

// SAFETY: integers and text; all zero is valid.
unsafe impl CStruct for dockline_tunnel_record {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Returns the word for the end of an exchange, for logs: "complete", "replied", "bad-request",
/// "client-timeout", "client-aborted", "unreachable", "bad-response", "upstream-timeout",
/// "truncated", "stopped".
///
/// @param end enum dockline_exchange_end
/// @return a static string; "unknown" for another number
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_exchange_end_name(end: i32) -> *const c_char {
    let name: &CStr = match end {
        DOCKLINE_END_COMPLETE => c"complete",
        DOCKLINE_END_REPLIED => c"replied",
        DOCKLINE_END_BAD_REQUEST => c"bad-request",
        DOCKLINE_END_CLIENT_TIMEOUT => c"client-timeout",
        DOCKLINE_END_CLIENT_ABORTED => c"client-aborted",
        DOCKLINE_END_UNREACHABLE => c"unreachable",
        DOCKLINE_END_BAD_RESPONSE => c"bad-response",
        DOCKLINE_END_UPSTREAM_TIMEOUT => c"upstream-timeout",
        DOCKLINE_END_TRUNCATED => c"truncated",
        DOCKLINE_END_STOPPED => c"stopped",
        _ => c"unknown",
    };
    name.as_ptr()
}

fn end_to_c(end: ExchangeEnd) -> i32 {
    match end.kind() {
        EndKind::Complete => DOCKLINE_END_COMPLETE,
        EndKind::Replied => DOCKLINE_END_REPLIED,
        EndKind::BadRequest => DOCKLINE_END_BAD_REQUEST,
        EndKind::ClientTimeout => DOCKLINE_END_CLIENT_TIMEOUT,
        EndKind::ClientAborted => DOCKLINE_END_CLIENT_ABORTED,
        EndKind::Unreachable => DOCKLINE_END_UNREACHABLE,
        EndKind::BadResponse => DOCKLINE_END_BAD_RESPONSE,
        EndKind::UpstreamTimeout => DOCKLINE_END_UPSTREAM_TIMEOUT,
        EndKind::Truncated => DOCKLINE_END_TRUNCATED,
        EndKind::Stopped => DOCKLINE_END_STOPPED,
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Converts the summary of a [`ProxyConn`](crate::proxy::ProxyConn).
pub(super) fn summary_to_c(summary: &ExchangeSummary) -> dockline_exchange_record {
    let request = summary.request.as_ref();
    let method = request.map_or(&b""[..], RequestHead::method);
    let target = request.map_or(&b""[..], |head| head.target().as_bytes());
    dockline_exchange_record {
        method: dockline_str::new(method),
        target: dockline_str::new(target),
        upstream: dockline_str::new(b""),
        bytes_up: summary.bytes_up,
        bytes_down: summary.bytes_down,
        duration_us: us(summary.duration),
        head_us: summary.time_to_head.map_or(0, us),
        status: summary.status.map_or(0, u32::from),
        end: end_to_c(summary.end),
        tunnel: tunnel_to_c(summary.tunnel),
        flags: 0,
        failure: failure_to_c(summary.end.failure()),
        route: dockline_str::ABSENT,
        tunnel_id: 0,
    }
}

fn route_to_c(route: Option<&str>) -> dockline_str {
    route.map_or(dockline_str::ABSENT, |route| dockline_str::new(route.as_bytes()))
}

/// Converts an exchange of an engine.
pub(super) fn exchange_to_c(exchange: &Exchange<'_>) -> dockline_exchange_record {
    let upstream = exchange.upstream.map_or("", |upstream| &*upstream.name);
    dockline_exchange_record {
        method: dockline_str::new(exchange.method),
        target: dockline_str::new(exchange.target),
        upstream: dockline_str::new(upstream.as_bytes()),
        bytes_up: exchange.bytes_up,
        bytes_down: exchange.bytes_down,
        duration_us: us(exchange.duration),
        head_us: exchange.time_to_head.map_or(0, us),
        status: exchange.status.map_or(0, u32::from),
        end: end_to_c(exchange.end),
        tunnel: tunnel_to_c(exchange.tunnel),
        flags: if exchange.reused { DOCKLINE_EXCHANGE_REUSED } else { 0 },
        failure: failure_to_c(exchange.end.failure()),
        route: route_to_c(exchange.route),
        tunnel_id: exchange.tunnel_id.unwrap_or(0),
    }
}

/// Converts a tunnel of an engine.
pub(super) fn tunnel_record_to_c(tunnel: &Tunnel<'_>) -> dockline_tunnel_record {
    dockline_tunnel_record {
        method: dockline_str::new(tunnel.method),
        target: dockline_str::new(tunnel.target),
        upstream: dockline_str::new(tunnel.upstream.name.as_bytes()),
        bytes_up: tunnel.stats.up.delivered,
        bytes_down: tunnel.stats.down.delivered,
        received_up: tunnel.stats.up.received,
        received_down: tunnel.stats.down.received,
        duration_us: us(tunnel.duration),
        tunnel: tunnel_to_c(tunnel.kind),
        first_closer: side_to_c(tunnel.stats.first_closer),
        close_reason: close_reason_to_c(tunnel.stats.close_reason),
        reserved: 0,
        failure: failure_to_c(tunnel.failure),
        route: route_to_c(tunnel.route),
        id: tunnel.id,
    }
}
