//! Many idle processes, started as dockerd does it: the status pipe is descriptor 3.

use std::io::{PipeReader, Read};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::relays::{Kind, Programs};
use crate::support::{Result, procfs, sys};

/// A value for each process.
#[derive(Default)]
pub(crate) struct Many {
    /// KiB that only this process has written to.
    pub(crate) private: Vec<f64>,
    /// KiB, shared ones counted by their share.
    pub(crate) pss: Vec<f64>,
    /// CPU time until it reported that the port is served, in milliseconds.
    pub(crate) cpu: Vec<f64>,
    /// The time that took.
    pub(crate) seconds: Vec<f64>,
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(programs: &Programs, kind: Kind, count: usize) -> Result<Many> {
    let mut many = Many::default();
    let mut all = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        let (child, mut status) = spawn(programs, kind)?;
        let mut answer = [0; 2];
        status.read_exact(&mut answer)?;
        many.seconds.push(begin.elapsed().as_secs_f64());
        if answer != *b"0\n" {
            return Err(format!("{} cannot serve its port", kind.label()).into());
        }
        all.push(child);
    }
    sleep(Duration::from_millis(500));
    for child in &all {
        let pid = libc::pid_t::try_from(child.0.id())?;
        let memory = procfs::memory(pid)?;
        many.private.push(memory.private as f64);
        many.pss.push(memory.pss as f64);
        many.cpu.push(procfs::cpu_ns(pid)? as f64 / 1e6);
    }
    Ok(many)
}

fn spawn(programs: &Programs, kind: Kind) -> Result<(Started, PipeReader)> {
    let program = match kind {
        Kind::OurDockerProxy => &programs.our_docker_proxy,
        _ => &programs.docker_proxy,
    };
    let mut command = Command::new(program.as_ref().ok_or("no such docker-proxy")?);
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    command.args(["-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", &port]);
    command.args(["-container-ip", "127.0.0.1", "-container-port", "9"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (reader, writer) = std::io::pipe()?;
    let fd = writer.as_raw_fd();
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            sys::die_with_parent()?;
            sys::duplicate_to(fd, 3)
        })
    };
    Ok((Started(command.spawn()?), reader))
}
