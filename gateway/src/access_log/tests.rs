#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the statistics of a tunnel have an instant")]
//! Golden lines, injection by clients, and a log that cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::Ordering;
use std::time::{Instant, UNIX_EPOCH};

use dockline::engine::{PeerAddr, Proxied, Upstream};
use dockline::error::{Cause, ParseError, PeerError, Phase, TlsFailure, TlsReason};
use dockline::proxy::ExchangeEnd;
use dockline::relay::{CloseReason, DirectionStats, RelayStats};
use rustix::fs::OFlags;

use super::queue::LINES;
use super::*;

/// A directory that is removed with its content.
struct TempDir(PathBuf);

impl TempDir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dockline-access-log-{test}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(path: impl Into<PathBuf>) -> AccessLogTarget {
    AccessLogTarget::File(AbsolutePath::new(path).unwrap())
}

fn client(identity: Option<&str>) -> ClientInfo {
    let peer = PeerAddr::Ip("192.0.2.7:51514".parse().unwrap());
    ClientInfo { tls: identity.is_some(), identity: identity.map(Arc::from), ..ClientInfo::new(peer, "main") }
}

fn exchange<'a>(client: &'a ClientInfo, upstream: Option<&'a Upstream>, target: &'a [u8]) -> Exchange<'a> {
    Exchange {
        client,
        method: b"GET",
        target,
        status: Some(200),
        upstream,
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

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_246_376_042)
}

