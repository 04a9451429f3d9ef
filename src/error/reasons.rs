#![forbid(unsafe_code)]
//! The tables of `docs/REASONS.md`.

use std::fmt::Write as _;

use super::cause::Reason;
use super::{Cause, Fault, LimitError, ParseError, PeerError, Phase, Side, Timeout, TlsFailure, TlsReason};

impl Cause {
    /// Returns one of each, in the order of `docs/REASONS.md`. What a peer has sent is at offset 0,
    /// and no error number or alert is known.
    pub fn all() -> impl Iterator<Item = Self> {
        let parse = |fault| Self::Parse(ParseError { fault, at: 0 });
        let tls = |&reason: &TlsReason| Self::Tls(TlsFailure { reason, alert: None });
        let faults = PeerError::ALL.iter().map(|&error| Fault::from(error));
        let faults = faults.chain(LimitError::ALL.iter().map(|&error| Fault::from(error)));
        let timeouts = Timeout::PLAIN.iter().map(|&timeout| Self::Timeout(timeout));
        let plain = Self::PLAIN.iter().copied().chain(timeouts);
        plain.chain(TlsReason::PLAIN.iter().map(tls)).chain(faults.map(parse))
    }
}

/// Returns the text of `docs/REASONS.md`: everything that can end something prematurely.
#[doc(hidden)]
#[must_use]
pub fn reasons_markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| phase | number | |\n|---|---|---|\n");
    for phase in Phase::ALL {
        line(&mut out, &[&format!("`{}`", phase.name()), &phase.number().to_string(), phase_text(phase)]);
    }
    heading(&mut out, "Connections and exchanges");
    reason_rows(&mut out, Cause::PLAIN.iter().filter_map(|cause| cause.reason()));
    heading(&mut out, "Time limits");
    out.push_str("The names in code style are keys of `[limits]` ([SERVE.md](SERVE.md#limits)).\n\n");
    reason_rows(&mut out, Timeout::PLAIN.iter().filter_map(|timeout| timeout.reason()));
    heading(&mut out, "TLS handshakes");
    reason_rows(&mut out, TlsReason::PLAIN.iter().filter_map(|reason| reason.reason()));
    heading(&mut out, "Malformed messages");
    out.push_str(MALFORMED);
    fault_rows(&mut out, PeerError::ALL.iter().map(|&error| error.into()));
    heading(&mut out, "Message limits");
    out.push_str(
        "The message exceeds a bound of `[limits]` ([SERVE.md](SERVE.md#limits)). If it is legitimate, raise that bound.\n\n",
    );
    out.push_str("| cause | number | status | meaning | bound |\n|---|---|---|---|---|\n");
    for &error in LimitError::ALL {
        let keys: Vec<String> = limit_keys(error).iter().map(|key| format!("`{key}`")).collect();
        fault_row(&mut out, error.into(), &[&keys.join(", ")]);
    }
    out
}

const INTRODUCTION: &str = "\
# Reasons

<!-- Generated from src/error by `make reasons`; do not edit. -->

Whatever ends an exchange, a TLS handshake, a connect or a tunnel prematurely is recorded with the side whose fault it is, the
phase, and a cause. The same words are in the access log, in the log of the process, and in the labels of
`dockline_failures_total`; the numbers are for the C interface. Neither changes once it is released.

| side | number | |
|---|---|---|
| `client` | 1 | the client, or the network to it |
| `daemon` | 2 | the upstream, or the network to it |
| `proxy` | 3 | the proxy itself: a limit, its configuration, its operator |

";

const MALFORMED: &str = "\
A peer broke HTTP/1.1. `offset` is the first byte that could not be accepted, counted from the start of the head or body that the
phase names; for a rule about a whole field, the start of its line. Such a message could be understood differently by two hops, so
it is never repaired: correct or update the program that sent it. A client gets the status in the table; a malformed response is
replaced by a 502, or cut.

";

fn heading(out: &mut String, title: &str) {
    let _ = write!(out, "\n## {title}\n\n");
}

fn line(out: &mut String, cells: &[&str]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn reason_rows(out: &mut String, reasons: impl Iterator<Item = Reason>) {
    out.push_str("| cause | number | side | meaning | what to do |\n|---|---|---|---|---|\n");
    for Reason { number, name, text, sides, advice } in reasons {
        let sides: Vec<&str> = sides.iter().map(|side| side.name()).collect();
        line(out, &[&format!("`{name}`"), &number.to_string(), &sides.join(", "), text, advice]);
    }
}

fn fault_rows(out: &mut String, faults: impl Iterator<Item = Fault>) {
    out.push_str("| cause | number | status | meaning |\n|---|---|---|---|\n");
    for fault in faults {
        fault_row(out, fault, &[]);
    }
}

fn fault_row(out: &mut String, fault: Fault, more: &[&str]) {
    let side = match fault {
        // Requests have neither.
        Fault::Peer(PeerError::StatusCode | PeerError::ReasonSpace | PeerError::ReasonByte) => Side::Upstream,
        _ => Side::Downstream,
    };
    let (name, number) = (format!("`{}`", fault.name()), fault.number().to_string());
    let (status, text) = (fault.status_hint(side).to_string(), fault.to_string());
    line(out, &[&[&*name, &*number, &*status, &*text], more].concat());
}

const fn limit_keys(error: LimitError) -> &'static [&'static str] {
    match error {
        LimitError::RequestLine => &["request_line"],
        LimitError::Head => &["request_head", "response_head"],
        LimitError::Fields => &["fields"],
        LimitError::ChunkExtension => &["chunk_extension"],
        LimitError::ChunkExtensions => &["chunk_extensions"],
        LimitError::ChunkOverhead => &["chunk_overhead_free", "chunk_overhead_ratio"],
        LimitError::Trailer => &["trailer"],
        LimitError::TrailerFields => &["trailer_fields"],
        LimitError::Held => &["held"],
    }
}

const fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::ProxyHeader => "the header of the PROXY protocol was being read",
        Phase::Handshake => "the TLS handshake of a client",
        Phase::RequestHead => "the request head was being read",
        Phase::RequestBody => "the request body was being read, or passed on",
        Phase::Connect => {
            "an upstream connection was being made: name lookup, connect, TLS handshake with the upstream"
        }
        Phase::ResponseHead => "the response head was awaited",
        Phase::ResponseBody => "the response body was being read, or passed on",
        Phase::Tunnel => "the connection was a tunnel",
    }
}

#[cfg(test)]
mod tests {
    use super::super::FailedSide;
    use super::*;

    #[test]
    fn names_and_numbers_are_unique() {
        let mut all: Vec<_> = Cause::all().map(|cause| (cause.name(), cause.number())).collect();
        let count = all.len();
        for (name, _) in &all {
            let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(is_kebab), "{name}");
        }
        all.sort_by_key(|(_, number)| *number);
        all.dedup_by_key(|(_, number)| *number);
        assert_eq!(all.len(), count, "two causes share a number");
        all.sort_by_key(|(name, _)| *name);
        all.dedup_by_key(|(name, _)| *name);
        assert_eq!(all.len(), count, "two causes share a name");
        assert_eq!(FailedSide::ALL.map(FailedSide::name), ["client", "daemon", "proxy"]);
    }
}
