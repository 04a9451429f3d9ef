#![forbid(unsafe_code)]
//! Which operation of the Docker Engine API a request names, as far as a proxy has to know.
//!
//! This is the one table of operations that may be slow, long or silent. The deadlines of the
//! gateway, of the nginx module and of every host that uses a
//! [`RequestPlan`](super::hijack::RequestPlan) are taken from it.

use std::borrow::Cow;

/// Operations that a proxy treats differently. The daemon's routes match a name with `.*`, so a
/// name may contain slashes; they decode before they route, so the comparison is made on the
/// decoded path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// `POST /containers/{name}/attach`
    Attach,
    /// `POST /exec/{id}/start`
    ExecStart,
    /// `GET /containers/{name}/attach/ws`
    AttachWebSocket,
    /// `POST /session` and `POST /grpc`
    BuildKit,
    /// Takes an image, an archive or a build context from the client: request, response and what is
    /// between them may pause.
    Upload,
    /// Follows something, or sends an image or an archive: the response may pause, before it and
    /// within it. The client's request is sent at once.
    Stream,
    /// Works for as long as it takes, as prunes and `stop` do, and ends early where its client
    /// leaves. Otherwise a command.
    Work,
    /// Any other operation of the API: a short request, and a daemon that responds when it is done,
    /// which on a busy machine takes minutes.
    Command,
    /// Not an operation of the API.
    Other,
}

impl Operation {
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

    /// Returns whether it takes the connection over.
    pub(super) fn takes_over(self) -> bool {
        matches!(self, Self::Attach | Self::ExecStart | Self::AttachWebSocket | Self::BuildKit)
    }

    fn of_path(method: &[u8], path: &[u8]) -> Self {
        let Some(path) = without_version(path).strip_prefix(b"/") else { return Self::Other };
        let operation = path.strip_prefix(b"libpod/").unwrap_or(path);
        if method == b"POST" && matches!(path, b"session" | b"grpc") {
            return Self::BuildKit;
        }
        let named = || parts(operation).and_then(|parts| Self::of_named(method, parts));
        if let Some(found) = Self::of_unnamed(method, operation).or_else(named) {
            return found;
        }
        let is_libpod = operation.len() < path.len();
        if is_libpod || is_of_the_api(operation) { Self::Command } else { Self::Other }
    }

    /// Operations without a name in their path. Podman's own are among them.
    fn of_unnamed(method: &[u8], operation: &[u8]) -> Option<Self> {
        let found = match (method, operation) {
            (
                b"POST",
                b"artifacts/add" | b"build" | b"images/create" | b"images/import" | b"images/load"
                | b"kube/play" | b"play/kube" | b"plugins/create",
            ) => Self::Upload,
            (b"GET", b"events" | b"images/get" | b"images/export" | b"containers/stats" | b"pods/stats")
            | (b"POST", b"artifacts/pull" | b"images/pull" | b"local/build" | b"plugins/pull") => {
                Self::Stream
            }
            (b"GET", b"system/df")
            | (
                b"POST",
                b"build/prune" | b"commit" | b"containers/prune" | b"images/prune" | b"networks/prune"
                | b"pods/prune" | b"system/prune" | b"volumes/prune",
            ) => Self::Work,
            _ => return None,
        };
        Some(found)
    }

    /// Operations on one thing: its collection, its name, and what is done with it.
    fn of_named(method: &[u8], (collection, name, action): (&[u8], &[u8], &[u8])) -> Option<Self> {
        let operation = match (method, collection, action) {
            (b"GET", b"containers", b"ws") if name.len() > b"/attach".len() && name.ends_with(b"/attach") => {
                Self::AttachWebSocket
            }
            (b"POST", b"containers", b"attach") => Self::Attach,
            (b"POST", b"exec", b"start") => Self::ExecStart,
            (b"PUT", b"containers", b"archive")
            | (b"POST", b"containers", b"restore")
            | (b"POST", b"volumes", b"import") => Self::Upload,
            (b"POST", b"containers" | b"pods", b"stop" | b"restart") => Self::Work,
            (b"POST", b"containers", b"wait" | b"copy" | b"checkpoint")
            | (b"GET", b"containers", b"logs" | b"stats" | b"export" | b"archive")
            | (b"GET", b"services" | b"tasks" | b"pods", b"logs")
            | (b"GET", b"images", b"get")
            | (b"POST", b"images" | b"plugins" | b"artifacts", b"push")
            | (b"POST", b"plugins", b"upgrade")
            | (b"GET", b"artifacts", b"extract")
            | (b"GET", b"volumes", b"export") => Self::Stream,
            // The destination behind it may have slashes.
            (b"POST", b"manifests", _) if has_segment(name, b"registry") => Self::Stream,
            _ => return None,
        };
        Some(operation)
    }
}

/// Returns whether a segment after the first one is this.
fn has_segment(name: &[u8], segment: &[u8]) -> bool {
    name.split(|&byte| byte == b'/').skip(1).any(|it| it == segment)
}

/// Returns whether a path begins as those of the API do, up to Docker 29 (API 1.53).
fn is_of_the_api(operation: &[u8]) -> bool {
    let end = operation.iter().position(|&byte| byte == b'/').unwrap_or(operation.len());
    let (collection, is_alone) = (&operation[..end], end == operation.len());
    match collection {
        b"_ping" | b"auth" | b"commit" | b"events" | b"grpc" | b"info" | b"session" | b"version" => is_alone,
        b"build" | b"configs" | b"containers" | b"distribution" | b"exec" | b"images" | b"networks"
        | b"nodes" | b"plugins" | b"secrets" | b"services" | b"swarm" | b"system" | b"tasks" | b"volumes" => {
            true
        }
        _ => false,
    }
}

/// Returns the decoded path of a request target: without query, and without what precedes the path
/// in absolute-form (RFC 9112, section 3.2.2).
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

/// Removes a `/v1.41`; Podman's have three parts.
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
mod tests;
