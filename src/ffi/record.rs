//! Who asked, and what became of it.

use std::ffi::{CStr, c_char};
use std::net::IpAddr;
use std::ptr;
use std::time::Duration;

use super::hijack::tunnel_to_c;
use super::types::CStruct;
use crate::h1::RequestHead;
use crate::proxy::ExchangeEnd;
use crate::proxy::conn::{EndKind, ExchangeSummary};

/// Client flag: the connection is TLS.
pub const DOCKLINE_CLIENT_TLS: u32 = 1;
/// Client flag: it came over a Unix socket, and pid, uid and gid are known (SO_PEERCRED).
pub const DOCKLINE_CLIENT_UNIX: u32 = 2;

/// Who is at the other end of a client connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_client {
    /// Its address in network order, ip_len bytes of it.
    pub ip: [u8; 16],
    /// 4, 16, or 0 if there is no address.
    pub ip_len: u32,
    /// Its port.
    pub port: u32,
    /// DOCKLINE_CLIENT_TLS, DOCKLINE_CLIENT_UNIX
    pub flags: u32,
    /// The process that connected, for logs only: the number may be another's by now.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The name of the engine's listener.
    pub listener: *const u8,
    /// Bytes of listener.
    pub listener_len: usize,
}

// SAFETY: integers and a pointer; all zero is valid.
unsafe impl CStruct for dockline_client {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// The answer was delivered whole, or the tunnel was opened.
pub const DOCKLINE_END_COMPLETE: i32 = 1;
/// It was answered here, as the host said.
pub const DOCKLINE_END_REPLIED: i32 = 2;
/// The request could not be accepted: malformed, over a limit, or refused.
pub const DOCKLINE_END_BAD_REQUEST: i32 = 3;
/// The client took too long with its request, or with taking the answer.
pub const DOCKLINE_END_CLIENT_TIMEOUT: i32 = 4;
/// The client left.
pub const DOCKLINE_END_CLIENT_ABORTED: i32 = 5;
/// The upstream could not be reached.
pub const DOCKLINE_END_UNREACHABLE: i32 = 6;
/// The upstream's answer was malformed, or it ended or failed before one.
pub const DOCKLINE_END_BAD_RESPONSE: i32 = 7;
/// The upstream took too long to answer, or to take the request.
pub const DOCKLINE_END_UPSTREAM_TIMEOUT: i32 = 8;
/// The upstream's answer was cut; the client saw that.
pub const DOCKLINE_END_TRUNCATED: i32 = 9;
/// The host ended it.
pub const DOCKLINE_END_STOPPED: i32 = 10;

/// Exchange flag: it used a kept upstream connection. Set by the engine; a host that connects itself knows.
pub const DOCKLINE_EXCHANGE_REUSED: u32 = 1;

/// A request that has been dealt with, or became a tunnel.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_exchange_record {
    /// The method; empty if the request could not be read.
    pub method: *const u8,
    /// Bytes of method.
    pub method_len: usize,
    /// The request target, as sent; empty if the request could not be read.
    pub target: *const u8,
    /// Bytes of target.
    pub target_len: usize,
    /// The name of the upstream that it went to, from the engine; empty if it went nowhere.
    pub upstream: *const u8,
    /// Bytes of upstream.
    pub upstream_len: usize,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// Microseconds from the first byte of the request to the end of the answer (of its head for a tunnel).
    pub duration_us: u64,
    /// Microseconds from the first byte of the request to the head of the answer; 0 without an answer.
    pub head_us: u64,
    /// The status of the answer; 0 if none was sent.
    pub status: u32,
    /// DOCKLINE_END_*
    pub end: i32,
    /// DOCKLINE_DECISION_TUNNEL_*, or 0 if it became no tunnel.
    pub tunnel: i32,
    /// DOCKLINE_EXCHANGE_REUSED
    pub flags: u32,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_exchange_record {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// The word for the end of an exchange, for logs: "complete", "replied", "bad-request", "client-timeout",
/// "client-aborted", "unreachable", "bad-response", "upstream-timeout", "truncated", "stopped".
///
/// @param end DOCKLINE_END_*
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

/// The number of an end.
pub(super) fn end_to_c(end: ExchangeEnd) -> i32 {
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

/// Microseconds.
pub(super) fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What a [`ProxyConn`](crate::proxy::ProxyConn) says of an exchange.
pub(super) fn summary_to_c(summary: &ExchangeSummary) -> dockline_exchange_record {
    let request = summary.request.as_ref();
    let method = request.map_or(&b""[..], RequestHead::method);
    let target = request.map_or(&b""[..], |head| head.target().as_bytes());
    dockline_exchange_record {
        method: method.as_ptr(),
        method_len: method.len(),
        target: target.as_ptr(),
        target_len: target.len(),
        upstream: ptr::null(),
        upstream_len: 0,
        bytes_up: summary.bytes_up,
        bytes_down: summary.bytes_down,
        duration_us: us(summary.duration),
        head_us: summary.time_to_head.map_or(0, us),
        status: summary.status.map_or(0, u32::from),
        end: end_to_c(summary.end),
        tunnel: tunnel_to_c(summary.tunnel),
        flags: 0,
    }
}

/// An address and how many bytes of it count.
pub(super) fn ip_to_c(ip: IpAddr) -> ([u8; 16], u32) {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            (bytes, 4)
        }
        IpAddr::V6(ip) => (ip.octets(), 16),
    }
}
