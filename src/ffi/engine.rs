//! `dockline_engine`: the loop that owns its sockets.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::boundary::{Guarded, boundary};
use super::engine_types::{
    DOCKLINE_ENGINE_DONE, DOCKLINE_ENGINE_DRAINING, DOCKLINE_ENGINE_RUNNING, EngineHandle, EngineShared,
    dockline_engine, dockline_engine_options, dockline_engine_stats, dockline_listener_options,
    dockline_pair, engine_options_from_c, settings_from_c, stats_to_c,
};
use super::relay_types::DOCKLINE_NO_DEADLINE;
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{bytes_from_c, check_out, struct_from_c, struct_out};
use super::upstream::{dockline_upstream, upstream_from_c};
use crate::drive::PREFILL_LIMIT;
use crate::engine::{Engine, EngineState, Kill, Listener, Pair};
use crate::sys;

/// Makes an engine. It owns three descriptors from the start.
///
/// @param options      NULL for the default, and then options_size is 0; copied
/// @param options_size sizeof(dockline_engine_options)
/// @param out          set on success; free it with dockline_engine_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_SYSTEM
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say; the callbacks stay callable
/// until the engine is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_new(
    options: *const dockline_engine_options,
    options_size: usize,
    out: *mut *mut dockline_engine,
) -> dockline_status {
    boundary(|| {
        check_out(out)?;
        // SAFETY: the caller's promise about `options`.
        let (options, observer) = unsafe { engine_options_from_c(options, options_size) }?;
        let engine = Engine::new(options, Arc::new(observer))?;
        let shared = EngineShared {
            handle: engine.handle(),
            fd: engine.as_raw_fd(),
            listeners: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        let handle = Guarded::into_c_with(EngineHandle(engine), shared);
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(handle.cast()) };
        Ok(())
    })
}

/// Serves a listener from the next turn on. On success the descriptor belongs to the engine, which
/// makes it non-blocking and closes it; otherwise it stays with the host.
///
/// @param engine       any thread may call this
/// @param fd           a listening stream socket
/// @param options      what is served; copied
/// @param options_size sizeof(dockline_listener_options)
/// @param out_listener set on success: a number for dockline_engine_close_listener; may be NULL
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM,
///         _E_NOT_LISTENING, _E_SYSTEM, _E_POISONED; _E_STATE after dockline_engine_stop
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; the other pointers are NULL or point to as many bytes as the
/// sizes say, and so do those in `options`. The descriptor is the caller's to give.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_adopt_listener(
    engine: *mut dockline_engine,
    fd: i32,
    options: *const dockline_listener_options,
    options_size: usize,
    out_listener: *mut u64,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        if !out_listener.is_null() {
            check_out(out_listener)?;
        }
        // SAFETY: the caller's promise about `options`.
        let settings = unsafe { settings_from_c(options, options_size) }?;
        // SAFETY: the caller's promise about the descriptor.
        let socket = unsafe { stream_from_c(fd) }?;
        if !sys::is_listening(socket)? {
            return Err(Failure::NotListening);
        }
        let mut listeners = shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.stopped.load(Ordering::Relaxed) {
            return Err(Failure::State);
        }
        // SAFETY: the host gives it away.
        let listener = Listener::new(unsafe { OwnedFd::from_raw_fd(fd) }, settings);
        listeners.last += 1;
        let number = listeners.last;
        listeners.open.insert(number, listener.handle());
        if !out_listener.is_null() {
            // SAFETY: checked, and the caller's promise.
            unsafe { out_listener.write(number) };
        }
        shared.handle.listen(listener);
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast_const().cast(), call) }
}

/// Closes a listener at the next turn. Its connections are kept; the kernel refuses those that wait
/// in its backlog.
///
/// @param engine   any thread may call this
/// @param listener from dockline_engine_adopt_listener
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED; _E_VALUE if there is no such
///         listener
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_close_listener(
    engine: *mut dockline_engine,
    listener: u64,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        let mut listeners = shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listeners.open.remove(&listener).ok_or(Failure::Value)?;
        shared.handle.close(&listener);
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast_const().cast(), call) }
}

