//! The ordinary ways through a [`ProxyConn`], and every way out. The seeded simulation is in
//! `tests/`.

mod reasons;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Client, ConnEvent, ExchangeEnd, NoReuse, ProxyConn, Reuse};
use crate::error::{Cause, Failure, Side, Timeout};
use crate::h1::FieldLine;
use crate::proxy::hijack::HijackKind;
use crate::proxy::{ConnConfig, Reply};

/// How a connection fails here.
const RESET: Cause = Cause::Reset { errno: Some(104) };

/// A connection with a clock, and a record of what it did.
struct Bench {
    conn: ProxyConn,
    now: Instant,
    events: Vec<String>,
    /// Why the last exchange failed.
    failure: Option<Failure>,
    sent: [Vec<u8>; 2],
}

impl Bench {
    fn new() -> Self {
        Self::with(ConnConfig::default())
    }

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn with(config: ConnConfig) -> Self {
        let now = Instant::now();
        let client = Client { address: Some("192.0.2.1".parse().unwrap()), tls: false };
        Self {
            conn: ProxyConn::new(Arc::new(config), client, now),
            now,
            events: Vec::new(),
            failure: None,
            sent: Default::default(),
        }
    }

    fn client(&mut self, bytes: &str) -> &mut Self {
        self.conn.feed(Side::Downstream, bytes.as_bytes(), self.now);
        self.turn()
    }

    fn daemon(&mut self, bytes: &str) -> &mut Self {
        self.conn.feed(Side::Upstream, bytes.as_bytes(), self.now);
        self.turn()
    }

    fn eof(&mut self, side: Side) -> &mut Self {
        self.conn.feed_eof(side, self.now);
        self.turn()
    }

    /// Connects wherever that is wanted and sends what there is to send.
    fn turn(&mut self) -> &mut Self {
        loop {
            let mut quiet = true;
            while let Some(event) = self.conn.poll_event() {
                quiet = false;
                match event {
                    ConnEvent::NeedUpstream { may_reuse, .. } => {
                        self.events.push(format!("connect reuse={may_reuse}"));
                        self.conn.upstream_ready(Some("docker"), may_reuse, self.now);
                    }
                    ConnEvent::ReleaseUpstream(Reuse::Keep) => self.events.push("keep".into()),
                    ConnEvent::ReleaseUpstream(Reuse::Close(why)) => {
                        self.events.push(format!("drop {why:?}"))
                    }
                    ConnEvent::ExchangeEnded(summary) => {
                        self.events.push(format!("end {} {:?}", summary.end.name(), summary.status));
                        self.failure = summary.end.failure();
                    }
                    ConnEvent::Tunnel(kind) => self.events.push(format!("tunnel {kind:?}")),
                    ConnEvent::Closed { reset } => self.events.push(format!("closed reset={reset}")),
                }
            }
            for (index, side) in [Side::Downstream, Side::Upstream].into_iter().enumerate() {
                let n = self.conn.output(side).len();
                if n > 0 {
                    quiet = false;
                    self.sent[index].extend_from_slice(self.conn.output(side));
                    self.conn.output_sent(side, n, self.now);
                }
                if self.conn.wants(side).shut_write {
                    quiet = false;
                    self.events.push(format!("shut {side:?}"));
                    self.conn.shut_done(side, self.now);
                }
            }
            if quiet {
                return self;
            }
        }
    }

    fn sleep(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.conn.handle_timeout(self.now);
        self.turn()
    }

    fn client_got(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent[0])).unwrap()
    }

    fn daemon_got(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent[1])).unwrap()
    }

    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }
}

const GET: &str = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

#[test]
fn one_request_after_the_other_on_kept_connections() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.client(GET);
        assert_eq!(bench.daemon_got(), "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n");
        bench.daemon(OK);
        assert_eq!(bench.client_got(), OK);
        assert_eq!(bench.events(), ["connect reuse=true", "keep", "end complete Some(200)"]);
    }
    assert_eq!(bench.eof(Side::Downstream).events(), ["closed reset=false"]);
}

