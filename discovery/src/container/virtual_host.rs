#![forbid(unsafe_code)]
//! The variables of nginx-proxy: `VIRTUAL_HOST`, `VIRTUAL_PORT`, `VIRTUAL_PROTO`, `VIRTUAL_PATH`.

use super::inspect::Inspect;
use super::wanted::{self, Port, Request, VALUE_MAX, Wanted};
use crate::record::excerpt;

/// Variables that say where requests go, and are not read.
const OTHERS: [&str; 2] = ["VIRTUAL_DEST", "VIRTUAL_HOST_MULTIPORTS"];

/// Returns what the variables ask for.
pub(super) fn read(inspect: &Inspect) -> Request {
    let given = |name: &str| inspect.env(name).map(str::trim).filter(|value| !value.is_empty());
    let mut problems = Vec::new();
    let other = OTHERS.iter().find(|name| given(name).is_some());
    problems.extend(other.map(|name| format!("`{name}` is not read: use labels (docs/LABELS.md)")));
    let Some(hosts) = given("VIRTUAL_HOST") else {
        return Request { problems, ..Request::default() };
    };
    let mut wrong = |name: &str, error: String| {
        let value = excerpt(given(name).unwrap_or_default());
        problems.push(format!("`{name}={value}`: {error}"));
    };
    let mut route = Wanted { port: Port::ExposedOr(80), ..Wanted::default() };
    let hosts = if hosts.len() > VALUE_MAX { wanted::too_long() } else { wanted::hosts(hosts) };
    match hosts {
        Ok(hosts) => route.hosts = hosts,
        Err(error) => wrong("VIRTUAL_HOST", error),
    }
    for (name, value) in ["VIRTUAL_PORT", "VIRTUAL_PROTO", "VIRTUAL_PATH"].map(|name| (name, given(name))) {
        let Some(value) = value else { continue };
        let read = match name {
            "VIRTUAL_PORT" => wanted::port(value).map(|port| route.port = port),
            "VIRTUAL_PROTO" => wanted::scheme(value).map(|tls| route.tls = tls),
            _ => wanted::path(value).map(|path| route.path = path),
        };
        read.unwrap_or_else(|error| wrong(name, error));
    }
    let routes = if problems.is_empty() { vec![route] } else { Vec::new() };
    Request { routes, problems, ..Request::default() }
}
