//! A [`ProxyConn`] and a `dockline_conn` with the same input have to behave alike.
//!
//! A script is bytes, so that both a fuzzer and proptest can write it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]
#![allow(unsafe_code, reason = "it calls the C ABI")]

use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::error::{Cause, Failure, Side, Timeout};
use dockline::ffi::*;
use dockline::proxy::conn::{Client, ConnEvent, ExchangeSummary, Reuse};
use dockline::proxy::{ConnConfig, ExchangeEnd, ProxyConn, Reply};

/// Calls a function of the C ABI.
macro_rules! call {
    ($function:ident, $($argument:expr),*) => {
        // SAFETY: everywhere below the handle is alive or NULL, lengths are those of slices,
        // results have places.
        unsafe { $function($($argument),*) }
    };
}

/// Borrows bytes of the library.
fn bytes<'a, T>(data: *const T, len: usize) -> &'a [u8] {
    // SAFETY: they are there, and nothing is called while the result is in use.
    unsafe { slice::from_raw_parts(data.cast(), len) }
}

/// Borrows text of the library.
fn text<'a>(text: dockline_str) -> &'a [u8] {
    bytes(text.data, text.len)
}

/// What clients send.
const REQUESTS: [&str; 8] = [
    "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}",
    "HEAD /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /events HTTP/1.0\r\n\r\n",
    "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "nonsense\r\n\r\n",
];

/// What daemons send.
const RESPONSES: [&str; 8] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n",
    "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly",
    "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nraw",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nto the end",
    "nonsense\r\n\r\n",
];

const SIDES: [(Side, i32); 2] =
    [(Side::Downstream, DOCKLINE_SIDE_DOWNSTREAM), (Side::Upstream, DOCKLINE_SIDE_UPSTREAM)];

/// Runs a script.
pub(crate) fn run(script: &[u8]) {
    let mut twins = Twins::new();
    let mut steps = script.chunks_exact(2);
    while let (true, Some(step)) = (!twins.is_over, steps.next()) {
        twins.step(step[0], usize::from(step[1]));
        twins.compare();
    }
}

fn compare_failure(c: &dockline_failure, rust: Option<Failure>) {
    let name = |name| {
        // SAFETY: a static string.
        unsafe { std::ffi::CStr::from_ptr(name) }.to_str().unwrap()
    };
    let Some(Failure { side, phase, cause }) = rust else {
        return assert_eq!((c.side, c.phase, c.cause), (0, 0, 0));
    };
    assert_eq!(c.side, i32::from(side.number()));
    assert_eq!(name(dockline_phase_name(c.phase)), phase.name());
    assert_eq!(name(dockline_cause_name(c.cause)), cause.name());
    assert_eq!(c.error_number, cause.errno().unwrap_or(0));
    assert_eq!(c.tls_alert, cause.alert().map_or(0, u32::from));
    assert_eq!(c.offset, cause.offset().unwrap_or(0));
}

struct Twins {
    rust: Option<ProxyConn>,
    c: *mut dockline_conn,
    origin: Instant,
    ms: u64,
    /// What is still to be sent, by side.
    to_send: [Vec<u8>; 2],
    is_over: bool,
}

impl Drop for Twins {
    fn drop(&mut self) {
        call!(dockline_conn_free, self.c);
    }
}