#[test]
fn pipelined_requests_are_served_in_order_one_at_a_time() {
    let mut bench = Bench::new();
    bench.client(&GET.repeat(2));
    assert_eq!(bench.daemon_got().matches("GET").count(), 1);
    bench.daemon(OK);
    assert_eq!(bench.daemon_got().matches("GET").count(), 1);
    bench.eof(Side::Downstream).daemon(OK);
    assert_eq!(bench.client_got(), OK.repeat(2));
    assert_eq!(bench.events().last().unwrap(), "closed reset=false");
}

#[test]
fn bodies_are_framed_anew() {
    let mut bench = Bench::new();
    bench.client(
        "POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n",
    );
    bench.client("02\r\nde\r\n0\r\nX-T: 1\r\nHost: no\r\n\r\n");
    let sent = bench.daemon_got();
    assert!(
        sent.ends_with("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"),
        "{sent}"
    );
    bench.daemon("HTTP/1.1 200 OK\r\n\r\nuntil the end").eof(Side::Upstream);
    let got = bench.client_got();
    assert!(got.ends_with("Transfer-Encoding: chunked\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n"), "{got}");
    assert_eq!(bench.events(), ["connect reuse=false", "drop CloseDelimited", "end complete Some(200)"]);
}

#[test]
fn a_tunnel_takes_held_bytes_along() {
    let mut bench = Bench::new();
    bench.client("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{");
    assert_eq!(bench.events(), [""; 0]);
    bench.client("}stdin");
    assert!(
        bench.daemon_got().ends_with("Content-Length: 2\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{}")
    );
    bench.daemon("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nstdout");
    assert_eq!(bench.client_got(), "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    assert_eq!(bench.events(), ["connect reuse=false", "end complete Some(101)", "tunnel Upgrade"]);
    let parts = bench.conn.into_tunnel();
    assert_eq!(
        (parts.to_upstream.as_slice(), parts.to_downstream.as_slice()),
        (&b"stdin"[..], &b"stdout"[..])
    );
}

#[test]
fn docker_s_bare_200_is_a_tunnel() {
    let mut bench = Bench::new();
    bench.client("POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.daemon("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    assert_eq!(bench.events().last().unwrap(), &format!("tunnel {:?}", HijackKind::RawStream));
}

#[test]
fn held_bytes_never_become_a_request() {
    let mut bench = Bench::new();
    bench.client("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    bench.client(GET);
    bench.daemon("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(bench.client_got().contains("Connection: close"));
    assert_eq!(bench.daemon_got().matches("GET").count(), 0);
    assert_eq!(
        bench.events(),
        ["connect reuse=false", "drop SwitchProposed", "shut Downstream", "end complete Some(404)"]
    );
    assert_eq!(bench.client(GET).sleep(Duration::from_secs(2)).events(), ["closed reset=false"]);
}

#[test]
fn a_dead_kept_connection_is_replaced_once_and_only_for_what_may_be_repeated() {
    let mut bench = Bench::new();
    bench.client(GET).eof(Side::Upstream);
    assert_eq!(bench.events(), ["connect reuse=true", "drop Abandoned", "connect reuse=false"]);
    bench.eof(Side::Upstream);
    assert!(bench.client_got().starts_with("HTTP/1.1 502 "));

    let mut bench = Bench::new();
    bench.client("POST /x HTTP/1.1\r\nHost: x\r\n\r\n").eof(Side::Upstream);
    assert!(bench.client_got().starts_with("HTTP/1.1 502 "));
    assert_eq!(
        bench.events(),
        ["connect reuse=false", &format!("drop {:?}", NoReuse::Abandoned), "end bad-response Some(502)"]
    );
}

/// Its body cannot come any more: the owner is not asked to connect for it.
#[test]
fn a_pipelined_request_that_breaks_off_needs_no_upstream() {
    let mut bench = Bench::new();
    let half = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    bench.client(&format!("{GET}{half}")).eof(Side::Downstream);
    bench.daemon(OK);
    assert_eq!(
        bench.events(),
        [
            "connect reuse=true",
            "keep",
            "end complete Some(200)",
            "end client-aborted None",
            "closed reset=false"
        ]
    );
}

#[test]
fn an_early_response_ends_both_connections() {
    let mut bench = Bench::new();
    bench.client("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    bench.daemon("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        bench.events(),
        ["connect reuse=false", "drop EarlyResponse", "shut Downstream", "end complete Some(400)"]
    );
    bench.client("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").eof(Side::Downstream);
    assert_eq!(bench.events(), ["closed reset=false"]);
    assert!(!bench.daemon_got().contains("smuggled"));
}

#[test]
fn a_cut_response_does_not_look_whole() {
    for (version, head, reset) in [
        ("1.1", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false),
        ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
        ("1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", true),
    ] {
        let mut bench = Bench::new();
        bench.client(&format!("GET / HTTP/{version}\r\nHost: x\r\n\r\n")).daemon(head).eof(Side::Upstream);
        let got = bench.client_got();
        assert!(!got.contains("\r\n0\r\n") && got.contains("half"), "{got}");
        assert_eq!(
            bench.events().split_off(2),
            ["end truncated Some(200)", &format!("closed reset={reset}")]
        );
    }
}

#[test]
fn a_client_s_half_close_is_passed_on_where_a_daemon_follows() {
    for (request, reuse) in
        [("GET /events", true), ("POST /containers/x/stop", false), ("POST /build", false)]
    {
        let mut bench = Bench::new();
        bench.client(&format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).eof(Side::Downstream);
        assert_eq!(bench.events(), [&format!("connect reuse={reuse}"), "shut Upstream"], "{request}");
    }
    let mut bench = Bench::new();
    bench.client(GET).eof(Side::Downstream).daemon(OK);
    assert_eq!(bench.client_got(), OK);
    assert_eq!(
        bench.events(),
        ["connect reuse=true", "keep", "end complete Some(200)", "closed reset=false"]
    );
}

#[test]
fn every_deadline() {
    let limits = ConnConfig::default().limits;
    let mut bench = Bench::new();
    assert_eq!(bench.sleep(limits.keep_alive).events(), ["closed reset=false"]);

    let mut bench = Bench::new();
    bench.client("GET / HT").sleep(limits.head_time / 2).client("TP/1.1\r\n").sleep(limits.head_time / 2);
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));

    let mut bench = Bench::new();
    bench.client("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n").sleep(limits.body_progress);
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));

    let mut config = ConnConfig::default();
    config.limits.response_time = Some(Duration::from_secs(7));
    let mut bench = Bench::with(config.clone());
    bench.client(GET).sleep(Duration::from_secs(7));
    assert!(bench.client_got().starts_with("HTTP/1.1 504 "));
    let mut bench = Bench::with(config);
    bench.client("POST /containers/x/wait HTTP/1.1\r\nHost: x\r\n\r\n").sleep(Duration::from_secs(70_000));
    assert_eq!(bench.client_got(), "");
}

