//! Each cause that can end an exchange, produced: its side, its phase, and where it is.

use super::*;
use crate::error::{FailedSide, Failure, Fault, LimitError, PeerError, Phase};
use crate::limits::Limits;
use crate::proxy::conn::EndKind;

/// A request that is not sent twice.
const POST: &str = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
const UPLOAD: &str = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf";
const WAIT: &str = "POST /containers/x/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
const CHUNKS: &str = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn each_cause_is_recorded_with_its_side_and_place() {
    for cause in Cause::all() {
        let Some((script, side, phase)) = produced_by(cause) else { continue };
        let mut bench = Bench::with(config());
        let expected = script(&mut bench);
        let failure = Failure { side, phase, cause: expected };
        assert_eq!(bench.failure, Some(failure), "{cause:?}");
        assert_eq!(expected.name(), cause.name());
    }
}

#[test]
fn a_malformed_message_is_recorded_with_its_offset() {
    for cause in Cause::all() {
        let Cause::Parse(error) = cause else { continue };
        let Some(Malformed { side, phase, before, text }) = malformed(error.fault) else { continue };
        let at = text.find('^').unwrap();
        let mut bench = Bench::with(config());
        for text in [&*before, &text.replace('^', "")] {
            let is_request = bench.conn.request().is_none();
            let to = if is_request { Side::Downstream } else { side };
            bench.conn.feed(to, text.as_bytes(), bench.now);
            bench.turn();
        }
        let Some(failure) = bench.failure else { panic!("{cause:?} was not produced by {text:?}") };
        let Cause::Parse(got) = failure.cause else { panic!("{cause:?}: {failure:?}") };
        assert_eq!((got.fault, got.at), (error.fault, at as u64), "{text:?}");
        assert_eq!((failure.side, failure.phase), (Failure::new(side, phase, cause).side, phase), "{text:?}");
        let reply = bench.client_got();
        if side == Side::Upstream {
            assert!(
                !reply.contains(&error.fault.to_string()),
                "what a daemon sends is not the client's: {reply}"
            );
        } else {
            let said = format!("{} (at byte {at} of the {} ", error.fault, "request");
            assert!(reply.contains(said.trim_end()), "{reply}");
        }
    }
}

#[test]
fn a_failure_of_the_proxy_is_blamed_on_no_daemon() {
    let full = Cause::OutOfResources { errno: Some(12) };
    let kind = |phase, cause| ExchangeEnd::Failed(Failure::new(Side::Upstream, phase, cause)).kind();
    for (phase, expected) in [
        (Phase::RequestHead, EndKind::Stopped),
        (Phase::RequestBody, EndKind::Stopped),
        (Phase::Connect, EndKind::Unreachable),
        (Phase::ResponseHead, EndKind::Stopped),
        (Phase::ResponseBody, EndKind::Truncated),
    ] {
        assert_eq!(kind(phase, full), expected, "{phase:?}");
        assert_eq!(kind(phase, Cause::Panicked), EndKind::Stopped, "{phase:?}");
    }
}

/// Small bounds, all clocks on.
fn config() -> ConnConfig {
    let mut limits = Limits::default();
    (limits.request_line, limits.request_head, limits.fields) = (64, 200, 4);
    (limits.chunk_extension, limits.chunk_extensions) = (4, 8);
    (limits.chunk_overhead_free, limits.chunk_overhead_ratio) = (16, 1);
    (limits.trailer, limits.trailer_fields, limits.held) = (16, 1, 8);
    (limits.response_time, limits.stream_idle) = (Some(MINUTE), Some(MINUTE));
    ConnConfig { limits, ..ConnConfig::default() }
}

/// Lets a cause happen, and returns it with what is known of it.
type Script = fn(&mut Bench) -> Cause;

