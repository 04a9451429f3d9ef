#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "metrics tell the time of day")]
//! The text is read back as Prometheus would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dockline::engine::{ClientInfo, PeerAddr, Upstream};
use dockline::error::{Phase, Side, Timeout};
use dockline::proxy::ExchangeEnd;
use dockline::proxy::hijack::HijackKind;
use dockline::relay::{CloseReason, RelayStats};

use super::*;
use crate::router::{Busiest, TargetCounts, TargetName};

/// Samples by name and labels. Panics where the text breaks a rule of the format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").expect(line).split_once(' ').expect(line);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(is_name) && help.ends_with('.'), "{line}");
        assert!(families.insert(name), "twice: {name}");
        let kind = lines.next().unwrap().strip_prefix(&*format!("# TYPE {name} ")).expect(line);
        assert!(["counter", "gauge", "histogram"].contains(&kind));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let rest = series.strip_prefix(name).expect("a sample of this family");
            let suffix = rest.split('{').next().unwrap();
            match kind {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{sample}"),
                _ => assert_eq!(suffix, "", "{sample}"),
            }
            let labels = &rest[suffix.len()..];
            assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"), "{sample}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {series}");
        }
    }
    samples
}

fn client(listener: &str) -> ClientInfo {
    ClientInfo::new(PeerAddr::Unknown, listener)
}

fn exchange(client: &ClientInfo, status: Option<u16>, millis: u64) -> Exchange<'_> {
    Exchange {
        client,
        method: b"GET",
        target: b"/",
        status,
        upstream: None,
        reused: false,
        route: None,
        tunnel: None,
        tunnel_id: None,
        end: ExchangeEnd::Complete,
        bytes_up: 0,
        bytes_down: 0,
        duration: Duration::from_millis(millis),
        time_to_head: None,
    }
}

