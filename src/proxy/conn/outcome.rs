#![forbid(unsafe_code)]
//! What there is to tell of an exchange, and of the connections that served it.

use std::time::Duration;

use crate::h1::RequestHead;
use crate::proxy::hijack::HijackKind;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeEnd {
    /// The answer was delivered whole, or the tunnel was opened.
    Complete,
    /// It was answered here, as the host's router said.
    Replied,
    /// The request could not be accepted: malformed, over a limit, or refused.
    BadRequest,
    /// The client took too long with its request, or with taking the answer.
    ClientTimeout,
    /// The client left.
    ClientAborted,
    /// The upstream could not be reached.
    Unreachable,
    /// The upstream's answer was malformed, or it ended or failed before one.
    BadResponse,
    /// The upstream took too long to answer, or to take the request.
    UpstreamTimeout,
    /// The upstream's answer was cut; the client saw that.
    Truncated,
    /// The host ended it.
    Stopped,
}

impl ExchangeEnd {
    /// The word that logs use; stable.
    #[must_use]
    pub fn name(self) -> &'static str {
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
    /// The end of its answer was the end of the connection.
    CloseDelimited,
    /// A switch of protocols was proposed on it, whatever the answer.
    SwitchProposed,
    /// It answered before it had the whole request.
    EarlyResponse,
    /// It sent bytes behind its answer.
    Leftover,
    /// The client's end was passed on.
    HalfClosed,
    /// It failed, or the exchange was abandoned.
    Abandoned,
}

/// Why an upstream could not serve, as its owner found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamFailure {
    /// No connection could be made: answered with 502.
    Unreachable,
    /// The attempt took too long: 504.
    Timeout,
    /// There is no descriptor or memory for one more connection: 503.
    Overloaded,
}

/// An exchange that is over.
#[derive(Debug)]
pub struct ExchangeSummary {
    /// The request; `None` if its head could not be read.
    pub request: Option<RequestHead>,
    /// The status of the final answer; `None` if none was sent.
    pub status: Option<u16>,
    /// How it ended.
    pub end: ExchangeEnd,
    /// How it became a tunnel.
    pub tunnel: Option<HijackKind>,
    /// Body bytes from the client.
    pub bytes_up: u64,
    /// Body bytes to the client.
    pub bytes_down: u64,
    /// From the first byte of the request to now.
    pub duration: Duration,
    /// From the first byte of the request to the head of the answer.
    pub time_to_head: Option<Duration>,
}
