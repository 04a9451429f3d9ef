#![forbid(unsafe_code)]
//! Levels, words and floods.

use std::fs;
use std::io;
use std::time::Duration;

use dockline::engine::{ClientInfo, PeerAddr, Upstream};
use dockline::error::{ParseError, PeerError, TlsFailure, TlsReason};
use dockline::proxy::ExchangeEnd;
use dockline::relay::{CloseReason, RelayStats};

use super::*;
use crate::absolute_path::AbsolutePath;
use crate::access_log::{AccessLogTarget, LogFormat};

fn client() -> ClientInfo {
    let peer = PeerAddr::Ip("192.0.2.7:51514".parse().unwrap());
    ClientInfo { tls: true, identity: Some(Arc::from("alice")), ..ClientInfo::new(peer, "main") }
}

fn exchange<'a>(client: &'a ClientInfo, upstream: &'a Upstream, status: Option<u16>) -> Exchange<'a> {
    Exchange {
        client,
        method: b"GET",
        target: b"/v1.41/containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/json",
        status,
        upstream: Some(upstream),
        reused: true,
        route: None,
        tunnel: None,
        tunnel_id: None,
        end: ExchangeEnd::Complete,
        bytes_up: 0,
        bytes_down: 1234,
        duration: Duration::from_micros(12_345),
        time_to_head: Some(Duration::from_micros(9_001)),
    }
}

#[test]
fn events_in_words() {
    let (client, upstream) = (client(), Upstream::new("docker", Vec::new()));
    let refused = io::Error::from_raw_os_error(111);
    let connect = Failure::new(Side::Upstream, Phase::Connect, Cause::ConnectFailed { errno: Some(111) });
    let tls = TlsFailure { reason: TlsReason::UnknownIssuer, alert: Some(48) };
    let unknown_issuer = Failure::new(Side::Downstream, Phase::Handshake, Cause::Tls(tls));
    let stranger = Failure::new(Side::Downstream, Phase::ProxyHeader, Cause::UntrustedPeer);
    let probe = Failure { cause: Cause::ClosedEarly, ..stranger };
    let full = io::Error::from_raw_os_error(24);
    let not_a_socket = io::Error::from_raw_os_error(88);
    let cases = [
        (
            Event::AcceptFailed { listener: "main", error: &full, paused: true },
            Level::Warn,
            "listener main: cannot accept a connection: Too many open files (os error 24); out of file \
             descriptors, raise the limit of open files (LimitNOFILE=)",
        ),
        (
            Event::AcceptFailed { listener: "main", error: &not_a_socket, paused: false },
            Level::Error,
            "listener main: cannot accept a connection: Socket operation on non-socket (os error 88)",
        ),
        (
            Event::Full { connections: 320 },
            Level::Warn,
            "the limit of 320 connections is reached; new ones wait until others end",
        ),
        (
            Event::ProxyHeaderFailed { client: &client, failure: stranger },
            Level::Info,
            "listener main: connection from 192.0.2.7:51514 closed: the client is none of the proxies that may connect to a \
             listener with the PROXY protocol; cause=untrusted-peer",
        ),
        (
            Event::ProxyHeaderFailed { client: &client, failure: probe },
            Level::Debug,
            "listener main: connection from \
             192.0.2.7:51514 closed: the connection was closed before the message was complete; cause=closed-early",
        ),
        (
            Event::HandshakeFailed {
                client: &client,
                failure: unknown_issuer,
                reason: Untrusted::new("no \"x\"\r\n\u{202e}"),
            },
            Level::Info,
            r#"listener main: TLS handshake with 192.0.2.7:51514 failed: no "x"\r\n\u{202e}; cause=tls-unknown-issuer alert=48"#,
        ),
        (
            Event::ConnectFailed {
                upstream: &upstream,
                address: "tcp://192.0.2.1:2375",
                failure: connect,
                error: &refused,
            },
            Level::Warn,
            "upstream docker: cannot connect to tcp://192.0.2.1:2375: Connection refused (os error 111); cause=connect-failed",
        ),
        (
            Event::ForwardFailed { client: &client, upstream: &upstream, failure: connect },
            Level::Info,
            "listener main: no tunnel from 192.0.2.7:51514 to docker: connect(2) failed (errno 111); cause=connect-failed",
        ),
        (
            Event::Relay(&drive::Event::UpstreamRefused(&refused)),
            Level::Debug,
            "tunnel: the upstream takes no more input, discarding the rest: Connection refused (os error 111)",
        ),
        (
            Event::Reset { side: Side::Upstream, error: &refused },
            Level::Debug,
            "the upstream's connection failed: Connection refused (os error 111)",
        ),
        (
            Event::Panicked,
            Level::Error,
            "a connection was closed because of a bug in dockline; please report it",
        ),
    ];
    for (event, level, words) in cases {
        assert_eq!((classify(&event).1, &*Message(&event).to_string()), (level, words));
    }
}