/// Returns an upload of 1,000,000 bytes whose daemon has been found.
fn upload(target: &str, fields: &str) -> Bench {
    let mut bench = Bench::new();
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n{fields}\r\n");
    bench.client(&head).daemon_got();
    bench
}

#[test]
fn what_is_offered_to_the_daemon_is_the_daemon_s_turn() {
    let limits = ConnConfig::default().limits;
    let mut bench = upload("/upload", "");
    bench.conn.offered(Side::Downstream, 60_000, bench.now);
    assert_eq!((bench.conn.passthrough(Side::Downstream), bench.conn.poll_timeout()), (940_000, None));
    bench.now += limits.body_progress * 3;
    bench.conn.passed(Side::Downstream, 59_999, bench.now);
    assert_eq!((bench.conn.in_transit(Side::Downstream), bench.conn.poll_timeout()), (1, None));
    bench.conn.passed(Side::Downstream, 1, bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress));
    bench.sleep(limits.body_progress);
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));
    assert_eq!(bench.conn.in_transit(Side::Downstream), 0);
}

/// A body that ends with its connection has no length limit.
#[test]
fn counts_of_bytes_stay_at_their_largest() {
    let mut bench = Bench::new();
    bench.client("GET / HTTP/1.0\r\n\r\n").daemon("HTTP/1.1 200 OK\r\n\r\n");
    bench.conn.passed(Side::Upstream, u64::MAX, bench.now);
    bench.daemon("more").eof(Side::Upstream);
    assert!(bench.client_got().ends_with("more"));
}

