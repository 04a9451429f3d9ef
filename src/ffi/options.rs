//! Bounds and behaviour of HTTP connections: `dockline_conn_options`.

use std::time::Duration;

use bytes::Bytes;

use super::status::Failure;
use super::text::dockline_str;
use super::types::{CStruct, struct_from_c};
use crate::h1::{FieldLine, HostPolicy};
use crate::limits::Limits;
use crate::proxy::{ConnConfig, Forwarding, TrustedPeers};

/// Connection flag: Host has to be a host and a port. Without it any value is accepted, since
/// Docker clients send odd ones. Set it if you route by Host.
pub const DOCKLINE_CONN_STRICT_HOST: u32 = 0x01;
/// Connection flag: forward CONNECT. Without it CONNECT is refused and the connection closed
/// (RFC 9931).
pub const DOCKLINE_CONN_ALLOW_CONNECT: u32 = 0x02;
/// Connection flag: send X-Forwarded-For, -Proto, -Host and -Port, and X-Real-IP.
pub const DOCKLINE_CONN_X_FORWARDED: u32 = 0x04;
/// Connection flag: send Forwarded (RFC 7239).
pub const DOCKLINE_CONN_FORWARDED: u32 = 0x08;
/// Connection flag: all clients are trusted proxies, whose values of these fields are kept. Without
/// it they are removed, except for those of dockline_conn_options.trusted.
pub const DOCKLINE_CONN_TRUSTED: u32 = 0x10;
/// Connection flag: responses after which the connection is kept state for how long (Keep-Alive:
/// timeout=N), so that a client does not send a request into a connection that is being closed. N
/// is somewhat less than keep_alive_ms.
pub const DOCKLINE_CONN_KEEP_ALIVE_HINT: u32 = 0x20;

/// The maximum of held_bytes for dockline_conn_new: 512 KiB.
pub const DOCKLINE_CONN_HELD_MAX: u64 = 524_288;

/// Bounds and behaviour of HTTP connections. Times are totals, which a byte now and then does not
/// extend, unless the field says so; UINT64_MAX is in effect no limit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_conn_options {
    /// The name of this hop in Via, a token; absent: no Via is added.
    pub via: dockline_str,
    /// A path below which the daemon is served; absent: at the root.
    pub base: dockline_str,
    /// Bytes of a request head. 0: 64 KiB.
    pub request_head_bytes: u64,
    /// Bytes of a request line. 0: 16 KiB.
    pub request_line_bytes: u64,
    /// Bytes of a response head. 0: 64 KiB.
    pub response_head_bytes: u64,
    /// Bytes that a client may send behind a request that may become a tunnel, before the response;
    /// also the longest body that is read whole first. 0: 64 KiB. dockline_conn_new accepts
    /// DOCKLINE_CONN_HELD_MAX at most: they have to fit into dockline_relay_prefill, with what the
    /// last read brought on top.
    pub held_bytes: u64,
    /// From the first byte of a request head to its end. 0: 15000.
    pub head_ms: u64,
    /// Without a byte of a request body from the client, or of a response received by it, while the
    /// proxy waits for the client. Not for streams (DOCKLINE_REQUEST_STREAM), except for the
    /// request of one without body_may_pause. 0: 300000.
    pub body_ms: u64,
    /// From the end of the request to the response head, and then without a byte of the response.
    /// Not for streams. 0: for ever.
    pub response_ms: u64,
    /// Ends a stream (DOCKLINE_REQUEST_STREAM) after so long without a byte in either direction. 0:
    /// never.
    pub stream_idle_ms: u64,
    /// How long a client connection may be idle between requests. 0: 300000.
    pub keep_alive_ms: u64,
    /// How long a connection that is being closed may still send, so that the last response is not
    /// lost to a reset. 0: 2000.
    pub closing_ms: u64,
    /// Engine only. One attempt to connect to one address of an upstream. 0: 5000.
    pub connect_ms: u64,
    /// Engine only. How long an unused upstream connection is kept. 0: 60000.
    pub pool_ms: u64,
    /// Engine only. Ends a tunnel after so long without a byte in either direction. 0: never.
    pub tunnel_idle_ms: u64,
    /// Requests on one client connection; the response to the last one has Connection: close. 0:
    /// 100000.
    pub requests: u32,
    /// Field lines in one head. 0: 128.
    pub fields: u32,
    /// Engine only. Unused connections kept for each upstream. 0: 128.
    pub pool_size: u32,
    /// DOCKLINE_CONN_*, except DOCKLINE_CONN_HELD_MAX
    pub flags: u32,
    /// The clients that are trusted proxies, separated by commas: addresses, networks such as
    /// 10.0.0.0/8, and "unix" for clients without an IP address; or "all". Absent with
    /// DOCKLINE_CONN_TRUSTED, which is the same as "all".
    pub trusted: dockline_str,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_conn_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

