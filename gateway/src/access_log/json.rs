#![forbid(unsafe_code)]
//! The JSON format (RFC 8259): one object a line, with the same keys in all lines of a kind.

use std::fmt::Display;
use std::io::Write;

use dockline::error::Failure;

use super::{Millis, Outcome, Record, cut};

/// Writes a line, without its end. `null` stands for what is not known.
pub(super) fn write(out: &mut Vec<u8>, record: &Record<'_>) {
    let time = humantime::format_rfc3339_millis(record.time);
    let _ = write!(out, "{{\"ts\":\"{time}\",\"client\":\"{}\"", record.client.peer);
    let forwarded_for = record.client.forwarded_for.map(|address| address.to_string());
    text(out, "forwarded_for", forwarded_for.as_deref());
    let proxied_by = record.client.proxied.as_ref().map(|proxied| proxied.by.to_string());
    text(out, "proxied_by", proxied_by.as_deref());
    text(out, "listener", Some(&record.client.listener));
    text(out, "user", record.client.identity.as_deref());
    bytes(out, "method", record.method);
    bytes(out, "path", record.target);
    if let Outcome::Request { status, .. } = record.outcome {
        number(out, "status", status);
    }
    text(out, "upstream", record.upstream);
    text(out, "route", record.route);
    if let Outcome::Request { reused, .. } = record.outcome {
        number(out, "reused", Some(reused));
    }
    let (kind, up, down) = (record.kind, record.bytes_up, record.bytes_down);
    let _ = write!(out, ",\"kind\":\"{kind}\",\"bytes_up\":{up},\"bytes_down\":{down}");
    number(out, "dur_ms", Some(Millis(record.duration)));
    match &record.outcome {
        Outcome::Request { time_to_head, end, .. } => {
            number(out, "ttfb_ms", time_to_head.map(Millis));
            text(out, "end", Some(end));
        }
        Outcome::TunnelEnd { first_closer, close } => {
            text(out, "first_closer", *first_closer);
            text(out, "close", *close);
        }
    }
    write_failure(out, record.failure);
    out.push(b'}');
}

fn write_failure(out: &mut Vec<u8>, failure: Option<Failure>) {
    key(out, "failure");
    let Some(Failure { side, phase, cause }) = failure else { return out.extend_from_slice(b"null") };
    let _ = write!(out, "{{\"side\":\"{}\"", side.name());
    text(out, "phase", Some(phase.name()));
    text(out, "cause", Some(cause.name()));
    number(out, "offset", cause.offset());
    number(out, "errno", cause.errno());
    number(out, "alert", cause.alert());
    out.push(b'}');
}

fn number(out: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    key(out, name);
    let _ = match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_all(b"null"),
    };
}

fn text(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    bytes(out, name, value.unwrap_or_default().as_bytes());
}

fn bytes(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    match cut(value) {
        ([], _) => out.extend_from_slice(b"null"),
        (all, false) => write_string(out, all),
        (part, true) => {
            write_string(out, part);
            out.truncate(out.len() - 1);
            out.extend_from_slice(b"...\"");
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes a JSON string of visible ASCII and spaces only; everything else is escaped. Bytes that
/// are not UTF-8 become U+FFFD.
pub(crate) fn write_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let plain = value.iter().position(|&byte| !is_plain(byte)).unwrap_or(value.len());
    let (plain, rest) = value.split_at(plain);
    out.extend_from_slice(plain);
    for chunk in rest.utf8_chunks() {
        for c in chunk.valid().chars() {
            match u8::try_from(c) {
                Ok(byte) if is_plain(byte) => out.push(byte),
                Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}
