#![forbid(unsafe_code)]
//! The hijack decision: when a connection stops being HTTP.
//!
//! Two pure functions. [`plan`] inspects a request before it is sent upstream, [`decide`] the head
//! that comes back. Nothing is inferred from a `Content-Type` alone: Docker's `logs` carries the
//! same types on ordinary responses. `docs/HIJACK.md` has the rule with its reasons.

use super::operation::Operation;
use crate::h1::Version;

/// The HTTP version that the client speaks; [`h1::Version`](Version) is that of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl From<Version> for ClientVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => Self::Http10,
            Version::Http11 => Self::Http11,
        }
    }
}

/// Whose requests they are: which rules there are beside those of HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Api {
    /// Those of the Docker Engine API: a path may name an operation that takes the connection over,
    /// or that may be silent or pause.
    #[default]
    Docker,
    /// Those of any application: a path means nothing, and a connection is taken over only by 101,
    /// for whichever protocol the client asks for.
    Any,
}

/// What the decision needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The method, as sent; methods are case-sensitive (RFC 9110, section 9.1).
    pub method: &'a [u8],
    /// Whose request it is.
    pub api: Api,
    /// The request target, as sent.
    pub target: &'a [u8],
    /// A path below which the daemon is served; empty if it is served at the root.
    pub base: &'a [u8],
    /// What the client speaks.
    pub version: ClientVersion,
    /// The value of `Upgrade`; several fields are joined by commas.
    pub upgrade: Option<&'a [u8]>,
    /// The value of `Connection`; several fields are joined by commas.
    pub connection: Option<&'a [u8]>,
    /// Whether the host offers CONNECT.
    pub allow_connect: bool,
}

/// What kind of exchange a request starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// One request, one response; not an operation of the Docker Engine API.
    Ordinary,
    /// The same, of the Docker Engine API: the daemon responds when it is done. `create`, `start`,
    /// `kill` and the like take minutes on a busy machine, so a time limit that was not meant for
    /// them should not end them. The client is to send its request at once.
    Command,
    /// An operation of the Docker Engine API that follows something, or moves much: `logs`,
    /// `events`, `wait`, `build`, `load`, `save`, `pull`, `push`, `cp` and the like. The response
    /// may pause for as long as either side wants, before it and within it; so may the request's
    /// body, where [`RequestPlan::body_may_pause`] is set.
    Stream,
    /// It may become a tunnel. What the client sends behind it is held until [`decide`] was called.
    Switch,
}

/// Why a request is not to be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// CONNECT, and the host does not offer it. The connection is closed after the response (RFC
    /// 9931).
    Connect,
    /// The operation takes the connection over, which is possible with HTTP/1 only.
    NeedsHttp1,
}

impl Refusal {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::NeedsHttp1 => 501,
        }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPlan {
    /// The kind of exchange.
    pub kind: RequestKind,
    /// Whether the client's `Upgrade` is passed on, with `Connection: Upgrade` as the only token
    /// (Podman compares the whole value). If not, neither is sent: adding them would change the
    /// daemon's response.
    pub send_upgrade: bool,
    /// Whether the declared body is to be read whole before the request is sent, head and body at
    /// once: the daemon takes body bytes that arrive late for bytes of the stream (docs/HIJACK.md).
    pub whole_body_first: bool,
    /// Whether what the client sends behind the request may be input for a tunnel, even if there
    /// will be none: then the client's connection ends with the response, or that input could be
    /// run as the next request.
    pub proposes_tunnel: bool,
    /// Whether the client may pause within the body of its request: it carries a build context, an
    /// image or an archive. All other bodies are short, and sent at once.
    pub body_may_pause: bool,
    /// Whether the client's end, after the request, is passed on to the daemon, which then stops:
    /// it follows something or works for long. For other requests the end of a client's stream
    /// means only that there is no further request.
    pub passes_end_on: bool,
    /// Why the request is rejected instead of being sent, if it is.
    pub refusal: Option<Refusal>,
}

/// What the decision needs to know of a response head.
#[derive(Debug, Clone, Copy)]
pub struct ResponseFacts<'a> {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The value of `Upgrade`.
    pub upgrade: Option<&'a [u8]>,
    /// Whether there is a `Content-Length`.
    pub has_length: bool,
    /// Whether there is a `Transfer-Encoding`.
    pub has_transfer_encoding: bool,
}

/// How a connection was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HijackKind {
    /// 101, which the request asked for (RFC 9110, section 7.8).
    Upgrade,
    /// Docker's bare 200: a stream type and no framing, on `attach` or `exec start`.
    RawStream,
    /// 2xx in response to CONNECT (RFC 9110, section 9.3.6).
    Connect,
}

/// What a response head means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// An ordinary final response. Held client bytes must not reach the upstream any more.
    Message,
    /// 1xx: pass it on and wait for the next head.
    Interim,
    /// From the blank line on, both directions are raw bytes.
    Tunnel(HijackKind),
    /// A switch that was not requested, or not a response at all: drop the upstream and respond
    /// with 502.
    Refuse,
}

