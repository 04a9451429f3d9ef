//! `dockline_conn`: one client connection as HTTP, without a socket.

use std::ffi::c_void;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::boundary::{Guarded, boundary};
use super::client::{DOCKLINE_CLIENT_TLS, dockline_client};
use super::conn_types::{
    ConnHandle, DOCKLINE_DOWNSTREAM_SHUT, DOCKLINE_EVENT_NONE, DOCKLINE_UPSTREAM_SHUT, Machine, bits,
    dockline_conn, dockline_conn_event, event_of, event_to_c,
};
use super::options::{DOCKLINE_CONN_HELD_MAX, conn_options_from_c, dockline_conn_options};
use super::relay_types::{
    DOCKLINE_DOWNSTREAM_READ, DOCKLINE_DOWNSTREAM_WRITE, DOCKLINE_NO_DEADLINE, DOCKLINE_UPSTREAM_READ,
    DOCKLINE_UPSTREAM_WRITE,
};
use super::status::{Failure, dockline_status};
use super::types::{bytes_from_c, check_out, errno_from_c, side_from_c, struct_from_c, struct_out};
use super::worker::Clock;
use crate::engine::causes;
use crate::error::{Cause, Side};
use crate::proxy::conn::Client;
use crate::proxy::{ExchangeEnd, ProxyConn};

/// Makes the handle of a client connection that was just accepted.
///
/// @param options      NULL for the default, and then options_size is 0; copied
/// @param options_size sizeof(dockline_conn_options)
/// @param client       what Forwarded and X-Forwarded-* say of the client: ip, ip_len and
///                     DOCKLINE_CLIENT_TLS. NULL, and then client_size is 0: no address
/// @param client_size  sizeof(dockline_client)
/// @param now_ms       the host's monotonic clock in milliseconds
/// @param out          set on success; free it with dockline_conn_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_new(
    options: *const dockline_conn_options,
    options_size: usize,
    client: *const dockline_client,
    client_size: usize,
    now_ms: u64,
    out: *mut *mut dockline_conn,
) -> dockline_status {
    boundary(|| {
        check_out(out)?;
        // SAFETY: the caller's promise about `options`.
        let config = unsafe { conn_options_from_c(options, options_size) }?;
        if config.limits.held as u64 > DOCKLINE_CONN_HELD_MAX {
            return Err(Failure::Value);
        }
        // SAFETY: the caller's promise about `client`.
        let client = unsafe { client_from_c(client, client_size) }?;
        let clock = Clock::new();
        let conn = ProxyConn::new(Arc::new(config), client, clock.at(now_ms)?);
        let machine = Machine::Live(Box::new(conn));
        let handle = ConnHandle { machine, clock, fields: Vec::new(), record: None, is_tunnel: false };
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(Guarded::into_c(handle).cast()) };
        Ok(())
    })
}

