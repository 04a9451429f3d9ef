//! `dockline_routes`: a host looks up where a request goes, in a file that another process writes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

use super::boundary::{Guarded, Kind, boundary};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, check_out, struct_from_c, struct_out};
use super::worker::Clock;
use crate::engine::Destination;
use crate::routes::{Lookup, Turns};
use crate::routes_file::{RoutesChange, RoutesFile};

/// Routes by host and path, from the file that `dockline discover` replaces when they change. Make
/// one for each process that looks routes up, after fork(2).
pub struct dockline_routes {
    _opaque: [u8; 0],
}

/// Which file, and how often it is looked at. Text is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_routes_options {
    /// The path of the file. Required. The file need not exist yet.
    pub path: dockline_str,
    /// The file is looked at once in so many milliseconds at most. 0: 500.
    pub check_ms: u64,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_routes_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What a look at the file has found.
pub type dockline_routes_change = i32;
/// Nothing new, or it was not looked at, since that was done just before.
pub const DOCKLINE_ROUTES_UNCHANGED: dockline_routes_change = 0;
/// Other routes, which hold from now on.
pub const DOCKLINE_ROUTES_READ: dockline_routes_change = 1;
/// The file cannot be read: dockline_routes_state_view says why. Returned once for each file, so
/// that it can be logged as it is. The routes are as before.
pub const DOCKLINE_ROUTES_FAILED: dockline_routes_change = 2;

/// Where the routes come from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_routes_state {
    /// Why the file cannot be read now, a line in English; absent if it can.
    pub problem: dockline_str,
    /// The number that the writer of the file has given to its routes.
    pub generation: u64,
    /// How many routes there are.
    pub count: u64,
    /// 1: the file could be read, now or before. 0: there are no routes.
    pub loaded: i32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: text and integers; all zero is valid.
unsafe impl CStruct for dockline_routes_state {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What was found for a request.
pub type dockline_routes_result = i32;
/// A target, whose turn it is.
pub const DOCKLINE_ROUTES_FOUND: dockline_routes_result = 0;
/// No route: reply with 404.
pub const DOCKLINE_ROUTES_UNKNOWN: dockline_routes_result = 1;
/// A route without a live target: reply with 503.
pub const DOCKLINE_ROUTES_NO_TARGET: dockline_routes_result = 2;
/// The file could not be read yet: reply with 503.
pub const DOCKLINE_ROUTES_NOT_LOADED: dockline_routes_result = 3;

/// Where a request goes. Text is borrowed until the next dockline_routes_check or _free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_routes_target {
    /// enum dockline_routes_result
    pub result: i32,
    /// 1: the target gets the path without the prefix: what follows prefix_len bytes, behind a "/"
    /// unless it begins with one; X-Forwarded-Prefix tells it what was removed. 0: the path is not
    /// changed.
    pub strip: i32,
    /// The address of the target: "192.0.2.7:8080"; an IPv6 address is in brackets. Absent without
    /// one.
    pub upstream: dockline_str,
    /// What the route is called, printable ASCII: its hosts, and its prefix unless that is "/".
    /// Absent if the request has none.
    pub name: dockline_str,
    /// Bytes of the path that the route's prefix matches; 0 if it serves all paths.
    pub prefix_len: u64,
    /// The addresses of other live targets, in the order in which they are to be tried if the one
    /// before cannot be reached; strip holds for them too. The array is valid until the next call.
    pub others: *const dockline_str,
    /// How many there are, at most 7.
    pub other_count: usize,
}

