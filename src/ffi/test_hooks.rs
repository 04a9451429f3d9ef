//! What only ffi-tests needs. Never in a release.

use std::ffi::c_void;

use super::boundary::{Guarded, Kind};
use super::conn_types::ConnHandle;
use super::engine_types::EngineHandle;
use super::relay_types::RelayHandle;
use super::routes::RoutesHandle;
use super::status::{DOCKLINE_E_HANDLE, dockline_status};

/// Panics inside the boundary, so that ffi-tests can see what comes of it.
///
/// # Safety
/// `handle` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_test_panic(handle: *mut c_void) -> dockline_status {
    #[expect(clippy::panic, reason = "its purpose")]
    unsafe fn enter<T: Kind>(handle: *mut c_void) -> dockline_status {
        // SAFETY: the caller's promise.
        unsafe { Guarded::<T>::enter(handle.cast_const().cast(), |_| panic!("asked for by a test")) }
    }
    for enter in [enter::<RelayHandle>, enter::<ConnHandle>, enter::<EngineHandle>, enter::<RoutesHandle>] {
        // SAFETY: the caller's promise.
        let status = unsafe { enter(handle) };
        if status != DOCKLINE_E_HANDLE {
            return status;
        }
    }
    DOCKLINE_E_HANDLE
}