/// Joins two connected sockets from the next turn on. On success both descriptors belong to the
/// engine, which makes them non-blocking and closes them; otherwise they stay with the host.
///
/// @param engine    any thread may call this
/// @param pair      the sockets, and the bytes that were read from them already
/// @param pair_size sizeof(dockline_pair)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM, _E_SYSTEM,
///         _E_POISONED; _E_LIMIT for too many bytes; _E_STATE after dockline_engine_stop
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `pair` is NULL or points to `pair_size` readable bytes, and
/// so do the pointers in it. The descriptors are the caller's to give.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_adopt_pair(
    engine: *mut dockline_engine,
    pair: *const dockline_pair,
    pair_size: usize,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        // SAFETY: the caller's promise about `pair`.
        let pair = unsafe { struct_from_c(pair, pair_size) }?;
        // SAFETY: the caller's promise about the bytes.
        let downstream_early = unsafe { bytes_from_c(pair.from_downstream, pair.from_downstream_len) }?;
        // SAFETY: as above.
        let upstream_early = unsafe { bytes_from_c(pair.from_upstream, pair.from_upstream_len) }?;
        // SAFETY: as above.
        let name = unsafe { pair.name.utf8() }?;
        if pair.downstream_fd == pair.upstream_fd {
            return Err(Failure::Value);
        }
        if downstream_early.len().max(upstream_early.len()) > PREFILL_LIMIT {
            return Err(Failure::Limit);
        }
        for fd in [pair.downstream_fd, pair.upstream_fd] {
            // SAFETY: the caller's promise about the descriptors.
            unsafe { stream_from_c(fd) }?;
        }
        if shared.stopped.load(Ordering::Relaxed) {
            return Err(Failure::State);
        }
        // SAFETY: the host gives it away.
        let downstream = unsafe { OwnedFd::from_raw_fd(pair.downstream_fd) };
        // SAFETY: as above.
        let upstream = unsafe { OwnedFd::from_raw_fd(pair.upstream_fd) };
        shared.handle.adopt(Pair {
            downstream,
            upstream,
            downstream_early: downstream_early.to_vec(),
            upstream_early: upstream_early.to_vec(),
            name: name.unwrap_or_default().into(),
        });
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast_const().cast(), call) }
}