/// Returns how to produce a cause in an exchange; `None` if only the engine can, whose tests do.
fn produced_by(cause: Cause) -> Option<(Script, FailedSide, Phase)> {
    use FailedSide::{Downstream, Proxy, Upstream};

    let script: (Script, FailedSide, Phase) = match cause {
        Cause::ClosedEarly => (
            |bench| {
                bench.client(POST).eof(Side::Upstream);
                Cause::ClosedEarly
            },
            Upstream,
            Phase::ResponseHead,
        ),
        Cause::Reset { .. } => (|bench| fail(bench, Side::Upstream, RESET), Upstream, Phase::ResponseBody),
        Cause::Lost { .. } => (
            |bench| fail(bench, Side::Downstream, Cause::Lost { errno: Some(110) }),
            Downstream,
            Phase::ResponseBody,
        ),
        Cause::TlsTruncated => {
            (|bench| fail(bench, Side::Upstream, Cause::TlsTruncated), Upstream, Phase::ResponseBody)
        }
        Cause::TlsStream { .. } => (
            |bench| fail(bench, Side::Downstream, Cause::TlsStream { alert: Some(20) }),
            Downstream,
            Phase::ResponseBody,
        ),
        Cause::MethodNotOffered => (
            |bench| {
                bench.client("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n");
                Cause::MethodNotOffered
            },
            Downstream,
            Phase::RequestHead,
        ),
        Cause::UnrequestedSwitch => (
            |bench| {
                bench.client(POST).daemon("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
                Cause::UnrequestedSwitch
            },
            Upstream,
            Phase::ResponseHead,
        ),
        Cause::TooManyInterim => (
            |bench| {
                bench.client(POST).daemon(&"HTTP/1.1 103 x\r\n\r\n".repeat(9));
                Cause::TooManyInterim
            },
            Upstream,
            Phase::ResponseHead,
        ),
        Cause::Truncated => (
            |bench| {
                bench.client(POST).daemon(HALF).eof(Side::Upstream);
                Cause::Truncated
            },
            Upstream,
            Phase::ResponseBody,
        ),
        Cause::ConnectFailed { .. } => {
            (|bench| unreachable(bench, Cause::ConnectFailed { errno: Some(111) }), Upstream, Phase::Connect)
        }
        Cause::ResolveFailed => (|bench| unreachable(bench, Cause::ResolveFailed), Upstream, Phase::Connect),
        Cause::NoAddress => (|bench| unreachable(bench, Cause::NoAddress), Upstream, Phase::Connect),
        Cause::OwnListener => (|bench| unreachable(bench, Cause::OwnListener), Proxy, Phase::Connect),
        Cause::OutOfResources { .. } => {
            (|bench| unreachable(bench, Cause::OutOfResources { errno: Some(24) }), Proxy, Phase::Connect)
        }
        Cause::Killed => (
            |bench| {
                bench.client(GET);
                bench.conn.kill(bench.now);
                bench.turn();
                Cause::Killed
            },
            Proxy,
            Phase::ResponseHead,
        ),
        Cause::Drained | Cause::Panicked | Cause::Tls(_) => return None,
        Cause::ProxyHeader | Cause::UntrustedPeer => return None,
        // The test of malformed messages.
        Cause::Parse(_) => return None,
        Cause::Timeout(timeout) => return timed_out(timeout),
    };
    Some(script)
}

fn timed_out(timeout: Timeout) -> Option<(Script, FailedSide, Phase)> {
    use FailedSide::{Downstream, Upstream};

    Some(match timeout {
        Timeout::RequestHead => {
            (|bench| late(bench.client("GET"), Timeout::RequestHead), Downstream, Phase::RequestHead)
        }
        Timeout::RequestBody => {
            (|bench| late(bench.client(UPLOAD), Timeout::RequestBody), Downstream, Phase::RequestBody)
        }
        Timeout::ResponseDelivery => (
            |bench| {
                bench.client(POST);
                // It stays in the queue.
                bench.conn.feed(Side::Upstream, OK.as_bytes(), bench.now);
                late(bench, Timeout::ResponseDelivery)
            },
            Downstream,
            Phase::ResponseBody,
        ),
        Timeout::RequestDelivery => (
            |bench| {
                bench.conn.feed(Side::Downstream, UPLOAD.as_bytes(), bench.now);
                bench.conn.upstream_ready(None, false, bench.now);
                late(bench, Timeout::RequestDelivery)
            },
            Upstream,
            Phase::ResponseHead,
        ),
        Timeout::ResponseHead => {
            (|bench| late(bench.client(POST), Timeout::ResponseHead), Upstream, Phase::ResponseHead)
        }
        Timeout::ResponseBody => (
            |bench| late(bench.client(POST).daemon(HALF), Timeout::ResponseBody),
            Upstream,
            Phase::ResponseBody,
        ),
        Timeout::StreamIdle => {
            (|bench| late(bench.client(WAIT), Timeout::StreamIdle), Upstream, Phase::ResponseHead)
        }
        Timeout::Connect => {
            (|bench| unreachable(bench, Cause::Timeout(Timeout::Connect)), Upstream, Phase::Connect)
        }
        Timeout::Resolve => {
            (|bench| unreachable(bench, Cause::Timeout(Timeout::Resolve)), Upstream, Phase::Connect)
        }
        Timeout::Handshake => {
            (|bench| unreachable(bench, Cause::Timeout(Timeout::Handshake)), Upstream, Phase::Connect)
        }
        Timeout::TunnelIdle | Timeout::ProxyHeader => return None,
    })
}

/// Waits until something has timed out.
fn late(bench: &mut Bench, timeout: Timeout) -> Cause {
    bench.now = bench.conn.poll_timeout().unwrap();
    bench.conn.handle_timeout(bench.now);
    bench.turn();
    Cause::Timeout(timeout)
}

/// Makes a connection fail within a response.
fn fail(bench: &mut Bench, side: Side, cause: Cause) -> Cause {
    bench.client(POST).daemon(HALF);
    bench.conn.feed_error(side, cause, bench.now);
    bench.turn();
    cause
}

/// There is no upstream.
fn unreachable(bench: &mut Bench, cause: Cause) -> Cause {
    bench.conn.feed(Side::Downstream, POST.as_bytes(), bench.now);
    bench.conn.upstream_failed(cause, bench.now);
    bench.turn();
    cause
}

/// A message that breaks a rule at `^`.
struct Malformed {
    side: Side,
    phase: Phase,
    /// What comes before it.
    before: String,
    text: String,
}

fn malformed(fault: Fault) -> Option<Malformed> {
    match fault {
        Fault::Peer(error) => malformed_by(error),
        Fault::Limit(error) => Some(oversized_by(error)),
    }
}

fn request(text: &str) -> Malformed {
    let (side, phase) = (Side::Downstream, Phase::RequestHead);
    Malformed { side, phase, before: String::new(), text: text.to_owned() }
}

fn response(text: &str) -> Malformed {
    let (side, phase) = (Side::Upstream, Phase::ResponseHead);
    Malformed { side, phase, before: POST.into(), text: text.to_owned() }
}

fn chunks(text: &str) -> Malformed {
    Malformed { phase: Phase::RequestBody, before: CHUNKS.into(), ..request(text) }
}

fn malformed_by(error: PeerError) -> Option<Malformed> {
    let head = |fields: &str| request(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
    Some(match error {
        PeerError::BareLf => request("GET / HTTP/1.1^\nHost: d\n\n"),
        PeerError::BareCr => request("GET / HTTP/1.1\r\nHost: d\r\nX: a\r^b\r\n\r\n"),
        PeerError::ExtraEmptyLine => request("\r\n^\r\nGET / HTTP/1.1\r\n"),
        PeerError::RequestLineBlank => request("GET ^ / HTTP/1.1\r\n"),
        PeerError::RequestLineShort => request("GET /^\r\n"),
        PeerError::MethodByte => request("G^(T / HTTP/1.1\r\n"),
        PeerError::MethodTooLong => request("MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM^M / HTTP/1.1\r\n"),
        PeerError::TargetByte => request("GET /^\u{1} HTTP/1.1\r\n"),
        PeerError::TargetForm => request("GET ^x HTTP/1.1\r\nHost: x\r\n\r\n"),
        PeerError::TargetAuthority => request("GET ^http://u@d/ HTTP/1.1\r\nHost: d\r\n\r\n"),
        PeerError::TargetHostMismatch => request("GET http://a/ HTTP/1.1\r\n^Host: b\r\n\r\n"),
        PeerError::UnsupportedVersion => request("GET / HTTP/^2.0\r\n"),
        PeerError::StatusCode => response("HTTP/1.1 ^099 x\r\n\r\n"),
        PeerError::ReasonSpace => response("HTTP/1.1 200^\r\n\r\n"),
        PeerError::ReasonByte => response("HTTP/1.1 200 O^\u{1}K\r\n\r\n"),
        PeerError::BlankBeforeFields => request("GET / HTTP/1.1\r\n^ Host: x\r\n\r\n"),
        PeerError::ObsoleteFold => head("X: a\r\n^ b"),
        PeerError::FieldNameBlank => head("X^ : a"),
        PeerError::FieldNameEmpty => head("^: a"),
        PeerError::FieldNameByte => head("X^(: a"),
        PeerError::FieldColon => head("X^"),
        PeerError::FieldValueByte => response("HTTP/1.1 200 OK\r\nX: a^\u{1}\r\n\r\n"),
        PeerError::HostMissing => request("GET / HTTP/1.1\r\n\r\n^"),
        PeerError::HostRepeated => head("^Host: x"),
        PeerError::HostInvalid => request("GET / HTTP/1.1\r\n^Host: a b\r\n\r\n"),
        PeerError::UnsupportedExpectation => head("^Expect: x"),
        PeerError::AmbiguousFraming => head("Content-Length: 1\r\n^Transfer-Encoding: chunked"),
        PeerError::TransferCodingInHttp10 => {
            request("POST / HTTP/1.0\r\nHost: x\r\n^Transfer-Encoding: chunked\r\n\r\n")
        }
        PeerError::TransferCodingRepeated => {
            head("Transfer-Encoding: chunked\r\n^Transfer-Encoding: chunked")
        }
        PeerError::TransferCodingInvalid => head("^Transfer-Encoding: gzip"),
        PeerError::UnsupportedTransferCoding => head("^Transfer-Encoding: gzip, chunked"),
        PeerError::ContentLengthRepeated => {
            response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n^Content-Length: 1\r\n\r\n")
        }
        PeerError::ContentLengthInvalid => head("^Content-Length: +1"),
        PeerError::ContentLengthTooLarge => head("^Content-Length: 9223372036854775808"),
        PeerError::ConnectionOption => head("^Connection: host"),
        PeerError::ChunkSizeEmpty => chunks("^\r\n"),
        PeerError::ChunkSizeByte => chunks("1\r\na\r\n^x\r\n"),
        PeerError::ChunkSizeTooLarge => chunks("FFFFFFFFFFFFFFF^F\r\n"),
        PeerError::ChunkExtensionByte => chunks("1;^\u{1}\r\n"),
        PeerError::ChunkDataEnd => chunks("1\r\na^b"),
        // The second reader is there for cases that are not known.
        PeerError::ReadersDisagree => return None,
    })
}

fn oversized_by(error: LimitError) -> Malformed {
    let many = |line: &str, count| line.repeat(count);
    match error {
        LimitError::RequestLine => request(&format!("GET /{}^b HTTP/1.1\r\n", many("a", 59))),
        LimitError::Head => {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", many("a", 172));
            request(&format!("{text}^b\r\n\r\n"))
        }
        LimitError::Fields => {
            request(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}^B: \r\n\r\n", many("A: \r\n", 3)))
        }
        LimitError::ChunkExtension => chunks("1;abc^d\r\na\r\n0\r\n\r\n"),
        LimitError::ChunkExtensions => chunks("9;abc\r\n123456789\r\n9;abc\r\n123456789\r\n9^;abc\r\n"),
        LimitError::ChunkOverhead => chunks(&format!("{}1\r^\n", many("1\r\na\r\n", 5))),
        LimitError::Trailer => chunks("0\r\nX: 1234567890123^4\r\n\r\n"),
        LimitError::TrailerFields => chunks("0\r\nA: 1\r\n^B: 1\r\n\r\n"),
        LimitError::Held => {
            request("POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n^Content-Length: 9\r\n\r\n")
        }
    }
}
