//! `dockline_relay`: two byte streams joined, driven by the host.

use std::ffi::c_void;
use std::sync::{Arc, TryLockError};

use super::boundary::Guarded;
use super::host_side::side_from_endpoint;
use super::relay_types::{
    DOCKLINE_DOWNSTREAM_GONE, DOCKLINE_UPSTREAM_GONE, RelayHandle, dockline_endpoint, dockline_relay,
    dockline_relay_options, dockline_relay_stats, dockline_relay_wants, ready_from_c, relay_options_from_c,
    stats_to_c, wants_to_c,
};
use super::status::{Failure, dockline_status};
use super::types::{bytes_from_c, check_out, side_from_c, struct_from_c, struct_out};
use super::worker::{WorkerHandle, dockline_worker};
use crate::drive::Relay;
use crate::error::Side;

/// Makes a relay. It moves nothing before the first pump.
///
/// @param worker        shared with the other relays of the thread; may be freed before the relay
/// @param options       NULL for the default, and then options_size is 0
/// @param options_size  sizeof(dockline_relay_options)
/// @param downstream    the client's side, copied
/// @param upstream      the daemon's side, copied
/// @param endpoint_size sizeof(dockline_endpoint)
/// @param now_ms        the host's monotonic clock in milliseconds
/// @param out           set on success; free it with dockline_relay_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_BLOCKING,
///         _E_NOT_STREAM, _E_SYSTEM
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say; the descriptors stay open, and
/// the callbacks callable, until the relay is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_new(
    worker: *mut dockline_worker,
    options: *const dockline_relay_options,
    options_size: usize,
    downstream: *const dockline_endpoint,
    upstream: *const dockline_endpoint,
    endpoint_size: usize,
    now_ms: u64,
    out: *mut *mut dockline_relay,
) -> dockline_status {
    let call = |worker: &mut WorkerHandle| {
        check_out(out)?;
        // SAFETY: the caller's promise about `options`.
        let options = unsafe { relay_options_from_c(options, options_size) }?;
        // SAFETY: the caller's promise about `downstream`.
        let downstream = unsafe { struct_from_c(downstream, endpoint_size) }?;
        // SAFETY: the caller's promise about `upstream`.
        let upstream = unsafe { struct_from_c(upstream, endpoint_size) }?;
        // SAFETY: the caller's promise about the descriptor.
        let downstream = unsafe { side_from_endpoint(&downstream) }?;
        // SAFETY: as above.
        let upstream = unsafe { side_from_endpoint(&upstream) }?;
        let relay = Relay::new(downstream, upstream, options, worker.clock.at(now_ms)?)?;
        let handle = RelayHandle { relay, worker: Arc::clone(&worker.shared), clock: worker.clock };
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(Guarded::into_c(handle).cast()) };
        Ok(())
    };
    // SAFETY: the caller's promise about `worker`.
    unsafe { Guarded::enter(worker.cast_const().cast(), call) }
}

/// Hands over bytes that the host has already read from a side. They are copied and delivered
/// first.
///
/// @param relay     before its first pump
/// @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM: where they came from
/// @param data      len readable bytes; may be NULL if len is 0
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
///         the first pump; _E_LIMIT above 1 MiB in all on a side, nothing was taken then
/// @since 0.1
///
/// # Safety
/// `relay` is NULL or a live relay; `data` is NULL or points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_prefill(
    relay: *mut dockline_relay,
    from_side: i32,
    data: *const c_void,
    len: usize,
) -> dockline_status {
    let call = |handle: &mut RelayHandle| {
        let from = side_from_c(from_side)?;
        // SAFETY: the caller's promise about `data`.
        let bytes = unsafe { bytes_from_c(data, len) }?;
        Ok(handle.relay.prefill(from, bytes)?)
    };
    // SAFETY: the caller's promise about `relay`.
    unsafe { Guarded::enter(relay.cast_const().cast(), call) }
}