/// Returns what `log` writes to a file until it is closed.
fn lines_of(format: LogFormat, test: &str, log: impl FnOnce(&AccessLog)) -> Vec<String> {
    let dir = TempDir::new(&format!("{test}-{format:?}"));
    let access = AccessLog::open(file(dir.join("log")), format).unwrap();
    log(&access);
    drop(access);
    lines(&dir.join("log"))
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn log_samples(log: &AccessLog) {
    let upstream = Upstream::new("docker", Vec::new());
    let (anonymous, named) = (client(None), client(Some("alice")));
    log.exchange(&exchange(&named, Some(&upstream), b"/v1.41/containers/json?all=1"), now());
    let routed = Exchange { route: Some("app.example"), ..exchange(&named, Some(&upstream), b"/") };
    log.exchange(&routed, now());
    let unread = Exchange {
        method: b"",
        target: b"",
        status: None,
        upstream: None,
        reused: false,
        time_to_head: None,
        ..exchange(&anonymous, None, b"")
    };
    log.exchange(&unread, now());
    let opened = Exchange {
        method: b"POST",
        status: Some(101),
        tunnel: Some(HijackKind::Upgrade),
        bytes_down: 0,
        ..exchange(&named, Some(&upstream), b"/exec/1/start")
    };
    log.exchange(&opened, now());
    let stats = RelayStats {
        up: DirectionStats { received: 20, delivered: 10 },
        down: DirectionStats { received: 4000, delivered: 3000 },
        last_activity: Instant::now(),
        first_closer: Some(Side::Downstream),
        close_reason: Some(CloseReason::Eof),
    };
    let tunnel = Tunnel {
        id: 7,
        client: &named,
        method: b"POST",
        target: b"/exec/1/start",
        upstream: &upstream,
        route: Some("app.example"),
        kind: Some(HijackKind::Upgrade),
        failure: None,
        stats,
        duration: Duration::from_millis(61_000),
    };
    log.tunnel(&tunnel, now());
    let stats = RelayStats { first_closer: None, close_reason: Some(CloseReason::Drain), ..tunnel.stats };
    let drained = Failure::new(Side::Upstream, Phase::Tunnel, Cause::Drained);
    let drained =
        Tunnel { method: b"", target: b"", route: None, kind: None, stats, failure: Some(drained), ..tunnel };
    log.tunnel(&drained, now());
    log_failures(log, &named, &upstream);
}

fn log_failures(log: &AccessLog, client: &ClientInfo, upstream: &Upstream) {
    let failed = |side, phase, cause| ExchangeEnd::Failed(Failure::new(side, phase, cause));
    let bare_lf = Cause::Parse(ParseError { fault: PeerError::BareLf.into(), at: 17 });
    let malformed = Exchange {
        status: Some(502),
        end: failed(Side::Upstream, Phase::ResponseHead, bare_lf),
        ..exchange(client, Some(upstream), b"/info")
    };
    log.exchange(&malformed, now());
    let reset = Cause::Reset { errno: Some(104) };
    let end = failed(Side::Downstream, Phase::ResponseBody, reset);
    log.exchange(&Exchange { status: Some(200), end, ..malformed }, now());
    let tls = TlsFailure { reason: TlsReason::UnknownIssuer, alert: Some(48) };
    let failure = Failure::new(Side::Upstream, Phase::Connect, Cause::Tls(tls));
    log.forward_failed(client, upstream, failure, now());
}

#[test]
fn text_lines() {
    let expected = [
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "GET /v1.41/containers/json?all=1" 200 listener=main upstream=docker kind=http bytes_up=0 bytes_down=1234 dur_ms=12.345 ttfb_ms=9.001 reused=true end=complete"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "GET /" 200 listener=main upstream=docker route=app.example kind=http bytes_up=0 bytes_down=1234 dur_ms=12.345 ttfb_ms=9.001 reused=true end=complete"#,
        r#"192.0.2.7:51514 - - [2026-11-21T07:32:56.042Z] "- -" - listener=main upstream=- kind=http bytes_up=0 bytes_down=1234 dur_ms=12.345 ttfb_ms=- reused=false end=complete"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "POST /exec/1/start" 101 listener=main upstream=docker kind=upgrade bytes_up=0 bytes_down=0 dur_ms=12.345 ttfb_ms=9.001 reused=true end=complete"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "POST /exec/1/start" - listener=main upstream=docker route=app.example kind=upgrade bytes_up=10 bytes_down=3000 dur_ms=61000.000 first_closer=client close=eof"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "- -" - listener=main upstream=docker kind=forward bytes_up=10 bytes_down=3000 dur_ms=61000.000 first_closer=- close=drain side=proxy phase=tunnel cause=drained"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "GET /info" 502 listener=main upstream=docker kind=http bytes_up=0 bytes_down=1234 dur_ms=12.345 ttfb_ms=9.001 reused=true end=bad-response side=daemon phase=response-head cause=bare-lf offset=17"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "GET /info" 200 listener=main upstream=docker kind=http bytes_up=0 bytes_down=1234 dur_ms=12.345 ttfb_ms=9.001 reused=true end=client-aborted side=client phase=response-body cause=reset errno=104"#,
        r#"192.0.2.7:51514 - alice [2026-11-21T07:32:56.042Z] "- -" - listener=main upstream=docker kind=forward bytes_up=0 bytes_down=0 dur_ms=0.000 first_closer=- close=- side=daemon phase=connect cause=tls-unknown-issuer alert=48"#,
    ];
    assert_eq!(lines_of(LogFormat::Text, "samples", log_samples), expected);
}

#[test]
fn json_lines() {
    let expected = [
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"GET","path":"/v1.41/containers/json?all=1","status":200,"upstream":"docker","route":null,"reused":true,"kind":"http","bytes_up":0,"bytes_down":1234,"dur_ms":12.345,"ttfb_ms":9.001,"end":"complete","failure":null}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"GET","path":"/","status":200,"upstream":"docker","route":"app.example","reused":true,"kind":"http","bytes_up":0,"bytes_down":1234,"dur_ms":12.345,"ttfb_ms":9.001,"end":"complete","failure":null}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":null,"method":null,"path":null,"status":null,"upstream":null,"route":null,"reused":false,"kind":"http","bytes_up":0,"bytes_down":1234,"dur_ms":12.345,"ttfb_ms":null,"end":"complete","failure":null}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"POST","path":"/exec/1/start","status":101,"upstream":"docker","route":null,"reused":true,"kind":"upgrade","bytes_up":0,"bytes_down":0,"dur_ms":12.345,"ttfb_ms":9.001,"end":"complete","failure":null}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"POST","path":"/exec/1/start","upstream":"docker","route":"app.example","kind":"upgrade","bytes_up":10,"bytes_down":3000,"dur_ms":61000.000,"first_closer":"client","close":"eof","failure":null}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":null,"path":null,"upstream":"docker","route":null,"kind":"forward","bytes_up":10,"bytes_down":3000,"dur_ms":61000.000,"first_closer":null,"close":"drain","failure":{"side":"proxy","phase":"tunnel","cause":"drained","offset":null,"errno":null,"alert":null}}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"GET","path":"/info","status":502,"upstream":"docker","route":null,"reused":true,"kind":"http","bytes_up":0,"bytes_down":1234,"dur_ms":12.345,"ttfb_ms":9.001,"end":"bad-response","failure":{"side":"daemon","phase":"response-head","cause":"bare-lf","offset":17,"errno":null,"alert":null}}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":"GET","path":"/info","status":200,"upstream":"docker","route":null,"reused":true,"kind":"http","bytes_up":0,"bytes_down":1234,"dur_ms":12.345,"ttfb_ms":9.001,"end":"client-aborted","failure":{"side":"client","phase":"response-body","cause":"reset","offset":null,"errno":104,"alert":null}}"#,
        r#"{"ts":"2026-11-21T07:32:56.042Z","client":"192.0.2.7:51514","forwarded_for":null,"proxied_by":null,"listener":"main","user":"alice","method":null,"path":null,"upstream":"docker","route":null,"kind":"forward","bytes_up":0,"bytes_down":0,"dur_ms":0.000,"first_closer":null,"close":null,"failure":{"side":"daemon","phase":"connect","cause":"tls-unknown-issuer","offset":null,"errno":null,"alert":48}}"#,
    ];
    assert_eq!(lines_of(LogFormat::Json, "samples", log_samples), expected);
}

