#![forbid(unsafe_code)]
//! Signals: delivered to a channel by a thread, noted in flags, and turned into an exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::spawn;
use crate::problem::Problem;

pub(crate) use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// The exit status of a process that a signal has ended is this plus the number of the signal.
const SIGNAL_STATUS: u8 = 128;

const FAILED: &str = "cannot handle signals";

/// Passes each arrival of one of these signals to `deliver`, on a thread, until it returns `false`.
pub(crate) fn watch(signals: &[i32], deliver: impl Fn(i32) -> bool + Send + 'static) -> Result<(), Problem> {
    let mut signals = Signals::new(signals).map_err(Problem::wrap(FAILED))?;
    spawn("signals", move || {
        let _ = signals.forever().all(deliver);
    })
}

/// Returns a flag that is set as soon as one of these signals arrives. It replaces their default
/// action.
pub(crate) fn flag(signals: &[i32]) -> Result<Arc<AtomicBool>, Problem> {
    let arrived = Arc::new(AtomicBool::new(false));
    for signal in signals {
        flag::register(*signal, Arc::clone(&arrived)).map_err(Problem::wrap(FAILED))?;
    }
    Ok(arrived)
}

/// Returns the exit status of a process that a signal has ended.
pub(crate) fn exit_status(signal: i32) -> ExitCode {
    ExitCode::from(SIGNAL_STATUS + u8::try_from(signal).unwrap_or(0))
}

/// Signals that arrive before the program can act on them. They must not end the process, as they
/// would by default.
pub(crate) struct EarlySignals {
    reload: Arc<AtomicBool>,
}

impl EarlySignals {
    /// Catches SIGHUP, SIGUSR1 and SIGUSR2 from now on.
    pub(crate) fn catch() -> Result<Self, Problem> {
        // No log is open yet, and there is nothing to upgrade.
        let _ignored = flag(&[SIGUSR1, SIGUSR2])?;
        Ok(Self { reload: flag(&[SIGHUP])? })
    }

    /// Returns whether a reload was requested. The configuration may have been read before.
    pub(crate) fn wants_reload(&self) -> bool {
        self.reload.load(Ordering::Relaxed)
    }
}
