#![forbid(unsafe_code)]
//! How a [`ProxyConn`](super::ProxyConn) behaves.

use bytes::Bytes;

use crate::h1::HostPolicy;
use crate::limits::Limits;

/// What is told to the upstream about the client, and to the client about the way (RFC 9110, section 7.6.3; RFC 7239).
///
/// Whatever the client itself says in these fields is removed, unless [`trusted`](Self::trusted).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// The name that `Via` gives to this hop, a token; `None` adds no `Via`.
    pub via: Option<Bytes>,
    /// Whether `X-Forwarded-For`, `-Proto` and `-Host` are sent.
    pub x_forwarded: bool,
    /// Whether `Forwarded` is sent.
    pub forwarded: bool,
    /// Whether the client is a proxy that is believed: then its own fields are kept and ours are appended.
    pub trusted: bool,
}

/// The options of a [`ProxyConn`](super::ProxyConn), shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct ConnConfig {
    /// Every bound.
    pub limits: Limits,
    /// How much a `Host` has to make sense. Default [`HostPolicy::Opaque`]: Docker clients send odd ones. Whoever
    /// routes by it takes [`HostPolicy::Strict`].
    pub hosts: HostPolicy,
    /// What is told about the client and the way. Default: nothing.
    pub forwarding: Forwarding,
    /// Whether CONNECT is sent on. Default: it is refused and the connection closed (RFC 9931).
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
            allow_connect: false,
            base: Bytes::new(),
        }
    }
}
