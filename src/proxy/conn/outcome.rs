#![forbid(unsafe_code)]
//! How an exchange ended, and what becomes of its upstream connection.

use std::time::Duration;

use crate::error::{Cause, FailedSide, Failure, Phase};
use crate::h1::RequestHead;
use crate::proxy::hijack::HijackKind;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeEnd {
    /// The response was delivered whole, or the tunnel was opened.
    Complete,
    /// The proxy itself responded, as the host's router said.
    Replied,
    /// The host ended it.
    Stopped,
    /// It failed.
    Failed(Failure),
}

/// The class of an [`ExchangeEnd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndKind {
    /// [`ExchangeEnd::Complete`].
    Complete,
    /// [`ExchangeEnd::Replied`].
    Replied,
    /// The request could not be accepted: malformed, over a limit, or not offered.
    BadRequest,
    /// The client took too long with its request, or with accepting the response.
    ClientTimeout,
    /// The client left.
    ClientAborted,
    /// The upstream could not be reached.
    Unreachable,
    /// The upstream's response was malformed, or its connection ended or failed before one.
    BadResponse,
    /// The upstream took too long to respond, or to accept the request.
    UpstreamTimeout,
    /// The upstream's response was cut; the client saw that.
    Truncated,
    /// [`ExchangeEnd::Stopped`], [`Cause::Killed`], or the proxy itself failed, while it neither
    /// connected nor passed a response on, or by a panic.
    Stopped,
}

impl EndKind {
    /// Returns the word that logs use; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Replied => "replied",
            Self::BadRequest => "bad-request",
            Self::ClientTimeout => "client-timeout",
            Self::ClientAborted => "client-aborted",
            Self::Unreachable => "unreachable",
            Self::BadResponse => "bad-response",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::Truncated => "truncated",
            Self::Stopped => "stopped",
        }
    }
}

impl ExchangeEnd {
    /// Returns the word of its class that logs use; stable.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.kind().name()
    }

    /// Returns its class.
    #[must_use]
    pub fn kind(self) -> EndKind {
        let Failure { side, phase, cause } = match self {
            Self::Complete => return EndKind::Complete,
            Self::Replied => return EndKind::Replied,
            Self::Stopped => return EndKind::Stopped,
            Self::Failed(failure) => failure,
        };
        match (side, cause, phase) {
            (_, Cause::Killed, _) => EndKind::Stopped,
            (FailedSide::Downstream, Cause::Timeout(_), _) => EndKind::ClientTimeout,
            (FailedSide::Downstream, Cause::Parse(_) | Cause::MethodNotOffered, _) => EndKind::BadRequest,
            (FailedSide::Downstream, ..) => EndKind::ClientAborted,
            (FailedSide::Proxy, Cause::Panicked, _) => EndKind::Stopped,
            (_, Cause::Timeout(_), _) => EndKind::UpstreamTimeout,
            (_, _, Phase::Connect) => EndKind::Unreachable,
            (_, _, Phase::ResponseBody) => EndKind::Truncated,
            (FailedSide::Proxy, ..) => EndKind::Stopped,
            _ => EndKind::BadResponse,
        }
    }

    /// Returns why it failed, if it did.
    #[must_use]
    pub fn failure(self) -> Option<Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Complete | Self::Replied | Self::Stopped => None,
        }
    }
}

/// Whether an upstream connection may serve another request: only if that is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// It may.
    Keep,
    /// It may not.
    Close(NoReuse),
}

/// Why an upstream connection may not serve another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoReuse {
    /// It said `Connection: close`, or speaks HTTP/1.0.
    Announced,
    /// The end of its response was the end of the connection.
    CloseDelimited,
    /// A switch of protocols was proposed on it, whatever the response.
    SwitchProposed,
    /// It responded before it had the whole request.
    EarlyResponse,
    /// It sent bytes behind its response.
    Leftover,
    /// The client's end was passed on.
    HalfClosed,
    /// It failed, or the exchange was abandoned.
    Abandoned,
}

/// An exchange that is over.
#[derive(Debug)]
pub struct ExchangeSummary {
    /// The request; `None` if its head could not be read.
    pub request: Option<RequestHead>,
    /// The status of the final response; `None` if none was sent.
    pub status: Option<u16>,
    /// How it ended.
    pub end: ExchangeEnd,
    /// Whether the proxy wrote the response itself.
    pub own_reply: bool,
    /// How it became a tunnel.
    pub tunnel: Option<HijackKind>,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// From the first byte of the request to now.
    pub duration: Duration,
    /// From the first byte of the request to the head of the response.
    pub time_to_head: Option<Duration>,
}