/// Passes bytes that were received from a side. All of them are consumed.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param data   len readable bytes; may be NULL if len is 0
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
///         _E_STATE if the side is not to be read now (dockline_conn_wants): nothing was consumed
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `data` is NULL or points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_feed(
    conn: *mut dockline_conn,
    side: i32,
    data: *const c_void,
    len: usize,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        // SAFETY: the caller's promise about `data`.
        let bytes = unsafe { bytes_from_c(data, len) }?;
        let now = handle.clock.at(now_ms)?;
        let conn = handle.live()?;
        if !bytes.is_empty() {
            if !conn.wants(side).read {
                return Err(Failure::State);
            }
            conn.feed(side, bytes, now);
        }
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports that the stream of a side has ended. That includes a client's TLS stream without
/// close_notify, since a request is complete or not by itself; it excludes an upstream's.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_feed_eof(
    conn: *mut dockline_conn,
    side: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        let now = handle.clock.at(now_ms)?;
        handle.live()?.feed_eof(side, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports that the connection of a side has failed: a reset, or the end of an upstream's TLS
/// stream without close_notify.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param error_number the errno of the read that failed; 0: a TLS stream was cut, without
///                     close_notify
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_feed_error(
    conn: *mut dockline_conn,
    side: i32,
    error_number: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        let errno = errno_from_c(error_number)?;
        let now = handle.clock.at(now_ms)?;
        let of_errno = |number| causes::of_connection(&io::Error::from_raw_os_error(number));
        handle.live()?.feed_error(side, errno.map_or(Cause::TlsTruncated, of_errno), now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Returns the bytes to be sent to a side. They stay until dockline_conn_output_sent.
///
/// @param conn     not in use by another call
/// @param side     DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param out_data set on success; borrowed until the next call on conn that takes a time
/// @param out_len  set on success: their number, which may be 0
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; the outputs are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_output_view(
    conn: *const dockline_conn,
    side: i32,
    out_data: *mut *const u8,
    out_len: *mut usize,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        check_out(out_data)?;
        check_out(out_len)?;
        let side = side_from_c(side)?;
        let output = handle.live()?.output(side);
        // SAFETY: checked, and the caller's promise.
        unsafe { out_data.write(output.as_ptr()) };
        // SAFETY: as above.
        unsafe { out_len.write(output.len()) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast(), call) }
}

/// Reports that bytes were sent to a side.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param len    how many; at most what dockline_conn_output_view returned
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_output_sent(
    conn: *mut dockline_conn,
    side: i32,
    len: usize,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        let now = handle.clock.at(now_ms)?;
        let conn = handle.live()?;
        if len > conn.output(side).len() {
            return Err(Failure::Value);
        }
        conn.output_sent(side, len, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports that nothing more can be sent to a side (EPIPE). Continue to read an upstream: it may
/// have sent a response.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param error_number the errno of the write that failed; 0: TLS failed
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_output_refused(
    conn: *mut dockline_conn,
    side: i32,
    error_number: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        let errno = errno_from_c(error_number)?;
        let now = handle.clock.at(now_ms)?;
        let of_errno = |number| causes::of_connection(&io::Error::from_raw_os_error(number));
        let of_tls = Cause::TlsStream { alert: None };
        handle.live()?.output_refused(side, errno.map_or(of_tls, of_errno), now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Reports that a side was half-closed, as DOCKLINE_DOWNSTREAM_SHUT or DOCKLINE_UPSTREAM_SHUT
/// asked.
///
/// @param conn   not in use by another call
/// @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_shut_done(
    conn: *mut dockline_conn,
    side: i32,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let side = side_from_c(side)?;
        let now = handle.clock.at(now_ms)?;
        handle.live()?.shut_done(side, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Returns what to wait for and what to do on both sides. Call it when there are no more events.
///
/// @param conn            not in use by another call
/// @param out_interest    set on success: READ (then dockline_conn_feed), WRITE
///                        (dockline_conn_output_view) and SHUT bits of both sides,
///                        DOCKLINE_DOWNSTREAM_* and DOCKLINE_UPSTREAM_*
/// @param out_deadline_ms set on success: when to call dockline_conn_handle_timeout, on the host's
///                        clock; or DOCKLINE_NO_DEADLINE
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; the outputs are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_wants(
    conn: *const dockline_conn,
    out_interest: *mut u32,
    out_deadline_ms: *mut u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        check_out(out_interest)?;
        check_out(out_deadline_ms)?;
        let clock = handle.clock;
        let conn = handle.live()?;
        let down = (DOCKLINE_DOWNSTREAM_READ, DOCKLINE_DOWNSTREAM_WRITE, DOCKLINE_DOWNSTREAM_SHUT);
        let up = (DOCKLINE_UPSTREAM_READ, DOCKLINE_UPSTREAM_WRITE, DOCKLINE_UPSTREAM_SHUT);
        let interest = bits(conn.wants(Side::Downstream), down) | bits(conn.wants(Side::Upstream), up);
        let deadline = conn.poll_timeout().map_or(DOCKLINE_NO_DEADLINE, |at| clock.ms(at));
        // SAFETY: checked, and the caller's promise.
        unsafe { out_interest.write(interest) };
        // SAFETY: as above.
        unsafe { out_deadline_ms.write(deadline) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast(), call) }
}

/// Acts on the deadline, if it has passed.
///
/// @param conn   not in use by another call
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_handle_timeout(
    conn: *mut dockline_conn,
    now_ms: u64,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let now = handle.clock.at(now_ms)?;
        handle.live()?.handle_timeout(now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Takes the next event. Call it after every call that takes a time, until there is
/// DOCKLINE_EVENT_NONE.
///
/// @param conn     not in use by another call
/// @param out      set on success
/// @param out_size sizeof(dockline_conn_event)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_next_event(
    conn: *mut dockline_conn,
    out: *mut dockline_conn_event,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let out = struct_out(out, out_size)?;
        let event = handle.live()?.poll_event();
        let event = event.map_or_else(|| event_of(DOCKLINE_EVENT_NONE, 0), |event| event_to_c(event, handle));
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&event) };
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Ends the connection as soon as the present exchange, if there is one, has ended.
///
/// @param conn   not in use by another call
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_drain(conn: *mut dockline_conn, now_ms: u64) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let now = handle.clock.at(now_ms)?;
        handle.live()?.drain(now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Ends the connection now. The events say what to close.
///
/// @param conn   not in use by another call
/// @param now_ms the host's clock
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
///         _E_PANIC
/// @since 0.1
///
/// # Safety
/// `conn` is NULL or a live connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_kill(conn: *mut dockline_conn, now_ms: u64) -> dockline_status {
    let call = |handle: &mut ConnHandle| {
        let now = handle.clock.at(now_ms)?;
        handle.live()?.abandon(ExchangeEnd::Stopped, now);
        Ok(())
    };
    // SAFETY: the caller's promise about `conn`.
    unsafe { Guarded::enter(conn.cast_const().cast(), call) }
}

/// Frees a connection in any state. Closes nothing, since the sockets are the host's.
///
/// @param conn may be NULL
/// @since 0.1
///
/// # Safety
/// `conn` is NULL, or came from dockline_conn_new and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_conn_free(conn: *mut dockline_conn) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<ConnHandle>::free(conn.cast()) };
}

/// # Safety
/// `client` is NULL or points to `size` readable bytes.
unsafe fn client_from_c(client: *const dockline_client, size: usize) -> Result<Client, Failure> {
    if client.is_null() && size == 0 {
        return Ok(Client { address: None, tls: false });
    }
    // SAFETY: the caller's promise.
    let client = unsafe { struct_from_c(client, size) }?;
    let [a, b, c, d, ..] = client.ip;
    let address = match client.ip_len {
        0 => None,
        4 => Some(IpAddr::from([a, b, c, d])),
        16 => Some(IpAddr::from(client.ip)),
        _ => return Err(Failure::Value),
    };
    Ok(Client { address, tls: client.flags & DOCKLINE_CLIENT_TLS != 0 })
}
