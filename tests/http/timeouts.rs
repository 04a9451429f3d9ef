//! A connection whose peers fall silent ends, in whatever state: a deadline is set in every state
//! of the machine.
//!
//! Each script is played up to each of its bytes, with each side reading or not reading what is
//! sent to it. Then only time passes.
#![allow(clippy::disallowed_methods, reason = "an arbitrary start for the virtual clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::error::{Cause, Side, Timeout};
use dockline::proxy::conn::{Client, ConnEvent};
use dockline::proxy::{ConnConfig, ProxyConn, Reply};

/// A step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    Client(&'static str),
    Connected,
    Daemon(&'static str),
    /// Bytes of a body that are moved without showing them to the machine, and are not delivered
    /// yet.
    Offered(Side, u64),
    Passed(Side, u64),
    Ends(Side),
    Answered,
    Unreachable,
    Drain,
}

use Step::{Answered, Client as C, Connected, Daemon as D, Drain, Ends, Offered, Passed, Unreachable};

/// Name, whether the exchange at its end is one of Docker's streams, and steps.
const SCRIPTS: &[(&str, bool, &[Step])] = &[
    (
        "two requests",
        false,
        &[
            C("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
            Connected,
            D("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            C("GET /b HTTP/1.1\r\nHost: x\r\n\r\n"),
            Connected,
            D("HTTP/1.1 200 OK\r\n\r\nuntil the end"),
            Ends(Side::Upstream),
        ],
    ),
    (
        "pipelined, then half-closed",
        false,
        &[
            C("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"),
            Ends(Side::Downstream),
            Connected,
            D("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            Connected,
            D("HTTP/1.1 204 x\r\n\r\n"),
        ],
    ),
    (
        "upload",
        false,
        &[
            C("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsome"),
            Connected,
            C(" more"),
            D("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ],
    ),
    (
        "upload in chunks with an early response",
        false,
        &[
            C("PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"),
            Connected,
            D("HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nno"),
            C("2\r\nxx\r\n"),
        ],
    ),
    (
        "upload that waits for 100 Continue",
        false,
        &[
            C(
                "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
            ),
            Connected,
            D("HTTP/1.1 100 Continue\r\n\r\n"),
            C("{}"),
            D("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n"),
        ],
    ),
    (
        "upload that the machine does not see",
        false,
        &[
            C("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"),
            Connected,
            Offered(Side::Downstream, 70_000),
            Passed(Side::Downstream, 1),
            Passed(Side::Downstream, 69_999),
            Offered(Side::Downstream, 830_000),
            Passed(Side::Downstream, 830_000),
            D("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n"),
            Offered(Side::Upstream, 70_000),
            Passed(Side::Upstream, 9),
        ],
    ),
    (
        "attach that is refused",
        false,
        &[
            C(
                "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nearly",
            ),
            Connected,
            D("HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno"),
            C("late"),
        ],
    ),
    (
        "exec that becomes a tunnel",
        false,
        &[
            C(
                "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
            ),
            Connected,
            D("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"),
        ],
    ),
    (
        "replied to by the proxy",
        false,
        &[C("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"), Answered, C("GET /"), Drain],
    ),
    (
        "no daemon",
        false,
        &[C("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"), Unreachable, C("{")],
    ),
    ("a malformed head", false, &[C("GET /a HTTP/9.1\r\n")]),
    (
        "a response that is cut off",
        false,
        &[
            C("GET /a HTTP/1.0\r\n\r\n"),
            Connected,
            D("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"),
            Ends(Side::Upstream),
        ],
    ),
    (
        "logs",
        true,
        &[
            C("GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Connected,
            D("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
            Ends(Side::Downstream),
            D("0\r\n\r\n"),
        ],
    ),
    (
        "load",
        true,
        &[
            C(
                "POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            ),
            Connected,
            D("HTTP/1.1 100 Continue\r\n\r\n"),
            C("4\r\nsome\r\n"),
            D("HTTP/1.1 200 OK\r\n\r\n"),
            C("0\r\n\r\n"),
            D("{}"),
        ],
    ),
    (
        "request of wait",
        false,
        &[C("POST /containers/x/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"), Connected, C("{}")],
    ),
    (
        "build that the machine does not see",
        true,
        &[
            C("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"),
            Connected,
            Offered(Side::Downstream, 70_000),
            Passed(Side::Downstream, 9),
        ],
    ),
];

/// Which sides read what is sent to them.
#[derive(Clone, Copy, Debug)]
struct Takes {
    client: bool,
    daemon: bool,
}

struct Walk {
    conn: ProxyConn,
    now: Instant,
    takes: Takes,
    /// Closed, or a tunnel: the machine has nothing more to do.
    over: bool,
}

impl Walk {
    fn new(config: &Arc<ConnConfig>, takes: Takes) -> Self {
        let now = Instant::now();
        let conn = ProxyConn::new(Arc::clone(config), Client { address: None, tls: false }, now);
        Self { conn, now, takes, over: false }
    }

    fn step(&mut self, step: Step) {
        // A step that does not apply to the state is skipped.
        match step {
            _ if self.over => {}
            C(bytes) => self.feed(Side::Downstream, bytes),
            D(bytes) => self.feed(Side::Upstream, bytes),
            Connected => self.conn.upstream_ready(None, false, self.now),
            Offered(from, n) => self.conn.offered(from, n.min(self.conn.passthrough(from)), self.now),
            Passed(from, n) => self.conn.passed(from, n.min(self.conn.in_transit(from)), self.now),
            Ends(side) => self.conn.feed_eof(side, self.now),
            Answered => self.conn.reply(&Reply::error(403, "no"), self.now),
            Unreachable => self.conn.upstream_failed(Cause::ConnectFailed { errno: None }, self.now),
            Drain => self.conn.drain(self.now),
        }
        self.settle();
    }

    fn feed(&mut self, side: Side, bytes: &str) {
        if self.conn.wants(side).read {
            self.conn.feed(side, bytes.as_bytes(), self.now);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.conn.poll_event() {
                quiet = false;
                self.over |= matches!(event, ConnEvent::Closed { .. } | ConnEvent::Tunnel(_));
            }
            for (side, takes) in [(Side::Downstream, self.takes.client), (Side::Upstream, self.takes.daemon)]
            {
                let n = self.conn.output(side).len();
                if takes && n > 0 && !self.over {
                    self.conn.output_sent(side, n, self.now);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Returns whether only the upstream can continue, or the host that connects to it.
    fn is_the_upstreams_turn(&self) -> bool {
        let waits_for_daemon = self.conn.needs_upstream()
            || self.conn.wants(Side::Upstream).read
            || self.is_behind(Side::Upstream);
        waits_for_daemon && !self.is_behind(Side::Downstream)
    }

    fn is_behind(&self, side: Side) -> bool {
        !self.conn.output(side).is_empty() || self.conn.in_transit(side.other()) > 0
    }

    /// Lets time pass, and nothing else. Returns how long the connection lived, or `None` if it
    /// would live for ever.
    fn silence(&mut self) -> Option<Duration> {
        let began = self.now;
        // Each deadline leads to another state, and never back.
        for _ in 0..10 {
            if self.over {
                return Some(self.now.duration_since(began));
            }
            let Some(at) = self.conn.poll_timeout() else {
                if !self.conn.needs_upstream() {
                    return None;
                }
                // Connecting is limited by the host.
                self.conn.upstream_failed(Cause::Timeout(Timeout::Connect), self.now);
                self.settle();
                continue;
            };
            self.now = self.now.max(at);
            self.conn.handle_timeout(self.now);
            self.settle();
        }
        panic!("an endless sequence of deadlines");
    }
}

/// Plays every script up to every byte, for every combination of sides that read, and calls `check`
/// with the state.
fn walk(config: ConnConfig, check: impl Fn(Walk, bool, &str)) {
    let config = Arc::new(config);
    for (name, is_stream, script) in SCRIPTS {
        for (client, daemon) in [(true, true), (true, false), (false, true), (false, false)] {
            let takes = Takes { client, daemon };
            for (count, last) in script.iter().enumerate() {
                let bytes = match last {
                    C(bytes) | D(bytes) => bytes.len(),
                    _ => 1,
                };
                for end in 1..=bytes {
                    let mut walk = Walk::new(&config, takes);
                    script[..count].iter().for_each(|step| walk.step(*step));
                    walk.step(match *last {
                        C(bytes) => C(&bytes[..end]),
                        D(bytes) => D(&bytes[..end]),
                        other => other,
                    });
                    check(walk, *is_stream, &format!("{name}, step {count}, byte {end}, {takes:?}"));
                }
            }
        }
    }
}

#[test]
fn with_all_limits_a_silent_connection_ends_in_every_state() {
    let mut config = ConnConfig::default();
    config.limits.response_time = Some(Duration::from_secs(100));
    config.limits.stream_idle = Some(Duration::from_secs(200));
    // One for the body, one for the reply.
    let longest = config.limits.body_progress * 2 + Duration::from_secs(200) + config.limits.closing_time * 2;
    walk(config, |mut walk, _, at| {
        let lived = walk.silence();
        assert!(lived.is_some_and(|lived| lived <= longest), "{at}: {lived:?}");
    });
}

#[test]
fn by_default_only_the_daemon_and_streams_may_be_silent_for_ever() {
    walk(ConnConfig::default(), |mut walk, is_stream, at| {
        if walk.silence().is_none() {
            assert!(is_stream || walk.is_the_upstreams_turn(), "{at}");
        }
    });
}