#[test]
fn what_is_offered_to_the_client_is_the_client_s_turn() {
    let limits = ConnConfig::default().limits;
    let mut bench = Bench::new();
    bench.client(GET);
    bench.daemon("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(bench.conn.poll_timeout(), None);
    bench.conn.offered(Side::Upstream, 60_000, bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress));
    bench.now += limits.body_progress / 2;
    bench.conn.passed(Side::Upstream, 1, bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress));
    bench.conn.passed(Side::Upstream, 59_999, bench.now);
    assert_eq!(bench.conn.poll_timeout(), None);
    bench.conn.offered(Side::Upstream, 1, bench.now);
    bench.sleep(limits.body_progress);
    assert_eq!(bench.events().last().unwrap(), "closed reset=false");
}

/// RFC 9110, section 10.1.1: a client need not wait for the 100, and a daemon need not send it.
#[test]
fn a_client_that_waits_to_be_told_to_go_on_has_its_time_all_the_same() {
    let limits = ConnConfig::default().limits;
    for target in ["/upload", "/containers/create", "/images/load"] {
        let mut bench = upload(target, "Expect: 100-continue\r\n");
        assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress), "{target}");
        bench.sleep(limits.body_progress - Duration::from_millis(1));
        assert_eq!(bench.client_got(), "");
        bench.sleep(Duration::from_millis(1));
        assert!(bench.client_got().starts_with("HTTP/1.1 408 "), "{target}");
    }
    // Another interim response does not ask for it.
    let mut bench = upload("/images/load", "Expect: 100-continue\r\n");
    bench.daemon("HTTP/1.1 103 Early Hints\r\n\r\n").client_got();
    bench.sleep(limits.body_progress);
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));
    // The daemon would not learn of this one.
    let mut bench = Bench::new();
    bench.client("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: Expect\r\n\r\n");
    assert!(bench.client_got().starts_with("HTTP/1.1 400 "));
}