impl Twins {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        let origin = Instant::now();
        let client = Client { address: None, tls: false };
        let rust = Some(ProxyConn::new(Arc::new(ConnConfig::default()), client, origin));
        let mut c = ptr::null_mut();
        let status = call!(dockline_conn_new, ptr::null(), 0, ptr::null(), 0, 0, &raw mut c);
        assert_eq!(status, DOCKLINE_OK);
        Self { rust, c, origin, ms: 0, to_send: Default::default(), is_over: false }
    }

    fn step(&mut self, what: u8, n: usize) {
        let (c, ms) = (self.c, self.ms);
        let now = self.origin + Duration::from_millis(ms);
        let index = usize::from(what & 1);
        let (side, c_side) = SIDES[index];
        let rust = self.rust.as_mut().unwrap();
        match what >> 1 & 15 {
            0..=3 => {
                let texts = if side == Side::Downstream { REQUESTS } else { RESPONSES };
                let waiting = &mut self.to_send[index];
                if waiting.is_empty() {
                    waiting.extend_from_slice(texts[n & 7].as_bytes());
                }
                let bytes: Vec<u8> = waiting.drain(..waiting.len().min(1 + (n >> 3) * 4)).collect();
                let wanted = rust.wants(side).read;
                let status = call!(dockline_conn_feed, c, c_side, bytes.as_ptr().cast(), bytes.len(), ms);
                assert_eq!(status, if wanted { DOCKLINE_OK } else { DOCKLINE_E_STATE });
                if wanted {
                    rust.feed(side, &bytes, now);
                }
            }
            4..=6 => {
                let n = rust.output(side).len().min(n * 4);
                rust.output_sent(side, n, now);
                assert_eq!(call!(dockline_conn_output_sent, c, c_side, n, ms), DOCKLINE_OK);
            }
            7 => {
                let wanted = rust.needs_upstream();
                // Empty is not absent.
                let host = dockline_str { data: c"d".as_ptr(), len: n & 1 };
                let status = call!(dockline_conn_upstream_ready, c, host, i32::from(n & 2 != 0), ms);
                let host = if n & 1 == 1 { "d" } else { "" };
                assert_eq!(status, if wanted { DOCKLINE_OK } else { DOCKLINE_E_STATE });
                if wanted {
                    rust.upstream_ready(Some(host), n & 2 != 0, now);
                }
            }
            8 if n & 1 == 0 => {
                let wanted = rust.needs_upstream();
                let (number, failure) = [
                    (DOCKLINE_FAILED_UNREACHABLE, Cause::ConnectFailed { errno: Some(111) }),
                    (DOCKLINE_FAILED_TIMEOUT, Cause::Timeout(Timeout::Connect)),
                    (DOCKLINE_FAILED_OVERLOADED, Cause::OutOfResources { errno: None }),
                ][n % 3];
                let errno = failure.errno().unwrap_or(0);
                let status = call!(dockline_conn_upstream_failed, c, number, errno, ms);
                assert_eq!(status, if wanted { DOCKLINE_OK } else { DOCKLINE_E_STATE });
                if wanted {
                    rust.upstream_failed(failure, now);
                }
            }
            8 => {
                let wanted = rust.needs_upstream();
                let reply = dockline_reply {
                    status: 403,
                    reserved: 0,
                    content_type: dockline_str { data: ptr::null(), len: 0 },
                    body: b"no".as_ptr().cast(),
                    body_len: 2,
                    fields: ptr::null(),
                    field_count: 0,
                };
                let status = call!(dockline_conn_reply, c, &raw const reply, size_of_val(&reply), ms);
                assert_eq!(status, if wanted { DOCKLINE_OK } else { DOCKLINE_E_STATE });
                if wanted {
                    rust.reply(&Reply::error(403, "no"), now);
                }
            }
            9 => {
                self.ms += [1, 100, 3000, 16_000, 301_000][n % 5];
                let now = self.origin + Duration::from_millis(self.ms);
                rust.handle_timeout(now);
                assert_eq!(call!(dockline_conn_handle_timeout, c, self.ms), DOCKLINE_OK);
            }
            10 => {
                let most = rust.passthrough(side);
                // u64::MAX is a body that ends with its connection.
                if let Some(more) = most.checked_add(1) {
                    assert_eq!(call!(dockline_conn_offered, c, c_side, more, ms), DOCKLINE_E_VALUE);
                }
                let n = most.min(n as u64);
                if n > 0 && n.is_multiple_of(2) {
                    rust.offered(side, n, now);
                    assert_eq!(call!(dockline_conn_offered, c, c_side, n, ms), DOCKLINE_OK);
                }
                let most = rust.passthrough(side).saturating_add(rust.in_transit(side));
                if let Some(more) = most.checked_add(1) {
                    assert_eq!(call!(dockline_conn_passed, c, c_side, more, ms), DOCKLINE_E_VALUE);
                }
                if n > 0 {
                    rust.passed(side, n, now);
                }
                assert_eq!(call!(dockline_conn_passed, c, c_side, n, ms), DOCKLINE_OK);
            }
            11 => {
                rust.shut_done(side, now);
                assert_eq!(call!(dockline_conn_shut_done, c, c_side, ms), DOCKLINE_OK);
            }
            12 => {
                rust.feed_eof(side, now);
                assert_eq!(call!(dockline_conn_feed_eof, c, c_side, ms), DOCKLINE_OK);
            }
            13 => {
                let cause = [Cause::TlsTruncated, Cause::Lost { errno: Some(110) }][n & 1];
                let errno = cause.errno().unwrap_or(0);
                rust.feed_error(side, cause, now);
                assert_eq!(call!(dockline_conn_feed_error, c, c_side, errno, ms), DOCKLINE_OK);
            }
            14 => {
                let cause = [Cause::TlsStream { alert: None }, Cause::Reset { errno: Some(32) }][n & 1];
                let errno = cause.errno().unwrap_or(0);
                rust.output_refused(side, cause, now);
                assert_eq!(call!(dockline_conn_output_refused, c, c_side, errno, ms), DOCKLINE_OK);
            }
            _ if n & 7 == 0 => {
                rust.abandon(ExchangeEnd::Stopped, now);
                assert_eq!(call!(dockline_conn_kill, c, ms), DOCKLINE_OK);
            }
            _ => {
                rust.drain(now);
                assert_eq!(call!(dockline_conn_drain, c, ms), DOCKLINE_OK);
            }
        }
    }

    /// All that can be asked for.
    fn compare(&mut self) {
        while !self.is_over && self.compare_event() {}
        if self.is_over {
            return;
        }
        let rust = self.rust.as_ref().unwrap();
        let (mut interest, mut deadline) = (0, 0);
        let status = call!(dockline_conn_wants, self.c, &raw mut interest, &raw mut deadline);
        assert_eq!(status, DOCKLINE_OK);
        let at = rust.poll_timeout().map(|at| at.duration_since(self.origin).as_millis());
        assert_eq!(at, (deadline != DOCKLINE_NO_DEADLINE).then_some(deadline.into()));
        for (index, (side, c_side)) in SIDES.into_iter().enumerate() {
            let wants = rust.wants(side);
            let bits = interest >> (4 * index);
            assert_eq!(wants.read, bits & DOCKLINE_DOWNSTREAM_READ != 0);
            assert_eq!(wants.write, bits & DOCKLINE_DOWNSTREAM_WRITE != 0);
            assert_eq!(wants.shut_write, bits & DOCKLINE_DOWNSTREAM_SHUT != 0);
            let (mut data, mut len, mut past) = (ptr::null(), 0, 0);
            let status = call!(dockline_conn_output_view, self.c, c_side, &raw mut data, &raw mut len);
            assert_eq!(status, DOCKLINE_OK);
            assert_eq!(rust.output(side), bytes(data, len));
            assert_eq!(call!(dockline_conn_passthrough, self.c, c_side, &raw mut past), DOCKLINE_OK);
            assert_eq!(rust.passthrough(side), past);
        }
        self.compare_request();
    }

    fn compare_request(&self) {
        let mut out = std::mem::MaybeUninit::<dockline_request>::zeroed();
        let status =
            call!(dockline_conn_request_view, self.c, out.as_mut_ptr(), size_of::<dockline_request>());
        let Some(head) = self.rust.as_ref().unwrap().request() else {
            return assert_eq!(status, DOCKLINE_E_STATE);
        };
        assert_eq!(status, DOCKLINE_OK);
        // SAFETY: it has just been written.
        let view = unsafe { out.assume_init() };
        assert_eq!(head.method(), text(view.method));
        assert_eq!(head.target().as_bytes(), text(view.target));
        // SAFETY: the library returned them.
        let fields = unsafe { slice::from_raw_parts(view.fields, view.field_count) };
        assert_eq!(head.fields.len(), fields.len());
        for (line, field) in head.fields.iter().zip(fields) {
            assert_eq!(line.name(), text(field.name));
            assert_eq!(line.value(), text(field.value));
        }
    }

    /// Takes one event of both; returns whether there was one.
    fn compare_event(&mut self) -> bool {
        let mut out = dockline_conn_event { kind: -1, flags: 0, tunnel: 0, reserved: 0 };
        let status = call!(dockline_conn_next_event, self.c, &raw mut out, size_of_val(&out));
        assert_eq!(status, DOCKLINE_OK);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let Some(event) = self.rust.as_mut().unwrap().poll_event() else {
            assert_eq!(out.kind, DOCKLINE_EVENT_NONE);
            return false;
        };
        let (kind, flags) = match event {
            ConnEvent::NeedUpstream { may_reuse, again } => (
                DOCKLINE_EVENT_NEED_UPSTREAM,
                flag(may_reuse, DOCKLINE_EVENT_MAY_REUSE) | flag(again, DOCKLINE_EVENT_AGAIN),
            ),
            ConnEvent::ReleaseUpstream(reuse) => {
                (DOCKLINE_EVENT_RELEASE_UPSTREAM, flag(reuse == Reuse::Keep, DOCKLINE_EVENT_KEEP))
            }
            ConnEvent::ExchangeEnded(summary) => {
                self.compare_record(&summary);
                (DOCKLINE_EVENT_EXCHANGE_ENDED, 0)
            }
            ConnEvent::Tunnel(_) => {
                self.compare_tunnel();
                (DOCKLINE_EVENT_TUNNEL, 0)
            }
            ConnEvent::Closed { reset } => {
                self.is_over = true;
                (DOCKLINE_EVENT_CLOSED, flag(reset, DOCKLINE_EVENT_RESET))
            }
        };
        assert_eq!((out.kind, out.flags), (kind, flags));
        assert_eq!(out.tunnel != 0, kind == DOCKLINE_EVENT_TUNNEL);
        true
    }

    fn compare_record(&self, summary: &ExchangeSummary) {
        let mut out = std::mem::MaybeUninit::<dockline_exchange_record>::zeroed();
        let size = size_of::<dockline_exchange_record>();
        assert_eq!(call!(dockline_conn_record_get, self.c, out.as_mut_ptr(), size), DOCKLINE_OK);
        // SAFETY: it has just been written.
        let record = unsafe { out.assume_init() };
        // SAFETY: a static string.
        let end = unsafe { std::ffi::CStr::from_ptr(dockline_exchange_end_name(record.end)) };
        assert_eq!(end.to_str(), Ok(summary.end.name()));
        compare_failure(&record.failure, summary.end.failure());
        assert_eq!(record.status, summary.status.map_or(0, u32::from));
        assert_eq!((record.bytes_up, record.bytes_down), (summary.bytes_up, summary.bytes_down));
        assert_eq!(u128::from(record.duration_us), summary.duration.as_micros());
        assert_eq!(u128::from(record.head_us), summary.time_to_head.unwrap_or_default().as_micros());
        assert_eq!(record.tunnel != 0, summary.tunnel.is_some());
        let method = text(record.method);
        assert_eq!(method, summary.request.as_ref().map_or(&b""[..], |head| head.method()));
    }

    fn compare_tunnel(&mut self) {
        self.is_over = true;
        let parts = self.rust.take().unwrap().into_tunnel();
        let mut out = std::mem::MaybeUninit::<dockline_conn_tunnel>::zeroed();
        let size = size_of::<dockline_conn_tunnel>();
        assert_eq!(call!(dockline_conn_tunnel_take, self.c, out.as_mut_ptr(), size), DOCKLINE_OK);
        // SAFETY: it has just been written.
        let tunnel = unsafe { out.assume_init() };
        let up = bytes(tunnel.from_downstream, tunnel.from_downstream_len);
        let down = bytes(tunnel.from_upstream, tunnel.from_upstream_len);
        assert_eq!((&parts.to_upstream[..], &parts.to_downstream[..]), (up, down));
    }
}
