#![forbid(unsafe_code)]
//! [`Histogram`]: counts of durations by buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::encode::Encoder;

/// Counts durations, without a lock. The sum has microseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper ends of the buckets, in seconds, inclusive; one more bucket takes the rest.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, micros: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|&bound| bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds the samples; each bucket includes those before it.
    pub(super) fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]) {
        let mut total = 0;
        let ends = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*end)]).collect();
            out.sample(&format!("{name}_bucket"), &labels, total);
        }
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        out.sample(&format!("{name}_sum"), labels, sum);
        out.sample(&format!("{name}_count"), labels, total);
    }
}