/// Runs one turn: waits for events and handles them. May return before timeout_ms without a visible
/// reason.
///
/// @param engine     driven by no other thread
/// @param timeout_ms how long to wait at most; 0: not at all; DOCKLINE_NO_DEADLINE: as long as it
///                   takes
/// @param out_state  set on success: DOCKLINE_ENGINE_RUNNING, _DRAINING or _DONE; may be NULL
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC, _E_POISONED;
///         _E_SYSTEM if the kernel refuses to wait: free the engine
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `out_state` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_poll(
    engine: *mut dockline_engine,
    timeout_ms: u64,
    out_state: *mut i32,
) -> dockline_status {
    let call = |engine: &mut EngineHandle| {
        if !out_state.is_null() {
            check_out(out_state)?;
        }
        let timeout = (timeout_ms != DOCKLINE_NO_DEADLINE).then(|| Duration::from_millis(timeout_ms));
        let state = match engine.0.poll(timeout)? {
            EngineState::Running => DOCKLINE_ENGINE_RUNNING,
            EngineState::Draining => DOCKLINE_ENGINE_DRAINING,
            EngineState::Done => DOCKLINE_ENGINE_DONE,
        };
        if !out_state.is_null() {
            // SAFETY: checked, and the caller's promise.
            unsafe { out_state.write(state) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::enter(engine.cast_const().cast(), call) }
}

/// Runs turns until the engine was stopped and has drained.
///
/// @param engine driven by no other thread
/// @return as dockline_engine_poll
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_run(engine: *mut dockline_engine) -> dockline_status {
    let call = |engine: &mut EngineHandle| Ok(engine.0.run()?);
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::enter(engine.cast_const().cast(), call) }
}

/// Returns a descriptor that is readable when there is something to do. For a host with a loop of
/// its own, which calls dockline_engine_poll with 0 when the descriptor is readable or the time of
/// dockline_engine_timeout_ms has passed. Level-triggered; the host does not read or close it.
///
/// @param engine any thread may call this
/// @param out_fd set on success; valid until the engine is freed
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `out_fd` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_fd(
    engine: *const dockline_engine,
    out_fd: *mut i32,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        check_out(out_fd)?;
        // SAFETY: checked, and the caller's promise.
        unsafe { out_fd.write(shared.fd) };
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Returns how long such a host may wait. Call it after each dockline_engine_poll.
///
/// @param engine         driven by no other thread
/// @param out_timeout_ms set on success: milliseconds, rounded up; DOCKLINE_NO_DEADLINE: until the
///                       descriptor is readable
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `out_timeout_ms` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_timeout_ms(
    engine: *const dockline_engine,
    out_timeout_ms: *mut u64,
) -> dockline_status {
    let call = |engine: &mut EngineHandle| {
        check_out(out_timeout_ms)?;
        let timeout = engine.0.timeout().map_or(DOCKLINE_NO_DEADLINE, |timeout| {
            u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(DOCKLINE_NO_DEADLINE)
        });
        // SAFETY: checked, and the caller's promise.
        unsafe { out_timeout_ms.write(timeout) };
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::enter(engine.cast(), call) }
}

/// Makes a waiting dockline_engine_poll return. A signal handler may call it; it may change errno.
///
/// @param engine any thread may call this
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_SYSTEM, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_wake(engine: *const dockline_engine) -> dockline_status {
    let call = |shared: &EngineShared| Ok(shared.handle.wake()?);
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Stops gracefully: listeners and idle client connections are closed, running requests and tunnels
/// continue until they end or the time has passed. Then the state is DOCKLINE_ENGINE_DONE. A second
/// call shortens the time.
///
/// @param engine   any thread may call this
/// @param drain_ms how long they may continue; DOCKLINE_NO_DEADLINE: without a limit
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_stop(
    engine: *const dockline_engine,
    drain_ms: u64,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        shared.stopped.store(true, Ordering::Relaxed);
        shared.handle.drain((drain_ms != DOCKLINE_NO_DEADLINE).then(|| Duration::from_millis(drain_ms)));
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Stops at once: everything is closed at the next turn.
///
/// @param engine any thread may call this
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_kill(engine: *const dockline_engine) -> dockline_status {
    let call = |shared: &EngineShared| {
        shared.stopped.store(true, Ordering::Relaxed);
        shared.handle.stop();
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Ends a tunnel at the next turn, by resets on both sides. Its record has DOCKLINE_CLOSE_KILLED.
///
/// @param engine    any thread may call this
/// @param tunnel_id of the record of the exchange that opened it; another number does nothing
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_kill_tunnel(
    engine: *const dockline_engine,
    tunnel_id: u64,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        shared.handle.kill(Kill::Tunnel(tunnel_id), |_| {});
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Ends all that goes to an upstream, at the next turn: tunnels by resets on both sides; a request
/// by a 503 if its client has nothing of a response yet, otherwise the response is cut. The records
/// have DOCKLINE_CAUSE_KILLED. Requests that come later are not concerned.
///
/// @param engine   any thread may call this
/// @param upstream may be freed afterwards
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `upstream` is NULL or a live upstream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_kill_upstream(
    engine: *const dockline_engine,
    upstream: *const dockline_upstream,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        // SAFETY: the caller's promise about `upstream`.
        let upstream = unsafe { upstream_from_c(upstream) }?;
        shared.handle.kill(Kill::Upstream(upstream), |_| {});
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Does the same to all that goes by the routes of a name.
///
/// @param engine any thread may call this
/// @param name   as given to dockline_route_name, copied
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `name` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_kill_route(
    engine: *const dockline_engine,
    name: dockline_str,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        // SAFETY: the caller's promise about `name`.
        let name = unsafe { name.utf8() }?.unwrap_or_default();
        shared.handle.kill(Kill::Route(name.into()), |_| {});
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Returns the counters.
///
/// @param engine   any thread may call this
/// @param out      set on success
/// @param out_size sizeof(dockline_engine_stats)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `engine` is NULL or a live engine; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_stats_get(
    engine: *const dockline_engine,
    out: *mut dockline_engine_stats,
    out_size: usize,
) -> dockline_status {
    let call = |shared: &EngineShared| {
        let out = struct_out(out, out_size)?;
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&stats_to_c(&shared.handle.stats())) };
        Ok(())
    };
    // SAFETY: the caller's promise about `engine`.
    unsafe { Guarded::<EngineHandle>::share(engine.cast(), call) }
}

/// Frees an engine in any state, with everything that it owns: listeners, connections, tunnels.
/// They are not reported to the callbacks; stop the engine first for that. Inside its own callbacks
/// it does nothing.
///
/// @param engine may be NULL
/// @since 0.1
///
/// # Safety
/// `engine` is NULL, or came from dockline_engine_new and is not used again, by no thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_engine_free(engine: *mut dockline_engine) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<EngineHandle>::free(engine.cast()) };
}

/// Borrows a descriptor that has to be a stream socket.
///
/// # Safety
/// If it is open it stays so for `'a`.
unsafe fn stream_from_c<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Failure> {
    if fd < 0 {
        return Err(Failure::Value);
    }
    // SAFETY: not -1, and the caller's promise.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    match sys::stream_protocol(socket) {
        Ok(Some(_)) => Ok(socket),
        Ok(None) => Err(Failure::NotStream),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => Err(Failure::NotStream),
        Err(error) => Err(error.into()),
    }
}
