//! All limits in one place, each default with its reason.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Longest accepted method. The longest registered one, `UPDATEREDIRECTREF`, has 17 bytes.
pub const METHOD_BYTES: usize = 32;

/// Most digits in a chunk size: what 64 bits need. Leading zeros count, so that they have an end.
pub const CHUNK_SIZE_DIGITS: u8 = 16;

/// Longest body or chunk that can be announced: 2^63 - 1, the most that a signed reader
/// understands.
pub const BODY_LENGTH_MAX: u64 = u64::MAX >> 1;

/// The limits on what a peer may send, and on how long it may take.
///
/// The readers of [`h1`](crate::h1) use only the sizes; times and counts are for
/// [`ProxyConn`](crate::proxy::ProxyConn) and the engine. All times are totals on a monotonic
/// clock: a byte now and then does not prolong them, except where stated.
///
/// ```
/// let mut limits = dockline::limits::Limits::default();
/// limits.request_line = 192 * 1024;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request head, from the first byte (an empty line before it included) to the end
    /// of the empty line after the fields. Default 64 KiB: twice nginx's four buffers of 8 KiB; a
    /// Docker `/build` needs more.
    pub request_head: usize,
    /// Bytes of a request line without its CR LF. Default 16 KiB: twice the 8000 that RFC 9112,
    /// section 3 recommends to support.
    pub request_line: usize,
    /// Bytes of a response head. Default 64 KiB, as for requests.
    pub response_head: usize,
    /// Field lines in one head. Default 128: ordinary heads have fewer than 40; Apache and hyper
    /// stop at 100.
    pub fields: usize,
    /// Bytes of extensions on one chunk. Default 256: no program is known to use them.
    pub chunk_extension: usize,
    /// Bytes of extensions in one message. Default 8 KiB: 32 chunks at the bound of one.
    pub chunk_extensions: usize,
    /// Bytes of chunk headers in one message before `chunk_overhead_ratio` counts. Default 64 KiB:
    /// a stream of short lines is legitimate, and its beginning proves nothing yet.
    pub chunk_overhead_free: u64,
    /// Bytes of chunk headers per byte of data. Default 16: one-byte chunks cost 3, padded ones 18.
    pub chunk_overhead_ratio: u64,
    /// Bytes of a trailer section, the empty line at its end included. Default 8 KiB.
    pub trailer: usize,
    /// Field lines in a trailer section. Default 32.
    pub trailer_fields: usize,
    /// Interim responses (1xx) to one request. Default 8: a 100 and a few 103 are legitimate.
    pub interim_responses: u32,
    /// Bytes that a client may send behind a request that may become a tunnel, before the response;
    /// also the longest body that is read whole before such a request is sent. Default 64 KiB. At
    /// the limit reading stops; a longer body is rejected with 413.
    pub held: usize,
    /// Requests on one client connection; the response to the last one has `Connection: close`.
    /// Default 100 000: so that no connection outlives every change of configuration.
    pub requests: u32,
    /// From the first byte of a request head to its end. Default 15 s.
    pub head_time: Duration,
    /// Without a byte of a request body from the client, or a byte of a response accepted by it.
    /// Default 300 s. It does not count while the daemon has the turn, nor for the responses of
    /// Docker's streams ([`RequestKind::Stream`](crate::proxy::hijack::RequestKind::Stream)), nor
    /// for their requests where
    /// [`RequestPlan::body_may_pause`](crate::proxy::hijack::RequestPlan::body_may_pause) is set;
    /// but a client that waits for permission to send its body (`Expect: 100-continue`), and does
    /// not get it, has this long to send the first byte.
    pub body_progress: Duration,
    /// From the end of the request to the response head, before that without a byte of the request
    /// accepted by the upstream, and after it without a byte of the response. `None`, the default,
    /// waits indefinitely: on a busy machine any operation of Docker's takes minutes. Docker's
    /// streams never have this limit.
    pub response_time: Option<Duration>,
    /// Ends one of Docker's streams (`logs`, `events`, `wait`, `build`, `load`, `save` and the
    /// like) that moved nothing in either direction for so long. `None`, the default: a pager
    /// behind `docker logs` pauses for as long as its reader does, and `wait` is silent for days.
    /// | less` pauses for as long as its reader does, and `wait` is silent for days.
    pub stream_idle: Option<Duration>,
    /// How long a client connection may be idle between requests. Default 300 s: docker clients
    /// keep theirs.
    pub keep_alive: Duration,
    /// How long a closing connection may still send, so that the last response is not lost to a
    /// reset. Default 2 s.
    pub closing_time: Duration,
    /// One attempt to connect to one address of an upstream. Default 5 s.
    pub connect_time: Duration,
    /// A TLS handshake, on either side. Default 10 s.
    pub handshake_time: Duration,
    /// How long an idle upstream connection is kept. Default 60 s: less than most servers keep
    /// theirs.
    pub pool_time: Duration,
    /// Idle connections kept per upstream and worker. Default 128: as many as a busy worker has
    /// requests at a time.
    pub pool_size: usize,
    /// Ends a tunnel that carried nothing for so long. `None`, the default: an attached container
    /// may be silent for days.
    pub tunnel_idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head: 64 * 1024,
            request_line: 16 * 1024,
            response_head: 64 * 1024,
            fields: 128,
            chunk_extension: 256,
            chunk_extensions: 8 * 1024,
            chunk_overhead_free: 64 * 1024,
            chunk_overhead_ratio: 16,
            trailer: 8 * 1024,
            trailer_fields: 32,
            interim_responses: 8,
            held: 64 * 1024,
            requests: 100_000,
            head_time: Duration::from_secs(15),
            body_progress: Duration::from_secs(300),
            response_time: None,
            stream_idle: None,
            keep_alive: Duration::from_secs(300),
            closing_time: Duration::from_secs(2),
            connect_time: Duration::from_secs(5),
            handshake_time: Duration::from_secs(10),
            pool_time: Duration::from_secs(60),
            pool_size: 128,
            tunnel_idle: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are a promise: changing one changes the behaviour for every user.
    #[test]
    fn defaults_are_the_promised_ones() {
        let promised = Limits {
            request_head: 65_536,
            request_line: 16_384,
            response_head: 65_536,
            fields: 128,
            chunk_extension: 256,
            chunk_extensions: 8_192,
            chunk_overhead_free: 65_536,
            chunk_overhead_ratio: 16,
            trailer: 8_192,
            trailer_fields: 32,
            interim_responses: 8,
            held: 65_536,
            requests: 100_000,
            head_time: Duration::from_secs(15),
            body_progress: Duration::from_secs(300),
            response_time: None,
            stream_idle: None,
            keep_alive: Duration::from_secs(300),
            closing_time: Duration::from_secs(2),
            connect_time: Duration::from_secs(5),
            handshake_time: Duration::from_secs(10),
            pool_time: Duration::from_secs(60),
            pool_size: 128,
            tunnel_idle: None,
        };
        assert_eq!(Limits::default(), promised);
    }
}