fn tunnel_that_failed<'a>(client: &'a ClientInfo, upstream: &'a Upstream, failure: Failure) -> Tunnel<'a> {
    Tunnel {
        id: 7,
        client,
        method: b"",
        target: b"",
        upstream,
        route: None,
        kind: None,
        failure: Some(failure),
        stats: RelayStats {
            up: Default::default(),
            down: Default::default(),
            last_activity: now_on_the_clock(),
            first_closer: Some(Side::Upstream),
            close_reason: Some(CloseReason::UpstreamReset),
        },
        duration: Duration::ZERO,
    }
}

#[test]
fn failed_exchanges_and_tunnels_in_words() {
    let (client, upstream) = (client(), Upstream::new("docker", Vec::new()));
    let bare_lf = Cause::Parse(ParseError { fault: PeerError::BareLf.into(), at: 17 });
    let reset = Cause::Reset { errno: Some(104) };
    let words = |failure| {
        let failed = Exchange { target: b"/in\x1bfo", ..exchange(&client, &upstream, Some(502)) };
        (exchange_level(&failure), FailedExchange(&failed, failure).to_string())
    };
    assert_eq!(
        words(Failure::new(Side::Upstream, Phase::ResponseHead, bare_lf)),
        (
            Level::Warn,
            "listener main: GET /in\\u{1b}fo from 192.0.2.7:51514 to docker: a line ends in LF \
             without CR (at byte 17); side=daemon phase=response-head cause=bare-lf"
                .into()
        )
    );
    let levels = [
        (Side::Downstream, Phase::RequestHead, bare_lf, Level::Info),
        (Side::Downstream, Phase::ResponseBody, reset, Level::Debug),
        (Side::Upstream, Phase::Connect, Cause::NoAddress, Level::Debug),
        (Side::Upstream, Phase::ResponseBody, reset, Level::Warn),
    ];
    for (side, phase, cause, level) in levels {
        assert_eq!(exchange_level(&Failure::new(side, phase, cause)), level, "{cause:?}");
    }
    let failure = Failure::new(Side::Upstream, Phase::Tunnel, reset);
    let tunnel = tunnel_that_failed(&client, &upstream, failure);
    assert_eq!(
        (tunnel_level(&failure), FailedTunnel(&tunnel, failure).to_string()),
        (
            Level::Info,
            "listener main: tunnel of 192.0.2.7:51514 to docker: the connection was reset \
             (errno 104); side=daemon phase=tunnel cause=reset"
                .into()
        )
    );
}

#[expect(clippy::disallowed_methods, reason = "the statistics of a tunnel have an instant")]
fn now_on_the_clock() -> Instant {
    Instant::now()
}

#[test]
fn a_flood_is_cut_and_summed_up() {
    let flood = Flood::default();
    for _ in 0..MESSAGES_PER_SECOND {
        assert_eq!(flood.admit(7), Some(0));
    }
    for _ in 0..25 {
        assert_eq!(flood.admit(7), None);
    }
    assert_eq!(flood.admit(8), Some(25));
    assert_eq!(flood.admit(8), Some(0));
    assert_eq!(flood.admit(100), Some(0));
}

#[test]
fn the_first_second_is_like_any_other() {
    let flood = Flood::default();
    let admitted = (0..100).filter(|_| flood.admit(0).is_some()).count();
    assert_eq!(u32::try_from(admitted), Ok(MESSAGES_PER_SECOND));
}

#[test]
fn health_follows_the_upstream() {
    let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::new()));
    let telemetry = Telemetry::new(None, metrics, Arc::clone(&health));
    let (client, upstream) = (client(), Arc::new(Upstream::new("docker", Vec::new())));
    health.set_ready(true);
    health.set_upstreams(vec![Arc::clone(&upstream)]);
    let error = io::ErrorKind::ConnectionRefused.into();
    let failure = Failure::new(Side::Upstream, Phase::Connect, Cause::ConnectFailed { errno: None });
    telemetry.event(&Event::ConnectFailed { upstream: &upstream, address: "x", failure, error: &error });
    assert!(!health.report().is_ready());
    for status in [None, Some(502), Some(503), Some(504)] {
        telemetry.exchange(&exchange(&client, &upstream, status));
        assert!(!health.report().is_ready(), "{status:?} says nothing of the upstream");
    }
    telemetry.exchange(&exchange(&client, &upstream, Some(404)));
    assert!(health.report().is_ready());
}

