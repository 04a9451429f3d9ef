#![forbid(unsafe_code)]
//! The log, on standard error.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use dockline::untrusted::Line;
use log::{Level, Log, Metadata, Record};

use crate::access_log::{LogFormat, write_json_string};
use crate::config::LogConfig;
use crate::output;

/// Starts the logger. Must be called once.
pub(crate) fn start(config: LogConfig) {
    // Set by systemd if the journal reads standard error. It has its own timestamps and levels.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    if log::set_boxed_logger(Box::new(Logger { format: config.format, journal })).is_ok() {
        log::set_max_level(config.level);
    }
}

struct Logger {
    format: LogFormat,
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "the time of day, for the operator")]
        let now = SystemTime::now();
        let message = record.args().to_string();
        let line = match self.format {
            LogFormat::Json => json(record.level(), &message, now),
            LogFormat::Text if self.journal => journal(record.level(), &message).into_bytes(),
            LogFormat::Text => text(record.level(), &message, now).into_bytes(),
        };
        // One write, so that lines of threads do not mix. A failure cannot be reported.
        let _ = std::io::stderr().lock().write_all(&line);
    }

    fn flush(&self) {}
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn text(level: Level, message: &str, now: SystemTime) -> String {
    let time = humantime::format_rfc3339_millis(now);
    // A further line of a message must not look like another message.
    let message = output::printable(message).replace('\n', "\n  ");
    format!("{time} {:5} {message}\n", name(level))
}

/// Formats a message with a syslog priority in front of each line (sd-daemon(3)).
fn journal(level: Level, message: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let mut all = String::new();
    for line in message.lines() {
        let _ = writeln!(all, "<{priority}>{}", Line(line));
    }
    all
}

fn json(level: Level, message: &str, now: SystemTime) -> Vec<u8> {
    let time = humantime::format_rfc3339_millis(now);
    let mut line = format!(r#"{{"ts":"{time}","level":"{}","msg":"#, name(level)).into_bytes();
    write_json_string(&mut line, message.as_bytes());
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_form() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(text(Level::Warn, "a\x1b[b", now), "1970-01-01T00:00:00.000Z warn  a\\u{1b}[b\n");
        assert_eq!(text(Level::Warn, "a\n1970-", now), "1970-01-01T00:00:00.000Z warn  a\n  1970-\n");
        assert_eq!(journal(Level::Error, "a\nb"), "<3>a\n<3>b\n");
        assert_eq!(
            String::from_utf8_lossy(&json(Level::Info, "say \"\\\"\n\x07", now)),
            "{\"ts\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"msg\":\"say \\\"\\\\\\\"\\u000a\\u0007\"}\n"
        );
    }
}
