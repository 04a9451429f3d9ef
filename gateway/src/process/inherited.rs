#![forbid(unsafe_code)]
//! Sockets that another process has opened: systemd (`LISTEN_FDS`), or the process that this one replaces.

use std::env;
use std::io;
use std::os::fd::OwnedFd;

use dockline::untrusted::Untrusted;
use listenfd::ListenFd;
use rustix::net::sockopt;

use crate::address::Inherit;
use crate::process::upgrade::Sockets;
use crate::serve::bind;

/// More than anybody passes; a larger count is a broken environment.
const MOST: usize = 1024;

/// What the key of a socket begins with that systemd has passed and that no listener was configured for.
const UNCLAIMED: &str = "passed:";

/// Sockets that wait for a listener.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    passed: Vec<Passed>,
    handed: Sockets,
}

/// A socket from systemd.
#[derive(Debug)]
struct Passed {
    number: u16,
    name: Untrusted<String>,
    /// Or why it cannot be listened on.
    socket: Result<OwnedFd, String>,
}

impl Inherited {
    /// Takes what systemd passes to this process, and `handed`: the sockets of the process that it replaces. Call it once, before there are threads: it removes
    /// `LISTEN_FDS` from the environment.
    pub(crate) fn new(handed: Sockets) -> Result<Self, String> {
        let variable = |name| env::var(name).ok();
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let count = count_of(variable("LISTEN_FDS"), variable("LISTEN_PID"), std::process::id())?;
        let mut passed = Vec::new();
        let mut served = Sockets::new();
        for (key, socket) in handed {
            match unclaimed(&key) {
                Some((number, name)) => passed.push(Passed { number, name, socket: Ok(socket) }),
                None => served.push((key, socket)),
            }
        }
        if count > 0 {
            let mut source = ListenFd::from_env();
            for (index, name) in (0..count).zip(names.split(':').chain(std::iter::repeat(""))) {
                let number = u16::try_from(3 + index).unwrap_or(u16::MAX);
                let name = Untrusted::new(if name.is_empty() { "unknown" } else { name }.to_owned());
                passed.push(Passed { number, name, socket: take(&mut source, index) });
            }
        }
        Ok(Self { passed, handed: served })
    }