#[test]
fn a_lost_line_shows_in_the_metrics() {
    let metrics = Arc::new(Metrics::new());
    let access =
        AccessLog::open(AccessLogTarget::File(AbsolutePath::new("/dev/full").unwrap()), LogFormat::Text)
            .unwrap();
    let telemetry = Telemetry::new(Some(access), Arc::clone(&metrics), Arc::new(Health::new()));
    telemetry.exchange(&exchange(&client(), &Upstream::new("docker", Vec::new()), Some(200)));
    drop(telemetry);
    assert!(metrics.render().contains("\ndockline_access_log_dropped_total 1\n"));
}

/// What ends for a reason of the proxy's own, as an operator reads it everywhere.
#[test]
fn panics_and_a_lack_of_resources_are_told_everywhere() {
    let (client, upstream) = (client(), Upstream::new("docker", Vec::new()));
    let panicked = Failure::new(Side::Downstream, Phase::Tunnel, Cause::Panicked);
    let lacking = Failure::new(Side::Upstream, Phase::Connect, Cause::OutOfResources { errno: Some(24) });
    let failed = Exchange { end: ExchangeEnd::Failed(lacking), ..exchange(&client, &upstream, Some(503)) };
    let broken = Failure { phase: Phase::ResponseHead, ..panicked };
    let broken = Exchange { end: ExchangeEnd::Failed(broken), ..exchange(&client, &upstream, None) };
    let tunnel = tunnel_that_failed(&client, &upstream, panicked);

    let metrics = Arc::new(Metrics::new());
    let logged = |format| {
        let path = std::env::temp_dir().join(format!("dockline-telemetry-{}", std::process::id()));
        let target = AccessLogTarget::File(AbsolutePath::new(&path).unwrap());
        let access = AccessLog::open(target, format).unwrap();
        let telemetry = Telemetry::new(Some(access), Arc::clone(&metrics), Arc::new(Health::new()));
        telemetry.exchange(&failed);
        telemetry.exchange(&broken);
        telemetry.tunnel(&tunnel);
        drop(telemetry);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        text
    };
    let text = logged(LogFormat::Text);
    let wanted = [
        "side=proxy phase=connect cause=out-of-resources errno=24",
        "side=proxy phase=response-head cause=panicked",
        "side=proxy phase=tunnel cause=panicked",
    ];
    for (line, words) in text.lines().zip(wanted) {
        assert!(line.contains(words), "{line}");
    }
    let json = logged(LogFormat::Json);
    let wanted = [
        r#""failure":{"side":"proxy","phase":"connect","cause":"out-of-resources","offset":null,"errno":24,"#,
        r#""failure":{"side":"proxy","phase":"response-head","cause":"panicked","offset":null,"errno":null,"#,
        r#""failure":{"side":"proxy","phase":"tunnel","cause":"panicked","offset":null,"errno":null,"#,
    ];
    for (line, words) in json.lines().zip(wanted) {
        assert!(line.contains(words), "{line}");
    }
    assert_eq!((text.lines().count(), json.lines().count()), (3, 3));

    let said = |failure: Failure, message: &dyn fmt::Display| (exchange_level(&failure), message.to_string());
    let (level, words) = said(panicked, &FailedExchange(&broken, panicked));
    assert_eq!(level, Level::Warn);
    assert!(words.ends_with("ended the connection; side=proxy phase=tunnel cause=panicked"), "{words}");
    // With the address before: the failed attempt to connect was.
    let (level, words) = said(lacking, &FailedExchange(&failed, lacking));
    assert_eq!(level, Level::Debug);
    assert!(words.ends_with("(errno 24); side=proxy phase=connect cause=out-of-resources"), "{words}");
    let words = FailedTunnel(&tunnel, panicked).to_string();
    assert_eq!(tunnel_level(&panicked), Level::Info);
    assert!(words.ends_with("ended the connection; side=proxy phase=tunnel cause=panicked"), "{words}");

    let metrics = metrics.render();
    for labels in [
        r#"phase="connect",side="proxy",cause="out-of-resources""#,
        r#"phase="response-head",side="proxy",cause="panicked""#,
        r#"phase="tunnel",side="proxy",cause="panicked""#,
    ] {
        // Once for each of the two logs.
        assert!(metrics.contains(&format!("dockline_failures_total{{{labels}}} 2\n")), "{metrics}");
    }
}
