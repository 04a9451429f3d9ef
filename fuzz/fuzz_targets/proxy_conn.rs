//! A client, an origin and a host that call a `ProxyConn` in any order, also where nothing was
//! asked for: no panic, no endless loop, every connection given back once, one end, and bounded
//! queues for an owner that obeys.
//!
//! The input is a byte of options, then records that end in 0x1e: a letter for the call, then its
//! bytes.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::error::Side::{self, Downstream, Upstream};
use dockline::error::{Cause, Timeout};
use dockline::proxy::conn::{Client, ConnEvent, ExchangeEnd, OUTPUT_BOUND};
use dockline::proxy::{ConnConfig, ProxyConn, Reply, TrustedPeers};
use libfuzzer_sys::fuzz_target;

const OBEYS: u8 = 1;
const CONNECT: u8 = 2;
const CLAIMS: u8 = 4;
const TRUSTED: u8 = 8;
const HURRIES: u8 = 16;

/// How a connection fails here.
const RESET: Cause = Cause::Reset { errno: Some(104) };

/// Longest record that is fed.
const MOST: usize = 4096;

struct Owner {
    conn: ProxyConn,
    now: Instant,
    obeys: bool,
    /// An upstream was asked for, and one is in use.
    wanted: bool,
    connected: bool,
    closed: bool,
    tunnel: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some((&options, records)) = data.split_first() else { return };
    let mut config = ConnConfig { allow_connect: options & CONNECT != 0, ..ConnConfig::default() };
    config.forwarding.x_forwarded = options & CLAIMS != 0;
    config.forwarding.forwarded = options & CLAIMS != 0;
    if options & TRUSTED != 0 {
        config.forwarding.trusted = TrustedPeers::All;
    }
    config.limits.response_time = (options & HURRIES != 0).then_some(Duration::from_secs(30));
    config.limits.held = 512;
    let now = Instant::now();
    let mut owner = Owner {
        conn: ProxyConn::new(Arc::new(config), Client { address: None, tls: false }, now),
        now,
        obeys: options & OBEYS != 0,
        wanted: false,
        connected: false,
        closed: false,
        tunnel: false,
    };
    for record in records.split(|&byte| byte == 0x1e) {
        let Some((&call, bytes)) = record.split_first() else { continue };
        owner.call(call, &bytes[..bytes.len().min(MOST)]);
        owner.take_events();
        if owner.tunnel {
            let _ = owner.conn.into_tunnel();
            return;
        }
        owner.check();
    }
});

impl Owner {
    fn call(&mut self, call: u8, bytes: &[u8]) {
        let now = self.now;
        let count =
            bytes.iter().fold(0_usize, |count, &byte| count.wrapping_mul(256).wrapping_add(byte.into()));
        let may = |owner: &Self, side| !owner.obeys || owner.conn.wants(side).read;
        match call {
            b'C' if may(self, Downstream) => self.conn.feed(Downstream, bytes, now),
            b'O' if may(self, Upstream) => self.conn.feed(Upstream, bytes, now),
            b'c' if may(self, Downstream) => self.conn.feed_eof(Downstream, now),
            b'o' if may(self, Upstream) => self.conn.feed_eof(Upstream, now),
            b'R' => self.conn.feed_error(Downstream, RESET, now),
            b'r' if !self.obeys || self.connected => self.conn.feed_error(Upstream, RESET, now),
            b'W' => self.conn.output_refused(Downstream, RESET, now),
            b'w' if !self.obeys || self.connected => self.conn.output_refused(Upstream, RESET, now),
            b'U' | b'K' => {
                self.connected |= std::mem::take(&mut self.wanted);
                self.conn.upstream_ready(Some("docker"), call == b'K', now);
            }
            b'F' => {
                self.wanted = false;
                let failures = [
                    Cause::ConnectFailed { errno: None },
                    Cause::Timeout(Timeout::Connect),
                    Cause::OutOfResources { errno: None },
                ];
                self.conn.upstream_failed(failures[count % 3], now);
            }
            b'A' => {
                self.wanted = false;
                self.conn.reply(&Reply::new(200 + (count % 400) as u16, "text/plain", bytes.to_vec()), now)
            }
            b'S' => self.sent(Downstream, count),
            b's' => self.sent(Upstream, count),
            b'h' => self.conn.shut_done(Downstream, now),
            b'H' if !self.obeys || self.conn.wants(Upstream).shut_write => self.conn.shut_done(Upstream, now),
            b'P' => self.pass(Downstream, count),
            b'p' => self.pass(Upstream, count),
            b'T' => {
                self.now += Duration::from_millis((count % (1 << 20)) as u64);
                for _ in 0..4 {
                    self.conn.handle_timeout(self.now);
                }
                assert!(self.conn.poll_timeout().is_none_or(|at| at > self.now), "a deadline that stays");
            }
            b'D' => self.conn.drain(now),
            b'X' => self.conn.abandon(ExchangeEnd::Stopped, now),
            _ => {}
        }
    }

    fn sent(&mut self, side: Side, count: usize) {
        let len = self.conn.output(side).len();
        let n = if self.obeys { len.min(count.max(1)) } else { count };
        self.conn.output_sent(side, n, self.now);
    }

    fn pass(&mut self, from: Side, count: usize) {
        let count = count as u64;
        let n = if self.obeys { self.conn.passthrough(from).min(count) } else { count };
        if n % 2 == 0 {
            self.conn.offered(from, n, self.now);
        }
        self.conn.passed(from, n, self.now);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.conn.poll_event() {
            assert!(!self.closed && !self.tunnel, "{event:?} behind the end");
            match event {
                ConnEvent::NeedUpstream { .. } => {
                    assert!(!self.wanted && !self.connected);
                    assert!(self.conn.request().is_some());
                    self.wanted = true;
                }
                ConnEvent::ReleaseUpstream(_) => {
                    assert!(self.connected, "given back twice");
                    self.connected = false;
                }
                ConnEvent::ExchangeEnded(summary) => {
                    assert!(!self.connected || summary.tunnel.is_some());
                    self.wanted = false;
                }
                ConnEvent::Tunnel(_) => {
                    assert!(self.connected);
                    self.tunnel = true;
                }
                ConnEvent::Closed { .. } => {
                    assert!(!self.connected && !self.wanted);
                    self.closed = true;
                }
            }
        }
    }

    fn check(&self) {
        let [down, up] = [Downstream, Upstream].map(|side| self.conn.wants(side));
        let idle = |wants: dockline::proxy::conn::ConnWants| !wants.read && !wants.write && !wants.shut_write;
        if self.closed {
            assert!(idle(down) && idle(up) && self.conn.poll_timeout().is_none());
        } else {
            assert!(!idle(down) || !idle(up) || self.wanted || self.conn.poll_timeout().is_some());
        }
        if self.obeys {
            // A head, or the body of a response of the proxy's own, may come on top.
            for side in [Downstream, Upstream] {
                assert!(self.conn.output(side).len() <= 2 * OUTPUT_BOUND + 4 * MOST);
            }
        }
    }
}
