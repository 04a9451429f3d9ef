//! The C ABI of a connection means what the Rust one does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]
#![cfg(feature = "ffi")]

mod ffi_twins;

use proptest::collection::vec;
use proptest::prelude::*;

/// Feed, send and connect, mostly; the odd end.
fn step() -> impl Strategy<Value = [u8; 2]> {
    let what = prop_oneof![4 => 0_u8..8, 4 => 8_u8..14, 4 => 14_u8..16, 1 => 16_u8..32];
    (what, any::<u8>()).prop_map(|(what, n)| [what, n])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_say_the_same(script in vec(step(), 0..200)) {
        ffi_twins::run(&script.concat());
    }
}
