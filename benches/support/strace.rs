//! Counts a worker's system calls with `strace -c`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Result, procfs, sys};

pub(crate) struct Counter {
    child: Child,
    output: PathBuf,
}

impl Counter {
    pub(crate) fn attach(pid: libc::pid_t) -> Result<Self> {
        let output = std::env::temp_dir().join(format!("dockline-strace-{}-{pid}", std::process::id()));
        let child = Command::new("strace")
            .args(["-c", "-f", "-o"])
            .arg(&output)
            .args(["-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut counter = Self { child, output };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !procfs::traced(pid)? {
            if Instant::now() > deadline || counter.child.try_wait()?.is_some() {
                return Err("strace cannot attach to the worker".into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(counter)
    }

    /// Calls by name. `EAGAIN` and the like are in it: they cost as much.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, u64>> {
        sys::signal(libc::pid_t::try_from(self.child.id())?, libc::SIGINT)?;
        self.child.wait()?;
        let text = fs::read_to_string(&self.output)?;
        Ok(parse(&text))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Interrupted, not killed: it has to detach from the worker.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), libc::pid_t::try_from(self.child.id())) {
            let _ = sys::signal(pid, libc::SIGINT);
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.output);
    }
}

/// Lines of `% time, seconds, usecs/call, calls, [errors,] name`.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (fields.get(3).and_then(|f| f.parse().ok()), fields.last()) else {
            continue;
        };
        if *name != "total" {
            calls.insert((*name).to_owned(), count);
        }
    }
    calls
}
