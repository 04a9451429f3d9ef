#![forbid(unsafe_code)]
//! `publish --detach`: the program starts itself again in the background, in its own session.
//!
//! The new process prints its ID on standard output and closes it when it serves; then it logs into
//! a file. Failures before that are on its standard error.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::output;
use crate::problem::Problem;

/// Set for the process in the background.
const VARIABLE: &str = "DOCKLINE_DETACHED";

const FAILED: &str = "cannot go into the background";

/// Returns whether this is the process in the background.
pub(crate) fn is_child() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Starts the process in the background, and waits until it serves.
pub(crate) fn start() -> Result<ExitCode, Problem> {
    let failed = |error: io::Error| Problem::new(FAILED).because(error);
    let mut child = Command::new(env::current_exe().map_err(failed)?)
        .args(env::args_os().skip(1))
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut id = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut id).map_err(failed)?;
    }
    let mut errors = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut errors).map_err(failed)?;
        io::stderr().write_all(&errors).map_err(failed)?;
    }
    let status = match child.try_wait().map_err(failed)? {
        None if !id.is_empty() => return Ok(output::print(id)),
        None => child.wait().map_err(failed)?,
        Some(status) => status,
    };
    if errors.is_empty() {
        return Err(Problem::new(format_args!("the process in the background has ended ({status})")));
    }
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Leaves the session of the shell. Must be called before there are threads.
pub(crate) fn leave_session() {
    // It fails only for the leader of a process group, which a child is not.
    let _ = rustix::process::setsid();
    let _ = env::set_current_dir("/");
}

/// Reports to the parent that this process serves, and logs into a file from now on.
pub(crate) fn settle(id: &str, log: &Path) -> Result<(), Problem> {
    try_settle(id, log).map_err(Problem::wrap(FAILED))
}

fn try_settle(id: &str, log: &Path) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let null = File::options().write(true).open("/dev/null")?;
    writeln!(io::stdout(), "{id}")?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