const KNOWN_FLAGS: u32 = DOCKLINE_CONN_STRICT_HOST
    | DOCKLINE_CONN_ALLOW_CONNECT
    | DOCKLINE_CONN_X_FORWARDED
    | DOCKLINE_CONN_FORWARDED
    | DOCKLINE_CONN_TRUSTED
    | DOCKLINE_CONN_KEEP_ALIVE_HINT;

/// # Safety
/// `options` is NULL or points to `size` readable bytes, and so do the texts in it.
pub(super) unsafe fn conn_options_from_c(
    options: *const dockline_conn_options,
    size: usize,
) -> Result<ConnConfig, Failure> {
    if options.is_null() && size == 0 {
        return Ok(ConnConfig::default());
    }
    // SAFETY: the caller's promise.
    let options = unsafe { struct_from_c(options, size) }?;
    // SAFETY: the caller's promise about the texts.
    let via = unsafe { options.via.optional() }?;
    // SAFETY: as above.
    let base = unsafe { options.base.bytes() }?;
    // SAFETY: as above.
    let trusted = unsafe { options.trusted.utf8() }?;
    let via = via.map(Bytes::copy_from_slice);
    // A field name is a token, too.
    let is_token = |text: &Bytes| FieldLine::new(text.clone(), Bytes::new()).is_ok();
    if options.flags & !KNOWN_FLAGS != 0 || !via.as_ref().is_none_or(is_token) {
        return Err(Failure::Value);
    }
    let has = |flag| options.flags & flag != 0;
    let trusted = match (has(DOCKLINE_CONN_TRUSTED), trusted) {
        (false, list) => peers_from_text(list.unwrap_or_default())?,
        (true, None) => TrustedPeers::All,
        (true, Some(_)) => return Err(Failure::Value),
    };
    Ok(ConnConfig {
        limits: limits_from_c(&options),
        hosts: if has(DOCKLINE_CONN_STRICT_HOST) { HostPolicy::Strict } else { HostPolicy::Opaque },
        forwarding: Forwarding {
            via,
            x_forwarded: has(DOCKLINE_CONN_X_FORWARDED),
            forwarded: has(DOCKLINE_CONN_FORWARDED),
            trusted,
        },
        keep_alive_hint: has(DOCKLINE_CONN_KEEP_ALIVE_HINT),
        allow_connect: has(DOCKLINE_CONN_ALLOW_CONNECT),
        base: Bytes::copy_from_slice(base),
        ..ConnConfig::default()
    })
}

/// Reads a list of trusted peers. An empty one has none.
pub(super) fn peers_from_text(list: &str) -> Result<TrustedPeers, Failure> {
    if list == "all" {
        return Ok(TrustedPeers::All);
    }
    let members = list.split(',').map(str::trim).filter(|_| !list.is_empty());
    let all = members.map(|peer| peer.parse().map_err(|_| Failure::Value)).collect::<Result<_, _>>()?;
    Ok(TrustedPeers::Listed(all))
}

fn limits_from_c(options: &dockline_conn_options) -> Limits {
    fn size(to: &mut usize, from: u64) {
        if from != 0 {
            *to = usize::try_from(from).unwrap_or(usize::MAX);
        }
    }
    fn time(to: &mut Duration, ms: u64) {
        if ms != 0 {
            *to = Duration::from_millis(ms);
        }
    }
    let mut limits = Limits::default();
    size(&mut limits.request_head, options.request_head_bytes);
    size(&mut limits.request_line, options.request_line_bytes);
    size(&mut limits.response_head, options.response_head_bytes);
    size(&mut limits.held, options.held_bytes);
    size(&mut limits.fields, options.fields.into());
    size(&mut limits.pool_size, options.pool_size.into());
    time(&mut limits.head_time, options.head_ms);
    time(&mut limits.body_progress, options.body_ms);
    time(&mut limits.keep_alive, options.keep_alive_ms);
    time(&mut limits.closing_time, options.closing_ms);
    time(&mut limits.connect_time, options.connect_ms);
    time(&mut limits.pool_time, options.pool_ms);
    limits.response_time = (options.response_ms != 0).then(|| Duration::from_millis(options.response_ms));
    limits.stream_idle = (options.stream_idle_ms != 0).then(|| Duration::from_millis(options.stream_idle_ms));
    limits.tunnel_idle = (options.tunnel_idle_ms != 0).then(|| Duration::from_millis(options.tunnel_idle_ms));
    if options.requests != 0 {
        limits.requests = options.requests;
    }
    limits
}
