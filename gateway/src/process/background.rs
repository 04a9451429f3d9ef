#![forbid(unsafe_code)]
//! `--detach`: the program starts itself again, in a session of its own.
//!
//! The new process says on its standard output what is published, and with that closes it: then it serves, and logs into
//! a file. What goes wrong before that comes on its standard error.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::output;

/// Tells the new process what it is.
const VARIABLE: &str = "DOCKLINE_DETACHED";

/// Whether this is the new process.
pub(crate) fn is_child() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Starts the new process, and waits until it serves.
pub(crate) fn start() -> Result<ExitCode, String> {
    let failed = |error: io::Error| format!("cannot go into the background: {error}");
    let mut child = Command::new(env::current_exe().map_err(failed)?)
        .args(env::args_os().skip(1))
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    let mut errors = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut errors).map_err(failed)?;
        io::stderr().write_all(&errors).map_err(failed)?;
    }
    let status = match child.try_wait().map_err(failed)? {
        None if !said.is_empty() => return Ok(output::print(said)),
        None => child.wait().map_err(failed)?,
        Some(status) => status,
    };
    if errors.is_empty() {
        return Err(format!("the process in the background has ended ({status}) without a word"));
    }
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Leaves the session of the shell; to be called before there are threads.
pub(crate) fn leave_session() {
    // It fails only for the leader of a process group, which a new process is not.
    let _ = rustix::process::setsid();
    let _ = env::set_current_dir("/");
}

/// Tells the old process that all is well, and lets go of it.
pub(crate) fn settle(id: &str, log: &Path) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let null = File::options().write(true).open("/dev/null")?;
    writeln!(io::stdout(), "{id}")?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
