#![forbid(unsafe_code)]
//! The text format: `client - user [time] "request" status key=value…`.

use std::io::Write;

use dockline::error::Failure;

use super::{Millis, Outcome, Record, cut};

/// Writes a line, without its end. Its strings are visible ASCII; `-` stands for what is not known.
pub(super) fn write(out: &mut Vec<u8>, record: &Record<'_>) {
    let time = humantime::format_rfc3339_millis(record.time);
    let _ = write!(out, "{} - ", record.client.peer);
    value(out, record.client.identity.as_deref());
    let _ = write!(out, " [{time}] \"");
    bytes(out, record.method);
    out.push(b' ');
    bytes(out, record.target);
    out.extend_from_slice(b"\" ");
    match record.outcome {
        Outcome::Request { status: Some(status), .. } => {
            let _ = write!(out, "{status}");
        }
        Outcome::Request { status: None, .. } | Outcome::TunnelEnd { .. } => out.push(b'-'),
    }
    out.extend_from_slice(b" listener=");
    value(out, Some(&record.client.listener));
    if let Some(address) = record.client.forwarded_for {
        let _ = write!(out, " forwarded_for={address}");
    }
    if let Some(proxied) = &record.client.proxied {
        let _ = write!(out, " proxied_by={}", proxied.by);
    }
    out.extend_from_slice(b" upstream=");
    value(out, record.upstream);
    if let Some(route) = record.route {
        out.extend_from_slice(b" route=");
        value(out, Some(route));
    }
    let (kind, up, down) = (record.kind, record.bytes_up, record.bytes_down);
    let _ = write!(out, " kind={kind} bytes_up={up} bytes_down={down} dur_ms={}", Millis(record.duration));
    match &record.outcome {
        Outcome::Request { reused, time_to_head, end, .. } => {
            let _ = match time_to_head {
                Some(time) => write!(out, " ttfb_ms={}", Millis(*time)),
                None => write!(out, " ttfb_ms=-"),
            };
            let _ = write!(out, " reused={reused} end={end}");
        }
        Outcome::TunnelEnd { first_closer, close } => {
            let (first_closer, close) = (first_closer.unwrap_or("-"), close.unwrap_or("-"));
            let _ = write!(out, " first_closer={first_closer} close={close}");
        }
    }
    if let Some(Failure { side, phase, cause }) = record.failure {
        let _ = write!(out, " side={} phase={} cause={}", side.name(), phase.name(), cause.name());
        // Each only if there is one.
        let _ = cause.offset().map_or(Ok(()), |offset| write!(out, " offset={offset}"));
        let _ = cause.errno().map_or(Ok(()), |errno| write!(out, " errno={errno}"));
        let _ = cause.alert().map_or(Ok(()), |alert| write!(out, " alert={alert}"));
    }
}

fn value(out: &mut Vec<u8>, text: Option<&str>) {
    bytes(out, text.unwrap_or_default().as_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    let (mut rest, is_cut) = cut(value);
    if rest.is_empty() {
        out.push(b'-');
    }
    while let Some(at) = rest.iter().position(|&byte| !is_plain(byte)) {
        out.extend_from_slice(&rest[..at]);
        let _ = write!(out, "\\x{:02X}", rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    if is_cut {
        out.extend_from_slice(b"...");
    }
}

/// Returns whether a byte is written as it is: visible ASCII that neither ends a quoted string nor
/// begins an escape.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')
}
