#![forbid(unsafe_code)]
//! The cases, by topic.

mod early;
mod half_close;
mod http;
mod refusals;
mod streams;
mod strict;
mod tunnels;

use std::time::Duration;

use super::trial::Trial;
use super::wire::{Head, Outcome, ensure};

/// One property of a proxy in front of a Docker daemon.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// What is tested.
    pub(super) title: &'static str,
    /// What users see if it fails.
    pub(super) breaks: &'static str,
    /// Whether the proxy must change or refuse something, so that there is nothing to test without
    /// one.
    pub(super) proxy_only: bool,
    pub(super) run: fn(&Trial<'_>) -> Outcome,
}

impl Case {
    const fn new(
        name: &'static str,
        title: &'static str,
        breaks: &'static str,
        run: fn(&Trial<'_>) -> Outcome,
    ) -> Self {
        Self { name, title, breaks, proxy_only: false, run }
    }

    const fn proxy_only(self) -> Self {
        Self { proxy_only: true, ..self }
    }
}

/// A topic with its cases, in the order in which they run.
pub(super) const TOPICS: &[(&str, &[Case])] = &[
    ("tunnels", tunnels::CASES),
    ("half-close and abrupt ends", half_close::CASES),
    ("early bytes", early::CASES),
    ("refused switches", refusals::CASES),
    ("streams", streams::CASES),
    ("plain HTTP", http::CASES),
    ("strictness", strict::CASES),
];

/// What dockerd responds to a client that requests an upgrade.
const SWITCH: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// What dockerd responds to a client that does not.
const BARE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";

/// Longer than a proxy on the same machine needs to forward bytes.
const WHILE: Duration = Duration::from_millis(400);

/// Returns an ordinary JSON response.
fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Fails unless this head has opened a tunnel with 101.
fn expect_switch(head: &Head) -> Outcome {
    head.expect_status(101)?;
    ensure(head.get("upgrade").is_some(), || "client: the 101 has lost its Upgrade field".into())?;
    expect_unframed(head)
}

/// Fails unless this head has opened a tunnel without an upgrade.
fn expect_bare(head: &Head) -> Outcome {
    head.expect_status(200)?;
    expect_unframed(head)
}

fn expect_unframed(head: &Head) -> Outcome {
    for name in ["transfer-encoding", "content-length"] {
        if let Some(value) = head.get(name) {
            return ensure(false, || {
                format!("client: expected a raw stream, but the proxy added {name}: {value}")
            });
        }
    }
    let media = head.get("content-type").unwrap_or_default();
    ensure(media.starts_with("application/vnd.docker."), || format!("client: Content-Type is now {media:?}"))
}
