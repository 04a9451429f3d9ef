//! `docs/REASONS.md` is that of the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::fs;
use std::path::Path;

#[test]
fn reasons_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/REASONS.md");
    let generated = dockline::error::reasons_markdown();
    if std::env::var_os("DOCKLINE_UPDATE_REASONS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/REASONS.md is not what src/error says; run `make reasons` and commit it with the change"
    );
}