/// Each byte, then what deceives terminals and readers: bidirectional controls, line separators, C1
/// controls.
fn hostile() -> Vec<Vec<u8>> {
    let texts = [
        "\u{202e}gpj.exe",
        "\u{2066}",
        "\u{200f}",
        "\u{2028}",
        "\u{85}",
        "\u{9b}2J",
        "\u{feff}",
        "\u{1f433}",
    ];
    let lines =
        ["a\r\nb", "\x1b[2J", "\" 200 status=\"", "\",\"status\":999,\"x\":\"", "\\", "\\x0A", "x user=root"];
    let bytes = (0..=255).map(|byte| vec![b'<', byte, b'>']);
    bytes.chain(texts.iter().chain(&lines).map(|text| text.as_bytes().to_vec())).collect()
}

fn log_hostile(log: &AccessLog) {
    for value in hostile() {
        let text = String::from_utf8_lossy(&value).into_owned();
        let client = ClientInfo { listener: Arc::from(&*text), ..client(Some(&text)) };
        let upstream = Upstream::new(&*text, Vec::new());
        let exchange = exchange(&client, Some(&upstream), &value);
        log.exchange(&Exchange { method: &value, route: Some(&text), ..exchange }, now());
    }
}

#[test]
fn hop_log_injection_text() {
    let lines = lines_of(LogFormat::Text, "hostile", log_hostile);
    assert_eq!(lines.len(), hostile().len());
    for (line, value) in lines.iter().zip(hostile()) {
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        assert_eq!(line.bytes().filter(|&byte| byte == b'"').count(), 2, "{line}");
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words.len(), 17, "{line}");
        assert_eq!(unescape(&words[5][..words[5].len() - 1]), value);
        assert_eq!(unescape(&words[4][1..]), value);
        assert_eq!(words[6], "200");
    }
}