/// Decides how a request is sent on.
#[must_use]
pub fn plan(request: &RequestFacts<'_>) -> RequestPlan {
    let operation = request.operation();
    let is_connect = request.method == b"CONNECT";
    let send_upgrade = !is_connect && may_upgrade(request, operation);
    let is_hijack = matches!(operation, Operation::Attach | Operation::ExecStart);
    let refusal = match is_connect {
        true if !request.allow_connect => Some(Refusal::Connect),
        false if operation.takes_over() && request.version > ClientVersion::Http11 => {
            Some(Refusal::NeedsHttp1)
        }
        _ => None,
    };
    let kind = match operation {
        _ if refusal.is_some() => RequestKind::Ordinary,
        _ if is_connect || send_upgrade || is_hijack => RequestKind::Switch,
        Operation::Stream | Operation::Upload => RequestKind::Stream,
        Operation::Other => RequestKind::Ordinary,
        _ => RequestKind::Command,
    };
    RequestPlan {
        kind,
        send_upgrade: send_upgrade && refusal.is_none(),
        whole_body_first: kind == RequestKind::Switch && !is_connect,
        body_may_pause: kind == RequestKind::Stream && operation == Operation::Upload,
        passes_end_on: kind == RequestKind::Stream
            || (kind == RequestKind::Command && operation == Operation::Work),
        proposes_tunnel: is_connect || operation.takes_over() || offers_more_than_h2c(request),
        refusal,
    }
}

/// Returns whether `Upgrade` offers anything beside `h2c`, which curl and Java's client offer with
/// any request: they have to wait for the response (RFC 7540, section 3.2).
fn offers_more_than_h2c(request: &RequestFacts<'_>) -> bool {
    request.upgrade.is_some_and(|upgrade| tokens(upgrade).any(|token| !token.eq_ignore_ascii_case(b"h2c")))
}

/// Decides what a response head means, given the request that was sent as [`plan`] said.
#[must_use]
pub fn decide(request: &RequestFacts<'_>, response: &ResponseFacts<'_>) -> Decision {
    match response.status {
        101 if plan(request).send_upgrade && agrees(request, response) => {
            Decision::Tunnel(HijackKind::Upgrade)
        }
        101 => Decision::Refuse,
        100..=199 => Decision::Interim,
        200..=299 if request.method == b"CONNECT" && request.allow_connect => {
            Decision::Tunnel(HijackKind::Connect)
        }
        200 if is_raw_stream(request, response) && plan(request).kind == RequestKind::Switch => {
            Decision::Tunnel(HijackKind::RawStream)
        }
        200..=599 => Decision::Message,
        _ => Decision::Refuse,
    }
}

impl RequestFacts<'_> {
    fn operation(&self) -> Operation {
        match self.api {
            Api::Docker => Operation::of(self.method, self.target, self.base),
            Api::Any => Operation::Other,
        }
    }
}

/// Returns whether `Upgrade` is passed on to the upstream.
///
/// Docker's own operations may ask for anything: the daemon checks only that the field is there, or
/// checks it by itself. Anywhere else in its API only a websocket is accepted, and an application
/// may have any protocol but `h2c`: that would open a connection for further requests, which are
/// not inspected.
fn may_upgrade(request: &RequestFacts<'_>, operation: Operation) -> bool {
    let Some(upgrade) = request.upgrade else { return false };
    let asked =
        request.connection.is_some_and(|value| tokens(value).any(|t| t.eq_ignore_ascii_case(b"upgrade")));
    if !asked || request.version > ClientVersion::Http11 {
        return false;
    }
    let is_allowed = |protocol: &[u8]| match request.api {
        Api::Docker => protocol.eq_ignore_ascii_case(b"websocket"),
        Api::Any => !protocol.eq_ignore_ascii_case(b"h2c"),
    };
    operation.takes_over()
        || (request.version == ClientVersion::Http11
            && tokens(upgrade).count() > 0
            && tokens(upgrade).all(is_allowed))
}

/// Returns whether a 101 names what was offered. `attach` and `exec start` are exempt: dockerd
/// ignores the offer and always sends `tcp`.
fn agrees(request: &RequestFacts<'_>, response: &ResponseFacts<'_>) -> bool {
    if matches!(request.operation(), Operation::Attach | Operation::ExecStart) {
        return true;
    }
    let offered = request.upgrade.unwrap_or_default();
    let mut chosen = tokens(response.upgrade.unwrap_or_default()).peekable();
    chosen.peek().is_some()
        && chosen.all(|token| tokens(offered).any(|offer| offer.eq_ignore_ascii_case(token)))
}

/// Returns whether this is Docker's bare 200. Each clause excludes something: the operation
/// excludes `logs`, the missing framing a detached exec and what an intermediary has re-framed, the
/// type an intermediary's error page.
fn is_raw_stream(request: &RequestFacts<'_>, response: &ResponseFacts<'_>) -> bool {
    if response.has_length || response.has_transfer_encoding {
        return false;
    }
    let media_type = response
        .content_type
        .map(|value| value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii())
        .unwrap_or_default();
    let is_stream = media_type.eq_ignore_ascii_case(b"application/vnd.docker.raw-stream")
        || media_type.eq_ignore_ascii_case(b"application/vnd.docker.multiplexed-stream");
    is_stream && matches!(request.operation(), Operation::Attach | Operation::ExecStart)
}

/// Returns the elements of a comma-separated list (RFC 9110, section 5.6.1).
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
