//! Figures of a relay process from /proc.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Result;

/// CPU time of the present threads of a process, in nanoseconds, user and system together.
///
/// `schedstat` is exact to the context switch; the ticks of `stat`, the fallback, are 10 ms of
/// sampling.
pub(crate) fn cpu_ns(pid: libc::pid_t) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += task_cpu_ns(&task?.path())?;
    }
    Ok(sum)
}

fn task_cpu_ns(task: &Path) -> Result<u64> {
    let exact = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    if let Some(ns) = exact.split_whitespace().next().and_then(|f| f.parse().ok()) {
        return Ok(ns);
    }
    let text = fs::read_to_string(task.join("stat"))?;
    let fields = stat_fields(&text);
    let tick = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok());
    match (tick(11), tick(12)) {
        (Some(user), Some(system)) => Ok((user + system) * 10_000_000),
        _ => Err(format!("cannot read {}/stat", task.display()).into()),
    }
}

/// The fields behind the command name, which may itself contain blanks.
fn stat_fields(text: &str) -> Vec<&str> {
    text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect()
}

pub(crate) fn child_of(parent: libc::pid_t) -> io::Result<Option<libc::pid_t>> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if stat_fields(&text).get(1).and_then(|f| f.parse().ok()) == Some(parent) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

pub(crate) fn traced(pid: libc::pid_t) -> io::Result<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(text.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|v| v.trim() != "0")))
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Kilobytes that only this process has written to.
    pub(crate) private: u64,
    /// Kilobytes, shared ones counted by their share.
    pub(crate) pss: u64,
}

pub(crate) fn memory(pid: libc::pid_t) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|v| v.split_whitespace().next()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(Memory { private: field("Private_Dirty:"), pss: field("Pss:") })
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Fds {
    pub(crate) sockets: u64,
    pub(crate) pipes: u64,
}

pub(crate) fn fds(pid: libc::pid_t) -> Result<Fds> {
    let mut count = Fds::default();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        match target.to_str() {
            Some(t) if t.starts_with("socket:") => count.sockets += 1,
            Some(t) if t.starts_with("pipe:") => count.pipes += 1,
            _ => {}
        }
    }
    Ok(count)
}

/// Where a program is: in `PATH`, in one of `places`, or at the path that it is.
pub(crate) fn find_program(program: &str, places: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = places.iter().map(PathBuf::from);
    std::env::split_paths(&path).chain(places).map(|dir| dir.join(program)).find(|file| file.is_file())
}