#[test]
fn either_side_of_a_stream_may_pause() {
    let long = Duration::from_secs(70_000);
    // A slow producer, with and without a 100; then a daemon that accepts nothing for a while.
    for fields in ["", "Expect: 100-continue\r\n"] {
        let mut bench = upload("/images/load", fields);
        if !fields.is_empty() {
            bench.daemon("HTTP/1.1 100 Continue\r\n\r\n").client_got();
        }
        bench.sleep(long).client("some").sleep(long);
        assert_eq!(bench.conn.poll_timeout(), None);
        bench.conn.feed(Side::Downstream, &[b'x'; super::OUTPUT_BOUND], bench.now);
        bench.sleep(long);
        assert_eq!(bench.client_got(), "");
        assert!(bench.daemon_got().ends_with("xx"));
    }
    // Only a body that is worth the wait may pause.
    for target in ["/images/prune", "/containers/x/wait", "/containers/x/stop", "/images/x/push"] {
        let mut bench = upload(target, "");
        bench.sleep(ConnConfig::default().limits.body_progress);
        assert!(bench.client_got().starts_with("HTTP/1.1 408 "), "{target}");
    }
    // A client at a pager, and a silent daemon.
    let mut bench = Bench::new();
    bench.client("GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n").sleep(long);
    bench.conn.feed(Side::Upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nline", bench.now);
    bench.now += long;
    bench.conn.handle_timeout(bench.now);
    assert!(bench.turn().client_got().ends_with("line"));
    assert_eq!(bench.sleep(long).daemon("s\nend").client_got(), "s\nend");
}

/// The response is not the stream that was asked for.
#[test]
fn a_client_accepts_an_own_reply_in_time() {
    let limits = ConnConfig::default().limits;
    let mut bench = Bench::new();
    bench.conn.feed(Side::Downstream, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n", bench.now);
    bench.conn.upstream_failed(Cause::ConnectFailed { errno: None }, bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress));
}

#[test]
fn an_operator_may_limit_the_silence_of_streams() {
    let minute = Duration::from_secs(60);
    let mut config = ConnConfig::default();
    config.limits.stream_idle = Some(minute);
    const LOGS: &str = "GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
    // No response: 504. A client that sends no more: 408. Silence within a response cuts it.
    let mut bench = Bench::with(config.clone());
    bench.client(LOGS).sleep(minute - Duration::from_millis(1));
    assert_eq!(bench.client_got(), "");
    bench.sleep(Duration::from_millis(1));
    assert!(bench.client_got().starts_with("HTTP/1.1 504 "));
    let mut bench = Bench::with(config.clone());
    bench
        .client("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        .sleep(minute / 2)
        .client("a");
    assert_eq!(bench.sleep(minute / 2).client_got(), "");
    bench.sleep(minute / 2);
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));
    let mut bench = Bench::with(config);
    bench.client(LOGS).daemon("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nline").sleep(minute / 2);
    bench.daemon("2").sleep(minute / 2);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + minute / 2));
    assert_eq!(bench.sleep(minute / 2).events().last().unwrap(), "closed reset=false");
    // Connecting is limited by the owner: silence begins with the connection.
    let mut config = ConnConfig::default();
    config.limits.stream_idle = Some(minute);
    let mut bench = Bench::with(config);
    bench.conn.feed(Side::Downstream, LOGS.as_bytes(), bench.now);
    assert_eq!(bench.conn.poll_timeout(), None);
    bench.now += minute * 2;
    bench.conn.handle_timeout(bench.now);
    bench.conn.upstream_ready(None, false, bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + minute));
    // It applies to nothing else.
    let mut config = ConnConfig::default();
    config.limits.stream_idle = Some(minute);
    let mut bench = Bench::with(config);
    assert_eq!(bench.client(GET).sleep(minute * 10).client_got(), "");
}

#[test]
fn a_daemon_that_stops_within_its_response_has_its_limit_too() {
    let mut config = ConnConfig::default();
    config.limits.response_time = Some(Duration::from_secs(7));
    let mut bench = Bench::with(config);
    bench
        .client(GET)
        .daemon("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nline")
        .sleep(Duration::from_secs(6));
    bench.daemon("s").sleep(Duration::from_secs(6));
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + Duration::from_secs(1)));
    bench.sleep(Duration::from_secs(1));
    let (end, closed) = ("end upstream-timeout Some(200)".to_owned(), "closed reset=false");
    assert!(bench.events().ends_with(&[end, closed.to_owned()]), "{:?}", bench.events());
}