/// Decodes a value of the text format.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[1..3], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[3..]);
    }
    bytes
}

#[test]
fn hop_log_injection_json() {
    let lines = lines_of(LogFormat::Json, "hostile", log_hostile);
    assert_eq!(lines.len(), hostile().len());
    for (line, value) in lines.iter().zip(hostile()) {
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = String::from_utf8_lossy(&value);
        for key in ["user", "listener", "method", "path", "upstream", "route"] {
            assert_eq!(object[key].as_str(), Some(&*expected), "{key}");
        }
        assert_eq!(object["status"], 200);
        assert_eq!(object.as_object().unwrap().len(), 19);
    }
}

#[test]
fn long_values_are_cut() {
    for length in [VALUE_BYTES - 1, VALUE_BYTES, VALUE_BYTES + 1, 200_000] {
        let target = vec![b'a'; length];
        let mark = if length > VALUE_BYTES { "..." } else { "" };
        let expected = "a".repeat(length.min(VALUE_BYTES)) + mark;
        let log = |log: &AccessLog| log.exchange(&exchange(&client(None), None, &target), now());
        let text = lines_of(LogFormat::Text, &format!("long-{length}"), log);
        assert!(text[0].contains(&format!("\"GET {expected}\" 200")), "{length}");
        let json = lines_of(LogFormat::Json, &format!("long-{length}"), log);
        let object: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(object["path"], *expected, "{length}");
    }
}

#[test]
fn a_full_queue_loses_lines_and_counts_them() {
    let dir = TempDir::new("full");
    let queue = Queue::default();
    for number in 0..LINES + 3 {
        queue.push(format!("{number}\n").as_bytes());
    }
    assert_eq!(queue.lost().load(Ordering::Relaxed), 3);
    thread::scope(|scope| {
        scope.spawn(|| queue.run(&mut Sink::new(File::create(dir.join("log")).unwrap())));
        queue.close();
    });
    let kept: Vec<_> = (0..LINES).map(|number| number.to_string()).collect();
    assert_eq!(lines(&dir.join("log")), kept);
    assert_eq!(queue.lost().load(Ordering::Relaxed), 3);
}

#[test]
fn a_writer_that_is_stuck_holds_nobody_up() {
    let dir = TempDir::new("stuck");
    let path = fifo(&dir);
    let _unread = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let log = AccessLog::open(file(path), LogFormat::Text).unwrap();
    let (client, target) = (client(None), [b'a'; VALUE_BYTES]);
    for _ in 0..2 * LINES {
        log.exchange(&exchange(&client, None, &target), now());
    }
    assert!(log.dropped().load(Ordering::Relaxed) > 0);
    let begun = Instant::now();
    drop(log);
    assert!(begun.elapsed() >= Duration::from_secs(2), "closing gives the reader a chance");
}

#[test]
fn flt_log_enospc() {
    let lost = AtomicU64::new(0);
    let mut sink = Sink::new(OpenOptions::new().append(true).open("/dev/full").unwrap());
    sink.write(b"one\ntwo\n", &lost);
    sink.write(b"three\n", &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 3);

    let log = AccessLog::open(file("/dev/full"), LogFormat::Json).unwrap();
    let dropped = log.dropped();
    log_samples(&log);
    drop(log);
    assert_eq!(dropped.load(Ordering::Relaxed), 9);
}

fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn flt_log_pipe_gone() {
    let dir = TempDir::new("pipe");
    let path = fifo(&dir);
    let open = || BufReader::new(OpenOptions::new().read(true).write(true).open(&path).unwrap());
    let lost = AtomicU64::new(0);
    let reader = open();
    let mut sink = Sink::new(OpenOptions::new().append(true).open(&path).unwrap());
    sink.write(b"seen\n", &lost);
    assert_eq!(reader.lines().next().unwrap().unwrap(), "seen");
    // The reader is gone, and returns.
    sink.write(b"one\ntwo\n", &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 2);
    let reader = open();
    sink.write(b"again\n", &lost);
    assert_eq!(reader.lines().next().unwrap().unwrap(), "again");
    assert_eq!(lost.load(Ordering::Relaxed), 2);
}