#[test]
fn every_name_is_there_from_the_start() {
    let text = Metrics::new().render();
    let samples = parse(&text);
    for name in [
        "dockline_build_info{version=\"0.1.0\"}",
        "dockline_client_connections_open",
        "dockline_connections_total",
        "dockline_tunnels_open",
        "dockline_tunnel_duration_seconds_count",
        "dockline_relay_bytes_total{direction=\"up\"}",
        "dockline_relay_bytes_total{direction=\"down\"}",
        "dockline_upstream_connects_total",
        "dockline_upstream_connections_reused_total",
        "dockline_upstream_connections_idle",
        "dockline_tls_handshakes_total{result=\"ok\"}",
        "dockline_tls_handshakes_total{result=\"failed\"}",
        "dockline_accept_pauses_total",
        "dockline_access_log_dropped_total",
        "dockline_config_last_reload_successful",
        "dockline_config_last_reload_success_timestamp_seconds",
        "dockline_panics_total",
    ] {
        assert!(samples.contains_key(name), "{name}");
    }
    for name in [
        "dockline_requests_total",
        "dockline_tunnels_total",
        "dockline_failures_total",
        "dockline_upstream_connect_failures_total",
        "dockline_request_duration_seconds",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[test]
fn the_documentation_has_each_name_and_no_other() {
    let metrics = Metrics::new();
    metrics.watch_router(Routing::start().unwrap());
    metrics.watch_certificates(Arc::default());
    let text = metrics.render();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let families: BTreeSet<&str> = families.collect();
    let (_, table) = include_str!("../../../docs/SERVE.md").split_once("| metric | |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let names = table.split('`').skip(1).step_by(2);
    let names = names.map(|name| name.split('{').next().unwrap());
    let names: BTreeSet<&str> = names.filter(|name| name.contains('_')).collect();
    assert_eq!(families, names);
}

#[test]
fn only_so_many_targets_have_samples() {
    let name = |number: usize| {
        format!("dockline_router_target_requests_total{{route=\"web\",node=\"one\",target=\"c{number}\"}}")
    };
    let counts = |requests| TargetCounts { requests, ..TargetCounts::default() };
    let target = |number: usize, requests| {
        let (node, target) = ("one".to_owned(), format!("c{number}"));
        (TargetName { route: "web".into(), node, target }, counts(requests))
    };
    let mut out = Encoder::default();
    router::collect_targets(&mut out, &Busiest { targets: vec![target(1, 7), target(2, 0)], others: 3 });
    let samples = parse(&out.finish());
    assert_eq!((samples[&name(1)], samples[&name(2)]), (7.0, 0.0));
    assert_eq!(samples["dockline_router_targets_left_out"], 3.0);
}

#[test]
fn requests_are_counted_by_listener_and_class() {
    let metrics = Metrics::new();
    let (one, two) = (client("one"), client("t\"w\\o\n"));
    for status in [None, Some(101), Some(200), Some(204), Some(304), Some(404), Some(502), Some(999)] {
        metrics.exchange(&exchange(&one, status, 20));
    }
    metrics.exchange(&exchange(&two, Some(200), 1));
    let samples = parse(&metrics.render());
    for (code, count) in [("none", 2.0), ("1xx", 1.0), ("2xx", 2.0), ("3xx", 1.0), ("4xx", 1.0), ("5xx", 1.0)]
    {
        let name = format!("dockline_requests_total{{listener=\"one\",code=\"{code}\"}}");
        assert_eq!(samples[&name], count, "{name}");
    }
    assert_eq!(samples[r#"dockline_requests_total{listener="t\"w\\o\n",code="2xx"}"#], 1.0);
}

#[test]
fn buckets_include_their_end_and_those_below() {
    let metrics = Metrics::new();
    let client = client("one");
    for millis in [0, 1, 2, 25, 26, 400_000] {
        metrics.exchange(&exchange(&client, Some(200), millis));
    }
    let samples = parse(&metrics.render());
    let sample = |rest: &str| samples[&format!("dockline_request_duration_seconds{rest}")];
    for (end, count) in
        [("0.001", 2.0), ("0.0025", 3.0), ("0.025", 4.0), ("0.05", 5.0), ("1", 5.0), ("300", 5.0)]
    {
        assert_eq!(sample(&format!("_bucket{{listener=\"one\",le=\"{end}\"}}")), count, "{end}");
    }
    assert_eq!(sample("_bucket{listener=\"one\",le=\"+Inf\"}"), 6.0);
    assert_eq!(sample("_count{listener=\"one\"}"), 6.0);
    assert_eq!(sample("_sum{listener=\"one\"}"), 400.054);
}

#[test]
fn tunnels_are_counted_by_kind_and_reason() {
    let metrics = Metrics::new();
    let (client, upstream) = (client("one"), Upstream::new("docker", Vec::new()));
    let stats = RelayStats {
        up: Default::default(),
        down: Default::default(),
        last_activity: Instant::now(),
        first_closer: Some(Side::Upstream),
        close_reason: Some(CloseReason::Eof),
    };
    let tunnel = |kind, close_reason| Tunnel {
        id: 7,
        client: &client,
        method: b"POST",
        target: b"/",
        upstream: &upstream,
        route: None,
        kind,
        stats: RelayStats { close_reason, ..stats },
        failure: None,
        duration: Duration::from_secs(5),
    };
    metrics.tunnel(&tunnel(Some(HijackKind::RawStream), Some(CloseReason::Eof)));
    metrics.tunnel(&tunnel(Some(HijackKind::RawStream), Some(CloseReason::Eof)));
    metrics.tunnel(&tunnel(None, Some(CloseReason::UpstreamReset)));
    let samples = parse(&metrics.render());
    assert_eq!(samples[r#"dockline_tunnels_total{kind="raw-stream",close="eof"}"#], 2.0);
    assert_eq!(samples[r#"dockline_tunnels_total{kind="forward",close="upstream-reset"}"#], 1.0);
    assert_eq!(samples[r#"dockline_tunnel_duration_seconds_bucket{le="1"}"#], 0.0);
    assert_eq!(samples[r#"dockline_tunnel_duration_seconds_bucket{le="10"}"#], 3.0);
    assert_eq!(samples["dockline_tunnel_duration_seconds_sum"], 15.0);
}

#[test]
fn failures_are_counted_by_side_and_cause() {
    let (metrics, client) = (Metrics::new(), client("one"));
    let reset = |errno| {
        let failure = Failure::new(Side::Upstream, Phase::ResponseBody, Cause::Reset { errno });
        Exchange { end: ExchangeEnd::Failed(failure), ..exchange(&client, Some(200), 1) }
    };
    metrics.exchange(&reset(None));
    metrics.exchange(&reset(Some(104)));
    let expired = Cause::Timeout(Timeout::Handshake);
    metrics.failure(&Failure::new(Side::Downstream, Phase::Handshake, expired));
    metrics.exchange(&exchange(&client, Some(500), 1));
    metrics.connect_failure(Cause::ConnectFailed { errno: Some(111) });
    metrics.connect_failure(Cause::ConnectFailed { errno: Some(2) });
    let samples = parse(&metrics.render());
    let failures: Vec<_> =
        samples.iter().filter(|(name, _)| name.starts_with("dockline_failures_total")).collect();
    let name = |labels: &str| format!("dockline_failures_total{{{labels}}}");
    assert_eq!(
        failures,
        [
            (&name(r#"phase="handshake",side="client",cause="handshake-timeout""#), &1.0),
            (&name(r#"phase="response-body",side="daemon",cause="reset""#), &2.0),
        ]
    );
    assert_eq!(samples[r#"dockline_upstream_connect_failures_total{cause="connect-failed"}"#], 2.0);
}

#[test]
fn engines_are_summed() {
    let mut one = Stats::default();
    (one.accepted, one.tunnel_bytes_down, one.handshake_failures) = (1, 20, 3);
    let mut two = Stats::default();
    (two.accepted, two.tunnel_bytes_down, two.handshakes) = (4, 100, 7);
    let mut out = Encoder::default();
    collect_stats(&mut out, &[one, two]);
    let samples = parse(&out.finish());
    assert_eq!(samples["dockline_connections_total"], 5.0);
    assert_eq!(samples[r#"dockline_relay_bytes_total{direction="down"}"#], 120.0);
    assert_eq!(samples[r#"dockline_tls_handshakes_total{result="ok"}"#], 7.0);
    assert_eq!(samples[r#"dockline_tls_handshakes_total{result="failed"}"#], 3.0);
}

#[test]
fn a_failed_reload_keeps_the_time_of_the_last_good_one() {
    let metrics = Metrics::new();
    let sample = |name: &str| parse(&metrics.render())[&format!("dockline_config_last_reload_{name}")];
    assert_eq!((sample("successful"), sample("success_timestamp_seconds")), (0.0, 0.0));
    metrics.config_reloaded(true);
    assert!(sample("success_timestamp_seconds") > 1.7e9);
    assert_eq!(sample("successful"), 1.0);
    metrics.reload_ok_at.store(7, Ordering::Relaxed);
    metrics.config_reloaded(false);
    assert_eq!((sample("successful"), sample("success_timestamp_seconds")), (0.0, 7.0));
}

#[test]
fn lost_lines_of_the_access_log_show() {
    let metrics = Metrics::new();
    metrics.watch_access_log(Arc::new(AtomicU64::new(7)));
    assert_eq!(parse(&metrics.render())["dockline_access_log_dropped_total"], 7.0);
}

#[test]
fn the_process_is_this_one() {
    let samples = parse(&Metrics::new().render());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - samples["process_start_time_seconds"];
    assert!((-2.0..3600.0).contains(&age), "{age}");
    assert!(samples["process_resident_memory_bytes"] > 100_000.0);
    assert!(samples["process_virtual_memory_bytes"] > samples["process_resident_memory_bytes"]);
    assert!(samples["process_open_fds"] >= 3.0);
    assert!(samples["process_max_fds"] >= samples["process_open_fds"]);
    assert!(samples["process_cpu_seconds_total"] < 3600.0);
}
