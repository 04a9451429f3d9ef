#![forbid(unsafe_code)]
//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

use dockline::untrusted::Line;

/// The type of a metric.
#[derive(Clone, Copy, Debug)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

/// Writes one metric family after the other.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    text: String,
}

impl Encoder {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: MetricType, help: &str) {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if number == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    // An escape of `Untrusted` has a backslash of its own.
                    c => self.text.push_str(&Line(c).to_string().replace('\\', "\\\\")),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Returns everything that was added.
    pub(super) fn finish(self) -> String {
        self.text
    }
}
