#![forbid(unsafe_code)]
//! Hosts, paths and keys for property tests: few, so that they meet.

use proptest::prelude::*;

use super::{HostPattern, RouteKey};

pub(super) fn any_host() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "a.apps.example.com",
        "b.a.apps.example.com",
        "apps.example.com",
        "*.apps.example.com",
        "a.example.org",
        "*.a.example.org",
        "a.1",
    ])
    .prop_map(str::to_owned)
}

/// Of a request; not all of them are prefixes.
pub(super) fn any_path() -> impl Strategy<Value = String> {
    "(/[ab-]{0,2}){0,4}(|\\?/a|#)"
}

pub(super) fn any_key() -> impl Strategy<Value = RouteKey> {
    (any_host(), any_path()).prop_filter_map("a key", |(host, path)| {
        let host = if host.contains('.') { HostPattern::host(&host) } else { HostPattern::name(&host) };
        Some(RouteKey { host: host.ok()?, path: path.parse().unwrap_or_default() })
    })
}
