//! `dockline_route`: the decision about one request, within the callback for it.

use std::ffi::c_void;

use super::boundary::{Guarded, Kind};
use super::client::{client_to_c, dockline_client};
use super::message::{dockline_field, dockline_reply, dockline_request, reply_from_c, request_to_c};
use super::status::{Failure, dockline_status};
use super::types::struct_out;
use super::upstream::{dockline_upstream, upstream_from_c};
use crate::engine::{Route, RouteRequest, Router};
use crate::proxy::Reply;

/// The decision about one request. It is valid within the callback that receives it:
/// dockline_listener_options.route.
pub struct dockline_route {
    _opaque: [u8; 0],
}

/// Decides about a request by dockline_route_upstream or dockline_route_reply before it returns. It
/// must not block, unwind or longjmp.
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
    request: &'a RouteRequest<'a>,
    fields: Vec<dockline_field>,
    decision: Option<Route>,
}

impl Kind for RouteHandle<'_> {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0006;
    type Shared = ();
}

impl Router for HostRouter {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let handle = Guarded::new(RouteHandle { request, fields: Vec::new(), decision: None }, ());
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
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
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
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&client_to_c(handle.request.client())) };
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
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
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
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&request_to_c(handle.request.head(), &mut handle.fields)) };
        Ok(())
    };
    // SAFETY: the caller's promise about `route`.
    unsafe { Guarded::enter(route.cast(), call) }
}

/// Sends the request to an upstream. The last decision counts; without one the client receives a
/// 500.
///
/// @param route    within its callback
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

/// Replies to the request. The last decision counts.
///
/// @param route      within its callback
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
