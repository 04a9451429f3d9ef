//! One connection through both façades, C and Rust: they never differ.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/ffi_twins/mod.rs"]
mod ffi_twins;

fuzz_target!(|script: &[u8]| ffi_twins::run(script));
