//! `dockline_route`: the decision about one request, within the callback for it or later.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::boundary::{Guarded, Kind};
use super::client::{client_to_c, dockline_client};
use super::message::{
    dockline_field, dockline_reply, dockline_request, field_from_c, reply_from_c, request_to_c,
};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, array_from_c, check_out, struct_from_c, struct_out};
use super::upstream::{dockline_upstream, upstream_from_c};
use crate::engine::{Decider, Destination, Route, RouteRequest, Router};
use crate::proxy::{Reply, Rewrite};

/// The decision about one request. It is valid within the callback that receives it,
/// dockline_listener_options.route; one of dockline_route_later until it is freed, and one thread
/// at a time uses it.
pub struct dockline_route {
    _opaque: [u8; 0],
}

/// Changes to the head of a request. Everything is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_rewrite {
    /// Replaces the target: a path, which may have a query; absent: as the client has sent it.
    pub target: dockline_str,
    /// Replaces the Host, that of the upstream too; absent: as without it.
    pub host: dockline_str,
    /// Fields that replace those of the same name. Those that frame the message or concern one
    /// hop, Host, Expect, Via, Forwarded, X-Real-IP, X-Forwarded-For, -Proto and -Host are refused.
    pub fields: *const dockline_field,
    /// How many there are.
    pub field_count: usize,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_rewrite {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Decides about a request by dockline_route_upstream, dockline_route_reply or dockline_route_later
/// before it returns. It must not block, unwind or longjmp.
pub type dockline_route_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, route: *mut dockline_route)>;

/// Routes by the host's callback.
pub(super) struct HostRouter {
    pub(super) route: unsafe extern "C" fn(*mut c_void, *mut dockline_route),
    pub(super) user: *mut c_void,
}

// SAFETY: the host promises that the callback may be called on whatever thread drives the engine.
unsafe impl Send for HostRouter {}
// SAFETY: as above; an engine calls it from one thread at a time.
unsafe impl Sync for HostRouter {}

/// Behind `dockline_route`.
struct RouteHandle<'a> {
    asked: Asked<'a>,
    decision: Option<Route>,
}

/// Who waits for the decision.
enum Asked<'a> {
    /// The callback's caller.
    Now { request: &'a RouteRequest<'a>, fields: Vec<dockline_field> },
    /// A session, until it was told.
    Later(Option<Decider>),
}

/// Where a handle is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the stack, for the callback.
    Callback,
    /// In a box, for the host.
    Host,
}

impl<'a> RouteHandle<'a> {
    /// Returns the request, and room for its fields; only within the callback.
    fn request(&mut self) -> Result<(&'a RouteRequest<'a>, &mut Vec<dockline_field>), Failure> {
        match &mut self.asked {
            Asked::Now { request, fields } => Ok((request, fields)),
            Asked::Later(_) => Err(Failure::State),
        }
    }

    /// Returns the destination that was decided on.
    fn destination(&mut self) -> Result<&mut Destination, Failure> {
        if let Some(Route::Upstream(upstream)) = &self.decision {
            self.decision = Some(Route::To(Arc::clone(upstream).into()));
        }
        match &mut self.decision {
            Some(Route::To(destination)) => Ok(destination),
            _ => Err(Failure::State),
        }
    }
}

impl Kind for RouteHandle<'_> {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0006;
    type Shared = Place;
}

impl Router for HostRouter {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let asked = Asked::Now { request, fields: Vec::new() };
        let handle = Guarded::new(RouteHandle { asked, decision: None }, Place::Callback);
        // SAFETY: the host gave the function and its argument together; the handle lives for the
        // call.
        unsafe { (self.route)(self.user, (&raw const handle).cast_mut().cast()) };
        let decision = handle.into_value().decision;
        decision.unwrap_or_else(|| Route::Reply(Reply::error(500, "the proxy has no route for this request")))
    }
}

/// Returns the client that sent the request.
///
/// @param route    within its callback
/// @param out      set on success; what it points to is borrowed until the callback returns
/// @param out_size sizeof(dockline_client)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
///         the callback
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_client(
    route: *const dockline_route,
    out: *mut dockline_client,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        let out = struct_out(out, out_size)?;
        let (request, _) = handle.request()?;
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&client_to_c(request.client())) };
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast(), call) }
}

