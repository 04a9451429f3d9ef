#![forbid(unsafe_code)]
//! [`Notify`]: the state of the service, for systemd (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use dockline::untrusted::Line;
use rustix::time::{ClockId, clock_gettime};

/// The socket of the service manager. Without one, nothing is sent.
#[derive(Debug)]
pub(crate) struct Notify {
    peer: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads it from the environment.
    pub(crate) fn from_env() -> io::Result<Self> {
        let peer = match env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Some((UnixDatagram::unbound()?, address(&name)?)),
            _ => None,
        };
        let text = |name| env::var(name).ok();
        let watchdog = interval(text("WATCHDOG_USEC"), text("WATCHDOG_PID"), std::process::id());
        Ok(Self { watchdog: watchdog.filter(|_| peer.is_some()), peer })
    }

    /// Returns the interval for [`alive`](Self::alive); `None`: it need not be called.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the service is ready.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", Line(status)));
    }

    /// Reports a reload. [`ready`](Self::ready) must follow, whatever its result.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Reports that the service is about to end.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", Line(status)));
    }

    /// Resets the watchdog.
    pub(crate) fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// Reports that another process is the service now.
    pub(crate) fn replaced_by(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.peer
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            log::debug!("cannot notify the service manager: {error}");
        }
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

/// Returns half of the watchdog's timeout.
fn interval(usec: Option<String>, pid: Option<String>, me: u32) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid == me.to_string());
    let usec: u64 = usec.filter(|_| is_meant)?.parse().ok()?;
    (usec > 1).then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_reset_in_half_the_time() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(interval(some("30000000"), some("7"), 7), Some(Duration::from_secs(15)));
        assert_eq!(interval(some("30000000"), None, 7), Some(Duration::from_secs(15)));
        assert_eq!(interval(some("30000000"), some("8"), 7), None);
        assert_eq!(interval(None, None, 7), None);
        assert_eq!(interval(some("0"), None, 7), None);
    }

    #[test]
    fn a_name_with_an_at_sign_is_abstract() {
        let name = address(OsStr::new("@a/b")).unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"a/b"[..]));
        assert!(address(OsStr::new("/a")).unwrap().as_pathname().is_some());
    }
}
