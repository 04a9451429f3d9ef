#![forbid(unsafe_code)]
//! What the kernel knows of this process (proc(5)), under the names that all Prometheus clients
//! use.

use std::fs;

use super::encode::{Encoder, MetricType};

/// Clock ticks a second in `/proc`: USER_HZ, which is 100 on every architecture that Rust runs on.
const TICKS: f64 = 100.0;

/// Adds `process_*`; what cannot be read is omitted.
pub(super) fn collect(out: &mut Encoder) {
    let mut metric = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
    };
    // The name of the program, in parentheses, may contain anything: fields are counted from its
    // end.
    let stat = read("/proc/self/stat");
    let stat = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| stat.split_ascii_whitespace().nth(field - 3)?.parse::<f64>().ok();
    let (user, system, started) = (ticks(14), ticks(15), ticks(22));
    let status = read("/proc/self/status");
    let kib = |key| Some(number_behind(&status, key)? * 1024.0);

    metric(
        "process_cpu_seconds_total",
        MetricType::Counter,
        "CPU time used, user and system.",
        user.zip(system).map(|(user, system)| (user + system) / TICKS),
    );
    metric("process_resident_memory_bytes", MetricType::Gauge, "Memory that is resident.", kib("VmRSS:"));
    metric("process_virtual_memory_bytes", MetricType::Gauge, "Address space in use.", kib("VmSize:"));
    metric("process_open_fds", MetricType::Gauge, "Open file descriptors.", open_descriptors());
    metric(
        "process_max_fds",
        MetricType::Gauge,
        "File descriptors that may be open.",
        number_behind(&read("/proc/self/limits"), "Max open files"),
    );
    let booted = number_behind(&read("/proc/stat"), "btime");
    metric(
        "process_start_time_seconds",
        MetricType::Gauge,
        "When the process started, since the epoch.",
        booted.zip(started).map(|(booted, started)| booted + started / TICKS),
    );
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the number that follows a key at the beginning of a line.
fn number_behind(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Returns the number of open descriptors. Since Linux 6.2 it is the size of the directory, which
/// saves listing it in a loop with many connections.
fn open_descriptors() -> Option<f64> {
    let count = match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?,
        count => count,
    };
    u32::try_from(count).ok().map(f64::from)
}
