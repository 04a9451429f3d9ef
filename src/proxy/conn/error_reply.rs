#![forbid(unsafe_code)]
//! What a client is sent after a failure: what is wrong with its request, and of the upstream only
//! that it failed.

use crate::error::{Cause, FailedSide, Failure, Phase, Side, Timeout};
use crate::proxy::config::ConnConfig;
use crate::proxy::hijack::Api;
use crate::proxy::reply::{Reply, reason_phrase};

/// Returns the response to a request that failed.
pub(super) fn reply_to(failure: &Failure, config: &ConnConfig) -> Reply {
    let (status, message) = match failure.side {
        FailedSide::Downstream => bad_request_message(failure),
        FailedSide::Upstream | FailedSide::Proxy => {
            let (status, message) = upstream_message(failure, config.api);
            (status, message.to_owned())
        }
    };
    let own = config.failure_replies.iter().find(|reply| reply.status().as_u16() == status);
    match (own, config.api) {
        (Some(reply), _) => reply.clone(),
        (None, Api::Docker) => Reply::error(status, &message),
        (None, Api::Any) => {
            let text = format!("{status} {}: {message}\n", reason_phrase(status));
            Reply::new(status, "text/plain; charset=utf-8", text)
        }
    }
}

fn bad_request_message(failure: &Failure) -> (u16, String) {
    match failure.cause {
        Cause::Parse(error) => {
            let part = if failure.phase == Phase::RequestBody { "body" } else { "head" };
            let message = format!("{} (at byte {} of the request {part})", error.fault, error.at);
            (error.status_hint(Side::Downstream), message)
        }
        Cause::MethodNotOffered => (405, "this proxy does not offer the method".into()),
        Cause::Timeout(Timeout::RequestHead) => (408, "the request head took too long".into()),
        _ => (408, "the request body took too long".into()),
    }
}

fn upstream_message(failure: &Failure, api: Api) -> (u16, &'static str) {
    let (status, of_docker, of_any) = upstream_messages(failure);
    match (api, failure.cause) {
        (Api::Any, Cause::OwnListener) => (508, "the request would come back to this proxy"),
        (Api::Any, _) => (status, of_any),
        (Api::Docker, _) => (status, of_docker),
    }
}

/// Returns the status, and what is said of a Docker daemon and of another application.
fn upstream_messages(failure: &Failure) -> (u16, &'static str, &'static str) {
    let both = |status, message| (status, message, message);
    match failure.cause {
        Cause::Killed => both(503, "the request was ended by the operator of the proxy"),
        Cause::OutOfResources { .. } => both(503, "the proxy is out of connections; try again"),
        Cause::Timeout(_) if failure.phase == Phase::Connect => (
            504,
            "the Docker daemon did not accept a connection in time",
            "the application did not accept a connection in time",
        ),
        Cause::Timeout(_) => {
            (504, "the Docker daemon did not respond in time", "the application did not respond in time")
        }
        _ if failure.phase == Phase::Connect => {
            (502, "cannot connect to the Docker daemon", "cannot connect to the application")
        }
        Cause::Parse(_) => {
            (502, "the Docker daemon sent a malformed response", "the application sent a malformed response")
        }
        Cause::UnrequestedSwitch => (
            502,
            "the Docker daemon switched protocols unasked",
            "the application switched protocols unasked",
        ),
        Cause::TooManyInterim => (
            502,
            "the Docker daemon sent too many interim responses",
            "the application sent too many interim responses",
        ),
        Cause::ClosedEarly => (
            502,
            "the Docker daemon closed the connection before it responded",
            "the application closed the connection before it responded",
        ),
        _ => (
            502,
            "the connection to the Docker daemon failed before it responded",
            "the connection to the application failed before it responded",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(cause: Cause, config: &ConnConfig) -> Reply {
        reply_to(&Failure::new(Side::Upstream, Phase::Connect, cause), config)
    }

    #[test]
    fn only_what_is_for_docker_speaks_of_it_in_json() {
        let any = ConnConfig { api: Api::Any, ..ConnConfig::default() };
        for cause in [Cause::ClosedEarly, Cause::Timeout(Timeout::Connect), Cause::TooManyInterim] {
            let (of_docker, of_any) = (reply(cause, &ConnConfig::default()), reply(cause, &any));
            assert_eq!(of_docker.status(), of_any.status());
            let (of_docker, of_any) = (format!("{of_docker:?}"), format!("{of_any:?}"));
            assert!(of_docker.contains("Docker") && of_docker.contains("json"), "{of_docker}");
            assert!(!of_any.contains("Docker") && of_any.contains("text/plain"), "{of_any}");
        }
        assert_eq!(reply(Cause::OwnListener, &any).status().as_u16(), 508);
        assert_eq!(reply(Cause::OwnListener, &ConnConfig::default()).status().as_u16(), 502);
    }

    #[test]
    fn own_replies_take_the_place_of_those_with_their_status() {
        let own = Reply::new(504, "text/html", "later");
        let config = ConnConfig { failure_replies: vec![own.clone()], ..ConnConfig::default() };
        assert_eq!(reply(Cause::Timeout(Timeout::Connect), &config), own);
        assert_eq!(reply(Cause::ClosedEarly, &config).status().as_u16(), 502);
    }
}
