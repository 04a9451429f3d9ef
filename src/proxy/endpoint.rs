#![forbid(unsafe_code)]
//! Which operation of the Docker Engine API a request names, as far as a proxy has to know.

use std::borrow::Cow;

/// Operations that a proxy treats differently. The daemon's routes match a name with `.*`, so a name
/// may contain slashes; they decode before they route, so the comparison is made on the decoded path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `POST /containers/{name}/attach`
    Attach,
    /// `POST /exec/{id}/start`
    ExecStart,
    /// `GET /containers/{name}/attach/ws`
    AttachWebSocket,
    /// `POST /session` and `POST /grpc`
    BuildKit,
    /// Operations that take their time: they follow something, or work without a word.
    Followed,
    /// Everything else, other applications' included.
    Other,
}

impl Endpoint {
    /// Finds the operation. `base` is a path under which the daemon is served, as in
    /// `DOCKER_HOST=tcp://host/base`; a target below it is looked at without it.
    pub(super) fn of(method: &[u8], target: &[u8], base: &[u8]) -> Self {
        let path = path_of(target);
        let found = Self::of_path(method, &path);
        if found != Self::Other || base.is_empty() {
            return found;
        }
        let base = base.strip_suffix(b"/").unwrap_or(base);
        match path.strip_prefix(base) {
            Some(rest) if rest.starts_with(b"/") => Self::of_path(method, rest),
            _ => Self::Other,
        }
    }

    fn of_path(method: &[u8], path: &[u8]) -> Self {
        let Some(path) = without_version(path).strip_prefix(b"/") else { return Self::Other };
        let operation = path.strip_prefix(b"libpod/").unwrap_or(path);
        match (method, path) {
            (b"POST", b"session" | b"grpc") => Self::BuildKit,
            _ if is_followed(method, operation) => Self::Followed,
            _ => parts(operation).map_or(Self::Other, |parts| Self::of_parts(method, parts)),
        }
    }

    fn of_parts(method: &[u8], (collection, name, action): (&[u8], &[u8], &[u8])) -> Self {
        match (method, collection, action) {
            (b"GET", b"containers", b"ws") if name.len() > b"/attach".len() && name.ends_with(b"/attach") => {
                Self::AttachWebSocket
            }
            (b"POST", b"containers", b"attach") => Self::Attach,
            (b"POST", b"exec", b"start") => Self::ExecStart,
            (b"POST", b"containers", b"wait" | b"stop" | b"restart")
            | (b"GET", b"containers", b"logs" | b"stats" | b"export")
            | (b"GET" | b"PUT", b"containers", b"archive")
            | (b"GET", b"services" | b"tasks", b"logs")
            | (b"GET", b"images", b"get")
            | (b"POST", b"images" | b"plugins", b"push")
            | (b"POST", b"plugins", b"upgrade") => Self::Followed,
            _ => Self::Other,
        }
    }
}

/// Whether this is one of the slow operations without a name in their path.
fn is_followed(method: &[u8], operation: &[u8]) -> bool {
    match method {
        b"GET" => matches!(operation, b"events" | b"images/get" | b"system/df"),
        b"POST" => matches!(
            operation,
            b"build"
                | b"build/prune"
                | b"commit"
                | b"containers/prune"
                | b"images/create"
                | b"images/load"
                | b"images/prune"
                | b"plugins/pull"
                | b"volumes/prune"
        ),
        _ => false,
    }
}

/// The decoded path of a request target: without query, and without what precedes the path in
/// absolute-form (RFC 9112, section 3.2.2).
fn path_of(target: &[u8]) -> Cow<'_, [u8]> {
    let end = target.iter().position(|&b| b == b'?').unwrap_or(target.len());
    let target = &target[..end];
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let path = match scheme {
        None => target,
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            let start = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            &rest[start..]
        }
    };
    decoded(path)
}

/// Percent-decodes once, for the comparison only. What is no escape stays as it is.
fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                rest = after;
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Takes a `/v1.41` off; Podman's have three parts.
fn without_version(path: &[u8]) -> &[u8] {
    let Some(rest) = path.strip_prefix(b"/v") else { return path };
    let len = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    if len > 0 && rest.get(len) == Some(&b'/') { &rest[len..] } else { path }
}