// SAFETY: text and integers; all zero is valid.
unsafe impl CStruct for dockline_routes_target {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_routes`.
pub(super) struct RoutesHandle {
    file: RoutesFile,
    turns: Turns,
    /// What `dockline_routes_lookup` lends.
    others: Vec<dockline_str>,
    clock: Clock,
    /// What `dockline_routes_state_view` lends; empty if there is none.
    problem: String,
}

impl Kind for RoutesHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0007;
    type Shared = ();
}

const DEFAULT_CHECK_MS: u64 = 500;

/// Makes routes, of which there are none before the first dockline_routes_check.
///
/// @param options      copied
/// @param options_size sizeof(dockline_routes_options)
/// @param out          set on success; free it with dockline_routes_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE; _E_VALUE for a path that is empty or contains NUL
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_routes_new(
    options: *const dockline_routes_options,
    options_size: usize,
    out: *mut *mut dockline_routes,
) -> dockline_status {
    boundary(|| {
        check_out(out)?;
        // SAFETY: the caller's promise about `options`.
        let options = unsafe { struct_from_c(options, options_size) }?;
        // SAFETY: the caller's promise about the text in it.
        let path = unsafe { options.path.bytes() }?;
        if path.is_empty() || path.contains(&0) {
            return Err(Failure::Value);
        }
        let interval = if options.check_ms == 0 { DEFAULT_CHECK_MS } else { options.check_ms };
        let handle = Guarded::into_c(RoutesHandle {
            file: RoutesFile::new(PathBuf::from(OsStr::from_bytes(path)), Duration::from_millis(interval)),
            turns: Turns::new(),
            others: Vec::with_capacity(Destination::OTHERS),
            clock: Clock::new(),
            problem: String::new(),
        });
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(handle.cast()) };
        Ok(())
    })
}

/// Looks at the file, unless that was done just before, and reads it if it is another one than
/// then. To be called before each lookup: it makes one system call in check_ms while nothing
/// changes. What is read is a copy, so the file may be replaced at any time.
///
/// @param routes     not in use by another call
/// @param now_ms     the time
/// @param out_change set on success: enum dockline_routes_change
/// @return DOCKLINE_OK, also if the file cannot be read; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE,
///         _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `routes` is NULL or live routes; `out_change` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_routes_check(
    routes: *mut dockline_routes,
    now_ms: u64,
    out_change: *mut i32,
) -> dockline_status {
    let call = |handle: &mut RoutesHandle| {
        check_out(out_change)?;
        let change = match handle.file.check(handle.clock.at(now_ms)?) {
            RoutesChange::None => DOCKLINE_ROUTES_UNCHANGED,
            RoutesChange::Read => DOCKLINE_ROUTES_READ,
            RoutesChange::Failed => DOCKLINE_ROUTES_FAILED,
        };
        if change != DOCKLINE_ROUTES_UNCHANGED {
            handle.problem = handle.file.problem().map_or_else(String::new, ToString::to_string);
        }
        // SAFETY: checked, and the caller's promise.
        unsafe { out_change.write(change) };
        Ok(())
    };
    // SAFETY: the caller's promise about `routes`.
    unsafe { Guarded::<RoutesHandle>::enter(routes.cast_const().cast(), call) }
}

/// Returns where the routes come from.
///
/// @param routes   not in use by another call
/// @param out      set on success; its text is borrowed until the next dockline_routes_check or
///                 _free
/// @param out_size sizeof(dockline_routes_state)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `routes` is NULL or live routes; `out` is NULL or points to `out_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_routes_state_view(
    routes: *mut dockline_routes,
    out: *mut dockline_routes_state,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RoutesHandle| {
        let out = struct_out(out, out_size)?;
        let snapshot = handle.file.snapshot();
        let state = dockline_routes_state {
            problem: unless_empty(&handle.problem),
            generation: snapshot.map_or(0, |snapshot| snapshot.generation()),
            count: snapshot.map_or(0, |snapshot| snapshot.len() as u64),
            loaded: snapshot.is_some().into(),
            reserved: 0,
        };
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&state) };
        Ok(())
    };
    // SAFETY: the caller's promise about `routes`.
    unsafe { Guarded::<RoutesHandle>::enter(routes.cast_const().cast(), call) }
}

/// Returns where a request goes. The live targets of a route take turns by their weights. Neither a
/// system call nor an allocation is made.
///
/// @param routes   not in use by another call
/// @param host     the value of Host, as the client sent it; absent if there is none
/// @param path     the path, with or without a query
/// @param out      set on success
/// @param out_size sizeof(dockline_routes_target)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `routes` is NULL or live routes; the texts are readable; `out` is NULL or points to `out_size`
/// writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_routes_lookup(
    routes: *mut dockline_routes,
    host: dockline_str,
    path: dockline_str,
    out: *mut dockline_routes_target,
    out_size: usize,
) -> dockline_status {
    let call = |handle: &mut RoutesHandle| {
        let out = struct_out(out, out_size)?;
        // SAFETY: the caller's promise about the texts.
        let host = unsafe { host.bytes() }?;
        // SAFETY: as above.
        let path = unsafe { path.bytes() }?;
        let none = |result| dockline_routes_target {
            result,
            strip: 0,
            upstream: dockline_str::ABSENT,
            name: dockline_str::ABSENT,
            prefix_len: 0,
            others: ptr::null(),
            other_count: 0,
        };
        let target = match handle.file.snapshot().map(|snapshot| snapshot.lookup(host, path)) {
            None => none(DOCKLINE_ROUTES_NOT_LOADED),
            Some(Lookup::Found { value: route, prefix }) => {
                let known = dockline_routes_target {
                    name: unless_empty(route.name()),
                    prefix_len: prefix as u64,
                    ..none(DOCKLINE_ROUTES_NO_TARGET)
                };
                let mut targets = handle.turns.order(&route);
                targets.next().map_or(known, |first| {
                    let others = targets.take(Destination::OTHERS);
                    handle.others.clear();
                    handle.others.extend(others.map(|target| dockline_str::new(target.address.as_bytes())));
                    dockline_routes_target {
                        result: DOCKLINE_ROUTES_FOUND,
                        strip: (first.strip && prefix > 0).into(),
                        upstream: dockline_str::new(first.address.as_bytes()),
                        others: handle.others.as_ptr(),
                        other_count: handle.others.len(),
                        ..known
                    }
                })
            }
            Some(Lookup::UnknownPath | Lookup::UnknownHost | Lookup::NoHost) => none(DOCKLINE_ROUTES_UNKNOWN),
        };
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&target) };
        Ok(())
    };
    // SAFETY: the caller's promise about `routes`.
    unsafe { Guarded::<RoutesHandle>::enter(routes.cast_const().cast(), call) }
}

/// Frees routes.
///
/// @param routes may be NULL
/// @since 0.1
///
/// # Safety
/// `routes` is NULL, or came from dockline_routes_new and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_routes_free(routes: *mut dockline_routes) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<RoutesHandle>::free(routes.cast()) };
}

/// Borrows text for C; absent if it is empty.
fn unless_empty(text: &str) -> dockline_str {
    if text.is_empty() { dockline_str::ABSENT } else { dockline_str::new(text.as_bytes()) }
}
