//! `dockline_conn`: the request, its upstream, bodies that bypass the handle, the tunnel, the
//! record.

use super::boundary::Guarded;
use super::conn_types::{
    ConnHandle, DOCKLINE_FAILED_OVERLOADED, DOCKLINE_FAILED_TIMEOUT, DOCKLINE_FAILED_UNREACHABLE, Machine,
    dockline_conn, dockline_conn_tunnel,
};
use super::message::{dockline_reply, dockline_request, reply_from_c, request_to_c};
use super::record::{dockline_exchange_record, summary_to_c};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{check_out, errno_from_c, side_from_c, struct_out};
use crate::error::{Cause, Timeout};
use crate::h1::FieldLine;
use crate::proxy::conn::IntoTunnel;

/// Returns the head of the present request.
///
/// @param conn     not in use by another call
/// @param out      set on success; what it points to is borrowed until the next call on conn that
///                 takes a time
/// @param out_size sizeof(dockline_request)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE if
///         there is none
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_request_view(
    conn: *const dockline_conn,
    out: *mut dockline_request,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let out = struct_out(out, out_size)?;
        let ConnHandle { machine: Machine::Live(conn), fields, .. } = handle else {
            return Err(Failure::State);
        };
        let view = request_to_c(conn.request().ok_or(Failure::State)?, fields);
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&view) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast(), call) }
}