/// Returns the request head.
///
/// @param route    within its callback
/// @param out      set on success; what it points to is borrowed until the callback returns
/// @param out_size sizeof(dockline_request)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
///         the callback
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_request(
    route: *const dockline_route,
    out: *mut dockline_request,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        let out = struct_out(out, out_size)?;
        let (request, fields) = handle.request()?;
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&request_to_c(request.head(), fields)) };
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast(), call) }
}

/// Sends the request to an upstream. The last decision counts; without one the client receives a
/// 500.
///
/// @param route    within its callback, or of dockline_route_later
/// @param upstream may be freed afterwards
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `upstream` is NULL or a live upstream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_upstream(
    route: *mut dockline_route,
    upstream: *const dockline_upstream,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        // SAFETY: the caller's promise about `upstream`.
        let upstream = unsafe { upstream_from_c(upstream) }?;
        handle.decision = Some(Route::Upstream(upstream));
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Adds an upstream that is tried if a connection to those before it cannot be made and nothing of
/// the request was sent. Only after dockline_route_upstream, and seven times at most.
///
/// @param route    within its callback, or of dockline_route_later
/// @param upstream may be freed afterwards
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE without an
///         upstream or with too many
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `upstream` is NULL or a live upstream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_add_upstream(
    route: *mut dockline_route,
    upstream: *const dockline_upstream,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        // SAFETY: the caller's promise about `upstream`.
        let upstream = unsafe { upstream_from_c(upstream) }?;
        let others = &mut handle.destination()?.others;
        if others.len() == Destination::OTHERS {
            return Err(Failure::State);
        }
        others.push(upstream);
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Names the route, for the records and logs. Only after dockline_route_upstream.
///
/// @param route within its callback, or of dockline_route_later
/// @param name  in UTF-8, copied; absent: none
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE
///         without an upstream
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `name` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_name(
    route: *mut dockline_route,
    name: dockline_str,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        // SAFETY: the caller's promise about `name`.
        let name = unsafe { name.utf8() }?;
        handle.destination()?.route = name.map(Arc::from);
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Changes the head that the upstream receives; the record has the one that was received. Only
/// after dockline_route_upstream; a second call replaces the first.
///
/// @param route        within its callback, or of dockline_route_later
/// @param rewrite      copied
/// @param rewrite_size sizeof(dockline_rewrite)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED;
///         _E_STATE without an upstream
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `rewrite` is NULL or points to `rewrite_size` readable bytes, and so
/// does what is in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_rewrite(
    route: *mut dockline_route,
    rewrite: *const dockline_rewrite,
    rewrite_size: usize,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        // SAFETY: the caller's promise about `rewrite`.
        let rewrite = unsafe { rewrite_from_c(rewrite, rewrite_size) }?;
        handle.destination()?.rewrite = Some(Arc::new(rewrite));
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// # Safety
/// `rewrite` is NULL or points to `size` readable bytes, and so does what is in it.
unsafe fn rewrite_from_c(rewrite: *const dockline_rewrite, size: usize) -> Result<Rewrite, Failure> {
    // SAFETY: the caller's promise.
    let changes = unsafe { struct_from_c(rewrite, size) }?;
    // SAFETY: the caller's promise about what is in it.
    let target = unsafe { changes.target.optional() }?;
    // SAFETY: as above.
    let host = unsafe { changes.host.optional() }?;
    // SAFETY: as above.
    let fields = unsafe { array_from_c(changes.fields, changes.field_count) }?;
    let mut rewrite = Rewrite::new();
    if let Some(target) = target {
        rewrite = rewrite.with_target(Bytes::copy_from_slice(target)).map_err(|_| Failure::Value)?;
    }
    if let Some(host) = host {
        rewrite = rewrite.with_host(Bytes::copy_from_slice(host)).map_err(|_| Failure::Value)?;
    }
    for field in fields {
        // SAFETY: as above.
        let line = unsafe { field_from_c(field) }?;
        rewrite = rewrite.with_field(line).map_err(|_| Failure::Value)?;
    }
    Ok(rewrite)
}

/// Replies to the request. The last decision counts.
///
/// @param route      within its callback, or of dockline_route_later
/// @param reply      copied
/// @param reply_size sizeof(dockline_reply)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `reply` is NULL or points to `reply_size` readable bytes, and so does
/// what is in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_reply(
    route: *mut dockline_route,
    reply: *const dockline_reply,
    reply_size: usize,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        // SAFETY: the caller's promise about `reply`.
        let reply = unsafe { reply_from_c(reply, reply_size) }?;
        handle.decision = Some(Route::Reply(reply));
        Ok::<(), Failure>(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Makes the request wait for a decision that comes later. The host keeps the result, and decides
/// by it on whatever thread: dockline_route_upstream or _reply, and what belongs to them, then
/// dockline_route_decide. Of the request it keeps copies.
///
/// A client that resets its connection, and an engine that is stopped at once, end the wait; a
/// decision after it has no effect.
///
/// @param route          within its callback
/// @param time_ms        how long the request waits, an hour at most
/// @param otherwise      the reply after that time, copied; NULL for a 503, and then otherwise_size
///                       is 0
/// @param otherwise_size sizeof(dockline_reply)
/// @param out            set on success; free it with dockline_route_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED;
///         _E_STATE after the callback
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `otherwise` is NULL or points to `otherwise_size` readable bytes, and
/// so does what is in it; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_later(
    route: *mut dockline_route,
    time_ms: u64,
    otherwise: *const dockline_reply,
    otherwise_size: usize,
    out: *mut *mut dockline_route,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        check_out(out)?;
        let otherwise = if otherwise.is_null() && otherwise_size == 0 {
            Reply::error(503, "the proxy has found no destination in time; try again")
        } else {
            // SAFETY: the caller's promise about `otherwise`.
            unsafe { reply_from_c(otherwise, otherwise_size) }?
        };
        let (request, _) = handle.request()?;
        let later = RouteHandle { asked: Asked::Later(Some(request.defer())), decision: None };
        handle.decision = Some(Route::Later { time: Duration::from_millis(time_ms), otherwise });
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(Guarded::into_c_with(later, Place::Host).cast()) };
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Returns whether a request still waits. It does not if its client has gone, its time is up, the
/// callback has decided otherwise in the end, or it was decided about.
///
/// @param route       of dockline_route_later
/// @param out_waiting set on success: 1 or 0
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE for
///         the one of a callback
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live; `out_waiting` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_is_waiting(
    route: *const dockline_route,
    out_waiting: *mut i32,
) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        check_out(out_waiting)?;
        let Asked::Later(decider) = &handle.asked else { return Err(Failure::State) };
        let waiting = decider.as_ref().is_some_and(Decider::is_waiting);
        // SAFETY: checked, and the caller's promise.
        unsafe { out_waiting.write(waiting.into()) };
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast(), call) }
}

/// Tells the engine what was decided about a request that waits. That is final.
///
/// @param route of dockline_route_later; it is still to be freed
/// @return DOCKLINE_OK, also if nothing waits any more; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY,
///         _E_POISONED; _E_STATE without a decision, after an earlier call, or for the one of a
///         callback
/// @since 0.1
///
/// # Safety
/// `route` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_decide(route: *mut dockline_route) -> dockline_status {
    let call = |handle: &mut RouteHandle<'_>| {
        let RouteHandle { asked: Asked::Later(decider), decision } = handle else {
            return Err(Failure::State);
        };
        let Some(route) = decision.take() else { return Err(Failure::State) };
        decider.take().ok_or(Failure::State)?.decide(route);
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast_const().cast(), call) }
}

/// Frees what dockline_route_later has made; one that a callback has received it leaves alone. If
/// nothing was decided and the request still waits, its client receives a 503.
///
/// @param route may be NULL
/// @since 0.1
///
/// # Safety
/// `route` is NULL, or live and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_route_free(route: *mut dockline_route) {
    // SAFETY: the caller's promise; the one on the stack says so.
    unsafe { Guarded::<RouteHandle<'_>>::free_if(route.cast(), |&place| place == Place::Host) };
}
