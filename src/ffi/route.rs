//! `dockline_route`: the decision about one request, within the callback for it.

use std::ffi::c_void;
use std::sync::Arc;

use bytes::Bytes;

use super::boundary::{Guarded, Kind};
use super::client::{client_to_c, dockline_client};
use super::message::{
    dockline_field, dockline_reply, dockline_request, field_from_c, reply_from_c, request_to_c,
};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, array_from_c, struct_from_c, struct_out};
use super::upstream::{dockline_upstream, upstream_from_c};
use crate::engine::{Destination, Route, RouteRequest, Router};
use crate::proxy::{Reply, Rewrite};

/// The decision about one request. It is valid within the callback that receives it:
/// dockline_listener_options.route.
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

impl RouteHandle<'_> {
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

/// Adds an upstream that is tried if a connection to those before it cannot be made and nothing of
/// the request was sent. Only after dockline_route_upstream, and seven times at most.
///
/// @param route    within its callback
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
/// @param route within its callback
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
/// @param route        within its callback
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