    /// A second set of descriptors for what is left: one may be tried out, and the other stays.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let again = |passed: &Passed| {
            let socket = match &passed.socket {
                Ok(socket) => Ok(socket.try_clone()?),
                Err(message) => Err(message.clone()),
            };
            io::Result::Ok(Passed { number: passed.number, name: passed.name.clone(), socket })
        };
        let handed =
            self.handed.iter().map(|(key, socket)| io::Result::Ok((key.clone(), socket.try_clone()?)));
        Ok(Self {
            passed: self.passed.iter().map(again).collect::<io::Result<_>>()?,
            handed: handed.collect::<io::Result<_>>()?,
        })
    }

    /// The sockets that were handed over for this key.
    pub(crate) fn take_handed(&mut self, key: &str) -> Vec<OwnedFd> {
        let (taken, left): (Sockets, _) =
            std::mem::take(&mut self.handed).into_iter().partition(|(it, _)| it == key);
        self.handed = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Sockets from systemd; at least one.
    pub(crate) fn take_passed(&mut self, which: &Inherit) -> Result<Vec<OwnedFd>, String> {
        let is_meant = |passed: &Passed| match which {
            Inherit::All => true,
            Inherit::Number(number) => passed.number == *number,
            Inherit::Name(name) => passed.name == *name,
        };
        let (taken, left): (Vec<Passed>, _) =
            std::mem::take(&mut self.passed).into_iter().partition(is_meant);
        self.passed = left;
        if taken.is_empty() {
            let there: Vec<String> = self
                .passed
                .iter()
                .map(|passed| format!("fd://{} ({})", passed.number, passed.name))
                .collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let wanted = match which {
                Inherit::All => "fd://".to_owned(),
                Inherit::Number(number) => format!("fd://{number}"),
                Inherit::Name(name) => format!("fd://{name}"),
            };
            return Err(format!(
                "{wanted}: no such socket was passed (LISTEN_FDS), or it is used already; left: {there}. \
                 Start this by its systemd socket unit"
            ));
        }
        taken.into_iter().map(|passed| passed.socket).collect()
    }

    /// What systemd has passed and nobody has taken, for a warning.
    pub(crate) fn left(&self) -> Vec<String> {
        let passed = self.passed.iter().map(|it| format!("fd://{} ({})", it.number, it.name));
        let handed = self.handed.iter().filter(|(key, _)| is_of_systemd(key));
        passed.chain(handed.map(|(key, _)| Untrusted::new(key).to_string())).collect()
    }

    /// The same sockets once more, for the process that replaces this one: its configuration may want them.
    pub(crate) fn duplicate(&self) -> io::Result<Sockets> {
        let passed = self.passed.iter().filter_map(|it| {
            let key = format!("{UNCLAIMED}{}:{}", it.number, it.name.raw());
            it.socket.as_ref().ok().map(|socket| (key, socket))
        });
        let handed = self.handed.iter().map(|(key, socket)| (key.clone(), socket));
        passed.chain(handed).map(|(key, socket)| Ok((key, socket.try_clone()?))).collect()
    }

    /// Closes what the replaced process has opened and this one has no use for: who connected there would wait for ever.
    /// Answers where that was.
    pub(crate) fn release(&mut self) -> Vec<String> {
        let (kept, released): (Sockets, _) =
            std::mem::take(&mut self.handed).into_iter().partition(|(key, _)| is_of_systemd(key));
        self.handed = kept;
        for (key, _) in &released {
            if let Some(path) = key.strip_prefix("unix://") {
                bind::remove_file(path.as_ref());
            }
        }
        released.into_iter().map(|(key, _)| Untrusted::new(key).to_string()).collect()
    }
}

/// The number and the name in the key of a socket that no listener was configured for.
fn unclaimed(key: &str) -> Option<(u16, Untrusted<String>)> {
    let (number, name) = key.strip_prefix(UNCLAIMED)?.split_once(':')?;
    Some((number.parse().ok()?, Untrusted::new(name.to_owned())))
}

fn is_of_systemd(key: &str) -> bool {
    key.starts_with("fd://")
}

/// How many sockets are passed to the process with this id.
fn count_of(fds: Option<String>, pid: Option<String>, me: u32) -> Result<usize, String> {
    let Some(fds) = fds else { return Ok(0) };
    if pid.as_deref() != Some(me.to_string().as_str()) {
        return Ok(0);
    }
    match fds.parse() {
        Ok(count) if count <= MOST => Ok(count),
        _ => Err(format!("LISTEN_FDS={} is not a number of sockets (0 to {MOST})", Untrusted::new(fds))),
    }
}

/// Takes one; it gets close-on-exec.
fn take(source: &mut ListenFd, index: usize) -> Result<OwnedFd, String> {
    let number = 3 + index;
    let socket = match source.take_tcp_listener(index) {
        Ok(Some(socket)) => OwnedFd::from(socket),
        _ => match source.take_unix_listener(index) {
            Ok(Some(socket)) => OwnedFd::from(socket),
            _ => return Err(format!("fd://{number} is not a TCP or Unix stream socket")),
        },
    };
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => Ok(socket),
        _ => Err(format!("fd://{number} does not listen; the socket unit needs ListenStream= and Accept=no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(count_of(None, some("7"), 7), Ok(0));
        assert_eq!(count_of(some("2"), some("7"), 7), Ok(2));
        assert_eq!(count_of(some("2"), some("8"), 7), Ok(0));
        assert_eq!(count_of(some("2"), None, 7), Ok(0));
        assert!(count_of(some("99999"), some("7"), 7).is_err());
        assert!(count_of(some("-1"), some("7"), 7).is_err());
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = Inherited::default().take_passed(&Inherit::Name("web".to_owned().into())).unwrap_err();
        assert!(said.contains("fd://web") && said.contains("left: none"), "{said}");
    }
}
