//! The committed header and ledger match the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]
#![allow(unsafe_code, reason = "it calls the C ABI")]
#![cfg(feature = "ffi")]

mod header;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::path::Path;

use dockline::error::{Cause, Phase};
use dockline::ffi::{dockline_cause_name, dockline_phase_name};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn header_is_up_to_date() {
    let path = root().join("include/dockline.h");
    let generated = header::generate();
    if std::env::var_os("DOCKLINE_UPDATE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "include/dockline.h differs from src/ffi; run `make header` and commit it with the change"
    );
}

/// Names of the ledger: `name since [retired]` a line.
fn ledger() -> BTreeSet<String> {
    fs::read_to_string(root().join("include/dockline.symbols"))
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| line.split_whitespace().nth(2).is_none())
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// Every `dockline_*` and `DOCKLINE_*` that the header defines.
fn defined_names(header: &str) -> BTreeSet<String> {
    let without_comments =
        header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code));
    let code: String = without_comments.collect();
    code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            (word.starts_with("dockline_") || word.starts_with("DOCKLINE_")) && *word != "DOCKLINE_H"
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn ledger_lists_what_the_header_defines() {
    let header = fs::read_to_string(root().join("include/dockline.h")).unwrap();
    let (ledger, defined) = (ledger(), defined_names(&header));
    let missing: Vec<_> = defined.difference(&ledger).collect();
    let stale: Vec<_> = ledger.difference(&defined).collect();
    assert!(missing.is_empty(), "not in include/dockline.symbols: {missing:?}");
    assert!(stale.is_empty(), "in include/dockline.symbols, but gone (retire them instead): {stale:?}");
}

/// The values of an enum in the header, with their numbers.
fn values_of(header: &str, tag: &str) -> BTreeSet<(String, u16)> {
    let body = header.split_once(&format!("enum {tag} {{")).unwrap().1.split_once("};").unwrap().0;
    let values = body.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    values.map(|(name, number)| (name.to_owned(), number.parse().unwrap())).collect()
}

#[test]
fn header_names_every_cause_and_phase() {
    let header = fs::read_to_string(root().join("include/dockline.h")).unwrap();
    let constant = |prefix: &str, name: &str| format!("{prefix}{}", name.to_uppercase().replace('-', "_"));
    let causes = Cause::all().map(|cause| (constant("DOCKLINE_CAUSE_", cause.name()), cause.number()));
    let none = ("DOCKLINE_CAUSE_NONE".to_owned(), 0);
    assert_eq!(values_of(&header, "dockline_cause"), causes.chain([none]).collect());
    let phases = Phase::ALL.map(|phase| (constant("DOCKLINE_PHASE_", phase.name()), phase.number()));
    let none = ("DOCKLINE_PHASE_NONE".to_owned(), 0);
    assert_eq!(values_of(&header, "dockline_phase"), phases.into_iter().chain([none]).collect());
}

#[test]
fn causes_and_phases_have_the_words_of_the_access_log() {
    // SAFETY: static strings.
    let word = |name| unsafe { CStr::from_ptr(name) }.to_str().unwrap();
    for cause in Cause::all() {
        assert_eq!(word(dockline_cause_name(cause.number().into())), cause.name());
    }
    for phase in Phase::ALL {
        assert_eq!(word(dockline_phase_name(phase.number().into())), phase.name());
    }
    assert_eq!(word(dockline_cause_name(0)), "none");
    assert_eq!(word(dockline_phase_name(-1)), "unknown");
}

/// An export without the boundary would let a panic abort the host. The few that return static text
/// or a number cannot panic.
#[test]
fn every_export_goes_through_the_boundary() {
    const CANNOT_PANIC: &[&str] = &[
        "dockline_abi_version",
        "dockline_version_string",
        "dockline_status_name",
        "dockline_status_text",
        "dockline_close_reason_name",
        "dockline_exchange_end_name",
        "dockline_phase_name",
        "dockline_cause_name",
    ];
    let mut exports = 0;
    for entry in fs::read_dir(root().join("src/ffi")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in source.split("#[unsafe(no_mangle)]").skip(1) {
            let name = part.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            let body = part.split("\n}").next().unwrap();
            exports += 1;
            let guarded = body.contains("boundary(|") || body.contains("{ Guarded::");
            assert!(guarded || CANNOT_PANIC.contains(&name), "{name} has no panic boundary");
        }
    }
    assert!(exports > 10, "found only {exports} exports: has the layout of src/ffi changed?");
}
