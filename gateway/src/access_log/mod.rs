#![forbid(unsafe_code)]
//! The access log: one line for each request, and one for each tunnel when it ends.
//!
//! A line is made on the thread of the loop and handed to one writer thread through a bounded
//! queue. Nothing waits for the log: a line that finds the queue full, or that cannot be written,
//! is lost and counted.

mod json;
mod queue;
mod text;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, SystemTime};

use dockline::engine::{ClientInfo, Exchange, Tunnel, Upstream};
use dockline::error::{Failure, Side};
use dockline::proxy::hijack::HijackKind;

pub(crate) use json::write_string as write_json_string;
use queue::{Queue, Sink};

use crate::absolute_path::AbsolutePath;

/// Longer targets are cut here, in bytes, and end in `...`; so are longer methods and identities.
const VALUE_BYTES: usize = 1024;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended; made with mode 0640 if it is not there.
    File(AbsolutePath),
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people: like the logs of web servers, then `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// An access log that is open. Dropping it writes what is queued, for two seconds at most.
#[derive(Debug)]
pub(crate) struct AccessLog {
    target: AccessLogTarget,
    format: LogFormat,
    queue: Arc<Queue>,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread not started.
    pub(crate) fn open(target: AccessLogTarget, format: LogFormat) -> io::Result<Self> {
        let mut sink = Sink::new(target.open()?);
        let queue = Arc::new(Queue::default());
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&mut sink))?;
        Ok(Self { target, format, queue })
    }

    /// Opens the file again, after it was renamed. Lines logged from now on go to the new one; if
    /// it cannot be opened, to the old one.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.queue.replace(self.target.open()?);
        Ok(())
    }

    /// Returns the counter of lines that were lost: to a full queue, or to a file or pipe that
    /// accepted none. It outlives the log.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(self.queue.lost())
    }

    /// Logs a request.
    pub(crate) fn exchange(&self, exchange: &Exchange<'_>, now: SystemTime) {
        self.log(&Record {
            time: now,
            client: exchange.client,
            method: exchange.method,
            target: exchange.target,
            upstream: exchange.upstream.map(|upstream| &*upstream.name),
            route: exchange.route,
            kind: exchange.tunnel.map_or("http", kind_name),
            bytes_up: exchange.bytes_up,
            bytes_down: exchange.bytes_down,
            duration: exchange.duration,
            outcome: Outcome::Request {
                status: exchange.status,
                reused: exchange.reused,
                time_to_head: exchange.time_to_head,
                end: exchange.end.name(),
            },
            failure: exchange.end.failure(),
        });
    }

    /// Logs the end of a tunnel.
    pub(crate) fn tunnel(&self, tunnel: &Tunnel<'_>, now: SystemTime) {
        self.log(&Record {
            time: now,
            client: tunnel.client,
            method: tunnel.method,
            target: tunnel.target,
            upstream: Some(&tunnel.upstream.name),
            route: tunnel.route,
            kind: tunnel_kind_name(tunnel.kind),
            bytes_up: tunnel.stats.up.delivered,
            bytes_down: tunnel.stats.down.delivered,
            duration: tunnel.duration,
            outcome: Outcome::TunnelEnd {
                first_closer: tunnel.stats.first_closer.map(|side| match side {
                    Side::Downstream => "client",
                    Side::Upstream => "daemon",
                }),
                close: tunnel.stats.close_reason.map(|reason| reason.name()),
            },
            failure: tunnel.failure,
        });
    }

    /// Logs a connection of a forwarding listener that did not become a tunnel.
    pub(crate) fn forward_failed(
        &self,
        client: &ClientInfo,
        upstream: &Upstream,
        failure: Failure,
        now: SystemTime,
    ) {
        self.log(&Record {
            time: now,
            client,
            method: b"",
            target: b"",
            upstream: Some(&upstream.name),
            route: None,
            kind: tunnel_kind_name(None),
            bytes_up: 0,
            bytes_down: 0,
            duration: Duration::ZERO,
            outcome: Outcome::TunnelEnd { first_closer: None, close: None },
            failure: Some(failure),
        });
    }

    fn log(&self, record: &Record<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            match self.format {
                LogFormat::Text => text::write(line, record),
                LogFormat::Json => json::write(line, record),
            }
            line.push(b'\n');
            self.queue.push(line);
        });
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The content of a line, in either format.
struct Record<'a> {
    time: SystemTime,
    client: &'a ClientInfo,
    method: &'a [u8],
    target: &'a [u8],
    upstream: Option<&'a str>,
    route: Option<&'a str>,
    kind: &'static str,
    bytes_up: u64,
    bytes_down: u64,
    duration: Duration,
    outcome: Outcome,
    /// Why it ended prematurely.
    failure: Option<Failure>,
}

enum Outcome {
    Request { status: Option<u16>, reused: bool, time_to_head: Option<Duration>, end: &'static str },
    TunnelEnd { first_closer: Option<&'static str>, close: Option<&'static str> },
}

/// Returns the word for how a tunnel was opened; stable.
pub(crate) fn tunnel_kind_name(kind: Option<HijackKind>) -> &'static str {
    kind.map_or("forward", kind_name)
}

fn kind_name(kind: HijackKind) -> &'static str {
    match kind {
        HijackKind::Upgrade => "upgrade",
        HijackKind::RawStream => "raw-stream",
        HijackKind::Connect => "connect",
    }
}

/// Returns the part of a value that is logged, and whether that is not all.
fn cut(value: &[u8]) -> (&[u8], bool) {
    value.get(..VALUE_BYTES).map_or((value, false), |part| (part, part.len() < value.len()))
}

/// Milliseconds with three digits after the decimal point.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_millis(), self.0.subsec_micros() % 1000)
    }
}

#[cfg(test)]
mod tests;