#[test]
fn the_router_s_reply_and_an_upstream_that_is_not_there() {
    let mut bench = Bench::new();
    bench.conn.feed(Side::Downstream, GET.as_bytes(), bench.now);
    assert!(matches!(bench.conn.poll_event(), Some(ConnEvent::NeedUpstream { .. })));
    bench.conn.upstream_failed(Cause::OutOfResources { errno: None }, bench.now);
    let got = bench.turn().client_got();
    assert!(got.starts_with("HTTP/1.1 503 ") && got.contains(r#"{"message":""#), "{got}");
    assert_eq!(bench.events(), ["end unreachable Some(503)"]);
    bench.client(GET);
    assert_eq!(bench.events(), ["connect reuse=true"]);
}

#[test]
fn bytes_behind_a_response_end_its_connection_and_come_before_nothing() {
    for extra in [OK, "x"] {
        let mut bench = Bench::new();
        bench.client(GET).daemon(&format!("{OK}{extra}"));
        assert_eq!(bench.client_got(), OK);
        assert_eq!(bench.events(), ["connect reuse=true", "drop Leftover", "end complete Some(200)"]);
        bench.client(GET).daemon(OK);
        assert_eq!(bench.client_got(), OK);
    }
    // A body to HEAD is such bytes, too.
    let mut bench = Bench::new();
    bench.client("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").daemon(OK);
    assert_eq!(bench.events()[1], "drop Leftover");
}

#[test]
fn what_is_left_of_a_bad_response_is_not_the_beginning_of_the_next() {
    let mut bench = Bench::new();
    bench.client(GET).daemon("HTTP/1.1 999 x\r\n\r\n");
    assert!(bench.client_got().starts_with("HTTP/1.1 502 "));
    bench.client(GET).daemon(OK);
    assert_eq!(bench.client_got(), OK);
}

#[test]
fn a_queue_that_never_runs_dry_does_not_grow() {
    let mut bench = Bench::new();
    bench.client(GET);
    bench.conn.feed(Side::Upstream, b"HTTP/1.1 200 OK\r\n\r\n", bench.now);
    for _ in 0..10_000 {
        bench.conn.feed(Side::Upstream, &[b'x'; 1_000], bench.now);
        let n = bench.conn.output(Side::Downstream).len() - 1;
        bench.conn.output_sent(Side::Downstream, n, bench.now);
    }
    assert!(bench.conn.down.out.capacity() < 16_000, "{}", bench.conn.down.out.capacity());
}

#[test]
fn the_client_s_clock_stands_still_while_the_daemon_is_waited_for() {
    let limits = ConnConfig::default().limits;
    let mut bench = Bench::new();
    bench.client("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").daemon_got();
    // The daemon accepts nothing for long: that is not the client's fault.
    bench.conn.feed(Side::Downstream, &[b'x'; super::OUTPUT_BOUND], bench.now);
    assert!(!bench.conn.wants(Side::Downstream).read);
    bench.now += limits.body_progress * 3;
    bench.conn.handle_timeout(bench.now);
    assert_eq!(bench.turn().client_got(), "");
    // Now it is the client's turn, and it has all of its time.
    bench.sleep(limits.body_progress - Duration::from_millis(1));
    assert_eq!(bench.client_got(), "");
    bench.sleep(Duration::from_millis(1));
    assert!(bench.client_got().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_late_response_finds_a_client_with_all_its_time() {
    let limits = ConnConfig::default().limits;
    let mut bench = Bench::new();
    bench.client("POST /containers/x/start HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.now += limits.body_progress * 3;
    bench.conn.feed(Side::Upstream, OK.as_bytes(), bench.now);
    assert_eq!(bench.conn.poll_timeout(), Some(bench.now + limits.body_progress));
}

#[test]
fn a_response_that_ends_with_the_connection_is_never_cut_cleanly() {
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let limits = ConnConfig::default().limits;
    for by in ["time", "host", "slow client"] {
        let mut bench = Bench::new();
        bench.client("GET / HTTP/1.0\r\n\r\n");
        bench.conn.feed(Side::Upstream, until_close.as_bytes(), bench.now);
        match by {
            "time" => bench.now += limits.body_progress,
            "host" => bench.conn.abandon(ExchangeEnd::Stopped, bench.now),
            _ => {
                bench.conn.feed_error(Side::Upstream, RESET, bench.now);
                bench.now += limits.closing_time;
            }
        }
        bench.conn.handle_timeout(bench.now);
        assert_eq!(bench.turn().events().last().unwrap(), "closed reset=true", "{by}");
    }
}

#[test]
fn an_own_reply_cannot_be_framed_from_outside() {
    let line = |name: &'static str| FieldLine::new(name, "7").unwrap();
    let reply = Reply::new(204, "text/plain", "body")
        .with_field(line("Content-Length"))
        .with_field(line("transfer-encoding"))
        .with_field(line("X-Own"));
    let mut bench = Bench::new();
    bench.conn.feed(Side::Downstream, GET.as_bytes(), bench.now);
    assert!(bench.conn.poll_event().is_some());
    bench.conn.reply(&reply, bench.now);
    // What comes too late is ignored.
    bench.conn.reply(&reply, bench.now);
    bench.conn.upstream_failed(Cause::Timeout(Timeout::Connect), bench.now);
    let got = bench.turn().client_got();
    assert_eq!(got, "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\nX-Own: 7\r\n\r\n");
    assert_eq!(bench.events(), ["end replied Some(204)"]);
}

#[test]
fn an_own_reply_needs_no_content_type() {
    let mut bench = Bench::new();
    bench.conn.feed(Side::Downstream, GET.as_bytes(), bench.now);
    assert!(bench.conn.poll_event().is_some());
    bench.conn.reply(&Reply::new(204, "", ""), bench.now);
    assert_eq!(bench.turn().client_got(), "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn bytes_for_a_tunnel_that_come_while_the_refusal_is_under_way_are_no_request() {
    let mut bench = Bench::new();
    bench.client("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    bench.conn.feed(Side::Upstream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", bench.now);
    bench.conn.feed(Side::Downstream, GET.as_bytes(), bench.now);
    let events = bench.turn().events();
    assert_eq!(events[1..], ["drop SwitchProposed", "shut Downstream", "end complete Some(404)"]);
}

#[test]
fn a_slow_client_stops_its_daemon() {
    let mut bench = Bench::new();
    bench.client(GET);
    bench.conn.feed(Side::Upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", bench.now);
    let mut reads = 0;
    while bench.conn.wants(Side::Upstream).read {
        bench.conn.feed(Side::Upstream, &[b'x'; 1024], bench.now);
        reads += 1;
    }
    assert_eq!(reads, super::OUTPUT_BOUND / 1024);
    let len = bench.conn.output(Side::Downstream).len();
    bench.conn.output_sent(Side::Downstream, len, bench.now);
    assert!(bench.conn.wants(Side::Upstream).read);
}

#[test]
fn a_connection_that_nobody_asked_for_gets_nothing() {
    let mut bench = Bench::new();
    bench.client("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{");
    bench.conn.upstream_ready(None, false, bench.now);
    assert_eq!(bench.turn().daemon_got(), "");
    assert!(bench.client("}").daemon_got().ends_with("Content-Length: 2\r\n\r\n{}"));
}

/// Requests that propose a switch.
const PROPOSALS: [&str; 8] = [
    "POST /containers/x/attach?stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "POST /containers/x/attach?stdin=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /containers/x/attach?stdin=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "POST /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "GET /app HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
];

type NoTunnel = fn(&mut Bench);

/// Ways in which no tunnel comes about: their names, and what happens to the request.
const NO_TUNNEL: [(&str, NoTunnel); 17] = [
    ("no daemon", |bench| bench.fail(Cause::ConnectFailed { errno: None })),
    ("a daemon that accepts nothing", |bench| bench.fail(Cause::Timeout(Timeout::Connect))),
    ("no descriptors", |bench| bench.fail(Cause::OutOfResources { errno: None })),
    ("a reply of the router", |bench| bench.conn.reply(&Reply::error(403, "no"), bench.now)),
    ("404", |bench| bench.responded("HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno")),
    ("200 with a length", |bench| bench.responded("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
    ("200 in chunks", |bench| {
        bench.responded("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    }),
    ("an error until the end", |bench| {
        bench.responded("HTTP/1.1 409 no\r\n\r\nno");
        bench.conn.feed_eof(Side::Upstream, bench.now);
    }),
    ("an error that is cut", |bench| {
        bench.responded("HTTP/1.1 500 no\r\nContent-Length: 9\r\n\r\nno");
        bench.conn.feed_eof(Side::Upstream, bench.now);
    }),
    ("304", |bench| bench.responded("HTTP/1.1 304 x\r\n\r\n")),
    ("interim, then 401", |bench| {
        bench.responded("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n");
    }),
    ("a switch to something else", |bench| {
        bench.responded("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: else\r\nContent-Type: x\r\n\r\n");
    }),
    ("no HTTP", |bench| bench.responded("SSH-2.0-x\r\n\r\n")),
    ("too many interim responses", |bench| bench.responded(&"HTTP/1.1 102 x\r\n\r\n".repeat(9))),
    ("a daemon that leaves", |bench| {
        bench.responded("");
        bench.conn.feed_eof(Side::Upstream, bench.now);
    }),
    ("a daemon that resets", |bench| {
        bench.responded("HTTP/1.1 2");
        bench.conn.feed_error(Side::Upstream, RESET, bench.now);
    }),
    ("a daemon that takes nothing", |bench| {
        bench.responded("");
        bench.conn.output_refused(Side::Upstream, RESET, bench.now);
        bench.conn.feed_eof(Side::Upstream, bench.now);
    }),
];

impl Bench {
    fn fail(&mut self, cause: Cause) {
        self.conn.upstream_failed(cause, self.now);
    }

    /// The daemon gets the request and sends this.
    fn responded(&mut self, bytes: &str) {
        self.conn.upstream_ready(None, false, self.now);
        let n = self.conn.output(Side::Upstream).len();
        self.conn.output_sent(Side::Upstream, n, self.now);
        if !bytes.is_empty() {
            self.conn.feed(Side::Upstream, bytes.as_bytes(), self.now);
        }
    }
}

/// Input for a tunnel is never taken for a request, whenever it arrives and whatever prevented the
/// tunnel.
#[test]
fn what_was_meant_for_a_tunnel_is_never_a_request() {
    const INPUT: &str = "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    for request in PROPOSALS {
        for (end, happens) in NO_TUNNEL {
            // In these cases one does come about.
            let accepts_any = request.contains("attach") && request.contains("Upgrade: tcp");
            if (end == "a switch to something else" && accepts_any)
                || (end.starts_with("200") && request.starts_with("CONNECT"))
            {
                continue;
            }
            for (early, drained) in [(true, false), (false, false), (true, true), (false, true)] {
                let at = format!("{end}, early {early}, drained {drained}: {request:?}");
                let mut bench = Bench::with(ConnConfig { allow_connect: true, ..ConnConfig::default() });
                let input = if early { INPUT } else { "" };
                bench.conn.feed(Side::Downstream, format!("{request}{input}").as_bytes(), bench.now);
                if drained {
                    bench.conn.drain(bench.now);
                }
                let asked = std::iter::from_fn(|| bench.conn.poll_event());
                assert_eq!(
                    asked.filter(|event| matches!(event, ConnEvent::NeedUpstream { .. })).count(),
                    1,
                    "{at}"
                );
                happens(&mut bench);
                bench.turn();
                if bench.conn.wants(Side::Downstream).read {
                    bench.client(INPUT);
                }
                bench.sleep(bench.conn.config.limits.closing_time * 2);
                let events = bench.events();
                assert!(!events.iter().any(|event| event.starts_with("connect")), "{at}: {events:?}");
                assert!(events.last().is_some_and(|event| event.starts_with("closed")), "{at}: {events:?}");
                let got = bench.client_got();
                assert!(got.contains("HTTP/1.1 ") && !got.contains("/create"), "{at}: {got}");
                assert!(!bench.daemon_got().contains("/create"), "{at}");
            }
        }
    }
}
