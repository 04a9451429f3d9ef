#![forbid(unsafe_code)]
//! Routes by host and path: how they are named, kept and looked up. Pure.
//!
//! A route has a [`RouteKey`]: the hosts it serves, and the prefix of the paths. Of several routes
//! for a request, that with the most exact host is taken, then that with the longest prefix.

mod pattern;

pub use pattern::{HOST_MAX, HostPattern, PATH_MAX, PathPrefix, PatternError, RouteKey};
