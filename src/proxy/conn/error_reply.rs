#![forbid(unsafe_code)]
//! What a client is sent after a failure: what is wrong with its request, and of the upstream only
//! that it failed.

use crate::error::{Cause, FailedSide, Failure, Phase, Side, Timeout};
use crate::proxy::reply::Reply;

/// Returns the response to a request that failed.
pub(super) fn reply_to(failure: &Failure) -> Reply {
    match failure.side {
        FailedSide::Downstream => reply_to_bad_request(failure),
        FailedSide::Upstream | FailedSide::Proxy => {
            let (status, message) = upstream_message(failure);
            Reply::error(status, message)
        }
    }
}

fn reply_to_bad_request(failure: &Failure) -> Reply {
    match failure.cause {
        Cause::Parse(error) => {
            let part = if failure.phase == Phase::RequestBody { "body" } else { "head" };
            let message = format!("{} (at byte {} of the request {part})", error.fault, error.at);
            Reply::error(error.status_hint(Side::Downstream), &message)
        }
        Cause::MethodNotOffered => Reply::error(405, "this proxy does not offer the method"),
        Cause::Timeout(Timeout::RequestHead) => Reply::error(408, "the request head took too long"),
        _ => Reply::error(408, "the request body took too long"),
    }
}

fn upstream_message(failure: &Failure) -> (u16, &'static str) {
    match failure.cause {
        Cause::Killed => (503, "the request was ended by the operator of the proxy"),
        Cause::OutOfResources { .. } => (503, "the proxy is out of connections; try again"),
        Cause::Timeout(_) if failure.phase == Phase::Connect => {
            (504, "the Docker daemon did not accept a connection in time")
        }
        Cause::Timeout(_) => (504, "the Docker daemon did not respond in time"),
        _ if failure.phase == Phase::Connect => (502, "cannot connect to the Docker daemon"),
        Cause::Parse(_) => (502, "the Docker daemon sent a malformed response"),
        Cause::UnrequestedSwitch => (502, "the Docker daemon switched protocols unasked"),
        Cause::TooManyInterim => (502, "the Docker daemon sent too many interim responses"),
        Cause::ClosedEarly => (502, "the Docker daemon closed the connection before it responded"),
        _ => (502, "the connection to the Docker daemon failed before it responded"),
    }
}