/// Collection, name and action of `{collection}/{name}/{action}`; the name may have slashes in it.
fn parts(operation: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = operation.iter().position(|&byte| byte == b'/')?;
    let last = operation.iter().rposition(|&byte| byte == b'/')?;
    let name = operation.get(first + 1..last).filter(|name| !name.is_empty())?;
    Some((&operation[..first], name, &operation[last + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(request: &str) -> Endpoint {
        let (method, target) = request.split_once(' ').unwrap();
        Endpoint::of(method.as_bytes(), target.as_bytes(), b"")
    }

    #[test]
    fn hijack_endpoints_with_and_without_version() {
        for prefix in ["", "/v1.41", "/v1.24", "/v4.7.0", "/v1"] {
            assert_eq!(of(&format!("POST {prefix}/containers/x/attach")), Endpoint::Attach, "{prefix}");
            assert_eq!(of(&format!("POST {prefix}/exec/x/start?a=b")), Endpoint::ExecStart, "{prefix}");
            assert_eq!(of(&format!("POST {prefix}/session")), Endpoint::BuildKit, "{prefix}");
            assert_eq!(of(&format!("POST {prefix}/grpc")), Endpoint::BuildKit, "{prefix}");
            assert_eq!(of(&format!("GET {prefix}/containers/x/attach/ws")), Endpoint::AttachWebSocket);
            assert_eq!(of(&format!("POST {prefix}/libpod/exec/x/start")), Endpoint::ExecStart, "{prefix}");
        }
    }

    #[test]
    fn names_may_contain_slashes_and_escapes() {
        assert_eq!(of("POST /v1.41/containers/a%2Fb/attach"), Endpoint::Attach);
        assert_eq!(of("POST /v1.41/containers/a/b/attach"), Endpoint::Attach);
        assert_eq!(of("POST /%76%31.41/containers/x/%61ttach"), Endpoint::Attach);
        assert_eq!(of("POST http://h/v1.41/containers/x/attach?stdin=1"), Endpoint::Attach);
        assert_eq!(of("POST HTTP://h/v1.41/exec/x/start"), Endpoint::ExecStart);
    }

    #[test]
    fn near_misses() {
        for request in [
            "GET /containers/x/attach",
            "post /containers/x/attach",
            "POST /containers/attach",
            "POST /containers//attach",
            "POST /containers/x/attach/",
            "POST /containers/x/attachs",
            "POST /xcontainers/x/attach",
            "POST /V1.41/containers/x/attach",
            "POST /v/containers/x/attach",
            "POST /v1.41x/containers/x/attach",
            "POST /v1.41/v1.41/containers/x/attach",
            "POST /exec/start",
            "POST /libpod/session",
            "POST /sessions",
            "POST /x?/containers/x/attach",
            "POST *",
            "POST http://h",
            "POST /containers/x/attac%6",
            "OPTIONS *",
            "GET /info",
        ] {
            assert_eq!(of(request), Endpoint::Other, "{request}");
        }
    }

    #[test]
    fn operations_that_take_their_time() {
        for request in [
            "POST /v1.41/containers/x/wait?condition=removed",
            "GET /events",
            "GET /containers/x/logs?follow=1",
            "GET /tasks/x/logs",
            "POST /build?version=2",
            "POST /images/create?fromImage=x",
            "POST /images/r/n:t/push",
            "PUT /containers/x/archive",
        ] {
            assert_eq!(of(request), Endpoint::Followed, "{request}");
        }
        assert_eq!(of("GET /containers/json"), Endpoint::Other);
    }

    #[test]
    fn a_base_path_is_taken_off() {
        let of = |target: &str, base: &str| Endpoint::of(b"POST", target.as_bytes(), base.as_bytes());
        assert_eq!(of("/docker/v1.41/exec/x/start", "/docker/"), Endpoint::ExecStart);
        assert_eq!(of("/docker/v1.41/exec/x/start", "/docker"), Endpoint::ExecStart);
        assert_eq!(of("/v1.41/exec/x/start", "/docker"), Endpoint::ExecStart);
        assert_eq!(of("/dockerx/v1.41/exec/x/start", "/docker"), Endpoint::Other);
        assert_eq!(of("/other/v1.41/exec/x/start", "/docker"), Endpoint::Other);
        assert_eq!(of("/v1.41/exec/x/start", "/"), Endpoint::ExecStart);
    }
}