/// Moves what can be moved, in both directions. May be called at any time, also without a reason.
///
/// Both sides count as ready at first. Readiness is remembered until a read or write proves
/// otherwise, so an edge-triggered host passes each event once, and a level-triggered host waits
/// for interest.
///
/// @param relay    not in use by another call
/// @param ready    what the host saw since the last pump: DOCKLINE_DOWNSTREAM_*,
///                 DOCKLINE_UPSTREAM_*
/// @param now_ms   the host's monotonic clock in milliseconds
/// @param out      set on success
/// @param out_size sizeof(dockline_relay_wants)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC,
///         _E_POISONED
/// @since 0.1
///
/// # Safety
/// `relay` is NULL or a live relay; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_pump(
    relay: *mut dockline_relay,
    ready: u32,
    now_ms: u64,
    out: *mut dockline_relay_wants,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RelayHandle| {
        let out = struct_out(out, out_size)?;
        if ready > 0xff {
            return Err(Failure::Value);
        }
        let now = handle.clock.at(now_ms)?;
        let mut worker = match handle.worker.try_lock() {
            Ok(worker) => worker,
            Err(TryLockError::WouldBlock) => return Err(Failure::Busy),
            Err(TryLockError::Poisoned(worker)) => worker.into_inner(),
        };
        if ready & DOCKLINE_DOWNSTREAM_GONE != 0 {
            handle.relay.peer_gone(Side::Downstream, now);
        }
        if ready & DOCKLINE_UPSTREAM_GONE != 0 {
            handle.relay.peer_gone(Side::Upstream, now);
        }
        let wants = handle.relay.pump(&mut worker, ready_from_c(ready), now);
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&wants_to_c(&wants, handle.clock)) };
        Ok(())
    };
    // SAFETY: the caller's promise about `relay`.
    unsafe { Guarded::enter(relay.cast_const().cast(), call) }
}

/// Ends the relay at at_ms with DOCKLINE_CLOSE_DRAIN, unless it ends before. An earlier limit
/// stays. The next pump returns the new deadline.
///
/// @param relay not in use by another call
/// @param at_ms a time of the host's clock; one that has passed ends the relay at the next pump
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `relay` is NULL or a live relay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_drain(relay: *mut dockline_relay, at_ms: u64) -> dockline_status {
    let call = |handle: &mut RelayHandle| {
        let at = handle.clock.at(at_ms)?;
        handle.relay.drain(at);
        Ok(())
    };
    // SAFETY: the caller's promise about `relay`.
    unsafe { Guarded::enter(relay.cast_const().cast(), call) }
}

/// Ends the relay with DOCKLINE_CLOSE_KILLED at the next pump.
///
/// @param relay not in use by another call
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `relay` is NULL or a live relay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_kill(relay: *mut dockline_relay) -> dockline_status {
    let call = |handle: &mut RelayHandle| {
        handle.relay.kill();
        Ok(())
    };
    // SAFETY: the caller's promise about `relay`.
    unsafe { Guarded::enter(relay.cast_const().cast(), call) }
}

/// Returns the counters of a relay.
///
/// @param relay    not in use by another call
/// @param out      set on success
/// @param out_size sizeof(dockline_relay_stats)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `relay` is NULL or a live relay; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_stats_get(
    relay: *const dockline_relay,
    out: *mut dockline_relay_stats,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RelayHandle| {
        let out = struct_out(out, out_size)?;
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&stats_to_c(handle)) };
        Ok(())
    };
    // SAFETY: the caller's promise about `relay`.
    unsafe { Guarded::enter(relay.cast(), call) }
}

/// Frees a relay in any state. Calls no callback and closes no descriptor of the host. Inside a
/// callback of the same relay it does nothing: free it after the pump.
///
/// @param relay may be NULL
/// @since 0.1
///
/// # Safety
/// `relay` is NULL, or came from dockline_relay_new and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_relay_free(relay: *mut dockline_relay) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<RelayHandle>::free(relay.cast()) };
}
