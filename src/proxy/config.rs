#![forbid(unsafe_code)]
//! How a [`ProxyConn`](super::ProxyConn) behaves.

use std::time::Duration;

use bytes::Bytes;

use super::hijack::Api;
use super::reply::Reply;
use super::trusted::TrustedPeers;
use crate::h1::HostPolicy;
use crate::limits::Limits;

/// What is passed on about the client to the upstream, and about the proxy to the client (RFC 9110,
/// section 7.6.3; RFC 7239).
///
/// What the client itself sends in these fields is removed, unless it is [trusted](Self::trusted).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// The name of this hop in `Via`, a token; `None` adds no `Via`.
    pub via: Option<Bytes>,
    /// Whether `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, and `X-Real-IP`, are sent.
    ///
    /// `-Port` is that of `Host`, or else the default one of the scheme, so that all of them
    /// together are the URL that the client used, whatever maps ports in between.
    pub x_forwarded: bool,
    /// Whether `Forwarded` is sent.
    pub forwarded: bool,
    /// The clients that are trusted proxies. Their own fields are kept: lists are extended, and of
    /// the others only those that are absent are added. `X-Real-IP` is the address of
    /// [`forwarded_for`](super::ProxyConn::forwarded_for), if there is one.
    pub trusted: TrustedPeers,
}

/// The options of a [`ProxyConn`](super::ProxyConn), shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct ConnConfig {
    /// The limits.
    pub limits: Limits,
    /// How strictly `Host` is checked. Default [`HostPolicy::Opaque`]: Docker clients send odd
    /// ones. A host that routes by it uses [`HostPolicy::Strict`].
    pub hosts: HostPolicy,
    /// Fields about the client and the proxy. Default: none.
    pub forwarding: Forwarding,
    /// Whether a response after which the connection is kept states for how long, in `Connection:
    /// keep-alive` and `Keep-Alive: timeout=N` (RFC 2068, section 19.7.1.1). N is 5 seconds, or
    /// half, less than [`Limits::keep_alive`], and a day at most. Clients that honour it, such as
    /// node's agents, do not send a request into a connection that is being closed. Default: it
    /// does not.
    pub keep_alive_hint: bool,
    /// Whose requests they are. Default [`Api::Docker`].
    pub api: Api,
    /// Replies for failures in place of those of the proxy, by their status. Default: none. Those
    /// for a Docker daemon are JSON, as its own; others are text. None names the upstream.
    pub failure_replies: Vec<Reply>,
    /// Whether CONNECT is passed on. Default: it is refused and the connection closed (RFC 9931).
    pub allow_connect: bool,
    /// A path below which the daemon is served; empty if at the root.
    pub base: Bytes,
}

impl Default for ConnConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            hosts: HostPolicy::Opaque,
            forwarding: Forwarding::default(),
            keep_alive_hint: false,
            api: Api::Docker,
            failure_replies: Vec::new(),
            allow_connect: false,
            base: Bytes::new(),
        }
    }
}

impl ConnConfig {
    /// Returns the seconds for `Keep-Alive: timeout=`, if it is sent.
    pub(super) fn told_keep_alive(&self) -> Option<u64> {
        const MARGIN: Duration = Duration::from_secs(5);
        const DAY: u64 = 24 * 60 * 60;
        let time = self.limits.keep_alive;
        let seconds = (time - MARGIN.min(time / 2)).as_secs().min(DAY);
        (self.keep_alive_hint && seconds > 0).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_told_is_shorter_than_the_limit() {
        for (limit, told) in [
            (Duration::ZERO, None),
            (Duration::from_millis(1999), None),
            (Duration::from_secs(2), Some(1)),
            (Duration::from_secs(10), Some(5)),
            (Duration::from_secs(300), Some(295)),
            (Duration::from_secs(86_405), Some(86_400)),
            (Duration::MAX, Some(86_400)),
        ] {
            let limits = Limits { keep_alive: limit, ..Limits::default() };
            let config = ConnConfig { limits, keep_alive_hint: true, ..ConnConfig::default() };
            assert_eq!(config.told_keep_alive(), told, "{limit:?}");
            assert_eq!(ConnConfig { keep_alive_hint: false, ..config }.told_keep_alive(), None);
        }
    }
}