/// Reports that there is a connection for the request, which is then sent on it.
///
/// @param conn   not in use by another call
/// @param host   replaces the Host of the request; absent: the client's is sent
/// @param reused 1 if the connection has served a request before, 0 if it is new
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
///         _E_STATE if no DOCKLINE_EVENT_NEED_UPSTREAM awaits its answer, or no longer does: the
///         connection stays with the host
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `host` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_upstream_ready(
    conn: *mut dockline_conn,
    host: dockline_str,
    reused: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        // SAFETY: the caller's promise about `host`.
        let host = unsafe { host.utf8() }?;
        let is_value = |host: &str| FieldLine::new("Host", host.to_owned()).is_ok();
        if !(0..=1).contains(&reused) || !host.is_none_or(is_value) {
            return Err(Failure::Value);
        }
        let now = handle.clock.at(now_ms)?;
        handle.asking()?.upstream_ready(host, reused == 1, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports that there is no connection for the request. The client receives an error.
///
/// @param conn    not in use by another call
/// @param failure enum dockline_upstream_failure
/// @param error_number the errno of the system call that failed; 0 if none did
/// @param now_ms  the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
///         _E_STATE as for dockline_conn_upstream_ready
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_upstream_failed(
    conn: *mut dockline_conn,
    failure: i32,
    error_number: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let errno = errno_from_c(error_number)?;
        let cause = match failure {
            DOCKLINE_FAILED_UNREACHABLE => Cause::ConnectFailed { errno },
            DOCKLINE_FAILED_TIMEOUT => Cause::Timeout(Timeout::Connect),
            DOCKLINE_FAILED_OVERLOADED => Cause::OutOfResources { errno },
            _ => return Err(Failure::Value),
        };
        let now = handle.clock.at(now_ms)?;
        handle.asking()?.upstream_failed(cause, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Replies to the request.
///
/// @param conn       not in use by another call
/// @param reply      copied
/// @param reply_size sizeof(dockline_reply)
/// @param now_ms     the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC; _E_STATE as for dockline_conn_upstream_ready
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `reply` is NULL or points to `reply_size` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_reply(
    conn: *mut dockline_conn,
    reply: *const dockline_reply,
    reply_size: usize,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        // SAFETY: the caller's promise about `reply`.
        let reply = unsafe { reply_from_c(reply, reply_size) }?;
        let now = handle.clock.at(now_ms)?;
        handle.asking()?.reply(&reply, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Returns how many bytes may be moved from one side to the other without this handle, by splice(2)
/// for instance: the rest of a body that is forwarded as it is.
///
/// @param conn      not in use by another call
/// @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param out_len   set on success; UINT64_MAX: until the connection ends; 0 while the handle still
///                  holds bytes that precede them
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `out_len` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_passthrough(
    conn: *const dockline_conn,
    from_side: i32,
    out_len: *mut u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        check_out(out_len)?;
        let from = side_from_c(from_side)?;
        let len = handle.live()?.passthrough(from);
        // SAFETY: checked, and the caller's promise.
        unsafe { out_len.write(len) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast(), call) }
}

/// Reports bytes that bypassed this handle and wait for the other side, in a pipe for example: from
/// now on the time limits of that side apply. Call dockline_conn_passed when they were sent. A host
/// that never holds such bytes need not call it.
///
/// @param conn      not in use by another call
/// @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param len       how many; at most what dockline_conn_passthrough returned
/// @param now_ms    the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_offered(
    conn: *mut dockline_conn,
    from_side: i32,
    len: u64,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let from = side_from_c(from_side)?;
        let now = handle.clock.at(now_ms)?;
        let conn = handle.live()?;
        if len > conn.passthrough(from) {
            return Err(Failure::Value);
        }
        if len > 0 {
            conn.offered(from, len, now);
        }
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports bytes that bypassed this handle and were sent to the other side.
///
/// @param conn      not in use by another call
/// @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param len       how many; at most what dockline_conn_passthrough returned plus what was offered
/// @param now_ms    the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_passed(
    conn: *mut dockline_conn,
    from_side: i32,
    len: u64,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let from = side_from_c(from_side)?;
        let now = handle.clock.at(now_ms)?;
        let conn = handle.live()?;
        if len > conn.passthrough(from).saturating_add(conn.in_transit(from)) {
            return Err(Failure::Value);
        }
        if len > 0 {
            conn.passed(from, len, now);
        }
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Ends HTTP after DOCKLINE_EVENT_TUNNEL. Hand both connections and these bytes to a relay
/// (dockline_relay_new, then dockline_relay_prefill) or to an engine (dockline_engine_adopt_pair),
/// then free the handle. From now on only this function, dockline_conn_record_get and
/// dockline_conn_free may be called.
///
/// @param conn     not in use by another call
/// @param out      set on success; what it points to is borrowed until conn is freed
/// @param out_size sizeof(dockline_conn_tunnel)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before
///         that event
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_tunnel_take(
    conn: *mut dockline_conn,
    out: *mut dockline_conn_tunnel,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let out = struct_out(out, out_size)?;
        if !handle.is_tunnel {
            return Err(Failure::State);
        }
        let empty = Machine::Taken(IntoTunnel { to_upstream: Vec::new(), to_downstream: Vec::new() });
        let bytes = match std::mem::replace(&mut handle.machine, empty) {
            Machine::Live(conn) => conn.into_tunnel(),
            Machine::Taken(bytes) => bytes,
        };
        let tunnel = dockline_conn_tunnel {
            from_downstream: bytes.to_upstream.as_ptr().cast(),
            from_downstream_len: bytes.to_upstream.len(),
            from_upstream: bytes.to_downstream.as_ptr().cast(),
            from_upstream_len: bytes.to_downstream.len(),
        };
        handle.machine = Machine::Taken(bytes);
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&tunnel) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Returns the record of the exchange that the last DOCKLINE_EVENT_EXCHANGE_ENDED was about.
///
/// @param conn     not in use by another call
/// @param out      set on success; what it points to is borrowed until the next
///                 dockline_conn_next_event
/// @param out_size sizeof(dockline_exchange_record)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before
///         the first
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_record_get(
    conn: *const dockline_conn,
    out: *mut dockline_exchange_record,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let out = struct_out(out, out_size)?;
        let record = summary_to_c(handle.record.as_ref().ok_or(Failure::State)?);
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&record) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast(), call) }
}