#[test]
fn a_line_that_broke_off_does_not_swallow_the_next() {
    let dir = TempDir::new("torn");
    let path = fifo(&dir);
    let mut unblocked = OpenOptions::new();
    unblocked.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut reader = unblocked.clone().read(true).open(&path).unwrap();
    let mut sink = Sink::new(unblocked.open(&path).unwrap());
    let lost = AtomicU64::new(0);

    // A non-blocking pipe accepts a part of what is too long for it.
    let long = "a".repeat(1 << 20);
    sink.write(format!("first\n{long}\nthird\n").as_bytes(), &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 2);
    sink.write(b"fourth\n", &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 3);
    let mut seen = String::new();
    assert_eq!(reader.read_to_string(&mut seen).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    sink.write(b"fifth\n", &lost);
    assert_eq!(reader.read_to_string(&mut seen).unwrap_err().kind(), io::ErrorKind::WouldBlock);

    let lines: Vec<_> = seen.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "first", "fifth"));
    assert!(lines[1].bytes().all(|byte| byte == b'a'));
    assert_eq!(lost.load(Ordering::Relaxed), 3);
}

#[test]
fn after_a_rename_lines_go_to_the_new_file() {
    let dir = TempDir::new("reopen");
    let (path, old) = (dir.join("log"), dir.join("log.1"));
    let log = AccessLog::open(file(path.clone()), LogFormat::Json).unwrap();
    let client = client(None);
    log.exchange(&exchange(&client, None, b"/before"), now());
    fs::rename(&path, &old).unwrap();
    log.reopen().unwrap();
    log.exchange(&exchange(&client, None, b"/after"), now());
    drop(log);
    let (old, new) = (lines(&old).join(""), lines(&path).join(""));
    assert!(new.contains("/after") && !old.contains("/after"));
    assert!(old.contains("/before") != new.contains("/before"));
}

#[test]
fn a_directory_is_no_log() {
    let dir = TempDir::new("directory");
    let error = AccessLog::open(file(dir.0.clone()), LogFormat::Text).unwrap_err();
    assert!(error.to_string().starts_with("cannot open the access log "), "{error}");

    let path = dir.join("log");
    let log = AccessLog::open(file(path.clone()), LogFormat::Text).unwrap();
    let renamed = dir.join("renamed");
    fs::rename(&path, &renamed).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(log.reopen().is_err());
    log_samples(&log);
    drop(log);
    assert_eq!(lines(&renamed).len(), 9);
}

#[test]
fn proxies_in_front_are_in_the_line() {
    let by = PeerAddr::Ip("10.0.0.1:5000".parse().unwrap());
    let proxied = Proxied { by, destination: "198.51.100.1:443".parse().unwrap() };
    let forwarded_for = Some("2001:db8::9".parse().unwrap());
    let client = ClientInfo { forwarded_for, proxied: Some(Box::new(proxied)), ..client(None) };
    for (format, words) in [
        (LogFormat::Text, "192.0.2.7:51514 - - ["),
        (LogFormat::Text, " listener=main forwarded_for=2001:db8::9 proxied_by=10.0.0.1:5000 upstream=-"),
        (
            LogFormat::Json,
            r#""client":"192.0.2.7:51514","forwarded_for":"2001:db8::9","proxied_by":"10.0.0.1:5000","listener":"main""#,
        ),
    ] {
        let lines = lines_of(format, "forwarded", |log| log.exchange(&exchange(&client, None, b"/"), now()));
        assert!(lines[0].contains(words), "{lines:?}");
    }
}
