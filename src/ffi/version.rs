//! Which library this is.

use std::ffi::{CStr, c_char};

/// The ABI that this header describes. Compare it with dockline_abi_version() at start-up: a
/// library with another number must not be used.
pub const DOCKLINE_ABI_VERSION: u32 = 1;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!("dockline ", env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"dockline",
    };

/// Returns the ABI of the library that is loaded.
///
/// @return compare with DOCKLINE_ABI_VERSION
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_abi_version() -> u32 {
    DOCKLINE_ABI_VERSION
}

/// Returns the name and version of the library that is loaded.
///
/// @return a static string, such as "dockline 0.1.0"
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_version_string() -> *const c_char {
    VERSION.as_ptr()
}
